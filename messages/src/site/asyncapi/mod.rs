//! The AsyncAPI document of the topic and of the sockets, and a page that shows it. Each process serves both, also if
//! another one serves the sockets.
//!
//! Everything that clients and analysts rely on comes from the types that read and write it: see [`domain::schema`] and
//! [`realtime::socket_protocol`].

mod channel_part;
mod page;
mod sockets;
mod topic;

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use http::{HeaderValue, header};
use serde_json::{Map, Value, json};

const DESCRIPTION: &str = "\
What a messaging backend puts on its Kafka topic, and what it sends over Socket.IO. The topic is the system of record: \
the read model and the deliveries over sockets derive from it. Commands and queries go over HTTP, which `/openapi.json` \
describes.

An event, a message or an optional field may come at any time: ignore those that you don't know. None goes or changes.";

/// The browser runs and loads nothing: the page is complete. Its style is a part of it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

/// The document of all services.
pub(crate) fn document() -> Value {
    let (mut channels, mut operations, mut messages) = (Map::new(), Map::new(), Map::new());
    for mut part in [topic::part(), sockets::part()] {
        let own = part.messages.keys().map(|key| {
            let reference = json!({"$ref": format!("#/components/messages/{key}")});
            (key.clone(), reference)
        });
        part.channel["messages"] = Value::Object(own.collect());
        channels.insert(part.key.to_owned(), part.channel);
        operations.extend(part.operations.into_iter().map(|(key, operation)| (key.to_owned(), operation)));
        messages.extend(part.messages);
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Messages",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"kafka": topic::server(), "realtime": sockets::server()},
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "securitySchemes": {"user": sockets::security_scheme()}},
    })
}

/// The document as the repository has it and as the server sends it.
pub(crate) fn document_text(document: &Value) -> String {
    // A value is always valid JSON, so the alternate form can't fail.
    format!("{document:#}\n")
}

/// The document at `/asyncapi.json`, and the page at `/asyncapi`.
pub(crate) fn router() -> Router {
    let document = document();
    let page = page::html(&document);
    let text = document_text(&document);
    Router::new()
        .route("/asyncapi.json", get(|| async { response("application/json", text) }))
        .route("/asyncapi", get(|| async { response("text/html; charset=utf-8", page) }))
}

fn response(content_type: &'static str, body: String) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    ];
    (headers.map(|(name, value)| (name, HeaderValue::from_static(value))), body)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_published_document_is_current() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("schema/asyncapi.json");
        let generated = document_text(&document());
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &generated).unwrap();
        }
        let published = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(published == generated, "{} is outdated; run UPDATE_GOLDEN=1 cargo test -p messages", path.display());
    }
}
