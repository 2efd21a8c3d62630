//! One conversation looked into by an admin: its events on the log, what they fold to, and whether Postgres and Redis have
//! that.

use domain::ConversationId;
use event_log::partition_of;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::admin::{ask, get};
use crate::harness::http::Response;
use crate::harness::log::{self, NewRecord};
use crate::harness::{System, eventually, unknown_id};

/// Two conversations on one partition.
struct Neighbours {
    system: System,
    /// Alice's.
    chat: String,
    /// Bob's.
    other: String,
}

impl Neighbours {
    async fn start() -> Self {
        let system = System::unlimited().await;
        let (one, two) = (system.peer_on(1, "alice", "carol"), system.peer_on(1, "bob", "dora"));
        let chat = system.conversation("alice", &[&one]).await;
        let other = system.conversation("bob", &[&two]).await;
        Self { system, chat, other }
    }

    fn path(&self, rest: &str) -> String {
        format!("/admin/api/conversations/{}{rest}", self.chat)
    }

    /// The state once Postgres includes a command's event.
    async fn state_after(&self, done: &Response) -> Value {
        self.system.wait_until_projected(done).await;
        get(&self.system, &self.path("/state")).await
    }

    /// Changes a row by hand.
    async fn tamper(&self, statement: &str) {
        let done = sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&self.system.sql).await.unwrap();
        assert_eq!(done.rows_affected(), 1, "{statement}");
    }
}

