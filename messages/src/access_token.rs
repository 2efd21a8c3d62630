//! Signs access tokens, for the command line and for development mode.

use std::time::{Duration, SystemTime};

use domain::{Timestamp, UserId};
use service::auth::Auth;
use time::OffsetDateTime;

/// How long the tokens of development mode are valid.
pub(crate) const DEVELOPMENT_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3_600);

/// What the user of a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Role {
    /// Send and read messages.
    User,
    /// The same, and use the admin API.
    Admin,
}

/// Signs a token for a user; it expires after `lifetime`.
///
/// # Errors
/// When the token would expire after the year 9999, or can't be signed.
pub(crate) fn sign(auth: &Auth, user: &UserId, role: Role, lifetime: Duration) -> anyhow::Result<String> {
    let expires_at = Timestamp::from_date_time(OffsetDateTime::from(SystemTime::now() + lifetime))?;
    Ok(match role {
        Role::User => auth.mint(user, expires_at)?,
        Role::Admin => auth.mint_admin(user, expires_at)?,
    })
}
