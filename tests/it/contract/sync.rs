//! Synchronization: from any token, in pages of any size, and while other users write, a client arrives at exactly the
//! server's present state.

use std::collections::BTreeMap;

use domain::{Event, PositionVector};
use event_log::{Destination, LogConsumer, Producer};
use serde_json::{Value, json};
use service::token::PositionTokens;
use uuid::Uuid;

use crate::harness::http::Response;
use crate::harness::system::SECRET;
use crate::harness::{System, eventually};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const USERS: [&str; 3] = ["alice", "bob", "zoë"];
/// The page sizes that the readers use in turn.
const LIMITS: [usize; 7] = [1, 2, 3, 5, 17, 100, 500];

/// The state of a client that knows only what it has synchronized.
#[derive(Debug, Clone, Default, PartialEq)]
struct Store {
    items: BTreeMap<String, Value>,
}

impl Store {
    fn apply(&mut self, item: &Value) {
        let value = &item["value"];
        let key = match item["kind"].as_str().unwrap() {
            "readMark" => format!("mark {} {}", value["conversationId"], value["userId"]),
            kind => format!("{kind} {}", value["id"].as_str().unwrap()),
        };
        assert_eq!(value["position"], item["position"], "{item}");
        self.items.insert(key, value.clone());
    }

    fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        let prefix = format!("{kind} ");
        self.items.iter().filter(move |(key, _)| key.starts_with(&prefix)).map(|(_, value)| value)
    }
}

/// A user who synchronizes.
#[derive(Debug, Clone)]
struct Reader {
    user: &'static str,
    token: String,
    store: Store,
}

impl Reader {
    /// Reads one page. Returns whether the server has more.
    async fn read_page(&mut self, system: &System, limit: usize) -> bool {
        let path = format!("/api/messages/sync?since={}&limit={limit}", self.token);
        let answer = system.get(self.user, &path).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let data = answer.data().as_array().unwrap();
        assert!(data.len() <= limit);
        data.iter().for_each(|item| self.store.apply(item));
        let next = answer.body["next"].as_str().unwrap().to_owned();
        let more = answer.body["more"].as_bool().unwrap();
        // The page may have fewer changes than asked for: where one walk ends and the next begins, both can list a change.
        assert!(!more || next != self.token, "a page that isn't the last must lead on");
        self.token = next;
        more
    }

    /// Reads all pages up to the present state.
    async fn catch_up(&mut self, system: &System, limit: usize) {
        while self.read_page(system, limit).await {}
    }
}

/// Issues tokens for a system's topic as its services do. Also returns the topic's id.
async fn tokens(system: &System) -> (PositionTokens, Uuid) {
    let config = &system.config;
    let topic = topic_id(system).await;
    let partitions = usize::try_from(config.kafka_partitions).unwrap();
    (PositionTokens::new(SECRET, topic, partitions), topic)
}

async fn topic_id(system: &System) -> Uuid {
    let row = system.row("SELECT topic_id FROM projection WHERE $1 = ''", "").await;
    row["topic_id"].as_str().unwrap().parse().unwrap()
}

/// Waits until queries include everything that is on the log.
async fn wait_until_log_end(system: &System, tokens: &PositionTokens) {
    let log = LogConsumer::new(&system.config.kafka_brokers, &system.config.kafka_topic, "test");
    let end = log.end_offsets().await.unwrap();
    let demanded = tokens.issue(&"alice".parse().unwrap(), &end, 0);
    eventually("queries include the log's end", async || {
        let request = system.ask("alice", "GET", "/api/messages/sync").header("Messages-Position", &demanded);
        (request.send().await.status == 200).then_some(())
    })
    .await;
}

