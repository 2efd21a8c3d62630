//! A system that runs apart is restarted process by process, and those who use it need not know.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use domain::testing::Rng;
use serde_json::{Value, json};
use service::config::Config;
use tokio::time::Instant;

use crate::following::{long_message, node};
use crate::harness::http::Response;
use crate::harness::log::{self, NewRecord, Record};
use crate::harness::nginx::Nginx;
use crate::harness::process::{ServiceProcess, free_port};
use crate::harness::proxy::Proxy;
use crate::harness::replicas::Replicas;
use crate::harness::system::{TIMEOUT, config, unlimited};
use crate::harness::{Client, System, eventually};

/// How long nginx passes by whoever refused it; see `deploy/nginx.conf`.
const PASSED_BY: Duration = Duration::from_secs(1);
/// How long a process may take to stop while it is used: no socket and no request is waited for until a limit is over.
const STOPS_WITHIN: Duration = Duration::from_secs(3);
/// The pause between two commands of one user.
const PAUSE: Duration = Duration::from_millis(50);
/// Those who talk; others only listen.
const TALKERS: usize = 5;

/// Processes behind nginx, two of each role.
struct Apart {
    config: Config,
    nginx: Nginx,
    /// Each with its port and its role.
    processes: Vec<(u16, &'static str, ServiceProcess)>,
}

impl Apart {
    async fn start(config: &Config) -> Self {
        let mut ports = [0; 8];
        ports.fill_with(free_port);
        let at = |index: usize| [index, index + 1].map(|index| SocketAddr::from(([127, 0, 0, 1], ports[index])));
        let nginx = Nginx::start(at(0), at(2), at(4)).await;
        let config = Config { query_api_url: Some(nginx.internal_url.clone()), ..config.clone() };
        let roles = ["command-api", "query-api", "realtime", "projector"];
        let mut processes = Vec::new();
        for (index, port) in ports.into_iter().enumerate() {
            processes.push((port, roles[index / 2], spawn(port, &config, roles[index / 2])));
        }
        for (_, _, process) in &mut processes {
            process.ready().await;
        }
        Self { config, nginx, processes }
    }

    /// Restarts one process after the other, as the documentation has it; how long each took to stop.
    async fn restart_all(&mut self) -> Vec<(&'static str, Duration)> {
        let mut took = Vec::new();
        for (port, role, process) in std::mem::take(&mut self.processes) {
            took.push((role, process.stop().await));
            let mut process = spawn(port, &self.config, role);
            process.ready().await;
            self.processes.push((port, role, process));
            tokio::time::sleep(PASSED_BY).await;
        }
        took
    }
}

fn spawn(port: u16, config: &Config, role: &str) -> ServiceProcess {
    let query_api = config.query_api_url.as_deref().map(|url| ("QUERY_API_URL", url));
    ServiceProcess::spawn(port, config, &[role], query_api.as_slice())
}

/// A command that was acknowledged.
struct Acknowledged {
    key: String,
    answer: Response,
}

/// Somebody who gives commands of all kinds until it is over, each with a key, as often as it takes.
async fn talk(
    system: Arc<System>,
    user: String,
    conversations: Vec<String>,
    over: Arc<AtomicBool>,
) -> Vec<Acknowledged> {
    let mut rng = Rng::new(user.bytes().map(u64::from).sum());
    let (mut own, mut acknowledged) = (Vec::new(), Vec::new());
    for number in 0.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let conversation = rng.pick(&conversations).unwrap();
        let content = json!({"content": format!("{user} {number}")});
        let post = "/api/messages".to_owned();
        let (method, path, body) = match (rng.below(10), rng.pick(&own)) {
            (0, Some(id)) => ("PATCH", format!("/api/messages/{id}"), content),
            (1, Some(id)) => ("DELETE", format!("/api/messages/{id}"), Value::Null),
            (2 | 3, Some(id)) => ("POST", post, json!({"action": "reaction", "messageId": id, "emoji": "👍"})),
            (4, _) => ("POST", post, json!({"action": "mark_read", "conversationId": conversation})),
            _ => ("POST", post, json!({"conversationId": conversation, "content": content["content"]})),
        };
        let key = format!("{user}-{number}");
        let answer = insist(&system, &user, &key, method, &path, &body).await;
        if answer.status == 422 {
            answer.assert_problem(422, "message_deleted");
        } else {
            assert!([200, 201].contains(&answer.status), "{method} {path} {body}: {answer:?}");
            if method == "POST" && body["content"].is_string() {
                own.push(answer.id());
            }
            acknowledged.push(Acknowledged { key, answer });
        }
        tokio::time::sleep(PAUSE).await;
    }
    acknowledged
}

/// Sends a command again while nobody answers, or the answer says to try again.
async fn insist(system: &System, user: &str, key: &str, method: &str, path: &str, body: &Value) -> Response {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let request = system.ask(user, method, path).key(key);
        let request = if body.is_null() { request } else { request.json(body) };
        match request.try_send().await {
            Some(answer) if answer.status != 503 => return answer,
            answer => assert!(Instant::now() < deadline, "{method} {path} failed for good: {answer:?}"),
        }
        tokio::time::sleep(2 * PAUSE).await;
    }
}

