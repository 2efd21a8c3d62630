//! What nginx does that stands in front, as it is shipped: who gets what, who stays with whom, and what clients are told
//! when there is nobody. Most of it with upstreams that answer with what they were asked.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use messages::process::Roles;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::http::{Request, Response};
use crate::harness::nginx::Nginx;
use crate::harness::process::free_port;
use crate::harness::system::config;
use crate::harness::{System, eventually};

/// What an upstream does with a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Says its name, and what it was asked.
    Answers,
    /// Takes the request and hangs up.
    HangsUp,
}

/// Something that listens like a process.
struct Upstream {
    address: SocketAddr,
    /// How many requests it got.
    asked: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Upstream {
    async fn start(name: &'static str, manner: Manner) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
        let counted = asked.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let asked = counted.clone();
                tokio::spawn(async move {
                    let _ = serve(client, name, manner, &asked).await;
                });
            }
        });
        Self { address, asked, task }
    }
}

async fn serve(mut client: TcpStream, name: &str, manner: Manner, asked: &AtomicUsize) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if client.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    asked.fetch_add(1, Ordering::Relaxed);
    if manner == Manner::Answers {
        let about = format!("Connection: close\r\nName: {name}\r\nContent-Length: {}", head.len());
        client.write_all(format!("HTTP/1.1 200 OK\r\n{about}\r\n\r\n").as_bytes()).await?;
        client.write_all(&head).await?;
    }
    Ok(())
}

/// Two of each role that answer, behind nginx.
struct Front {
    nginx: Nginx,
    upstreams: Vec<Upstream>,
    http: reqwest::Client,
}

impl Front {
    async fn start() -> Self {
        let mut upstreams = Vec::new();
        for name in ["command-1", "command-2", "query-1", "query-2", "realtime-1", "realtime-2"] {
            upstreams.push(Upstream::start(name, Manner::Answers).await);
        }
        let at = |index: usize| [upstreams[index].address, upstreams[index + 1].address];
        let nginx = Nginx::start(at(0), at(2), at(4)).await;
        Self { nginx, upstreams, http: reqwest::Client::new() }
    }

    fn request(&self, method: &str, path: &str) -> Request {
        Request::new(&self.http, method, &format!("{}{path}", self.nginx.url))
    }

    /// Who answers.
    async fn who(&self, path: &str) -> String {
        name(&self.request("GET", path).send().await)
    }
}

