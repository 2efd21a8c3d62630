//! Saying that one types.

use serde_json::{Value, json};

use crate::harness::system::config;
use crate::harness::{System, log};

fn typing(action: &str, conversation: &str) -> Value {
    json!({"action": action, "conversationId": conversation})
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_is_accepted_logged_and_folds_to_nothing() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    for (action, event_type) in [("typing_start", "TYPING_START"), ("typing_stop", "TYPING_STOP")] {
        let done = system.post("bob", typing(action, &conversation)).await;
        let body = json!({"data": {"conversationId": conversation}});
        assert_eq!((done.status, &done.body), (202, &body), "{done:?}");
        assert_eq!(done.header("ratelimit-limit"), "", "typing counts against no limit");
        let event = json!({"type": event_type, "actorId": "bob", "data": {}});
        system.record_at(&done).await.assert_event(&conversation, event);
        system.wait_until_projected(&done).await;
    }
    let row = system.conversation_row(&conversation).await;
    assert_eq!((&row["last_seq"], &row["updated_at"]), (&json!(0), &row["created_at"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_repeats_appends_nothing_until_three_seconds_have_passed() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let begun = std::time::Instant::now();
    let mut appended = 0;
    let mut last = None;
    // The same for a start of each moment: whatever this machine is busy with, a start appends once every 3 s.
    while appended < 2 {
        let done = system.post("bob", typing("typing_start", &conversation)).await;
        assert_eq!((done.status, done.data()), (202, &json!({"conversationId": conversation})));
        if !done.header("messages-position").is_empty() {
            appended += 1;
            last = Some(done);
        }
    }
    assert!(begun.elapsed().as_millis() >= 2_900, "{:?}", begun.elapsed());
    assert_eq!(system.records_of(&conversation).await.len(), 1 + 2);
    assert_eq!(system.records_of(&conversation).await[2].position(), last.unwrap().position());
    // Another user, another conversation and a stop have nothing to do with it.
    let other = system.conversation("bob", &["carol"]).await;
    for (user, action, conversation) in [
        ("alice", "typing_start", &conversation),
        ("bob", "typing_start", &other),
        ("bob", "typing_stop", &conversation),
        ("bob", "typing_stop", &conversation),
        ("bob", "typing_start", &conversation),
    ] {
        let done = system.post(user, typing(action, conversation)).await;
        assert_eq!(done.status, 202);
        system.record_at(&done).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_starts_at_once_are_one() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let body = typing("typing_start", &conversation);
    let start = || system.ask("bob", "POST", "/api/messages").json(&body);
    for answer in crate::harness::send_concurrently((0..16).map(|_| start()).collect()).await {
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    assert_eq!(system.records_of(&conversation).await.len(), 1 + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_on_typing_are_ignored() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    for action in ["typing_start", "typing_stop", "typing_stop"] {
        let done = system.post_with_key("bob", "a-key", typing(action, &conversation)).await;
        assert_eq!((done.status, done.header("idempotent-replayed")), (202, ""), "{done:?}");
        let record = system.record_at(&done).await;
        let event_type = action.to_uppercase();
        record.assert_event(&conversation, json!({"type": event_type, "actorId": "bob", "data": {}}));
    }
    // The key is as good as new.
    let sent = system.post_with_key("bob", "a-key", json!({"conversationId": conversation, "content": "hi"})).await;
    assert_eq!(sent.status, 201, "{sent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_can_have_a_topic_of_its_own() {
    let mut config = config();
    let typing_topic = format!("{}-typing", config.kafka_topic);
    config.kafka_typing_topic = Some(typing_topic.clone());
    let system = System::with_config(config).await;
    let conversation = system.conversation("alice", &["bob"]).await;
    for action in ["typing_start", "typing_stop"] {
        let done = system.post("bob", typing(action, &conversation)).await;
        assert_eq!(done.status, 202, "{done:?}");
        // A position on another topic would be a wrong one to read from.
        assert_eq!(done.header("messages-position"), "");
    }
    let records = log::records(&system.config.kafka_brokers, &typing_topic).await;
    let [start, stop] = records.as_slice() else { panic!("{records:?}") };
    start.assert_event(&conversation, json!({"type": "TYPING_START", "actorId": "bob", "data": {}}));
    stop.assert_event(&conversation, json!({"type": "TYPING_STOP", "actorId": "bob", "data": {}}));
    assert_eq!(system.records().await.len(), 1);
}
