//! A rolling restart: the processes of a system restart one after the other, and its clients neither lose nor repeat
//! anything, nor have to do anything about it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use domain::testing::Rng;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::client_sync::{long_messages, start_realtime_node};
use crate::commands::KeyedCommand;
use crate::harness::cluster::{Cluster, Stop};
use crate::harness::http::Response;
use crate::harness::log::{self, Record};
use crate::harness::process::Release;
use crate::harness::proxy::Proxy;
use crate::harness::replicas::Replicas;
use crate::harness::system::{TIMEOUT, config, unlimited};
use crate::harness::{Client, System, eventually};

/// How long a process in use may take to stop: it waits for no socket and no request until a limit is over.
const STOPS_WITHIN: Duration = Duration::from_secs(3);
/// The pause between two commands of one user.
const PAUSE: Duration = Duration::from_millis(50);
/// How many users send commands; the others only receive.
const WRITERS: usize = 5;

#[track_caller]
fn assert_stopped_in_time(stops: &[Stop]) {
    assert!(stops.iter().all(|stop| stop.took < STOPS_WITHIN), "{stops:?}");
}

struct Acknowledged {
    key: String,
    answer: Response,
}

/// Sends a user's random commands until the test is over. Some of them are sent again, and some messages are read.
async fn send_random_commands(
    system: Arc<System>,
    user: String,
    conversations: Vec<String>,
    over: Arc<AtomicBool>,
) -> Vec<Acknowledged> {
    let mut rng = Rng::new(user.bytes().map(u64::from).sum());
    let (mut own_messages, mut acknowledged) = (Vec::new(), Vec::new());
    for number in 0.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let command = KeyedCommand::random(&mut rng, &user, number, &conversations, &own_messages);
        let answer = command.send_until_decided(&[&system], TIMEOUT).await;
        if answer.status == 422 {
            answer.assert_problem(422, "message_deleted");
        } else {
            assert!([200, 201].contains(&answer.status), "{command:?}: {answer:?}");
            if rng.percent(20) {
                let retried = command.send_until_decided(&[&system], TIMEOUT).await;
                assert_eq!((retried.status, retried.data()), (200, answer.data()), "{retried:?}");
            }
            if command.sends_a_message() {
                own_messages.push(answer.id());
                if rng.percent(20) {
                    assert_read_as_acknowledged(&system, &user, &answer).await;
                }
            }
            acknowledged.push(Acknowledged { key: command.key, answer });
        }
        tokio::time::sleep(PAUSE).await;
    }
    acknowledged
}

/// Asserts that the sender reads the message as it was acknowledged, also from the cache of the other process.
async fn assert_read_as_acknowledged(system: &System, sender: &str, sent: &Response) {
    let path = format!("/api/messages/{}", sent.id());
    for _ in 0..2 {
        let mut read = system.get_after(sent, sender, &path).await;
        // nginx may find no process for a moment. A client tries again, as it does with a command.
        let deadline = Instant::now() + TIMEOUT;
        while read.status == 503 && Instant::now() < deadline {
            tokio::time::sleep(PAUSE).await;
            read = system.get_after(sent, sender, &path).await;
        }
        assert_eq!((read.status, &read.data()["content"]), (200, &sent.data()["content"]), "{read:?}");
    }
}

/// Asserts that every acknowledged command is on the log at the position of its answer, and nowhere else.
fn assert_on_the_log_once(acknowledged: &[Acknowledged], records: &[Record]) {
    let mut positions: HashMap<&str, Vec<String>> = HashMap::new();
    for record in records {
        if let Some(key) = record.value["idempotencyKey"].as_str() {
            positions.entry(key).or_default().push(record.position());
        }
    }
    for Acknowledged { key, answer } in acknowledged {
        assert_eq!(positions.get(key.as_str()), Some(&vec![answer.position().to_owned()]), "{key}");
    }
    let sent = records.iter().filter(|record| record.value["type"] == "MESSAGE_SENT");
    let ids: Vec<&str> = sent.filter_map(|record| record.value["data"]["messageId"].as_str()).collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "a message is on the log twice");
}

/// Clients of some of the users, over the same transports.
struct Group {
    users: Vec<String>,
    clients: Replicas,
}

impl Group {
    async fn connect(system: &System, transports: &[&str], users: &[String]) -> Self {
        let clients = Replicas::start_over(transports, system, &[&system.url], users).await;
        Self { users: users.to_vec(), clients }
    }

    async fn assert_reconnected_and_complete(&mut self, system: &System) {
        self.clients.assert_equals_server(system, &self.users).await;
        let status = self.clients.status().await;
        println!("{status}");
        assert_eq!(status["dismissed"], 0, "the server told a client to stay away: {status}");
        assert!(status["readies"].as_u64() > Some(self.users.len() as u64), "no client had to reconnect: {status}");
    }
}

/// Users who send random commands, and clients that follow, while the processes of the system restart.
pub(crate) struct Traffic {
    system: Arc<System>,
    groups: [Group; 3],
    writers: Vec<JoinHandle<Vec<Acknowledged>>>,
    over: Arc<AtomicBool>,
}