/// Asserts that a reader has every conversation, message and read mark of their conversations, as the API shows them.
async fn assert_equals_the_server(system: &System, reader: &Reader) {
    let state = system.read_model().export_state().await.unwrap();
    let user = reader.user.parse().unwrap();
    let is_own = |id| state.members.contains_key(&(id, domain::UserId::clone(&user)));
    let conversations: Vec<_> = state.conversations.keys().filter(|id| is_own(**id)).collect();
    assert_eq!(reader.store.of_kind("conversation").count(), conversations.len());
    let messages = state.messages.keys().filter(|(id, _)| is_own(*id)).count();
    assert_eq!(reader.store.of_kind("message").count(), messages);
    let marks = state.members.iter().filter(|((id, _), member)| is_own(*id) && member.last_read_seq > 0);
    assert_eq!(reader.store.of_kind("mark").count(), marks.clone().count());
    for ((conversation, user), member) in marks {
        let mark = &reader.store.items[&format!("mark \"{conversation}\" \"{user}\"")];
        assert_eq!(mark["lastReadSeq"], member.last_read_seq);
        assert_eq!(mark["position"], member.position.to_string());
    }
    for (kind, route) in [("conversation", "/api/conversations"), ("message", "/api/messages")] {
        for value in reader.store.of_kind(kind) {
            let path = format!("{route}/{}", value["id"].as_str().unwrap());
            assert_eq!(system.get(reader.user, &path).await.data(), value, "{path}");
        }
    }
}

