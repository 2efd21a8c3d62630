//! Authentication: which user, or which of our own services, sends a request.
//!
//! A user sends a JWT (HS256) that somebody signed with the shared secret. A service sends the service token, which it
//! derives from the same secret. Neither kind of token may ever be accepted in place of the other.

mod authenticator;
mod caller;
mod claims;
mod error;

pub use authenticator::Auth;
pub(crate) use authenticator::LIMIT_ROWS;
pub use caller::{Caller, ServiceCaller};
pub use claims::Claims;
pub use error::{AuthError, InvalidToken};
