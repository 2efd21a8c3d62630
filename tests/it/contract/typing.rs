//! Typing commands: they are logged but fold to nothing, and a repeated start is dropped for three seconds.

use std::time::Instant;

use serde_json::{Value, json};

use crate::harness::system::config;
use crate::harness::{System, log, send_concurrently};

fn typing(action: &str, conversation: &str) -> Value {
    json!({"action": action, "conversationId": conversation})
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_is_accepted_and_logged_and_changes_no_state() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    for (action, event_type) in [("typing_start", "TYPING_START"), ("typing_stop", "TYPING_STOP")] {
        let accepted = system.post("bob", typing(action, &conversation)).await;
        let body = json!({"data": {"conversationId": conversation}});
        assert_eq!((accepted.status, &accepted.body), (202, &body), "{accepted:?}");
        let event = json!({"type": event_type, "actorId": "bob", "data": {}});
        system.record_at(&accepted).await.assert_event(&conversation, event);
        system.wait_until_projected(&accepted).await;
    }
    let row = system.conversation_row(&conversation).await;
    assert_eq!((&row["last_seq"], &row["updated_at"]), (&json!(0), &row["created_at"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_start_is_appended_only_after_three_seconds() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let started = Instant::now();
    let mut appended = Vec::new();
    // Sends all the time instead of at fixed moments, so the machine's speed doesn't matter.
    while appended.len() < 2 {
        let accepted = system.post("bob", typing("typing_start", &conversation)).await;
        assert_eq!((accepted.status, accepted.data()), (202, &json!({"conversationId": conversation})));
        if !accepted.header("messages-position").is_empty() {
            appended.push(accepted);
        }
    }
    assert!(started.elapsed().as_millis() >= 2_900, "{:?}", started.elapsed());
    let records = system.records_of(&conversation).await;
    assert_eq!(records.len(), 1 + 2);
    assert_eq!(records[2].position(), appended[1].position());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_does_not_suppress_another_user_or_conversation_or_a_stop() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let other_conversation = system.conversation("bob", &["carol"]).await;
    for (user, action, conversation) in [
        ("bob", "typing_start", &conversation),
        ("alice", "typing_start", &conversation),
        ("bob", "typing_start", &other_conversation),
        ("bob", "typing_stop", &conversation),
        ("bob", "typing_start", &conversation),
    ] {
        let accepted = system.post(user, typing(action, conversation)).await;
        assert_eq!(accepted.status, 202);
        system.record_at(&accepted).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_of_a_user_who_does_not_type_appends_nothing() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let stop = async |user: &str| {
        let accepted = system.post(user, typing("typing_stop", &conversation)).await;
        let body = json!({"data": {"conversationId": conversation}});
        assert_eq!((accepted.status, &accepted.body), (202, &body), "{accepted:?}");
        accepted
    };
    for _ in 0..3 {
        let accepted = stop("bob").await;
        accepted.assert_not_counted();
        assert_eq!(accepted.header("messages-position"), "");
    }
    system.post("alice", typing("typing_start", &conversation)).await.assert_rate_limit(60, 59);
    stop("bob").await.assert_not_counted();
    stop("alice").await.assert_rate_limit(60, 58);
    stop("alice").await.assert_not_counted();

    assert_eq!(system.records_of(&conversation).await.len(), 1 + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_ends_its_authors_typing_so_that_the_next_start_is_shown() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let start = async || system.post("bob", typing("typing_start", &conversation)).await;
    system.record_at(&start().await).await;
    system.message("alice", &conversation, "another's message ends nothing").await;
    start().await.assert_not_counted();

    system.message("bob", &conversation, "hi").await;

    let stop = system.post("bob", typing("typing_stop", &conversation)).await;
    assert_eq!((stop.status, stop.header("messages-position")), (202, ""), "the message has ended it: {stop:?}");
    system
        .record_at(&start().await)
        .await
        .assert_event(&conversation, json!({"type": "TYPING_START", "actorId": "bob", "data": {}}));
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_starts_are_one_event() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let body = typing("typing_start", &conversation);
    let start = || system.ask("bob", "POST", "/api/messages").json(&body);
    for accepted in send_concurrently((0..16).map(|_| start()).collect()).await {
        assert_eq!(accepted.status, 202, "{accepted:?}");
    }
    assert_eq!(system.records_of(&conversation).await.len(), 1 + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_ignores_idempotency_keys() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    for action in ["typing_start", "typing_stop", "typing_start"] {
        let accepted = system.post_with_key("bob", "a-key", typing(action, &conversation)).await;
        assert_eq!((accepted.status, accepted.header("idempotent-replayed")), (202, ""), "{accepted:?}");
        let record = system.record_at(&accepted).await;
        let event_type = action.to_uppercase();
        record.assert_event(&conversation, json!({"type": event_type, "actorId": "bob", "data": {}}));
    }
    // Typing doesn't use the key up.
    let sent = system.post_with_key("bob", "a-key", json!({"conversationId": conversation, "content": "hi"})).await;
    assert_eq!(sent.status, 201, "{sent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_events_go_to_their_own_topic_where_one_is_configured() {
    let mut config = config();
    let typing_topic = format!("{}-typing", config.kafka_topic);
    config.kafka_typing_topic = Some(typing_topic.clone());
    let system = System::with_config(config).await;
    let conversation = system.conversation("alice", &["bob"]).await;

    for action in ["typing_start", "typing_stop"] {
        let accepted = system.post("bob", typing(action, &conversation)).await;
        assert_eq!(accepted.status, 202, "{accepted:?}");
        // A client would demand this position of the messages' topic.
        assert_eq!(accepted.header("messages-position"), "");
    }

    let records = log::records(&system.config.kafka_brokers, &typing_topic).await;
    let [start, stop] = records.as_slice() else { panic!("{records:?}") };
    start.assert_event(&conversation, json!({"type": "TYPING_START", "actorId": "bob", "data": {}}));
    stop.assert_event(&conversation, json!({"type": "TYPING_STOP", "actorId": "bob", "data": {}}));
    assert_eq!(system.records().await.len(), 1);
}
