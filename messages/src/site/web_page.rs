//! The chat page at `/`, the admin page at `/admin`, and their files under `/web/`. `build.rs` makes them; they are
//! compiled into the executable.

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use service::config::Environment;
use service::problem::Problem;

/// The browser runs only scripts from this server and the chat page's import map. No other page may frame these.
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

/// A page, and the one of development mode, which can ask the server for a token.
struct Page {
    /// Its URL path.
    path: &'static str,
    production: Asset,
    development: Asset,
}

/// The page that `build.rs` makes from a file of `web/`, which is named without its ending.
macro_rules! page {
    ($path:literal, $file:literal) => {
        Page {
            path: $path,
            production: page(include_bytes!(concat!(env!("OUT_DIR"), "/pages/", $file, ".html"))),
            development: page(include_bytes!(concat!(env!("OUT_DIR"), "/pages/", $file, ".development.html"))),
        }
    };
}

static PAGES: [Page; 2] = [page!("/", "index"), page!("/admin", "admin/index")];
static ASSETS: &[Asset] = &include!(concat!(env!("OUT_DIR"), "/assets.rs"));

const fn page(content: &'static [u8]) -> Asset {
    Asset { name: "", content_type: "text/html; charset=utf-8", etag: "", content }
}

/// The routes of the pages and of their files.
pub(crate) fn router(environment: Environment) -> Router {
    let mut router = Router::new().route("/web/{*name}", get(asset));
    for page in &PAGES {
        let asset = match environment {
            Environment::Development => &page.development,
            Environment::Production => &page.production,
        };
        router = router.route(page.path, get(move |headers: HeaderMap| async move { asset.response(&headers) }));
    }
    router
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
