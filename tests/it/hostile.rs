//! Clients that mean no good, or have gone mad: each harms its own connection, and nobody else's.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::following::{long_message, node};
use crate::harness::log::{self, NewRecord};
use crate::harness::process::ServiceProcess;
use crate::harness::proxy::Proxy;
use crate::harness::raw_socket::RawSocket;
use crate::harness::sockets::SLACK;
use crate::harness::{Client, System, eventually};

/// For how long a connection may be there without a socket.
const WITHOUT_SOCKET: Duration = Duration::from_secs(10);
/// How long a client is silent before its session is closed for that, at least.
const SILENCE: Duration = Duration::from_secs(4);
/// How many sockets a user may have.
const SOCKETS: usize = 100;
/// How many connections may wait to be let in.
const STRANGERS: usize = 16_384;
/// How many packets may come at once.
const BURST: usize = 200;

/// Somebody who wants to chat, and must not notice anything of what others do.
async fn bystander(system: &System, node: &ServiceProcess) -> Client {
    let mut client = Client::open(json!({"url": node.url, "token": system.token("bystander")})).await;
    client.frame("connection:ready").await;
    client
}

async fn turned_away(node: &ServiceProcess, reason: &str) -> f64 {
    node.metric("realtime_turned_away_total", &format!("reason=\"{reason}\"")).await
}

/// Opens a session by polling: its path.
async fn polling(node: &ServiceProcess) -> Option<String> {
    let path = format!("{}/socket.io/?EIO=4&transport=polling", node.url);
    let opened = reqwest::get(&path).await.unwrap();
    if opened.status() == 503 {
        return None;
    }
    let text = opened.text().await.unwrap();
    let opened: Value = serde_json::from_str(text.strip_prefix('0').unwrap()).unwrap();
    Some(format!("{path}&sid={}", opened["sid"].as_str().unwrap()))
}

async fn post(path: &str, packets: String) -> u16 {
    reqwest::Client::new().post(path).body(packets).send().await.unwrap().status().as_u16()
}

