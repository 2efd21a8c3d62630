//! An acknowledged command is kept, once: users retry and race random commands on two nodes, while connections are cut,
//! Redis is unavailable or loses its data, and a process is killed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use domain::testing::Rng;
use messages::process::Roles;
use serde_json::{Value, json};
use service::config::Config;

use crate::commands::KeyedCommand;
use crate::harness::fold::{assert_folded, folded_records};
use crate::harness::http::Response;
use crate::harness::log::Record;
use crate::harness::process::{ServiceProcess, command};
use crate::harness::proxy::Proxy;
use crate::harness::system::{System, TIMEOUT, config, eventually, unlimited};

const USERS: [&str; 4] = ["alice", "bob", "carol", "dan"];

/// Both nodes as clients reach them: through a proxy that cuts connections.
struct Nodes([System; 2]);

impl Nodes {
    /// Sends a command to one of the nodes first, then to both in turn, until it is decided.
    async fn send(&self, first: usize, command: &KeyedCommand) -> Response {
        let in_turn = [&self.0[first], &self.0[1 - first]];
        command.send_until_decided(&in_turn, 2 * TIMEOUT).await
    }
}

struct Acknowledged {
    command: KeyedCommand,
    /// The answer's data.
    data: Value,
}

/// Sends a user's random commands; some of them to both nodes at the same time, and some of them again.
async fn send_random_commands(
    nodes: Arc<Nodes>,
    seed: u64,
    user: &'static str,
    conversations: Vec<String>,
    commands: usize,
) -> Vec<Acknowledged> {
    let mut rng = Rng::new(seed);
    let (mut own_messages, mut acknowledged) = (Vec::new(), Vec::new());
    for number in 0..commands {
        let command = KeyedCommand::random(&mut rng, user, number, &conversations, &own_messages);
        let node = rng.below(2);
        let other = 1 - node;
        let (answer, raced) = if rng.percent(20) {
            let (answer, raced) = tokio::join!(nodes.send(node, &command), nodes.send(other, &command));
            (answer, Some(raced))
        } else {
            (nodes.send(node, &command).await, None)
        };
        // The user deleted the message before, or the same command did so on the other node.
        if answer.status == 422 {
            answer.assert_problem(422, "message_deleted");
            continue;
        }
        assert!([200, 201].contains(&answer.status), "{command:?}: {answer:?}");
        if let Some(raced) = raced {
            assert_eq!(raced.data(), answer.data(), "one command was done twice on two nodes: {raced:?}");
        }
        if rng.percent(20) {
            let retried = nodes.send(other, &command).await;
            assert_eq!((retried.status, retried.data()), (200, answer.data()), "{retried:?}");
        }
        if command.sends_a_message() {
            own_messages.push(answer.id());
        }
        acknowledged.push(Acknowledged { command, data: answer.data().clone() });
    }
    acknowledged
}

/// What the test breaks at random: connections of clients to both nodes, Redis, and the first node.
struct Faults<'a> {
    /// Clients' connections to the first and the second node.
    connections: &'a [Proxy; 2],
    /// The first node's connection to Redis.
    redis: &'a Proxy,
    first_node: ServiceProcess,
    /// The system as the first node is configured.
    system: &'a System,
}

impl Faults<'_> {
    /// Injects random faults until the commands are sent; then the first node ends. Returns the number of faults.
    async fn inject(mut self, seed: u64, all_sent: impl Fn() -> bool) -> usize {
        let mut rng = Rng::new(seed);
        let mut faults = 0;
        while !all_sent() {
            faults += 1;
            match rng.below(5) {
                0 | 1 => self.connections[rng.below(2)].cut(),
                2 => self.system.clear_redis().await,
                3 => {
                    self.redis.down();
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    self.redis.restore();
                }
                _ => self.kill_and_restart_first_node().await,
            }
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
        faults
    }

    async fn kill_and_restart_first_node(&mut self) {
        let port = self.first_node.url.rsplit(':').next().unwrap().to_owned();
        self.first_node.child.kill().await.unwrap();
        self.first_node.child = command(&self.system.config, &["all"]).env("PORT", &port).spawn().unwrap();
        eventually("the first node is ready again", async || {
            let ready = reqwest::get(format!("{}/readyz", self.first_node.url)).await.ok()?;
            (ready.status() == 200).then_some(())
        })
        .await;
    }
}

/// What a run of the scenario consisted of.
pub(crate) struct Run {
    pub(crate) acknowledged: usize,
    pub(crate) faults: usize,
}

