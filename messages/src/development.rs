//! What a developer wants first: where to go, and to be anyone.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::post;
use domain::{FieldError, UserId};
use http::{HeaderValue, header};
use serde_json::{Value, json};
use service::auth::Auth;
use service::http::JsonBody;
use service::problem::Problem;

use crate::cli::from_now;

/// The users for whom there are links. In truth anyone exists who has a token.
const USERS: [&str; 2] = ["alice", "bob"];
/// How long their tokens are good.
const LASTS: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Prints the address, and for each user a token and a link that signs them in.
///
/// # Errors
/// When no token can be signed.
pub(crate) fn welcome(auth: &Auth, address: SocketAddr) -> anyhow::Result<()> {
    println!("\nMessages is at http://{address}/ (development mode)\n");
    println!("Open it and be anyone, or open these in two browser windows; the tokens are also for the API:\n");
    for name in USERS {
        println!("  {name}: http://{address}/#token={}\n", token(auth, &name.parse()?)?);
    }
    println!("Stop it with Ctrl-C.\n");
    Ok(())
}

fn token(auth: &Auth, user: &UserId) -> anyhow::Result<String> {
    Ok(auth.mint(user, from_now(LASTS)?)?)
}

/// `POST /development/token` with `{"user": …}`: a token for whoever one wants to be. To be served in development only.
pub(crate) fn router(auth: Auth) -> Router {
    Router::new().route("/development/token", post(give)).with_state(auth)
}

async fn give(State(auth): State<Auth>, JsonBody(body): JsonBody) -> Result<impl IntoResponse, Problem> {
    let wrong = |code, detail: &str| Problem::invalid_body(vec![FieldError::new("user", code, detail)]);
    let name = body.get("user").ok_or_else(|| wrong("required", "is required"))?;
    let name = name.as_str().ok_or_else(|| wrong("wrong_type", "must be a string"))?;
    let user: UserId =
        name.parse().map_err(|_| wrong("invalid", "must have 1 to 128 visible characters, and no spaces"))?;
    let token = token(&auth, &user).map_err(|error| {
        tracing::error!(%error, "no token can be signed");
        Problem::internal()
    })?;
    let headers = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((headers, axum::Json::<Value>(json!({"data": {"token": token}}))))
}
