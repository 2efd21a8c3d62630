//! The chat page: a few files, compiled in.

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, StatusCode, header};
use service::problem::Problem;

/// Only what comes from here runs, and nobody may frame it.
const POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; object-src 'none'; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

struct File {
    name: &'static str,
    kind: &'static str,
    content: &'static [u8],
}

macro_rules! file {
    ($name:literal, $kind:literal) => {
        File { name: $name, kind: $kind, content: include_bytes!(concat!("../../web/", $name)) }
    };
}

const PAGE: File = file!("index.html", "text/html; charset=utf-8");
const FILES: [File; 6] = [
    file!("app.js", "text/javascript; charset=utf-8"),
    file!("api.js", "text/javascript; charset=utf-8"),
    file!("model.js", "text/javascript; charset=utf-8"),
    file!("view.js", "text/javascript; charset=utf-8"),
    file!("style.css", "text/css; charset=utf-8"),
    file!("vendor/socket.io.min.js", "text/javascript; charset=utf-8"),
];

/// The page at `/`, and its files under `/web/`.
pub(crate) fn router() -> Router {
    Router::new().route("/", get(|| async { PAGE.answer() })).route("/web/{*name}", get(file))
}

async fn file(Path(name): Path<String>) -> Response {
    match FILES.iter().find(|file| file.name == name) {
        Some(file) => file.answer(),
        None => Problem::new(StatusCode::NOT_FOUND, "no_such_route", "there is no such file").into_response(),
    }
}

impl File {
    fn answer(&self) -> Response {
        let headers = [
            (header::CONTENT_TYPE, self.kind),
            // A new build may have others: they are small, and asked for again.
            (header::CACHE_CONTROL, "no-cache"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::REFERRER_POLICY, "no-referrer"),
        ];
        (headers.map(|(name, value)| (name, HeaderValue::from_static(value))), self.content).into_response()
    }
}
