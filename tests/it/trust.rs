//! Acknowledged means kept, and once: random commands with keys, retried and raced on two nodes, while connections are
//! cut, Redis loses what it has or is away, and a process is killed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use domain::testing::Rng;
use messages::process::Roles;
use serde_json::{Value, json};
use service::config::Config;
use tokio::time::Instant;

use crate::harness::fold::{assert_folded, folded_records};
use crate::harness::http::{Request, Response};
use crate::harness::process::{ServiceProcess, command};
use crate::harness::proxy::Proxy;
use crate::harness::system::{System, TIMEOUT, config, eventually, unlimited};

/// How many commands each user gives.
const COMMANDS: usize = 60;
const USERS: [&str; 4] = ["alice", "bob", "carol", "dan"];

/// Two ways to the system, as a client has them.
struct Nodes([System; 2]);

/// A command as it is sent, however often.
#[derive(Clone)]
struct Asked {
    user: &'static str,
    key: String,
    method: &'static str,
    path: String,
    body: Value,
}

/// A command that was acknowledged, and with what.
struct Acknowledged {
    asked: Asked,
    data: Value,
}

impl Nodes {
    fn request(&self, node: usize, asked: &Asked) -> Request {
        let request = self.0[node].ask(asked.user, asked.method, &asked.path).key(&asked.key);
        if asked.body.is_null() { request } else { request.json(&asked.body) }
    }

