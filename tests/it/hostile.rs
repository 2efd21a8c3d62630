//! Hostile and broken clients: each harms its own connection, and no other.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::client_sync::{long_messages, start_realtime_node};
use crate::harness::log;
use crate::harness::process::ServiceProcess;
use crate::harness::proxy::Proxy;
use crate::harness::raw_socket::RawSocket;
use crate::harness::sockets::SLACK;
use crate::harness::{Client, System, eventually};

/// How long a connection may stay without an authenticated socket.
const UNAUTHENTICATED_TIMEOUT: Duration = Duration::from_secs(10);
/// The shortest silence of a client after which its session is closed.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(4);
/// How many sockets a user may have on one node.
const SOCKETS_PER_USER: usize = 100;
/// How many connections without an authenticated socket a node accepts at the same time.
const UNAUTHENTICATED_CONNECTIONS: usize = 16_384;
/// How many packets a connection may send at once.
const PACKET_BURST: usize = 200;

/// A packet that the server ignores but counts.
const IGNORED_PACKET: &str = "42[\"no such event\"]";

/// A system with one realtime node, and a client on it that must not notice what others do.
struct Site {
    system: System,
    node: ServiceProcess,
    bystander: Client,
}

impl Site {
    async fn start() -> Self {
        let system = System::start().await;
        let node = start_realtime_node(&system).await;
        let mut bystander = Client::open(json!({"url": node.url, "token": system.token("bystander")})).await;
        bystander.frame("connection:ready").await;
        Self { system, node, bystander }
    }

    async fn wait_for_sockets(&self, count: f64) {
        wait_for_sockets(&self.node, count).await;
    }

    /// Asserts that the bystander is still connected and received nothing.
    async fn assert_bystander_unharmed(&mut self) {
        assert_eq!(self.bystander.unread_frames().await, [""; 0]);
    }
}

async fn wait_for_sockets(node: &ServiceProcess, count: f64) {
    let reached = async || (node.metric("realtime_sockets", "").await == count).then_some(());
    eventually(&format!("the node has {count} sockets"), reached).await;
}

/// How often the node turned a client away for this reason.
async fn turned_away(node: &ServiceProcess, reason: &str) -> f64 {
    node.metric("realtime_turned_away_total", &format!("reason=\"{reason}\"")).await
}

/// A Socket.IO session over polling, without the official library.
struct PollingSession {
    url: String,
}

impl PollingSession {
    async fn open(node: &ServiceProcess) -> Self {
        let url = polling_url(node);
        let text = reqwest::get(&url).await.unwrap().text().await.unwrap();
        let opened: Value = serde_json::from_str(text.strip_prefix('0').unwrap()).unwrap();
        Self { url: format!("{url}&sid={}", opened["sid"].as_str().unwrap()) }
    }

    fn id(&self) -> &str {
        self.url.rsplit('=').next().unwrap()
    }

    /// Sends packets; the status of the answer.
    async fn send(&self, packets: impl Into<String>) -> u16 {
        reqwest::Client::new().post(&self.url).body(packets.into()).send().await.unwrap().status().as_u16()
    }

    /// Sends the same packet so many times in one request.
    async fn send_ignored(&self, count: usize) -> u16 {
        self.send(vec![IGNORED_PACKET; count].join("\u{1e}")).await
    }

    async fn authenticate(&self, system: &System, user: &str) {
        assert_eq!(self.send(connect_packet(system, user)).await, 200);
    }

    async fn closed(&self) {
        eventually("the session is closed", async || (self.send("3").await == 400).then_some(())).await;
    }
}

fn polling_url(node: &ServiceProcess) -> String {
    format!("{}/socket.io/?EIO=4&transport=polling", node.url)
}