/// The name of who answered.
fn name(answer: &Response) -> String {
    let name = answer.header("name");
    assert!(!name.is_empty(), "nobody answered: {answer:?}");
    name.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_gets_to_a_query_api_and_who_commands_to_a_command_api() {
    let front = Front::start().await;
    for (methods, path, role) in [
        (&["GET", "HEAD"][..], "/api/messages?limit=1", "query-"),
        (&["POST", "PATCH", "DELETE", "PUT", "OPTIONS", "BREW"], "/api/messages", "command-"),
        (&["GET", "POST", "OPTIONS"], "/socket.io/?EIO=4&transport=polling", "realtime-"),
        (&["GET"], "/openapi.json", "query-"),
        (&["GET"], "/docs/", "query-"),
        (&["GET"], "/", "query-"),
    ] {
        for method in methods {
            // Each of the two takes its turn; only sockets have a place of their own.
            let mut names = HashSet::new();
            for _ in 0..4 {
                let answer = front.request(method, path).send().await;
                assert!(name(&answer).starts_with(role), "{method} {path}: {answer:?}");
                let asked = answer.body.as_str().unwrap();
                assert!(*method == "HEAD" || asked.starts_with(&format!("{method} {path} HTTP/1.1\r\n")), "{asked}");
                names.insert(name(&answer));
            }
            assert_eq!(names.len(), if role == "realtime-" { 1 } else { 2 }, "{method} {path}: {names:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_sends_arrives_and_where_from_is_told() {
    let front = Front::start().await;
    // As long as positions on a topic of thousands of partitions.
    let token = "x".repeat(30_000);
    let request = front.request("GET", &format!("/api/messages/sync?since={token}"));
    let request = request.header("X-Request-Id", "mine").header("X-Forwarded-For", "192.0.2.7");
    let answer = request.header("Messages-Position", &token).send().await;
    let got = answer.body.as_str().unwrap_or_else(|| panic!("{answer:?}")).to_lowercase();
    let authority = front.nginx.url.strip_prefix("http://").unwrap();
    for header in [
        format!("messages-position: {token}\r\n"),
        "x-request-id: mine\r\n".to_owned(),
        "x-forwarded-for: 192.0.2.7, 127.0.0.1\r\n".to_owned(),
        "x-forwarded-proto: http\r\n".to_owned(),
        format!("host: {authority}\r\n"),
    ] {
        assert!(got.contains(&header), "no {header} in {got}");
    }
    // A WebSocket is one all the way; what else a client would like to become is its own affair.
    for (path, upgraded) in [("/socket.io/?EIO=4&transport=websocket", true), ("/api/messages", false)] {
        let asked = front.request("GET", path).header("Connection", "Upgrade").header("Upgrade", "websocket");
        let got = asked.send().await.body.as_str().unwrap().to_lowercase();
        assert_eq!(got.contains("connection: upgrade\r\n"), upgraded, "{got}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_polling_client_stays_with_its_node_and_goes_to_another_only_when_that_is_gone() {
    let front = Front::start().await;
    let path = |client: usize| format!("/socket.io/?EIO=4&transport=polling&client=client-{client}");
    let mut homes = Vec::new();
    for client in 0..40 {
        let home = front.who(&path(client)).await;
        for rest in ["&sid=abc", "&sid=abc&t=xyz"] {
            assert_eq!(front.who(&format!("{}{rest}", path(client))).await, home);
        }
        // Also when it becomes a WebSocket.
        let upgraded = format!("/socket.io/?EIO=4&transport=websocket&client=client-{client}&sid=abc");
        assert_eq!(front.who(&upgraded).await, home);
        homes.push(home);
    }
    let first = homes.iter().filter(|home| *home == "realtime-1").count();
    assert!((8..=32).contains(&first), "they are spread: {homes:?}");
    // Who says nothing is known by the address.
    let nameless: HashSet<String> = HashSet::from([
        front.who("/socket.io/?EIO=4&transport=polling").await,
        front.who("/socket.io/?EIO=4&transport=polling&sid=abc").await,
        front.who("/socket.io/?EIO=4&transport=websocket&sid=abc").await,
        front.who("/socket.io/?EIO=4&transport=polling&sid=def").await,
    ]);
    assert_eq!(nameless.len(), 1, "{nameless:?}");
    // A WebSocket from the beginning on has no other requests.
    let mut anywhere = HashSet::new();
    for _ in 0..20 {
        anywhere.insert(front.who("/socket.io/?EIO=4&transport=websocket").await);
    }
    assert_eq!(anywhere.len(), 2);

    front.upstreams[4].task.abort();
    for (client, home) in homes.iter().enumerate() {
        assert_eq!(front.who(&path(client)).await, "realtime-2", "it was on {home}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_inside_is_to_be_seen_from_outside() {
    let front = Front::start().await;
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
        "/nowhere",
    ] {
        let answer =
            raw(&front.nginx.url, &format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
        assert!(
            answer.starts_with("HTTP/1.1 404 ") && answer.contains("\"code\":\"no_such_route\""),
            "{path}: {answer}"
        );
    }
    let asked: usize = front.upstreams.iter().map(|upstream| upstream.asked.load(Ordering::Relaxed)).sum();
    assert_eq!(asked, 0, "no process was asked");
    let answer = front.request("POST", "/internal/memberships").header("X-Request-Id", "mine").send().await;
    answer.assert_problem(404, "no_such_route");
    assert_eq!(answer.body["requestId"], "mine");
    let answer = front.request("GET", "/nowhere").header("X-Request-Id", "\",\"code\":\"mine").send().await;
    answer.assert_problem(404, "no_such_route");
    // Realtime asks by another way, on which there is nothing else.
    let inside = async |path: &str| reqwest::get(format!("{}{path}", front.nginx.internal_url)).await.unwrap();
    let asked = inside("/internal/memberships?userId=a").await;
    assert!(asked.headers()["name"].to_str().unwrap().starts_with("query-"), "{asked:?}");
    for path in ["/api/messages", "/metrics", "/"] {
        assert_eq!(inside(path).await.status(), 404, "{path}");
    }
}

/// Sends this request and gives all that comes back.
async fn raw(url: &str, request: &str) -> String {
    // Whoever is still sending when the connection ends may not get to read why.
    eventually("an answer can be read", async || {
        let mut server = TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap();
        server.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer).await.ok()?;
        Some(String::from_utf8_lossy(&answer).into_owned())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn where_one_of_two_is_not_there_the_other_does_it() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let (command, query) =
        (Upstream::start("command", Manner::Answers).await, Upstream::start("query", Manner::Answers).await);
    let nginx = Nginx::start([nobody, command.address], [nobody, query.address], [nobody, nobody]).await;
    let front = Front { nginx, upstreams: vec![command, query], http: reqwest::Client::new() };
    for method in ["POST", "GET", "PATCH", "DELETE"] {
        for _ in 0..5 {
            let answer = front.request(method, "/api/messages").json(&json!({"a": 1})).send().await;
            assert!(["command", "query"].contains(&name(&answer).as_str()), "{answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_answers_clients_are_told_to_try_again_and_whether_something_may_have_been_done() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let dying = Upstream::start("dying", Manner::HangsUp).await;
    // Whoever is asked, and whoever else might be.
    let nginx = Nginx::start([dying.address; 2], [nobody; 2], [nobody; 2]).await;
    let front = Front { nginx, upstreams: vec![dying], http: reqwest::Client::new() };
    let dying = &front.upstreams[0];
    for (number, method) in (1..).zip(["POST", "PATCH", "POST"]) {
        // One that has failed nginx is passed by for a while; then it isn't asked.
        let answer = eventually("it is asked", async || {
            let answer = front.request(method, "/api/messages").json(&json!({"a": 1})).send().await;
            assert_eq!((answer.status, answer.header("retry-after")), (503, "1"), "{answer:?}");
            (answer.body["code"] != "unavailable").then_some(answer)
        })
        .await;
        answer.assert_problem(503, "append_unknown");
        assert_eq!(dying.asked.load(Ordering::Relaxed), number, "it was sent once, and not again: {method}");
    }
    dying.task.abort();
    for (method, path) in [
        ("POST", "/api/messages"),
        ("DELETE", "/api/messages"),
        ("GET", "/api/messages"),
        ("GET", "/socket.io/?EIO=4&transport=polling"),
    ] {
        let answer = front.request(method, path).send().await;
        answer.assert_problem(503, "unavailable");
        assert_eq!(answer.header("retry-after"), "1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_too_large_or_unreadable_is_refused_in_the_apis_own_words() {
    let process = System::with_roles(config(), Roles::COMMAND_API).await;
    let command = process.url.strip_prefix("http://").unwrap().parse().unwrap();
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let nginx = Nginx::start([command, command], [nobody, nobody], [nobody, nobody]).await;
    let system = System::attach(process.config.clone(), &nginx.url);
    // The API itself refuses the first three, nginx the others.
    for bytes in [(64 << 10) + 1, 500_000, 1 << 20, (1 << 20) + 1, 8 << 20] {
        let refused = system.ask("alice", "POST", "/api/messages").raw(" ".repeat(bytes)).send().await;
        refused.assert_problem(413, "body_too_large");
    }
    for head in ["GET /api/messages/%00 HTTP/1.1\r\nHost: a\r\n", "GET / HTTP/1.1\r\n"] {
        let answer = raw(&nginx.url, &format!("{head}Connection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("\"code\":\"bad_request\""), "{answer}");
    }
    let long = "x".repeat(40_000);
    for head in [
        format!("GET /api/messages?since={long} HTTP/1.1\r\nHost: a\r\n"),
        format!("GET / HTTP/1.1\r\nHost: a\r\nA: {long}\r\n"),
    ] {
        let answer = raw(&nginx.url, &format!("{head}Connection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 4") && answer.contains("\"code\":\"bad_request\""), "{answer}");
    }
}
