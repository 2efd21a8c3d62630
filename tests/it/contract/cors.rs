//! Cross-origin requests: only pages of the configured origins may use the API and the sockets.

use crate::harness::System;
use crate::harness::http::Response;

const APP: &str = "https://app.example";
const SOCKETS: &str = "/socket.io/?EIO=4&transport=polling";

async fn system_that_allows(origins: &[&str]) -> System {
    System::with(|config| config.cors_origins = origins.iter().map(|origin| origin.parse().unwrap()).collect()).await
}

/// Sends the request by which a browser checks whether a page may send a command.
async fn preflight(system: &System, path: &str, origin: &str) -> Response {
    let request = system.request("OPTIONS", path).header("Origin", origin);
    let request = request.header("Access-Control-Request-Method", "POST");
    request.header("Access-Control-Request-Headers", "authorization,content-type,idempotency-key").send().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_allows_a_configured_origin_every_method_and_header_of_the_api() {
    let system = system_that_allows(&[APP, "http://localhost:5173"]).await;
    for path in ["/api/messages", "/api/messages/0193a5c0-7d2e-7c3a-9b1f-2f6d1c0e8a47", SOCKETS] {
        let response = preflight(&system, path, APP).await;

        assert_eq!((response.status, response.header("access-control-allow-origin")), (200, APP), "{path}");
        let methods = response.header("access-control-allow-methods");
        for method in ["GET", "POST", "PATCH", "DELETE"] {
            assert!(methods.contains(method), "{methods}");
        }
        let headers = response.header("access-control-allow-headers");
        for header in ["authorization", "content-type", "idempotency-key", "messages-position", "if-none-match"] {
            assert!(headers.contains(header), "{headers}");
        }
        assert!(!response.header("access-control-max-age").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_a_configured_origin_can_read_responses_refusals_and_their_headers() {
    let system = system_that_allows(&[APP, "http://localhost:5173"]).await;
    let opened = system.request("GET", SOCKETS).header("Origin", APP).send().await;
    let listed = system.ask("alice", "GET", "/api/messages").header("Origin", APP).send().await;
    let refused = system.request("GET", "/api/messages").header("Origin", APP).send().await;
    for (response, status) in [(opened, 200), (listed, 200), (refused, 401)] {
        assert_eq!((response.status, response.header("access-control-allow-origin")), (status, APP));
        let exposed = response.header("access-control-expose-headers");
        for header in ["messages-position", "idempotent-replayed", "retry-after", "ratelimit-remaining", "etag"] {
            assert!(exposed.contains(header), "{exposed}");
        }
        let varies = response.headers.get_all("vary").iter().any(|value| value.to_str().unwrap().contains("origin"));
        assert!(varies, "{response:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_any_other_origin_is_not_allowed() {
    let (with_app, without_origins) = tokio::join!(system_that_allows(&[APP]), system_that_allows(&[]));
    for (system, origin) in [(&with_app, "https://app.example.evil"), (&with_app, "null"), (&without_origins, APP)] {
        for response in [
            preflight(system, "/api/messages", origin).await,
            system.ask("alice", "GET", "/api/messages").header("Origin", origin).send().await,
            system.request("GET", SOCKETS).header("Origin", origin).send().await,
        ] {
            assert_eq!(response.header("access-control-allow-origin"), "", "{origin}: {response:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_star_allows_every_origin_but_no_credentials() {
    let system = system_that_allows(&["*"]).await;
    let response = preflight(&system, "/api/messages", "https://anything.example").await;
    assert_eq!((response.status, response.header("access-control-allow-origin")), (200, "*"));
    assert_eq!(response.header("access-control-allow-credentials"), "");
}
