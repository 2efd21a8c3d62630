//! The shipped nginx in front of a system: which process gets a request, which node keeps a client, what stays hidden,
//! and how it answers while no process does. In most tests the processes are upstreams that only echo requests.

mod site;

use std::collections::HashSet;

use messages::process::Roles;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::nginx::Nginx;
use crate::harness::system::config;
use crate::harness::{System, eventually};
use site::{Behaviour, Site, Upstream, closed_address, upstream_name};

/// Requests that must reach one role.
struct Route {
    methods: &'static [&'static str],
    path: &'static str,
    role: &'static str,
}

const ROUTES: [Route; 8] = [
    Route { methods: &["GET", "HEAD"], path: "/api/messages?limit=1", role: "query-" },
    Route { methods: &["POST", "PATCH", "DELETE", "PUT", "OPTIONS", "BREW"], path: "/api/messages", role: "command-" },
    Route { methods: &["GET", "POST", "OPTIONS"], path: "/socket.io/?EIO=4&transport=polling", role: "realtime-" },
    Route { methods: &["GET"], path: "/openapi.json", role: "query-" },
    Route { methods: &["GET"], path: "/docs/", role: "query-" },
    Route { methods: &["GET"], path: "/asyncapi.json", role: "query-" },
    Route { methods: &["GET"], path: "/asyncapi", role: "query-" },
    Route { methods: &["GET"], path: "/", role: "query-" },
];

