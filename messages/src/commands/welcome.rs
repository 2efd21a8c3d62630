//! The text that development mode prints at startup: the addresses of the pages, and links that sign a user in.

use std::net::SocketAddr;

use service::auth::Auth;

use crate::access_token::{self, Role};

/// The users of the printed links. The page also signs in any other user.
const USERS: [&str; 2] = ["alice", "bob"];

/// Prints the addresses, and for each user a link with a token.
///
/// # Errors
/// When a token can't be signed.
pub(super) fn print(auth: &Auth, address: SocketAddr) -> anyhow::Result<()> {
    println!("\nMessages is at http://{address}/ (development mode)\n");
    println!("Sign in as any user on that page, or open these links in two browser windows.");
    println!("Their tokens also work for the API.\n");
    for name in USERS {
        let token = access_token::sign(auth, &name.parse()?, Role::User, access_token::DEVELOPMENT_LIFETIME)?;
        println!("  {name}: http://{address}/#token={token}\n");
    }
    println!("The admin page is at http://{address}/admin: press “Continue as admin” there.\n");
    println!("Stop it with Ctrl-C.\n");
    Ok(())
}