impl Traffic {
    /// Starts the traffic to all processes of a cluster, through its nginx.
    pub(crate) async fn start(cluster: &Cluster) -> Self {
        let system = Arc::new(System::attach(cluster.config.clone(), &cluster.nginx.url));
        system.wait_until_projecting_by(2).await;
        let users: Vec<String> = (0..20).map(|number| format!("user-{number}")).collect();
        let groups = [
            Group::connect(&system, &["websocket"], &users[..8]).await,
            Group::connect(&system, &["polling"], &users[8..14]).await,
            Group::connect(&system, &["polling", "websocket"], &users[14..]).await,
        ];
        let everyone: Vec<&str> = users.iter().map(String::as_str).collect();
        let of_everyone = system.conversation("user-0", &everyone).await;
        let of_writers = system.conversation("user-1", &everyone[..WRITERS]).await;
        let conversations = vec![of_everyone, of_writers];

        let over = Arc::new(AtomicBool::new(false));
        let send = |user: &String| {
            tokio::spawn(send_random_commands(system.clone(), user.clone(), conversations.clone(), over.clone()))
        };
        let writers = users[..WRITERS].iter().map(send).collect();
        Self { system, groups, writers, over }
    }

    /// Ends the traffic, and asserts that every acknowledged command was done once, and that every client had to
    /// reconnect and has the server's state. Returns how many commands were acknowledged.
    pub(crate) async fn assert_lost_and_repeated_nothing(mut self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        let mut acknowledged = Vec::new();
        for writer in self.writers {
            acknowledged.extend(writer.await.unwrap());
        }
        assert_on_the_log_once(&acknowledged, &self.system.records().await);
        for group in &mut self.groups {
            group.assert_reconnected_and_complete(&self.system).await;
        }
        assert!(acknowledged.len() > 200, "too few commands to get one wrong: {}", acknowledged.len());
        acknowledged.len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_of_every_process_loses_and_repeats_nothing() {
    let mut config = config();
    unlimited(&mut config);
    let mut cluster = Cluster::start(&config, Release::Current).await;
    let traffic = Traffic::start(&cluster).await;

    let stops = cluster.restart_all().await;

    let commands = traffic.assert_lost_and_repeated_nothing().await;
    println!("{commands} commands; {stops:?}");
    assert_stopped_in_time(&stops);
}

/// How many sockets each client has.
const SOCKETS: usize = 4;

/// A client of which every socket is connected.
async fn connect_over(transports: &[&str], system: &System, user: &str) -> Client {
    let token = system.token(user);
    let order = json!({"url": system.url, "token": token, "transports": transports, "sockets": SOCKETS});
    let mut client = Client::open(order).await;
    for _ in 0..SOCKETS {
        client.frame("connection:ready").await;
    }
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_a_stopped_node_reconnect_by_themselves_to_the_other() {
    let mut cluster = Cluster::start(&config(), Release::Current).await;
    let system = System::attach(cluster.config.clone(), &cluster.nginx.url);
    system.wait_until_projecting().await;
    let mut clients = Vec::new();
    for transports in [&["websocket"][..], &["polling"], &["polling", "websocket"]] {
        clients.push((transports, connect_over(transports, &system, "alice").await));
    }
    // A node that stops doesn't wait for clients that don't say goodbye.
    let mut frozen = Vec::new();
    for transports in [&["websocket"], &["polling"]] {
        let mut client = connect_over(transports, &system, "bob").await;
        client.freeze().await;
        frozen.push(client);
    }

    // Both nodes stop, one after the other: each client loses its connection.
    let stops = cluster.restart_all().await;

    for (transports, client) in &mut clients {
        for _ in 0..SOCKETS {
            // Not "io server disconnect", after which official clients stay away.
            let reason = client.wait_for("disconnect").await["reason"].clone();
            let reconnects = ["transport close", "transport error"].contains(&reason.as_str().unwrap());
            assert!(reconnects, "{transports:?}: {reason}");
            client.frame("connection:ready").await;
        }
    }
    assert_stopped_in_time(&stops);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_does_not_wait_for_stalled_clients() {
    let system = System::unlimited().await;
    let node = start_realtime_node(&system).await;
    let network = Proxy::start(&node.url).await;
    let conversation = system.conversation("bob", &["alice", "carol"]).await;
    let connect = async |user: &str, transports: Value| {
        let order = json!({"url": network.url, "token": system.token(user), "transports": transports});
        let mut client = Client::open(order).await;
        client.frame("connection:ready").await;
        client
    };
    let _alice = connect("alice", json!(["websocket"])).await;
    let mut carol = connect("carol", json!(["polling", "websocket"])).await;
    carol.wait_for("upgrade").await;

    network.stall();
    // More than the network's buffers hold, but not more than the sockets'.
    log::append(&system.config, &long_messages("bob", &conversation, 24)).await;
    eventually("the node has sent every message to both clients", async || {
        (node.metric("realtime_frames_total", "").await >= 48.0).then_some(())
    })
    .await;

    let took = node.stop().await;
    assert!(took < STOPS_WITHIN, "{took:?}");
}