async fn append(producer: &Producer, events: &[Event]) {
    for chunk in events.chunks(50) {
        producer.append(chunk, TRACE).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_arrives_at_the_present_state_from_any_token_and_in_pages_of_any_size() {
    tokio::join!(
        readers_arrive_at_the_present_state(7),
        readers_arrive_at_the_present_state(8),
        readers_arrive_at_the_present_state(9),
    );
}

/// Three users synchronize while a random history is appended. At the end each of them, and each copy of them from an
/// earlier moment, must have the same state as the server.
async fn readers_arrive_at_the_present_state(seed: u64) {
    let system = System::start().await;
    let (tokens, _) = tokens(&system).await;
    let log_start = PositionVector::zero(3);
    let new_reader = |user: &'static str| Reader {
        user,
        token: tokens.issue(&user.parse().unwrap(), &log_start, 0),
        store: Store::default(),
    };
    let mut readers: Vec<Reader> = USERS.map(new_reader).into();
    // Copies of readers with the token and the state of an earlier moment.
    let mut earlier: Vec<Reader> = Vec::new();
    let history = domain::testing::random_history(seed, 250);
    let (topic, partitions) = (system.config.kafka_topic.clone(), log_start.0.len());
    let topic = Destination { topic, partitions, max_message_bytes: 1_000_000 };
    let producer = Producer::new(&system.config.kafka_brokers, topic, None).unwrap();
    let (first_half, second_half) = history.split_at(history.len() / 2);
    let mut turn = 0_usize;
    for events in [first_half, second_half] {
        let (producer, events) = (producer.clone(), events.to_vec());
        let writing = tokio::spawn(async move {
            for chunk in events.chunks(20) {
                append(&producer, chunk).await;
            }
        });
        while !writing.is_finished() {
            for reader in &mut readers {
                turn += 1;
                let is_up_to_date = !reader.read_page(&system, LIMITS[turn % LIMITS.len()]).await;
                if is_up_to_date && earlier.len() < 12 {
                    earlier.push(reader.clone());
                }
            }
        }
        writing.await.unwrap();
        wait_until_log_end(&system, &tokens).await;
        for reader in &mut readers {
            reader.catch_up(&system, 3).await;
            earlier.push(reader.clone());
        }
    }
    for reader in &readers {
        assert_equals_the_server(&system, reader).await;
    }
    earlier.extend(USERS.map(new_reader));
    for (mut reader, limit) in earlier.into_iter().zip(LIMITS.into_iter().cycle()) {
        reader.catch_up(&system, limit).await;
        let current = readers.iter().find(|current| current.user == reader.user).unwrap();
        assert_eq!(reader.store, current.store, "{} in pages of {limit}", reader.user);
    }
}

/// The path that continues from a page of a sync.
fn continue_from(page: &Response) -> String {
    format!("/api/messages/sync?since={}", page.body["next"].as_str().unwrap())
}

/// The kinds of a page's items, in order.
fn kinds(page: &Response) -> Vec<&str> {
    page.data().as_array().unwrap().iter().map(|item| item["kind"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_without_a_token_starts_at_the_present_state() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let sent = system.send("alice", &conversation, "before").await;

    let start = system.get_after(&sent, "bob", "/api/messages/sync").await;
    assert_eq!((start.data(), &start.body["more"]), (&json!([]), &json!(false)));
    let path = continue_from(&start);
    assert_eq!(system.get("bob", &path).await.data(), &json!([]), "nothing has changed");

    let sent = system.send("alice", &conversation, "after").await;
    let changes = system.get_after(&sent, "bob", &path).await;
    assert_eq!(kinds(&changes), ["conversation", "message", "readMark"]);
    for item in changes.data().as_array().unwrap() {
        assert_eq!(item["position"], sent.position());
    }
    assert_eq!(changes.data()[0]["value"]["unreadCount"], 2);
    assert_eq!(changes.data()[1]["value"]["content"], "after");
    assert_eq!(changes.data()[1]["value"]["seq"], 2);
    assert_eq!(changes.data()[2]["value"]["lastReadSeq"], 2);
    assert!(changes.header("messages-position").len() > 20, "the response must say what it includes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_includes_read_marks_in_large_conversations() {
    let system = System::start().await;
    let others: Vec<String> = (0..80).map(|number| format!("u{number}")).collect();
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    let conversation = system.conversation("alice", &others).await;
    let sent = system.send("alice", &conversation, "hi all").await;
    let start = system.get_after(&sent, "u5", "/api/messages/sync").await;

    let marked = system.mark_read("u7", &conversation, None).await;

    let changes = system.get_after(&marked, "u5", &continue_from(&start)).await;
    assert_eq!(kinds(&changes), ["conversation", "readMark"]);
    assert_eq!(changes.data()[1]["value"]["userId"], "u7");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_sync_token_or_limit_is_refused() {
    let system = System::start().await;
    let (tokens, topic) = tokens(&system).await;
    let valid = tokens.issue(&"alice".parse().unwrap(), &PositionVector::zero(3), 0);
    let path = |token: &str| format!("/api/messages/sync?since={token}");
    assert_eq!(system.get("alice", &path(&valid)).await.status, 200);

    system.get("bob", &path(&valid)).await.assert_field_refused(400, "since", "foreign_token");
    for broken in ["", "x", "3:4", &valid[1..], &format!("{valid}AA")] {
        system.get("alice", &path(broken)).await.assert_problem(400, "invalid_position");
    }
    let other_topic = PositionTokens::new(SECRET, Uuid::from_u128(topic.as_u128() ^ 1), 3);
    let of_other_topic = other_topic.issue(&"alice".parse().unwrap(), &PositionVector::zero(3), 0);
    system.get("alice", &path(&of_other_topic)).await.assert_problem(400, "other_topic");
    for limit in ["0", "501", "x"] {
        let refused = system.get("alice", &format!("{}&limit={limit}", path(&valid))).await;
        refused.assert_problem(400, "invalid_limit");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_token_that_the_projector_has_not_reached_is_503() {
    let system = System::start().await;
    let (tokens, _) = tokens(&system).await;
    let ahead = tokens.issue(&"alice".parse().unwrap(), &PositionVector(vec![0, 9_999, 0]), 0);
    let refused = system.get("alice", &format!("/api/messages/sync?since={ahead}")).await;
    refused.assert_problem(503, "projection_behind");
    assert!(!refused.header("retry-after").is_empty());
}
