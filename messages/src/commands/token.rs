//! `messages token`: prints an access token for a user.

use std::time::Duration;

use clap::Args;
use domain::UserId;
use service::auth::Auth;
use service::config::Config;

use crate::access_token::{self, Role};

#[derive(Args)]
pub(crate) struct TokenArgs {
    /// The user's id: 1 to 128 visible characters without spaces.
    user: UserId,
    /// How many hours the token is valid.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=87_600))]
    hours: u32,
    /// What the user may do. Admins may use the admin API.
    #[arg(long, value_enum, default_value_t = Role::User)]
    role: Role,
    #[command(flatten)]
    config: Config,
}

/// Prints the token, and nothing else.
///
/// # Errors
/// When no secret is set.
pub(crate) fn run(arguments: &TokenArgs) -> anyhow::Result<()> {
    let auth = Auth::new(arguments.config.secret()?);
    let lifetime = Duration::from_secs(u64::from(arguments.hours) * 3_600);
    println!("{}", access_token::sign(&auth, &arguments.user, arguments.role, lifetime)?);
    Ok(())
}
