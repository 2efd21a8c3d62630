//! The chat page at `/` and its files under `/web/`. `build.rs` makes them; they are compiled into the executable.

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use service::config::Environment;
use service::problem::Problem;

/// The browser runs only scripts from this server and the page's own import map. No other page may frame this one.
const CONTENT_SECURITY_POLICY: &str = concat!(
    "default-src 'self'; script-src 'self' '",
    env!("IMPORT_MAP_HASH"),
    "'; connect-src 'self' ws: wss:; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; \
     frame-ancestors 'none'"
);

#[derive(Debug)]
struct Asset {
    /// The path below `/web/`; empty for a page.
    name: &'static str,
    content_type: &'static str,
    /// A hash of the content; empty for a page, which is sent each time.
    etag: &'static str,
    content: &'static [u8],
}

const PAGE: Asset = page(include_bytes!(concat!(env!("OUT_DIR"), "/index.html")));
/// The page of development mode: it can ask the server for a token of any user.
const DEVELOPMENT_PAGE: Asset = page(include_bytes!(concat!(env!("OUT_DIR"), "/index.development.html")));
static ASSETS: &[Asset] = &include!(concat!(env!("OUT_DIR"), "/assets.rs"));

const fn page(content: &'static [u8]) -> Asset {
    Asset { name: "", content_type: "text/html; charset=utf-8", etag: "", content }
}

/// The routes of the page and of its files.
pub(crate) fn router(environment: Environment) -> Router {
    let page = match environment {
        Environment::Development => &DEVELOPMENT_PAGE,
        Environment::Production => &PAGE,
    };
    Router::new()
        .route("/", get(move |headers: HeaderMap| async move { page.response(&headers) }))
        .route("/web/{*name}", get(asset))
}

async fn asset(Path(name): Path<String>, request_headers: HeaderMap) -> Response {
    match ASSETS.iter().find(|asset| asset.name == name) {
        Some(asset) => asset.response(&request_headers),
        None => Problem::new(StatusCode::NOT_FOUND, "no_such_route", "there is no such file").into_response(),
    }
}

impl Asset {
    fn response(&self, request_headers: &HeaderMap) -> Response {
        let is_cached = request_headers.get(header::IF_NONE_MATCH).is_some_and(|etag| etag == self.etag);
        if is_cached && !self.etag.is_empty() {
            return StatusCode::NOT_MODIFIED.into_response();
        }
        let headers = [
            (header::CONTENT_TYPE, self.content_type),
            // A new build may change any file: browsers ask each time, and get only what has changed.
            (header::CACHE_CONTROL, "no-cache"),
            (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
            (header::REFERRER_POLICY, "no-referrer"),
        ];
        let mut response =
            (headers.map(|(name, value)| (name, HeaderValue::from_static(value))), self.content).into_response();
        if !self.etag.is_empty() {
            response.headers_mut().insert(header::ETAG, HeaderValue::from_static(self.etag));
        }
        response
    }
}