#[tokio::test(flavor = "multi_thread")]
async fn queries_reach_the_query_apis_and_commands_the_command_apis() {
    let site = Site::start().await;
    for Route { methods, path, role } in ROUTES {
        for method in methods {
            let mut upstreams = HashSet::new();
            for _ in 0..4 {
                let answer = site.request(method, path).send().await;
                assert!(upstream_name(&answer).starts_with(role), "{method} {path}: {answer:?}");
                let request = answer.body.as_str().unwrap();
                let unchanged = request.starts_with(&format!("{method} {path} HTTP/1.1\r\n"));
                assert!(*method == "HEAD" || unchanged, "{request}");
                upstreams.insert(upstream_name(&answer));
            }
            // Processes take turns, except that a client of realtime stays with its node.
            let expected = if role == "realtime-" { 1 } else { 2 };
            assert_eq!(upstreams.len(), expected, "{method} {path}: {upstreams:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_receives_the_clients_headers_and_address() {
    let site = Site::start().await;
    // As long as a position token of a topic with thousands of partitions.
    let token = "x".repeat(30_000);
    let request = site
        .request("GET", &format!("/api/messages/sync?since={token}"))
        .header("X-Request-Id", "mine")
        .header("X-Forwarded-For", "192.0.2.7")
        .header("Messages-Position", &token);
    let answer = request.send().await;
    let received = answer.body.as_str().unwrap_or_else(|| panic!("{answer:?}")).to_lowercase();
    let authority = site.nginx.url.strip_prefix("http://").unwrap();
    for header in [
        format!("messages-position: {token}\r\n"),
        "x-request-id: mine\r\n".to_owned(),
        "x-forwarded-for: 192.0.2.7, 127.0.0.1\r\n".to_owned(),
        "x-forwarded-proto: http\r\n".to_owned(),
        format!("host: {authority}\r\n"),
    ] {
        assert!(received.contains(&header), "no {header} in {received}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_realtime_receives_a_request_to_upgrade() {
    let site = Site::start().await;
    let is_passed_on = async |path: &str| {
        let upgrade = site.request("GET", path).header("Connection", "Upgrade").header("Upgrade", "websocket");
        upgrade.send().await.body.as_str().unwrap().to_lowercase().contains("connection: upgrade\r\n")
    };
    assert!(is_passed_on("/socket.io/?EIO=4&transport=websocket").await);
    assert!(!is_passed_on("/api/messages").await);
}

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";

#[tokio::test(flavor = "multi_thread")]
async fn a_polling_client_stays_with_its_node_until_that_node_is_gone() {
    let site = Site::start().await;
    let mut nodes = Vec::new();
    for client in (0..40).map(|number| format!("&client=client-{number}")) {
        let node = site.upstream_of(&format!("{POLLING}{client}")).await;
        let later = [
            format!("{POLLING}{client}&sid=abc"),
            format!("{POLLING}{client}&sid=abc&t=xyz"),
            // Also when it upgrades to a WebSocket.
            format!("{WEBSOCKET}{client}&sid=abc"),
        ];
        for path in later {
            assert_eq!(site.upstream_of(&path).await, node);
        }
        nodes.push(node);
    }
    let on_first_node = nodes.iter().filter(|node| *node == "realtime-1").count();
    assert!((8..=32).contains(&on_first_node), "the clients aren't spread: {nodes:?}");

    site.upstreams[4].stop();
    for (number, node) in nodes.iter().enumerate() {
        let path = format!("{POLLING}&client=client-{number}");
        assert_eq!(site.upstream_of(&path).await, "realtime-2", "the client was on {node}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_polling_client_without_a_client_id_stays_with_the_node_of_its_address() {
    let site = Site::start().await;
    let nodes = HashSet::from([
        site.upstream_of(POLLING).await,
        site.upstream_of(&format!("{POLLING}&sid=abc")).await,
        site.upstream_of(&format!("{WEBSOCKET}&sid=abc")).await,
        site.upstream_of(&format!("{POLLING}&sid=def")).await,
    ]);
    assert_eq!(nodes.len(), 1, "{nodes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_starts_with_a_websocket_connects_to_any_node() {
    let site = Site::start().await;
    let mut nodes = HashSet::new();
    for _ in 0..20 {
        nodes.insert(site.upstream_of(WEBSOCKET).await);
    }
    assert_eq!(nodes.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_clients_come_back_as_soon_as_a_node_is_up_after_all_were_down() {
    let (down, nodes) = (closed_address(), [closed_address(), closed_address()]);
    let site = Site::of(Nginx::start([down; 2], [down; 2], nodes).await, Vec::new());
    let open = async || {
        let request = site.http.get(format!("{}{WEBSOCKET}", site.nginx.url));
        request.header("Connection", "Upgrade").header("Upgrade", "websocket").send().await.unwrap()
    };
    assert_eq!(open().await.status(), 503);

    let _node = Upstream::start_at(nodes[0], "realtime", Behaviour::Upgrade).await;
    let mut sockets = Vec::new();
    for number in 0..20 {
        let socket = open().await;
        assert_eq!(socket.status(), 101, "socket {number}: {socket:?}");
        sockets.push(socket);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_internal_path_is_reachable_from_outside() {
    let site = Site::start().await;
    for path in [
        "/internal/memberships?userId=alice",
        "/internal/",
        "/internal",
        "/metrics",
        "/healthz",
        "/readyz",
        "//internal/memberships",
        "/%69nternal/memberships",
        "/api/../internal/memberships",
        "/api/%2e%2e/internal/memberships",
        "/socket.io/../metrics",
        "/problems/bad_request",
        "/problems/uri_too_long",
        "/problems/headers_too_large",
        "/nowhere",
    ] {
        let answer = send_raw(&site.nginx.url, &format!("GET {path} HTTP/1.1\r\nHost: a\r\n")).await;
        let refused = answer.starts_with("HTTP/1.1 404 ") && answer.contains("\"code\":\"no_such_route\"");
        assert!(refused, "{path}: {answer}");
    }
    let requests: usize = site.upstreams.iter().map(Upstream::requests).sum();
    assert_eq!(requests, 0, "a process received a request");
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_refuses_an_unknown_path_with_a_problem_and_the_requests_id() {
    let site = Site::start().await;
    let with_an_id = site.request("POST", "/internal/memberships").header("X-Request-Id", "mine").send().await;
    with_an_id.assert_problem(404, "no_such_route");
    assert_eq!(with_an_id.body["requestId"], "mine");
    // An id that would break out of its JSON string.
    let injecting = site.request("GET", "/nowhere").header("X-Request-Id", "\",\"code\":\"mine").send().await;
    injecting.assert_problem(404, "no_such_route");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_internal_port_serves_memberships_to_realtime_and_nothing_else() {
    let site = Site::start().await;
    let get = async |path: &str| reqwest::get(format!("{}{path}", site.nginx.internal_url)).await.unwrap();
    let memberships = get("/internal/memberships?userId=a").await;
    assert!(memberships.headers()["name"].to_str().unwrap().starts_with("query-"), "{memberships:?}");
    for path in ["/api/messages", "/metrics", "/"] {
        assert_eq!(get(path).await.status(), 404, "{path}");
    }
}

/// Sends a request as it is, apart from `Connection: close` and the end of its head; all that comes back.
async fn send_raw(url: &str, head: &str) -> String {
    // A client that is still sending when the connection closes may be unable to read the answer.
    eventually("an answer can be read", async || {
        let mut server = TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap();
        server.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer).await.ok()?;
        Some(String::from_utf8_lossy(&answer).into_owned())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_processes_serves_every_request_while_the_other_is_down() {
    let down = closed_address();
    let command = Upstream::start("command", Behaviour::Echo).await;
    let query = Upstream::start("query", Behaviour::Echo).await;
    let nginx = Nginx::start([down, command.address], [down, query.address], [down, down]).await;
    let site = Site::of(nginx, vec![command, query]);
    for method in ["POST", "GET", "PATCH", "DELETE"] {
        for _ in 0..5 {
            let answer = site.request(method, "/api/messages").json(&json!({"a": 1})).send().await;
            assert!(["command", "query"].contains(&upstream_name(&answer).as_str()), "{answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_process_hangs_up_may_have_been_done_and_is_not_sent_again() {
    let down = closed_address();
    let dying = Upstream::start("dying", Behaviour::HangUp).await;
    // nginx would find the same process at the second address, too.
    let nginx = Nginx::start([dying.address; 2], [down; 2], [down; 2]).await;
    let site = Site::of(nginx, vec![dying]);
    for (requests, method) in (1..).zip(["POST", "PATCH", "POST"]) {
        // nginx passes over a process that failed for a while: until then the process receives nothing.
        let answer = eventually("the process receives the command", async || {
            let answer = site.request(method, "/api/messages").json(&json!({"a": 1})).send().await;
            assert_eq!((answer.status, answer.header("retry-after")), (503, "1"), "{answer:?}");
            (answer.body["code"] != "unavailable").then_some(answer)
        })
        .await;
        answer.assert_problem(503, "append_unknown");
        assert_eq!(site.upstreams[0].requests(), requests, "nginx sent the {method} again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_told_to_retry_while_no_process_is_up() {
    let down = closed_address();
    let nginx = Nginx::start([down; 2], [down; 2], [down; 2]).await;
    let site = Site::of(nginx, Vec::new());
    for (method, path) in
        [("POST", "/api/messages"), ("DELETE", "/api/messages"), ("GET", "/api/messages"), ("GET", POLLING)]
    {
        let answer = site.request(method, path).send().await;
        answer.assert_problem(503, "unavailable");
        assert_eq!(answer.header("retry-after"), "1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_refused_alike_by_nginx_and_the_command_api() {
    let process = System::with_roles(config(), Roles::COMMAND_API).await;
    let command_api = process.url.strip_prefix("http://").unwrap().parse().unwrap();
    let down = closed_address();
    let nginx = Nginx::start([command_api; 2], [down; 2], [down; 2]).await;
    let behind_nginx = System::attach(process.config.clone(), &nginx.url);
    let by_the_api = [(64 << 10) + 1, 500_000, 1 << 20];
    let by_nginx = [(1 << 20) + 1, 8 << 20];
    for bytes in by_the_api.into_iter().chain(by_nginx) {
        let refused = behind_nginx.ask("alice", "POST", "/api/messages").raw(" ".repeat(bytes)).send().await;
        refused.assert_problem(413, "body_too_large");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_request_is_refused_in_the_form_of_the_api() {
    let site = Site::start().await;
    for head in ["GET /api/messages/%00 HTTP/1.1\r\nHost: a\r\n", "GET / HTTP/1.1\r\n"] {
        let answer = send_raw(&site.nginx.url, head).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("\"code\":\"bad_request\""), "{answer}");
    }
    let long = "x".repeat(40_000);
    for (head, status, code) in [
        (format!("GET /api/messages?since={long} HTTP/1.1\r\nHost: a\r\n"), 414, "uri_too_long"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nA: {long}\r\n"), 431, "headers_too_large"),
    ] {
        let answer = send_raw(&site.nginx.url, &head).await;
        let refused = answer.starts_with(&format!("HTTP/1.1 {status} "))
            && answer.contains(&format!("\"status\":{status},\"code\":\"{code}\""));
        assert!(refused, "{answer}");
    }
}