/// The contents of the messages of a state.
fn contents(state: &Value) -> Vec<&Value> {
    let items = state["items"].as_array().unwrap().iter();
    items.filter(|item| item["kind"] == "message").map(|item| &item["value"]["content"]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_events_of_a_conversation_come_in_pages_and_nothing_else_does() {
    let neighbours = Neighbours::start().await;
    let Neighbours { system, chat, other } = &neighbours;
    for number in 0..5 {
        system.send("bob", other, "not this one").await;
        system.send("alice", chat, &number.to_string()).await;
        system.send("bob", other, "nor this one").await;
    }
    // Neither is an event: the one is no JSON, and the other names the conversation, in a version that nobody knows.
    let damaged = |value: &str| NewRecord {
        key: chat.clone(),
        value: value.as_bytes().to_vec(),
        event_type: Some("MESSAGE_SENT"),
        timestamp_ms: None,
    };
    let named = format!("{{\"conversationId\": \"{chat}\", \"version\": 99, \"type\": \"MESSAGE_SENT\"}}");
    log::append(&system.config, &[damaged("\u{1b}[31m no JSON"), damaged(&named)]).await;
    let last = system.send("alice", chat, "last").await;
    system.wait_until_projected(&last).await;

    let (mut events, mut after) = (Vec::new(), String::new());
    loop {
        let path = neighbours.path(&format!("/events?limit=2{after}"));
        let page = ask(system, "GET", &path).send().await;
        assert_eq!(page.status, 200, "{page:?}");
        let found = page.body["data"].as_array().unwrap();
        assert!(found.len() <= 2, "{page:?}");
        events.extend(found.clone());
        let Some(next) = page.body["page"]["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    let records = system.records_of(chat).await;
    let expected = records.iter().filter(|record| record.value["eventId"].is_string());
    let expected: Vec<Value> = expected
        .map(|record| {
            let value = &record.value;
            let logged_at = domain::Timestamp::from_millis(record.timestamp_ms).unwrap();
            json!({
                "position": record.position(), "loggedAt": logged_at, "type": value["type"], "eventId": value["eventId"],
                "actor": value["actorId"], "event": value,
            })
        })
        .collect();
    assert_eq!((events.len(), events), (7, expected));
    let state = neighbours.state_after(&last).await;
    assert_eq!((&state["agrees"], &state["differences"]), (&json!(true), &json!([])), "parked records don't count");
    assert_eq!(state["at"], last.position());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fold_at_an_earlier_position_is_what_the_conversation_was_then() {
    let neighbours = Neighbours::start().await;
    let Neighbours { system, chat, .. } = &neighbours;
    let sent = system.send("alice", chat, "before").await;
    let edited = system.edit("alice", &sent.id(), "after").await;
    let now = neighbours.state_after(&edited).await;
    assert_eq!((&now["agrees"], contents(&now)), (&json!(true), vec![&json!("after")]));
    let at = |position: &str| neighbours.path(&format!("/state?at={position}"));
    let then = get(system, &at(sent.position())).await;
    assert_eq!((&then["at"], contents(&then)), (&json!(sent.position()), vec![&json!("before")]));
    assert_eq!((&then["agrees"], &then["differences"]), (&json!(null), &json!([])));
    let same = get(system, &at(edited.position())).await;
    assert_eq!(same["items"], now["items"], "the fold at the last position is the present one");
    let partition = partition_of(chat.parse::<ConversationId>().unwrap(), 3);
    let first = get(system, &neighbours.path("")).await["created"].as_str().unwrap().to_owned();
    let new = get(system, &at(&first)).await;
    assert_eq!((contents(&new).len(), &new["items"][0]["kind"]), (0, &json!("conversation")));

    let elsewhere = format!("{}:0", (partition + 1) % 3);
    for wrong in [elsewhere.as_str(), &format!("{partition}:999999"), "yesterday"] {
        ask(system, "GET", &at(wrong)).send().await.assert_problem(400, "invalid_id");
    }
    ask(system, "GET", &neighbours.path("/state?on=1:0")).send().await.assert_problem(400, "unknown_parameter");
    let nobody = format!("/admin/api/conversations/{}", unknown_id());
    for path in [nobody.clone(), format!("{nobody}/state"), format!("{nobody}/views")] {
        ask(system, "GET", &path).send().await.assert_problem(404, "not_found");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_somebody_changed_are_named_even_if_they_say_where_the_conversation_begins() {
    let neighbours = Neighbours::start().await;
    let Neighbours { system, chat, .. } = &neighbours;
    let sent = system.send("alice", chat, "true").await;
    assert_eq!(neighbours.state_after(&sent).await["agrees"], true);
    neighbours.tamper(&format!("UPDATE messages SET content = 'false' WHERE conversation_id = '{chat}'")).await;
    let differing = get(system, &neighbours.path("/state")).await;
    let content = format!("messages conversation_id={chat} seq=1: content is \"false\", must be \"true\"");
    assert_eq!((&differing["agrees"], &differing["differences"]), (&json!(false), &json!([content])));
    assert_eq!(contents(&differing), [&json!("true")], "the items are those of the log");

    let creation = system.records_of(chat).await.remove(0);
    let event = creation.value["eventId"].as_str().unwrap();
    neighbours.tamper(&format!("DELETE FROM applied_events WHERE event_id = '{event}'")).await;
    let differing = get(system, &neighbours.path("/state")).await;
    let missing = format!("applied_events conversation_id={chat} event_id={event}: the row is missing");
    assert_eq!(differing["differences"], json!([content, missing]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_view_in_redis_is_named_with_both_values() {
    let neighbours = Neighbours::start().await;
    let Neighbours { system, chat, .. } = &neighbours;
    let sent = system.send("alice", chat, "true").await;
    system.wait_until_published(&sent).await;
    let list = format!("/api/messages?conversationId={chat}&limit=7");
    eventually("Redis has the messages", async || {
        (system.get("alice", &list).await.header("x-cache") == "hit").then_some(())
    })
    .await;
    let name = format!("the first 7 messages of the conversation {chat}");
    let view = async || {
        let views = get(system, &neighbours.path("/views")).await;
        views.as_array().unwrap().iter().find(|view| view["view"] == name.as_str()).cloned().unwrap()
    };
    let same = json!({"view": name, "status": "same", "path": null, "found": null, "expected": null});
    assert_eq!(view().await, same);

    let mut redis = system.evictable_redis().await;
    let pattern = format!("{}:*:messages.*:{chat}", system.config.redis_prefix);
    let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut redis).await.unwrap();
    let stored: String = redis::cmd("HGET").arg(&keys[0]).arg(7).query_async(&mut redis).await.unwrap();
    let forged = stored.replace("\"content\":\"true\"", "\"content\":\"false\"");
    redis::cmd("HSET").arg(&keys[0]).arg(7).arg(forged).query_async::<()>(&mut redis).await.unwrap();
    let stale = json!({
        "view": name, "status": "stale", "path": "[0].content", "found": "\"false\"", "expected": "\"true\"",
    });
    assert_eq!(view().await, stale);
    let views = get(system, &neighbours.path("/views")).await;
    let absent = format!("what commands know of the message {}", sent.id());
    let absent = views.as_array().unwrap().iter().find(|view| view["view"] == absent.as_str()).unwrap();
    assert_eq!(absent["status"], "absent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_says_where_it_begins_and_what_is_wanted_of_it() {
    let neighbours = Neighbours::start().await;
    let Neighbours { system, chat, .. } = &neighbours;
    let sent = system.send("alice", chat, "hi").await;
    system.wait_until_projected(&sent).await;
    let created = system.records_of(chat).await.remove(0).position();
    let expected = json!({
        "conversationId": chat, "partition": 1, "created": created, "position": sent.position(), "participants": 2,
        "rebuild": null,
    });
    assert_eq!(get(system, &neighbours.path("")).await, expected);
    // No projector has this partition: the request stays.
    let (id, partition): (ConversationId, i32) = (unknown_id().parse().unwrap(), 99);
    system.read_model().request_conversation_rebuild(id, partition).await.unwrap();
    let requested = get(system, &format!("/admin/api/conversations/{id}")).await;
    assert_eq!((&requested["participants"], &requested["created"]), (&json!(0), &json!(null)));
    assert_eq!((&requested["rebuild"]["status"], &requested["rebuild"]["reason"]), (&json!("requested"), &json!(null)));
    assert!(requested["rebuild"]["requestedAt"].is_string(), "{requested}");
}

#[tokio::test(flavor = "multi_thread")]
async fn looks_at_the_log_take_turns() {
    let neighbours = Neighbours::start().await;
    let path = neighbours.path("/events");
    let asked: Vec<_> = (0..4).map(|_| ask(&neighbours.system, "GET", &path)).collect();
    for answer in crate::harness::send_concurrently(asked).await {
        assert_eq!((answer.status, answer.body["data"][0]["type"].clone()), (200, json!("CONVERSATION_CREATED")));
    }
}
