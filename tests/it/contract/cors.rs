//! Pages of other origins: those that the configuration names may use the API and the sockets, and no others.

use crate::harness::System;
use crate::harness::http::Response;

const APP: &str = "https://app.example";

async fn naming(origins: &[&str]) -> System {
    System::with(|config| config.cors_origins = origins.iter().map(|origin| origin.parse().unwrap()).collect()).await
}

/// What a browser asks before it lets a page send a command.
async fn preflight(system: &System, path: &str, origin: &str) -> Response {
    let request = system.request("OPTIONS", path).header("Origin", origin);
    let request = request.header("Access-Control-Request-Method", "POST");
    request.header("Access-Control-Request-Headers", "authorization,content-type,idempotency-key").send().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_an_origin_that_is_named_may_call_the_api_and_the_sockets() {
    let system = naming(&[APP, "http://localhost:5173"]).await;
    for path in
        ["/api/messages", "/api/messages/0193a5c0-7d2e-7c3a-9b1f-2f6d1c0e8a47", "/socket.io/?EIO=4&transport=polling"]
    {
        let answer = preflight(&system, path, APP).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, APP), "{path}");
        let (methods, headers) =
            (answer.header("access-control-allow-methods"), answer.header("access-control-allow-headers"));
        assert!(["GET", "POST", "PATCH", "DELETE"].iter().all(|method| methods.contains(method)), "{methods}");
        for header in ["authorization", "content-type", "idempotency-key", "messages-position", "if-none-match"] {
            assert!(headers.contains(header), "{headers}");
        }
        assert!(!answer.header("access-control-max-age").is_empty());
    }
    // Also what went wrong can be read, and what stands in headers.
    let opened = system.request("GET", "/socket.io/?EIO=4&transport=polling").header("Origin", APP).send().await;
    let listed = system.ask("alice", "GET", "/api/messages").header("Origin", APP).send().await;
    let refused = system.request("GET", "/api/messages").header("Origin", APP).send().await;
    for (answer, status) in [(opened, 200), (listed, 200), (refused, 401)] {
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (status, APP));
        let exposed = answer.header("access-control-expose-headers");
        for header in ["messages-position", "idempotent-replayed", "retry-after", "ratelimit-remaining", "etag"] {
            assert!(exposed.contains(header), "{exposed}");
        }
        let varies = answer.headers.get_all("vary").iter().any(|value| value.to_str().unwrap().contains("origin"));
        assert!(varies, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_any_other_origin_may_not() {
    let (some, none) = tokio::join!(naming(&[APP]), naming(&[]));
    for (system, origin) in [(&some, "https://app.example.evil"), (&some, "null"), (&none, APP)] {
        for answer in [
            preflight(system, "/api/messages", origin).await,
            system.ask("alice", "GET", "/api/messages").header("Origin", origin).send().await,
            system.request("GET", "/socket.io/?EIO=4&transport=polling").header("Origin", origin).send().await,
        ] {
            assert_eq!(answer.header("access-control-allow-origin"), "", "{origin}: {answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_star_names_every_origin_but_gives_none_credentials() {
    let system = naming(&["*"]).await;
    let answer = preflight(&system, "/api/messages", "https://anything.example").await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, "*"));
    assert_eq!(answer.header("access-control-allow-credentials"), "");
}
