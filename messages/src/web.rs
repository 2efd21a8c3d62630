//! The chat page: its files, made by `build.rs` and compiled in.

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use service::config::Environment;
use service::problem::Problem;

/// Only what comes from here runs, and the page's own import map; nobody may frame it.
const POLICY: &str = concat!(
    "default-src 'self'; script-src 'self' '",
    env!("IMPORT_MAP_HASH"),
    "'; connect-src 'self' ws: wss:; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; \
     frame-ancestors 'none'"
);

#[derive(Debug)]
struct File {
    /// Under `/web/`.
    name: &'static str,
    kind: &'static str,
    /// Its `ETag`: another content has another.
    tag: &'static str,
    content: &'static [u8],
}

const PAGE: File = page(include_bytes!(concat!(env!("OUT_DIR"), "/index.html")));
/// The page where the server gives a token to any user who asks.
const DEVELOPMENT_PAGE: File = page(include_bytes!(concat!(env!("OUT_DIR"), "/index.development.html")));
static FILES: &[File] = &include!(concat!(env!("OUT_DIR"), "/files.rs"));

const fn page(content: &'static [u8]) -> File {
    File { name: "", kind: "text/html; charset=utf-8", tag: "", content }
}

/// The page at `/`, and its files under `/web/`.
pub(crate) fn router(environment: Environment) -> Router {
    let page = match environment {
        Environment::Development => &DEVELOPMENT_PAGE,
        Environment::Production => &PAGE,
    };
    Router::new()
        .route("/", get(move |headers: HeaderMap| async move { page.answer(&headers) }))
        .route("/web/{*name}", get(file))
}

async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    match FILES.iter().find(|file| file.name == name) {
        Some(file) => file.answer(&headers),
        None => Problem::new(StatusCode::NOT_FOUND, "no_such_route", "there is no such file").into_response(),
    }
}

impl File {
    fn answer(&self, asked: &HeaderMap) -> Response {
        let known = asked.get(header::IF_NONE_MATCH).is_some_and(|tag| tag == self.tag);
        if known && !self.tag.is_empty() {
            return StatusCode::NOT_MODIFIED.into_response();
        }
        let headers = [
            (header::CONTENT_TYPE, self.kind),
            // A new build may have others: they are asked for again, and sent where they are.
            (header::CACHE_CONTROL, "no-cache"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::REFERRER_POLICY, "no-referrer"),
        ];
        let mut response =
            (headers.map(|(name, value)| (name, HeaderValue::from_static(value))), self.content).into_response();
        if !self.tag.is_empty() {
            response.headers_mut().insert(header::ETAG, HeaderValue::from_static(self.tag));
        }
        response
    }
}
