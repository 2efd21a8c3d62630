//! `POST /development/token`: a token for any user. Only development mode may serve this route.

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

use crate::access_token::{self, Role};

/// The route: it takes `{"user": …}`, and `"role": "admin"` for an admin, and answers with a token for that user.
pub(crate) fn router(auth: Auth) -> Router {
    Router::new().route("/development/token", post(create_token)).with_state(auth)
}

async fn create_token(State(auth): State<Auth>, JsonBody(body): JsonBody) -> Result<impl IntoResponse, Problem> {
    let invalid = |field, code, detail: &str| Problem::invalid_body(vec![FieldError::new(field, code, detail)]);
    let name = body.get("user").ok_or_else(|| invalid("user", "required", "is required"))?;
    let name = name.as_str().ok_or_else(|| invalid("user", "wrong_type", "must be a string"))?;
    let user: UserId =
        name.parse().map_err(|_| invalid("user", "invalid", "must have 1 to 128 visible characters, and no spaces"))?;
    let role = match body.get("role").map(Value::as_str) {
        None | Some(Some("user")) => Role::User,
        Some(Some("admin")) => Role::Admin,
        Some(_) => return Err(invalid("role", "invalid", "must be \"user\" or \"admin\"")),
    };
    let token = access_token::sign(&auth, &user, role, access_token::DEVELOPMENT_LIFETIME).map_err(|error| {
        tracing::error!(%error, "signing a development token failed; the client gets 500");
        Problem::internal()
    })?;
    let headers = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((headers, axum::Json::<Value>(json!({"data": {"token": token}}))))
}