/// That every acknowledged command is where its answer says, and nowhere else.
fn assert_once(acknowledged: &[Acknowledged], records: &[Record]) {
    let mut places: HashMap<&str, Vec<String>> = HashMap::new();
    for record in records {
        if let Some(key) = record.value["idempotencyKey"].as_str() {
            places.entry(key).or_default().push(record.position());
        }
    }
    for Acknowledged { key, answer } in acknowledged {
        assert_eq!(places.get(key.as_str()), Some(&vec![answer.position().to_owned()]), "{key}");
    }
    let messages = records
        .iter()
        .filter_map(|record| record.value["data"]["messageId"].as_str().zip(record.value["type"].as_str()));
    let sent: Vec<&str> = messages.filter_map(|(id, kind)| (kind == "MESSAGE_SENT").then_some(id)).collect();
    assert_eq!(sent.iter().collect::<HashSet<_>>().len(), sent.len(), "a message is on the log twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_process_is_restarted_in_turn_and_nothing_is_lost_or_done_twice() {
    let mut config = config();
    unlimited(&mut config);
    let mut apart = Apart::start(&config).await;
    let system = Arc::new(System::attach(config, &apart.nginx.url));
    system.wait_until_projecting_by(2).await;
    let users: Vec<String> = (0..20).map(|number| format!("user-{number}")).collect();
    let everyone: Vec<&str> = users.iter().map(String::as_str).collect();
    let mut clients = Vec::new();
    for (transports, users) in
        [(&["websocket"][..], &users[..8]), (&["polling"], &users[8..14]), (&["polling", "websocket"], &users[14..])]
    {
        let url = system.url.clone();
        clients.push((users, Replicas::start_over(transports, &system, &[&url], users).await));
    }
    let conversations =
        vec![system.conversation("user-0", &everyone).await, system.conversation("user-1", &everyone[..TALKERS]).await];
    let over = Arc::new(AtomicBool::new(false));
    let talks: Vec<_> = users[..TALKERS]
        .iter()
        .map(|user| tokio::spawn(talk(system.clone(), user.clone(), conversations.clone(), over.clone())))
        .collect();
    let stops = apart.restart_all().await;
    over.store(true, Ordering::Relaxed);
    let mut acknowledged = Vec::new();
    for talk in talks {
        acknowledged.extend(talk.await.unwrap());
    }
    assert_once(&acknowledged, &system.records().await);
    for (users, clients) in &mut clients {
        clients.assert_equals_server(&system, users).await;
        let status = clients.status().await;
        println!("{status}");
        assert_eq!(status["dismissed"], 0, "they come back by themselves: {status}");
        assert!(status["readies"].as_u64() > Some(users.len() as u64), "some had to: {status}");
    }
    println!("{} commands; to stop took {stops:?}", acknowledged.len());
    assert!(acknowledged.len() > 200, "there was little to get wrong: {}", acknowledged.len());
    assert!(stops.iter().all(|(_, took)| *took < STOPS_WITHIN), "{stops:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_a_node_that_stops_come_back_by_themselves_on_the_other() {
    let mut apart = Apart::start(&config()).await;
    let system = System::attach(apart.config.clone(), &apart.nginx.url);
    system.wait_until_projecting().await;
    let mut clients = Vec::new();
    for transports in [json!(["websocket"]), json!(["polling"]), json!(["polling", "websocket"])] {
        let order = json!({"url": system.url, "token": system.token("alice"), "transports": transports, "sockets": 4});
        let mut client = Client::open(order).await;
        for _ in 0..4 {
            client.frame("connection:ready").await;
        }
        clients.push((transports, client));
    }
    // Nobody waits for those who don't take their leave.
    let mut silent = Vec::new();
    for transports in [json!(["websocket"]), json!(["polling"])] {
        let order = json!({"url": system.url, "token": system.token("bob"), "transports": transports, "sockets": 4});
        let mut client = Client::open(order).await;
        for _ in 0..4 {
            client.frame("connection:ready").await;
        }
        client.freeze().await;
        silent.push(client);
    }
    // Whichever each is on: one node after the other.
    let took = apart.restart_all().await;
    for (transports, client) in &mut clients {
        for _ in 0..4 {
            // Not "io server disconnect", after which official clients stay away.
            let reason = client.wait_for("disconnect").await["reason"].clone();
            assert!(
                ["transport close", "transport error"].contains(&reason.as_str().unwrap()),
                "{transports}: {reason}"
            );
            client.frame("connection:ready").await;
        }
    }
    assert!(took.iter().all(|(_, took)| *took < STOPS_WITHIN), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_does_not_wait_for_who_takes_nothing() {
    let system = System::unlimited().await;
    let node = node(&system).await;
    let proxy = Proxy::start(&node.url).await;
    let conversation = system.conversation("bob", &["alice", "carol"]).await;
    let mut clients = Vec::new();
    for (user, transports) in [("alice", json!(["websocket"])), ("carol", json!(["polling", "websocket"]))] {
        let order = json!({"url": proxy.url, "token": system.token(user), "transports": transports});
        let mut client = Client::open(order).await;
        client.frame("connection:ready").await;
        if transports[0] == "polling" {
            client.wait_for("upgrade").await;
        }
        clients.push(client);
    }
    proxy.stall();
    // More than the network's buffers hold, but not more than the sockets'.
    let long: Vec<NewRecord> = (0..100).map(|_| NewRecord::event(&long_message("bob", &conversation))).collect();
    log::append(&system.config, &long).await;
    eventually("all of it is on its way", async || {
        (node.metric("realtime_frames_total", "").await >= 200.0).then_some(())
    })
    .await;
    let took = node.stop().await;
    assert!(took < STOPS_WITHIN, "{took:?}");
}
