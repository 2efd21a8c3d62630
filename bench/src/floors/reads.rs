//! axum and Redis alone: the token is checked, and one round trip to Redis gets the body of the response.

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRef, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use redis::AsyncCommands;
use redis::aio::ConnectionManager;
use service::auth::{Auth, Caller};

use super::options::FloorOptions;

#[derive(Clone)]
struct ReadsFloor {
    auth: Auth,
    redis: ConnectionManager,
    prefix: Arc<str>,
}

impl FromRef<ReadsFloor> for Auth {
    fn from_ref(reads: &ReadsFloor) -> Self {
        reads.auth.clone()
    }
}

/// The key of the body that the floor serves for a query.
pub(crate) fn key(prefix: &str, query: &str) -> String {
    format!("{prefix}:floor:{query}")
}

/// The floor of cached queries.
pub(super) async fn router(options: &FloorOptions, auth: Auth) -> anyhow::Result<Router> {
    let redis = redis::Client::open(options.services.redis_url.as_str())?.get_connection_manager().await?;
    let reads = ReadsFloor { auth, redis, prefix: options.prefix.as_str().into() };
    Ok(Router::new().route("/api/messages", get(read)).with_state(reads))
}

async fn read(
    _: Caller,
    State(ReadsFloor { mut redis, prefix, .. }): State<ReadsFloor>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let body: Result<Option<Vec<u8>>, _> = redis.get(key(&prefix, query.as_deref().unwrap_or_default())).await;
    match body {
        Ok(Some(_)) if headers.contains_key(header::IF_NONE_MATCH) => StatusCode::NOT_MODIFIED.into_response(),
        Ok(Some(body)) => {
            ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
        }
        _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}
