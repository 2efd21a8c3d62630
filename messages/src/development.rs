//! What a developer wants to see first: where to go, and as whom.

use std::net::SocketAddr;
use std::time::Duration;

use domain::UserId;
use service::auth::Auth;

use crate::cli::from_now;

/// The users who exist in development. In truth anyone exists who has a token.
const USERS: [&str; 2] = ["alice", "bob"];
/// How long their tokens are good.
const LASTS: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Prints the address, and for each user a token and a link that signs them in.
///
/// # Errors
/// When no token can be signed.
pub(crate) fn welcome(auth: &Auth, address: SocketAddr) -> anyhow::Result<()> {
    println!("\nMessages is at http://{address}/ (development mode)\n");
    println!("Open these in two browser windows; the tokens are also for the API:\n");
    for name in USERS {
        let user: UserId = name.parse()?;
        let token = auth.mint(&user, from_now(LASTS)?)?;
        println!("  {name}: http://{address}/#token={token}\n");
    }
    println!("Stop it with Ctrl-C.\n");
    Ok(())
}
