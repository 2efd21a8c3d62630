//! Why a request or a socket isn't authenticated.

use ::http::StatusCode;

use crate::problem::Problem;

/// Why a request or a socket isn't authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The client sent no token.
    #[error("a token is required: send the header Authorization: Bearer <JWT>")]
    Missing,
    /// The token's `exp` has passed.
    #[error("the token has expired; get a new one")]
    Expired,
    /// The client sent something else than a valid token.
    #[error(transparent)]
    Invalid(#[from] InvalidToken),
    /// The token is in a cookie, and a page of another site may have made the browser send it.
    #[error(
        "the request relies on a cookie, and doesn't come from a page that may use it; its origin must be this site's, or \
         one of those that the server lists"
    )]
    CrossSite,
    /// The token is a user's, and its `roles` don't include `admin`.
    #[error("only admins may do that: the token's roles must include admin")]
    NotAnAdmin,
}

/// What is wrong with a token, or with the header that should have one. The text never depends on a token's content
/// before its signature is verified, except for its header's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// The header doesn't have the form `Bearer <JWT>`.
    #[error("the header Authorization must have the form: Bearer <JWT>")]
    MalformedHeader,
    /// The request has several headers `Authorization`.
    #[error("the header Authorization is given more than once")]
    RepeatedHeader,
    /// The parts of a JWT are missing, or aren't JSON in base64url.
    #[error("the token is not a JWT: it must be three parts in base64url, and the first two must be JSON objects")]
    NotAJwt,
    /// The header's `alg` isn't HS256.
    #[error("the token's algorithm (alg) must be HS256")]
    Algorithm,
    /// The header has `crit`, which names extensions that a verifier must understand (RFC 7515, section 4.1.11).
    #[error("the token's header has crit, but the server understands no extension")]
    CriticalExtension,
    /// Another secret signed the token, or it was changed since.
    #[error("the token's signature is wrong: sign the token with the server's secret")]
    Signature,
    /// There is no `sub`.
    #[error("the token has no sub, which must be the user's id")]
    SubjectMissing,
    /// `sub` is a number, for example.
    #[error("the token's sub must be a string")]
    SubjectNotAString,
    /// `sub` is no user id.
    #[error("the token's sub must be 1 to 128 visible characters without spaces")]
    SubjectNotAUserId,
    /// There is no `exp`.
    #[error("the token has no exp, which must be the time of its expiry")]
    ExpiryMissing,
    /// The claim of this name isn't a number of seconds.
    #[error("the token's {0} must be a number: seconds since 1970")]
    NotATime(&'static str),
    /// The claim of this name, `nbf` or `iat`, is a time that has yet to come.
    #[error("the token's {0} is in the future")]
    InTheFuture(&'static str),
    /// An internal route was called without the service token.
    #[error("this route is for the services among themselves, and needs their token")]
    NotTheServiceToken,
}

impl AuthError {
    /// The stable code, for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Missing => "missing_token",
            Self::Expired => "expired_token",
            Self::Invalid(_) => "invalid_token",
            Self::CrossSite => "cross_site",
            Self::NotAnAdmin => "not_an_admin",
        }
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::CrossSite | AuthError::NotAnAdmin => {
                Self::new(StatusCode::FORBIDDEN, error.code(), error.to_string())
            }
            _ => Self::unauthorized(error.code(), &error.to_string()),
        }
    }
}