    /// Sends a command, now here, now there, until there is an answer that says what became of it.
    async fn insist(&self, first: usize, asked: &Asked) -> Response {
        let deadline = Instant::now() + 2 * TIMEOUT;
        for node in (first..).map(|turn| turn % 2) {
            match self.request(node, asked).try_send().await {
                Some(answer) if answer.status != 503 => return answer,
                answer => assert!(Instant::now() < deadline, "{} {}: {answer:?}", asked.method, asked.path),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        unreachable!("the turns don't end")
    }
}

/// A command at random: in one of the conversations, or about one of the user's own or somebody's messages.
fn any(rng: &mut Rng, user: &'static str, number: usize, conversations: &[String], own: &[String]) -> Asked {
    let conversation = rng.pick(conversations).unwrap();
    let content = json!({"content": format!("{user} {number}")});
    let post = "/api/messages".to_owned();
    let (method, path, body) = match (rng.below(10), rng.pick(own)) {
        (0, Some(id)) => ("PATCH", format!("/api/messages/{id}"), content),
        (1, Some(id)) => ("DELETE", format!("/api/messages/{id}"), Value::Null),
        (2 | 3, Some(id)) => ("POST", post, json!({"action": "reaction", "messageId": id, "emoji": "👍"})),
        (4, _) => ("POST", post, json!({"action": "mark_read", "conversationId": conversation})),
        _ => ("POST", post, json!({"conversationId": conversation, "content": content["content"]})),
    };
    Asked { user, key: format!("{user}-{number}"), method, path, body }
}

async fn talk(nodes: Arc<Nodes>, seed: u64, user: &'static str, conversations: Vec<String>) -> Vec<Acknowledged> {
    let mut rng = Rng::new(seed);
    let (mut own, mut acknowledged) = (Vec::new(), Vec::new());
    for number in 0..COMMANDS {
        let asked = any(&mut rng, user, number, &conversations, &own);
        let node = rng.below(2);
        // At the same time on both nodes; the second may find that the first has deleted its message.
        let raced = if rng.percent(20) { Some(nodes.insist(1 - node, &asked)) } else { None };
        let (answer, other) = tokio::join!(nodes.insist(node, &asked), async {
            match raced {
                Some(raced) => Some(raced.await),
                None => None,
            }
        });
        if answer.status == 422 {
            answer.assert_problem(422, "message_deleted");
            continue;
        }
        assert!([200, 201].contains(&answer.status), "{answer:?}");
        if let Some(other) = other {
            assert_eq!(other.data(), answer.data(), "two at once are one: {other:?}");
        }
        if rng.percent(20) {
            let again = nodes.insist(1 - node, &asked).await;
            assert_eq!((again.status, again.data()), (200, answer.data()), "{again:?}");
        }
        if asked.method == "POST" && asked.body["content"].is_string() {
            own.push(answer.id());
        }
        acknowledged.push(Acknowledged { asked, data: answer.data().clone() });
    }
    acknowledged
}

/// Cuts, losses and deaths, until nobody talks any more.
async fn trouble(
    seed: u64,
    system: &System,
    ways: &[Proxy; 2],
    redis: &Proxy,
    mut one: ServiceProcess,
    over: impl Fn() -> bool,
) {
    let mut rng = Rng::new(seed);
    let port = one.url.rsplit(':').next().unwrap().to_owned();
    while !over() {
        match rng.below(5) {
            0 | 1 => ways[rng.below(2)].cut(),
            2 => system.clear_redis().await,
            3 => {
                redis.down();
                tokio::time::sleep(Duration::from_millis(300)).await;
                redis.restore();
            }
            _ => {
                one.child.kill().await.unwrap();
                one.child = command(&system.config, &["all"]).env("PORT", &port).spawn().unwrap();
                eventually("it is back", async || {
                    let ready = reqwest::get(format!("{}/readyz", one.url)).await.ok()?;
                    (ready.status() == 200).then_some(())
                })
                .await;
            }
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
}

async fn trusted(seed: u64) {
    let mut config = config();
    unlimited(&mut config);
    let redis = Proxy::start(&config.redis_url).await;
    // The second and the test itself reach Redis by another way than the first.
    let cut_off = Config { redis_url: redis.url.clone(), ..config.clone() };
    let (one, two) = tokio::join!(ServiceProcess::start(&cut_off, &["all"]), ServiceProcess::start(&config, &["all"]));
    let ways = [Proxy::start(&one.url).await, Proxy::start(&two.url).await];
    let nodes = Arc::new(Nodes([&ways[0], &ways[1]].map(|way| System::attach(config.clone(), &way.url))));
    let system = System::attach(cut_off, &one.url);
    let mut conversations = Vec::new();
    for title in ["first", "second"] {
        let body = json!({"action": "conversation", "participantIds": USERS, "title": title});
        conversations.push(System::attach(config.clone(), &two.url).post("alice", body).await.id());
    }
    let talks: Vec<_> = USERS
        .iter()
        .zip(seed * 100..)
        .map(|(user, seed)| tokio::spawn(talk(nodes.clone(), seed, user, conversations.clone())))
        .collect();
    trouble(seed, &system, &ways, &redis, one, || talks.iter().all(tokio::task::JoinHandle::is_finished)).await;
    let mut acknowledged = Vec::new();
    for talk in talks {
        acknowledged.extend(talk.await.unwrap());
    }
    drop(redis);

    let system = System::attach(config.clone(), &two.url);
    let records = system.records().await;
    assert_folded(&system.read_model(), &records).await;
    assert_kept_once(&acknowledged, &records);
    assert_cached_as_read(&system, &acknowledged, &conversations).await;
}

/// That every acknowledged command is on the log, as it was answered, and had its effect once.
fn assert_kept_once(acknowledged: &[Acknowledged], records: &[crate::harness::log::Record]) {
    let mut first: HashMap<&str, &Value> = HashMap::new();
    for record in records {
        if let Some(key) = record.value["idempotencyKey"].as_str() {
            first.entry(key).or_insert(&record.value);
        }
    }
    let mut contents: BTreeMap<&str, usize> = BTreeMap::new();
    let state = folded_records(records);
    for message in state.messages.values() {
        *contents.entry(message.sender_id.as_str()).or_default() += 1;
    }
    for Acknowledged { asked, data } in acknowledged {
        let value = first.get(asked.key.as_str()).unwrap_or_else(|| panic!("{} is not on the log", asked.key));
        let event = domain::envelope::decode(value.to_string().as_bytes()).unwrap();
        assert_eq!(serde_json::json!(domain::response::data(&event)), *data, "{}: the first counts", asked.key);
    }
    for user in USERS {
        let sends =
            |it: &&Acknowledged| it.asked.user == user && it.asked.method == "POST" && it.data["content"].is_string();
        let sent = acknowledged.iter().filter(sends).count();
        assert_eq!(contents.get(user).copied().unwrap_or(0), sent, "{user}'s messages, each once");
    }
}

/// That whatever is answered from a cache is what the read model says, once nothing happens any more.
async fn assert_cached_as_read(system: &System, acknowledged: &[Acknowledged], conversations: &[String]) {
    let cold = Config { redis_prefix: format!("{}cold", system.config.redis_prefix), ..system.config.clone() };
    let cold = System::with_roles(cold, Roles::QUERY_API).await;
    let mut paths = vec!["/api/messages".to_owned()];
    for id in conversations {
        paths.push(format!("/api/conversations/{id}"));
        paths.push(format!("/api/messages?conversationId={id}"));
    }
    let messages = acknowledged.iter().filter(|it| it.data["content"].is_string());
    paths.extend(messages.map(|it| format!("/api/messages/{}", it.data["id"].as_str().unwrap())));
    for path in &paths {
        for user in ["alice", "bob"] {
            let wanted = cold.get(user, path).await;
            eventually("the cached answer is the present one", async || {
                let seen = system.get(user, path).await;
                (seen.status == 200 && seen.body["data"] == wanted.body["data"]).then_some(())
            })
            .await;
            let hit = system.get(user, path).await;
            assert_eq!(
                (hit.status, hit.header("x-cache"), &hit.body["data"]),
                (200, "hit", &wanted.body["data"]),
                "{path}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_cut_lost_or_killed_every_acknowledged_command_is_kept_once() {
    tokio::join!(trusted(1), trusted(2));
}
