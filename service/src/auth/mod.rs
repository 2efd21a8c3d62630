//! Authentication: which user, or which of our own services, sends a request.
//!
//! A user sends a JWT (HS256) that somebody signed with the shared secret: in a header, or in a cookie if the operator
//! names one. A service sends the service token, which it derives from the same secret, in the header only. Neither kind
//! of token may ever be accepted in place of the other.

mod authenticator;
mod caller;
mod claims;
mod cookie;
mod error;

pub use authenticator::Auth;
pub(crate) use authenticator::LIMIT_ROWS;
pub use caller::{AdminCaller, Caller, ServiceCaller};
pub use claims::Claims;
pub(crate) use cookie::parse_cookie_name;
pub use error::{AuthError, InvalidToken};
