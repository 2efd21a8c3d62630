//! Catching up: from any token, in pages of any size, also while others write, to exactly the state of now.

use std::collections::BTreeMap;

use domain::{Event, PositionVector};
use event_log::{LogConsumer, Producer};
use serde_json::{Value, json};
use service::token::PositionTokens;
use uuid::Uuid;

use crate::harness::System;

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const USERS: [&str; 3] = ["alice", "bob", "zoë"];
const LIMITS: [usize; 7] = [1, 2, 3, 5, 17, 100, 500];

/// What a client has that only syncs.
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

/// A user who catches up.
#[derive(Debug, Clone)]
struct Reader {
    user: &'static str,
    token: String,
    store: Store,
}

impl Reader {
    /// One page; whether there is more.
    async fn page(&mut self, system: &System, limit: usize) -> bool {
        let path = format!("/api/messages/sync?since={}&limit={limit}", self.token);
        let answer = system.get(self.user, &path).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let data = answer.data().as_array().unwrap();
        assert!(data.len() <= limit);
        data.iter().for_each(|item| self.store.apply(item));
        self.token = answer.body["next"].as_str().unwrap().to_owned();
        let more = answer.body["more"].as_bool().unwrap();
        assert!(!more || data.len() == limit, "a page that is not the last is full");
        more
    }

    /// All pages up to now.
    async fn catch_up(&mut self, system: &System, limit: usize) {
        while self.page(system, limit).await {}
    }
}

/// The tokens of a system's topic, as its services make them.
async fn tokens(system: &System) -> (PositionTokens, Uuid) {
    let config = &system.config;
    let topic = messages_topic(system).await;
    let partitions = usize::try_from(config.kafka_partitions).unwrap();
    (PositionTokens::new(crate::harness::system::SECRET, topic, partitions), topic)
}

async fn messages_topic(system: &System) -> Uuid {
    let row = system.row("SELECT topic_id FROM projection WHERE $1 = ''", "").await;
    row["topic_id"].as_str().unwrap().parse().unwrap()
}

/// Waits until the read model has everything that is on the log.
async fn projected(system: &System, tokens: &PositionTokens) -> PositionVector {
    let log = LogConsumer::new(&system.config.kafka_brokers, &system.config.kafka_topic, "test").unwrap();
    let end = log.end_offsets().await.unwrap();
    let demanded = tokens.issue(&"alice".parse().unwrap(), &end);
    crate::harness::eventually("the log is projected", async || {
        let asked = system.ask("alice", "GET", "/api/messages/sync").header("Messages-Position", &demanded);
        (asked.send().await.status == 200).then_some(())
    })
    .await;
    end
}