/// Lets each user send so many random commands while everything fails, and asserts that every acknowledged command is
/// kept, once.
pub(crate) async fn keeps_every_acknowledged_command_once(seed: u64, commands: usize) -> Run {
    // Given two nodes, of which the first reaches Redis through a proxy of its own.
    let mut config = config();
    unlimited(&mut config);
    let redis = Proxy::start(&config.redis_url).await;
    let first_config = Config { redis_url: redis.url.clone(), ..config.clone() };
    let (first_node, second_node) =
        tokio::join!(ServiceProcess::start(&first_config, &["all"]), ServiceProcess::start(&config, &["all"]));
    let connections = [Proxy::start(&first_node.url).await, Proxy::start(&second_node.url).await];
    let nodes =
        Arc::new(Nodes([&connections[0], &connections[1]].map(|proxy| System::attach(config.clone(), &proxy.url))));
    let first = System::attach(first_config, &first_node.url);
    let second = System::attach(config.clone(), &second_node.url);
    let mut conversations = Vec::new();
    for title in ["first", "second"] {
        let body = json!({"action": "conversation", "participantIds": USERS, "title": title});
        conversations.push(second.post("alice", body).await.id());
    }

    // When the users send commands while everything fails.
    let users: Vec<_> = USERS
        .iter()
        .zip(seed * 100..)
        .map(|(user, seed)| {
            tokio::spawn(send_random_commands(nodes.clone(), seed, user, conversations.clone(), commands))
        })
        .collect();
    let faults = Faults { connections: &connections, redis: &redis, first_node, system: &first };
    let faults = faults.inject(seed, || users.iter().all(tokio::task::JoinHandle::is_finished)).await;
    let mut acknowledged = Vec::new();
    for user in users {
        acknowledged.extend(user.await.unwrap());
    }

    // Then the log, the read model and the cache agree with the answers.
    let records = second.records().await;
    assert_folded(&second.read_model(), &records).await;
    assert_kept_once(&acknowledged, &records);
    assert_cached_as_read(&second, &acknowledged, &conversations).await;
    Run { acknowledged: acknowledged.len(), faults }
}

/// Asserts that every acknowledged command is on the log, as it was answered, and had its effect once.
fn assert_kept_once(acknowledged: &[Acknowledged], records: &[Record]) {
    let mut first_events: HashMap<&str, &Value> = HashMap::new();
    for record in records {
        if let Some(key) = record.value["idempotencyKey"].as_str() {
            first_events.entry(key).or_insert(&record.value);
        }
    }
    let state = folded_records(records);
    let mut folded_messages: BTreeMap<&str, usize> = BTreeMap::new();
    for message in state.messages.values() {
        *folded_messages.entry(message.sender_id.as_str()).or_default() += 1;
    }
    for Acknowledged { command, data } in acknowledged {
        let key = command.key.as_str();
        let value = first_events.get(key).unwrap_or_else(|| panic!("{key} is not on the log"));
        let event = domain::envelope::decode(value.to_string().as_bytes()).unwrap();
        assert_eq!(json!(domain::response::data(&event)), *data, "{key} was not answered with its first event");
    }
    for user in USERS {
        let is_message = |it: &&Acknowledged| it.command.user == user && it.command.sends_a_message();
        let messages = acknowledged.iter().filter(is_message).filter(|it| it.data["content"].is_string());
        let folded = folded_messages.get(user).copied().unwrap_or(0);
        assert_eq!(folded, messages.count(), "{user}'s messages are not on the log once each");
    }
}

/// Asserts that, once nothing happens any more, a cached answer is what a process without a cache reads.
async fn assert_cached_as_read(system: &System, acknowledged: &[Acknowledged], conversations: &[String]) {
    let empty_cache = Config { redis_prefix: format!("{}cold", system.config.redis_prefix), ..system.config.clone() };
    let uncached = System::with_roles(empty_cache, Roles::QUERY_API).await;
    // After Redis lost its data, all views count as stale whenever it hears of a partition again. A killed projector's
    // partitions wait for their next owner.
    system.wait_until_all_published().await;
    let mut paths = vec!["/api/messages".to_owned()];
    for id in conversations {
        paths.push(format!("/api/conversations/{id}"));
        paths.push(format!("/api/messages?conversationId={id}"));
    }
    let messages = acknowledged.iter().filter(|it| it.data["content"].is_string());
    paths.extend(messages.map(|it| format!("/api/messages/{}", it.data["id"].as_str().unwrap())));
    for path in &paths {
        for user in ["alice", "bob"] {
            let expected = uncached.get(user, path).await;
            // A projector that takes over a partition makes Redis distrust that partition's views for a moment.
            eventually(&format!("{path} is answered from the cache, as it is read"), async || {
                let answer = system.get(user, path).await;
                let seen = (answer.status, answer.header("x-cache"), &answer.body["data"]);
                (seen == (200, "hit", &expected.body["data"])).then_some(())
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_command_is_kept_once_whatever_is_cut_lost_or_killed() {
    tokio::join!(keeps_every_acknowledged_command_once(1, 60), keeps_every_acknowledged_command_once(2, 60));
}