fn connect(system: &System, user: &str) -> String {
    format!("40{}", json!({"token": system.token(user)}))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_too_many_packets_has_their_connection_closed_and_nobody_else() {
    let system = System::start().await;
    let node = node(&system).await;
    let mut bystander = bystander(&system, &node).await;
    let mut flood = RawSocket::connect(&system, &node.url, "flood").await;
    // Whatever they say: pings, questions, what nobody knows.
    let packets = ["3", "42[\"presence:get\",{}]", "42[\"no such event\"]", "40/admin,", "437[1]"];
    let mut sent = 0;
    while sent < 10 * BURST && flood.send(packets[sent % packets.len()]).await {
        sent += 1;
    }
    assert!(flood.closed_within(SLACK).await, "{sent} packets were taken");
    assert_eq!(turned_away(&node, "packets").await, 1.0);

    let sockets = async |count: f64| {
        eventually("so many are there", async || (node.metric("realtime_sockets", "").await == count).then_some(()))
            .await;
    };
    sockets(1.0).await;
    let path = polling(&node).await.unwrap();
    assert_eq!(post(&path, connect(&system, "flood")).await, 200);
    // Until it is let in, what it sends counts by itself.
    sockets(2.0).await;
    let many = |count: usize| vec!["42[\"no such event\"]"; count].join("\u{1e}");
    // It takes a few, and more than there may be at once.
    assert_eq!(post(&path, many(BURST / 2)).await, 200);
    assert_ne!(post(&path, many(BURST)).await, 200);
    sockets(1.0).await;
    // Also before anybody is let in.
    let path = polling(&node).await.unwrap();
    assert_ne!(post(&path, many(2 * BURST)).await, 200);
    assert_eq!(turned_away(&node, "packets").await, 3.0);
    assert_eq!(bystander.unread_frames().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_as_fast_as_one_may_is_left_alone() {
    let system = System::start().await;
    let node = node(&system).await;
    let mut busy = bystander(&system, &node).await;
    for _ in 0..BURST / 2 {
        busy.emit("typing:start", json!({})).await;
    }
    for _ in 0..BURST / 4 {
        busy.emit_with_ack("presence:get", json!({"userIds": []})).await;
    }
    assert_eq!(turned_away(&node, "packets").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_a_hundred_sockets_on_a_node_and_each_that_goes_makes_room_for_another() {
    let system = System::start().await;
    let node = node(&system).await;
    let mut bystander = bystander(&system, &node).await;
    let order = json!({"url": node.url, "token": system.token("greedy"), "sockets": SOCKETS});
    let mut greedy = Client::open(order).await;
    for _ in 0..SOCKETS {
        greedy.frame("connection:ready").await;
    }
    let mut further = Client::open(json!({"url": node.url, "token": system.token("greedy")})).await;
    assert_eq!(further.wait_for("connect_error").await["message"], "too_many_sockets");
    assert_eq!(turned_away(&node, "sockets").await, 1.0);
    greedy.instruct(json!({"do": "disconnect", "socket": 7})).await;
    greedy.wait_for("disconnect").await;
    further.instruct(json!({"do": "connect"})).await;
    further.frame("connection:ready").await;
    assert_eq!(bystander.unread_frames().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_over_which_no_socket_is_let_in_is_closed() {
    let system = System::start().await;
    let node = node(&system).await;
    let (mut silent, mut forger, mut elsewhere) = (
        RawSocket::open(&node.url, "").await.unwrap(),
        RawSocket::open(&node.url, "").await.unwrap(),
        RawSocket::open(&node.url, "").await.unwrap(),
    );
    forger.send("40{\"token\":\"forged\"}").await;
    elsewhere.send("40/admin,").await;
    let mut left = RawSocket::connect(&system, &node.url, "alice").await;
    left.send("41").await;
    let path = polling(&node).await.unwrap();
    assert_eq!(post(&path, connect(&system, "bob")).await, 200);
    assert_eq!(post(&path, "41".to_owned()).await, 200);
    let limit = WITHOUT_SOCKET + SLACK;
    let closed = tokio::join!(
        silent.closed_within(limit),
        forger.closed_within(limit),
        elsewhere.closed_within(limit),
        left.closed_within(limit),
    );
    assert_eq!(closed, (true, true, true, true));
    eventually("the polling session is closed", async || (post(&path, "3".to_owned()).await == 400).then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_over_the_same_connection_keeps_it() {
    let system = System::start().await;
    let node = node(&system).await;
    let mut wire = RawSocket::connect(&system, &node.url, "alice").await;
    wire.send("41").await;
    // While she is still on her way out, she can't come in.
    eventually("she is back", async || {
        wire.send(&connect(&system, "alice")).await;
        wire.within(Duration::from_millis(500), "42[\"connection:ready\"").await
    })
    .await;
    assert!(!wire.closed_within(WITHOUT_SOCKET + Duration::from_secs(2)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_connections_that_wait_to_be_let_in_there_is_a_bounded_number() {
    let system = System::start().await;
    let node = node(&system).await;
    let mut bystander = bystander(&system, &node).await;
    let client = reqwest::Client::new();
    let path = format!("{}/socket.io/?EIO=4&transport=polling", node.url);
    let opening = (0..8).map(|_| {
        let (client, path) = (client.clone(), path.clone());
        tokio::spawn(async move {
            for opened in 0..=STRANGERS {
                if client.get(&path).send().await.unwrap().status() == 503 {
                    return opened;
                }
            }
            panic!("there is no bound")
        })
    });
    let mut opened = 0;
    for opening in opening.collect::<Vec<_>>() {
        opened += opening.await.unwrap();
    }
    assert!(opened >= STRANGERS, "{opened}");
    assert!(RawSocket::open(&node.url, "").await.is_none(), "refused by name");
    assert!(turned_away(&node, "connections").await > 0.0);
    assert_eq!(bystander.unread_frames().await, [""; 0], "who is in stays in");
    // They are closed, and then there is room again.
    eventually("there is room", async || RawSocket::open(&node.url, "").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_on_which_nothing_is_asked_is_closed() {
    let system = System::start().await;
    let node = node(&system).await;
    let mut silent = TcpStream::connect(node.url.strip_prefix("http://").unwrap()).await.unwrap();
    let since = Instant::now();
    let closed = tokio::time::timeout(WITHOUT_SOCKET + SLACK, silent.read(&mut [0])).await;
    assert_eq!(closed.expect("still open").unwrap(), 0);
    assert!(since.elapsed() > WITHOUT_SOCKET - SLACK);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_packet_ends_its_own_connection_and_what_nobody_asked_for_is_ignored() {
    let system = System::start().await;
    let node = node(&system).await;
    let mut bystander = bystander(&system, &node).await;
    for ending in [
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
        let mut wire = RawSocket::connect(&system, &node.url, "odd").await;
        wire.send(ending).await;
        assert!(wire.closed_within(SLACK).await, "{ending}");
    }
    let mut wire = RawSocket::connect(&system, &node.url, "odd").await;
    wire.send_binary(b"\x00\x01\x02").await;
    assert!(wire.closed_within(SLACK).await, "bytes");
    let mut wire = RawSocket::connect(&system, &node.url, "odd").await;
    for ignored in ["437[1,2]", "42[\"no such event\",1]", "41/admin,", "42/admin,[\"presence:get\",{}]"] {
        wire.send(ignored).await;
    }
    wire.send("40/admin,").await;
    assert_eq!(wire.until("44").await, "44/admin,{\"message\":\"Invalid namespace\"}");
    wire.send("420[\"presence:get\",{\"userIds\":[]}]").await;
    assert_eq!(wire.until("430").await, "430[[]]", "all of that changes nothing");
    assert_eq!(bystander.unread_frames().await, [""; 0]);
    assert_eq!(node.metric("realtime_sockets", "").await, 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_to_be_there_but_takes_nothing_is_let_go() {
    let system = System::start().await;
    let node = node(&system).await;
    let proxy = Proxy::start(&node.url).await;
    let mut deaf = RawSocket::connect(&system, &proxy.url, "alice").await;
    proxy.stall();
    let conversation = system.conversation("bob", &["alice"]).await;
    // More than the network holds for it, and less packets than its own buffer does.
    let long: Vec<NewRecord> = (0..100).map(|_| NewRecord::event(&long_message("bob", &conversation))).collect();
    log::append(&system.config, &long).await;
    eventually("it is closed", async || {
        tokio::time::sleep(Duration::from_millis(200)).await;
        deaf.send("3").await;
        (node.metric("realtime_sockets", "").await == 0.0).then_some(())
    })
    .await;
    assert_eq!(node.metric("realtime_dropped_total", "").await, 0.0);
    assert_eq!(turned_away(&node, "packets").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_breaks_off_leaves_no_socket_behind() {
    let system = System::start().await;
    let node = node(&system).await;
    for probe in [None, Some("2probe"), Some("nonsense")] {
        let path = polling(&node).await.unwrap();
        assert_eq!(post(&path, connect(&system, "alice")).await, 200);
        eventually("she is in", async || (node.metric("realtime_sockets", "").await == 1.0).then_some(())).await;
        // She has just said that she is there: silence alone would take longer to be noticed.
        assert_eq!(post(&path, "3".to_owned()).await, 200);
        let sid = path.rsplit('=').next().unwrap();
        let mut wire = RawSocket::open(&node.url, &format!("&sid={sid}")).await.unwrap();
        if let Some(probe) = probe {
            wire.send(probe).await;
        }
        drop(wire);
        let gone = async || (node.metric("realtime_sockets", "").await == 0.0).then_some(());
        eventually("she has gone", gone).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_instead_of_waiting_for_packets_has_to_begin_anew() {
    let system = System::start().await;
    let node = node(&system).await;
    let path = polling(&node).await.unwrap();
    assert_eq!(post(&path, connect(&system, "alice")).await, 200);
    // Until there is nothing more to get, and a poll waits for the next ping.
    while tokio::time::timeout(Duration::from_secs(1), reqwest::get(&path)).await.is_ok() {
        assert_eq!(post(&path, "3".to_owned()).await, 200);
    }
    let hung_up = Instant::now();
    eventually("the session is closed", async || (post(&path, "3".to_owned()).await == 400).then_some(())).await;
    assert!(hung_up.elapsed() < SILENCE, "only because nothing came any more");
}