/// What the API shows of everything that is in a store, and that nothing is missing in it.
async fn assert_equals_the_server(system: &System, reader: &Reader) {
    let whole = system.read_model().export_state().await.unwrap();
    let user = reader.user.parse().unwrap();
    let mine = |id| whole.members.contains_key(&(id, domain::UserId::clone(&user)));
    let conversations: Vec<_> = whole.conversations.keys().filter(|id| mine(**id)).collect();
    assert_eq!(reader.store.of_kind("conversation").count(), conversations.len());
    let messages = whole.messages.keys().filter(|(id, _)| mine(*id)).count();
    assert_eq!(reader.store.of_kind("message").count(), messages);
    let marks = whole.members.iter().filter(|((id, _), member)| mine(*id) && member.last_read_seq > 0);
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
    for some in events.chunks(50) {
        producer.append(some, TRACE).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_any_token_pages_of_any_size_lead_to_the_state_of_now() {
    tokio::join!(pages_lead_to_now(7), pages_lead_to_now(8), pages_lead_to_now(9));
}

async fn pages_lead_to_now(seed: u64) {
    let system = System::start().await;
    let (tokens, _) = tokens(&system).await;
    let nothing = PositionVector::zero(3);
    let reader = |user: &'static str| Reader {
        user,
        token: tokens.issue(&user.parse().unwrap(), &nothing),
        store: Store::default(),
    };
    let mut readers: Vec<Reader> = USERS.map(reader).into();
    let mut earlier: Vec<Reader> = Vec::new();
    let history = domain::testing::random_history(seed, 250);
    let producer = Producer::new(&system.config.kafka_brokers, &system.config.kafka_topic, None).unwrap();
    let (former, latter) = history.split_at(history.len() / 2);
    let mut turn = 0_usize;
    for part in [former, latter] {
        let (producer, written) = (producer.clone(), part.to_vec());
        let writing = tokio::spawn(async move {
            for some in written.chunks(20) {
                append(&producer, some).await;
            }
        });
        // Pages are read while others write, and where a reader is up to date, its state is kept with its token.
        while !writing.is_finished() {
            for reader in &mut readers {
                turn += 1;
                if !reader.page(&system, LIMITS[turn % LIMITS.len()]).await && earlier.len() < 12 {
                    earlier.push(reader.clone());
                }
            }
        }
        writing.await.unwrap();
        projected(&system, &tokens).await;
        for reader in &mut readers {
            reader.catch_up(&system, 3).await;
            earlier.push(reader.clone());
        }
    }
    for reader in &readers {
        assert_equals_the_server(&system, reader).await;
    }
    earlier.extend(USERS.map(reader));
    for (mut reader, limit) in earlier.into_iter().zip(LIMITS.into_iter().cycle()) {
        reader.catch_up(&system, limit).await;
        let now = readers.iter().find(|now| now.user == reader.user).unwrap();
        assert_eq!(reader.store, now.store, "{} in pages of {limit}", reader.user);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_without_a_token_gets_that_of_now() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let sent = system.post("alice", json!({"conversationId": conversation, "content": "before"})).await;
    let now = system.get_after(&sent, "bob", "/api/messages/sync").await;
    assert_eq!((now.data(), &now.body["more"]), (&json!([]), &json!(false)));
    let path = format!("/api/messages/sync?since={}", now.body["next"].as_str().unwrap());
    assert_eq!(system.get("bob", &path).await.data(), &json!([]), "nothing has changed");
    let sent = system.post("alice", json!({"conversationId": conversation, "content": "after"})).await;
    let changed = system.get_after(&sent, "bob", &path).await;
    let kinds: Vec<_> = changed.data().as_array().unwrap().iter().map(|item| item["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["conversation", "message", "readMark"]);
    for item in changed.data().as_array().unwrap() {
        assert_eq!(item["position"], sent.position());
    }
    assert_eq!(changed.data()[0]["value"]["unreadCount"], 2);
    assert_eq!(changed.data()[1]["value"]["content"], "after");
    assert_eq!(changed.data()[1]["value"]["seq"], 2);
    assert_eq!(changed.data()[2]["value"]["lastReadSeq"], 2);
    assert!(changed.header("messages-position").len() > 20, "the answer says what it includes");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_conversations_are_synced_too() {
    let system = System::start().await;
    let others: Vec<String> = (0..80).map(|number| format!("u{number}")).collect();
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    let conversation = system.conversation("alice", &others).await;
    let sent = system.post("alice", json!({"conversationId": conversation, "content": "hi all"})).await;
    let now = system.get_after(&sent, "u5", "/api/messages/sync").await;
    let read = system.post("u7", json!({"action": "mark_read", "conversationId": conversation})).await;
    let path = format!("/api/messages/sync?since={}", now.body["next"].as_str().unwrap());
    let changed = system.get_after(&read, "u5", &path).await;
    let kinds: Vec<_> = changed.data().as_array().unwrap().iter().map(|item| item["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["conversation", "readMark"]);
    assert_eq!(changed.data()[1]["value"]["userId"], "u7");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_no_good_is_refused() {
    let system = System::start().await;
    let (tokens, topic) = tokens(&system).await;
    let alices = tokens.issue(&"alice".parse().unwrap(), &PositionVector::zero(3));
    let path = |token: &str| format!("/api/messages/sync?since={token}");
    assert_eq!(system.get("alice", &path(&alices)).await.status, 200);
    let foreign = system.get("bob", &path(&alices)).await;
    foreign.assert_problem(400, "foreign_token");
    assert_eq!(foreign.field_errors(), [("since", "foreign_token")]);
    for broken in ["", "x", "3:4", &alices[1..], &format!("{alices}AA")] {
        system.get("alice", &path(broken)).await.assert_problem(400, "invalid_position");
    }
    let secret = crate::harness::system::SECRET;
    let others = PositionTokens::new(secret, Uuid::from_u128(topic.as_u128() ^ 1), 3);
    let others = others.issue(&"alice".parse().unwrap(), &PositionVector::zero(3));
    system.get("alice", &path(&others)).await.assert_problem(400, "other_topic");
    for limit in ["0", "501", "x"] {
        let answer = system.get("alice", &format!("{}&limit={limit}", path(&alices))).await;
        answer.assert_problem(400, "invalid_limit");
    }
    let ahead = tokens.issue(&"alice".parse().unwrap(), &PositionVector(vec![0, 9_999, 0]));
    let behind = system.get("alice", &path(&ahead)).await;
    behind.assert_problem(503, "projection_behind");
    assert!(!behind.header("retry-after").is_empty());
}