fn connect_packet(system: &System, user: &str) -> String {
    format!("40{}", json!({"token": system.token(user)}))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_that_sends_too_many_packets_is_closed() {
    let mut site = Site::start().await;
    let mut flood = RawSocket::connect(&site.system, &site.node.url, "flood").await;
    let pong = "3";
    let packets = [pong, "42[\"presence:get\",{}]", IGNORED_PACKET, "40/admin,", "437[1]"];
    let mut sent = 0;
    while sent < 10 * PACKET_BURST && flood.send(packets[sent % packets.len()]).await {
        sent += 1;
    }
    assert!(flood.closed_within(SLACK).await, "the node took {sent} packets");
    assert_eq!(turned_away(&site.node, "packets").await, 1.0);
    site.wait_for_sockets(1.0).await;
    site.assert_bystander_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_polling_session_that_sends_too_many_packets_is_closed_before_and_after_it_authenticates() {
    let mut site = Site::start().await;
    let authenticated = PollingSession::open(&site.node).await;
    authenticated.authenticate(&site.system, "flood").await;
    // Until the socket is authenticated, the node counts the session's packets separately.
    site.wait_for_sockets(2.0).await;
    assert_eq!(authenticated.send_ignored(PACKET_BURST / 2).await, 200);
    assert_ne!(authenticated.send_ignored(PACKET_BURST).await, 200);
    site.wait_for_sockets(1.0).await;

    let unauthenticated = PollingSession::open(&site.node).await;
    assert_ne!(unauthenticated.send_ignored(2 * PACKET_BURST).await, 200);
    assert_eq!(turned_away(&site.node, "packets").await, 2.0);
    site.assert_bystander_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_within_the_packet_limit_is_never_turned_away() {
    let Site { system: _system, node, bystander: mut busy } = Site::start().await;
    for _ in 0..PACKET_BURST / 2 {
        busy.emit("typing:start", json!({})).await;
    }
    for _ in 0..PACKET_BURST / 4 {
        busy.emit_with_ack("presence:get", json!({"userIds": []})).await;
    }
    assert_eq!(turned_away(&node, "packets").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_a_hundred_sockets_on_a_node_and_closing_one_admits_another() {
    let mut site = Site::start().await;
    let token = site.system.token("greedy");
    let order = json!({"url": site.node.url, "token": token, "sockets": SOCKETS_PER_USER});
    let mut greedy = Client::open(order).await;
    for _ in 0..SOCKETS_PER_USER {
        greedy.frame("connection:ready").await;
    }

    let mut one_more = Client::open(json!({"url": site.node.url, "token": token})).await;
    assert_eq!(one_more.wait_for("connect_error").await["message"], "too_many_sockets");
    assert_eq!(turned_away(&site.node, "sockets").await, 1.0);

    greedy.instruct(json!({"do": "disconnect", "socket": 7})).await;
    greedy.wait_for("disconnect").await;
    one_more.instruct(json!({"do": "connect"})).await;
    one_more.frame("connection:ready").await;
    site.assert_bystander_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_an_authenticated_socket_is_closed() {
    let system = System::start().await;
    let node = start_realtime_node(&system).await;
    let mut silent = RawSocket::open(&node.url, "").await.unwrap();
    let mut forger = RawSocket::open(&node.url, "").await.unwrap();
    forger.send("40{\"token\":\"forged\"}").await;
    let mut in_another_namespace = RawSocket::open(&node.url, "").await.unwrap();
    in_another_namespace.send("40/admin,").await;
    let mut disconnected = RawSocket::connect(&system, &node.url, "alice").await;
    disconnected.send("41").await;
    let disconnected_polling = PollingSession::open(&node).await;
    disconnected_polling.authenticate(&system, "bob").await;
    assert_eq!(disconnected_polling.send("41").await, 200);

    let limit = UNAUTHENTICATED_TIMEOUT + SLACK;
    let (silent, forger, in_another_namespace, disconnected) = tokio::join!(
        silent.closed_within(limit),
        forger.closed_within(limit),
        in_another_namespace.closed_within(limit),
        disconnected.closed_within(limit),
    );

    assert!(silent, "a connection that sends nothing stays open");
    assert!(forger, "a connection with a forged token stays open");
    assert!(in_another_namespace, "a connection to another namespace stays open");
    assert!(disconnected, "a connection whose socket disconnected stays open");
    disconnected_polling.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_reconnects_over_the_same_connection_keeps_it() {
    let system = System::start().await;
    let node = start_realtime_node(&system).await;
    let mut wire = RawSocket::connect(&system, &node.url, "alice").await;

    wire.send("41").await;
    // The node refuses the socket until the old one is gone.
    eventually("alice is connected again", async || {
        wire.send(&connect_packet(&system, "alice")).await;
        wire.within(Duration::from_millis(500), "42[\"connection:ready\"").await
    })
    .await;

    assert!(!wire.closed_within(UNAUTHENTICATED_TIMEOUT + Duration::from_secs(2)).await);
}

/// Opens unauthenticated sessions until the node refuses one; how many it accepted.
async fn open_sessions_until_refused(client: reqwest::Client, url: String) -> usize {
    for accepted in 0..=UNAUTHENTICATED_CONNECTIONS {
        if client.get(&url).send().await.unwrap().status() == 503 {
            return accepted;
        }
    }
    panic!("the node refuses no connection")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_unauthenticated_connections_is_bounded() {
    let mut site = Site::start().await;
    let client = reqwest::Client::new();
    let url = polling_url(&site.node);
    let openers: Vec<_> =
        (0..8).map(|_| tokio::spawn(open_sessions_until_refused(client.clone(), url.clone()))).collect();
    let mut accepted = 0;
    for opener in openers {
        accepted += opener.await.unwrap();
    }

    assert!(accepted >= UNAUTHENTICATED_CONNECTIONS, "{accepted}");
    // On a slow machine the node closes the first sessions meanwhile: the test fills their places again.
    eventually("the node refuses a WebSocket, too", async || {
        open_sessions_until_refused(client.clone(), url.clone()).await;
        RawSocket::open(&site.node.url, "").await.is_none().then_some(())
    })
    .await;
    assert!(turned_away(&site.node, "connections").await > 0.0);
    site.assert_bystander_unharmed().await;
    // The node closes them after a while, and then accepts others.
    eventually("the node accepts a connection again", async || RawSocket::open(&site.node.url, "").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_a_request_is_closed() {
    let system = System::start().await;
    let node = start_realtime_node(&system).await;
    let mut silent = TcpStream::connect(node.url.strip_prefix("http://").unwrap()).await.unwrap();
    let connected = Instant::now();
    let read = tokio::time::timeout(UNAUTHENTICATED_TIMEOUT + SLACK, silent.read(&mut [0])).await;
    assert_eq!(read.expect("the connection is still open").unwrap(), 0);
    assert!(connected.elapsed() > UNAUTHENTICATED_TIMEOUT - SLACK);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_packet_closes_its_own_connection() {
    let mut site = Site::start().await;
    for packet in [
        "4",
        "49",
        "4nonsense",
        "42{}",
        "42[7",
        "451-[\"presence:get\",{\"_placeholder\":true,\"num\":0}]",
        "7",
        "\0",
        "43[]",
    ] {
        let mut wire = RawSocket::connect(&site.system, &site.node.url, "odd").await;
        wire.send(packet).await;
        assert!(wire.closed_within(SLACK).await, "{packet}");
    }
    let mut binary = RawSocket::connect(&site.system, &site.node.url, "odd").await;
    binary.send_binary(b"\x00\x01\x02").await;
    assert!(binary.closed_within(SLACK).await, "a binary packet");
    site.assert_bystander_unharmed().await;
    site.wait_for_sockets(1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unexpected_packet_is_ignored() {
    let mut site = Site::start().await;
    let mut wire = RawSocket::connect(&site.system, &site.node.url, "odd").await;
    for ignored in ["437[1,2]", "42[\"no such event\",1]", "41/admin,", "42/admin,[\"presence:get\",{}]"] {
        wire.send(ignored).await;
    }
    wire.send("40/admin,").await;
    assert_eq!(wire.until("44").await, "44/admin,{\"message\":\"Invalid namespace\"}");

    wire.send("420[\"presence:get\",{\"userIds\":[]}]").await;
    assert_eq!(wire.until("430").await, "430[[]]", "the connection no longer works");
    site.assert_bystander_unharmed().await;
    assert_eq!(site.node.metric("realtime_sockets", "").await, 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_answers_pings_but_receives_nothing_is_closed() {
    let system = System::start().await;
    let node = start_realtime_node(&system).await;
    let network = Proxy::start(&node.url).await;
    let mut stalled = RawSocket::connect(&system, &network.url, "alice").await;
    network.stall();
    let conversation = system.conversation("bob", &["alice"]).await;

    // More than the network holds for the socket, and less than it holds together with the socket's queue.
    log::append(&system.config, &long_messages("bob", &conversation, 25)).await;
    eventually("the socket is closed", async || {
        tokio::time::sleep(Duration::from_millis(200)).await;
        stalled.send("3").await;
        (node.metric("realtime_sockets", "").await == 0.0).then_some(())
    })
    .await;

    assert_eq!(node.metric("realtime_dropped_total", "").await, 0.0);
    assert_eq!(turned_away(&node, "packets").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_breaks_off_leaves_no_socket_behind() {
    let system = System::start().await;
    let node = start_realtime_node(&system).await;
    for probe in [None, Some("2probe"), Some("nonsense")] {
        let session = PollingSession::open(&node).await;
        session.authenticate(&system, "alice").await;
        wait_for_sockets(&node, 1.0).await;
        // A sign of life: the node would notice silence alone only later.
        assert_eq!(session.send("3").await, 200);

        let mut upgrade = RawSocket::open(&node.url, &format!("&sid={}", session.id())).await.unwrap();
        if let Some(probe) = probe {
            upgrade.send(probe).await;
        }
        drop(upgrade);

        wait_for_sockets(&node, 0.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_that_is_hung_up_closes_its_session() {
    let system = System::start().await;
    let node = start_realtime_node(&system).await;
    let session = PollingSession::open(&node).await;
    session.authenticate(&system, "alice").await;
    // Until the node has sent everything, and a poll waits for the next ping.
    while tokio::time::timeout(Duration::from_secs(1), reqwest::get(&session.url)).await.is_ok() {
        assert_eq!(session.send("3").await, 200);
    }
    let hung_up = Instant::now();

    session.closed().await;
    assert!(hung_up.elapsed() < SILENCE_TIMEOUT, "the node closed the session only for its silence");
}
