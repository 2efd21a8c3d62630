//! Reacting to messages.

use serde_json::{Value, json};

use crate::harness::System;
use crate::harness::http::Response;

/// A system with a group of four, and a message of alice's in it.
async fn message() -> (System, String, String) {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob", "carol", "dan"]).await;
    let message = system.message("alice", &conversation, "hi").await;
    (system, conversation, message)
}

fn react(message: &str, emoji: &str) -> Value {
    json!({"action": "reaction", "messageId": message, "emoji": emoji})
}

fn labelled(message: &str, emoji: &str, reaction: &str) -> Value {
    json!({"action": "reaction", "messageId": message, "emoji": emoji, "reaction": reaction})
}

/// Asserts what came of a reaction, and that the record where the answer says it is is its event.
async fn assert_reaction(
    system: &System,
    done: &Response,
    status: u16,
    answer: Value,
    conversation: &str,
    event: Value,
) {
    assert_eq!((done.status, &done.body), (status, &json!({"data": answer})), "{done:?}");
    assert_eq!(done.header("location"), "");
    system.record_at(done).await.assert_event(conversation, event);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reaction_is_answered_logged_and_projected_and_can_be_taken_back() {
    let (system, conversation, id) = message().await;
    let added = json!({"type": "REACTION_ADDED", "actorId": "bob", "data": {"messageId": id, "emoji": "👍"}});
    let removed = json!({"type": "REACTION_REMOVED", "actorId": "bob", "data": {"messageId": id, "emoji": "👍"}});
    let answer = json!({"messageId": id, "emoji": "👍", "label": null});
    // Each way to say it, adding and removing by turns.
    for (left, add, remove) in [
        (98, react(&id, "👍"), labelled(&id, "👍", "remove")),
        (96, labelled(&id, "👍", "add"), json!({"action": "remove_reaction", "messageId": id, "emoji": "👍"})),
    ] {
        let done = system.post("bob", add).await;
        assert_reaction(&system, &done, 201, answer.clone(), &conversation, added.clone()).await;
        done.assert_rate_limit(100, left + 1);
        system.wait_until_projected(&done).await;
        let rows = json!([{"emoji": "👍", "label": null, "user_ids": ["bob"]}]);
        assert_eq!(system.reaction_rows(&id).await, rows);
        let offset: i64 = done.position().split_once(':').unwrap().1.parse().unwrap();
        assert_eq!(system.message_row(&id).await["position"], offset);
        let done = system.post("bob", remove).await;
        assert_reaction(&system, &done, 200, answer.clone(), &conversation, removed.clone()).await;
        done.assert_rate_limit(100, left);
        system.wait_until_projected(&done).await;
        assert_eq!(system.reaction_rows(&id).await[0]["user_ids"], json!([]));
    }
    let read = system.get("bob", &format!("/api/messages/{id}")).await;
    assert_eq!(read.data()["reactions"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_stays_until_another_is_given() {
    let (system, conversation, id) = message().await;
    let longest = "é".repeat(32);
    let mut last = None;
    for (user, reaction, label) in [
        ("bob", Some("agreed"), "agreed"),
        ("carol", None, "agreed"),
        ("dan", Some("add"), "agreed"),
        ("bob", Some(longest.as_str()), longest.as_str()),
        ("bob", Some(longest.as_str()), longest.as_str()),
    ] {
        let body = reaction.map_or_else(|| react(&id, "👍"), |reaction| labelled(&id, "👍", reaction));
        let given = reaction.filter(|reaction| *reaction != "add");
        let done = system.post(user, body).await;
        let mut data = json!({"messageId": id, "emoji": "👍"});
        if let Some(given) = given {
            data["label"] = json!(given);
        }
        let event = json!({"type": "REACTION_ADDED", "actorId": user, "data": data});
        let answer = json!({"messageId": id, "emoji": "👍", "label": given});
        assert_reaction(&system, &done, 201, answer, &conversation, event).await;
        system.wait_until_projected(&done).await;
        assert_eq!(system.reaction_rows(&id).await[0]["label"], label);
        last = Some(done);
    }
    // One of each user, however often it is given.
    let read = system.get_after(&last.unwrap(), "alice", &format!("/api/messages/{id}")).await;
    let reactions = json!([{"emoji": "👍", "label": longest, "count": 3, "userIds": ["bob", "carol", "dan"]}]);
    assert_eq!(read.data()["reactions"], reactions);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emoji_is_exactly_one_whatever_it_is_made_of() {
    let (system, _, id) = message().await;
    let before = system.records().await.len();
    for emoji in ["👍", "👍🏽", "❤️", "🇩🇪", "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}", "1️⃣", "👨‍👩‍👧‍👦", "🏳️‍🌈"]
    {
        let done = system.post("bob", react(&id, emoji)).await;
        assert_eq!((done.status, &done.data()["emoji"]), (201, &json!(emoji)), "{emoji} {done:?}");
    }
    assert_eq!(system.records().await.len(), before + 8);
    let too_long = "👩‍👩‍👧‍👦‍👩‍👧";
    for emoji in ["", " ", "a", "1", "ok", "👍👍", "👍 ", "\u{200d}", "👍\u{200d}", "\u{fe0f}", "<b>", too_long]
    {
        let refused = system.post("bob", react(&id, emoji)).await;
        assert_eq!(refused.field_errors(), [("emoji", "not_an_emoji")], "{emoji:?}");
    }
    assert_eq!(system.records().await.len(), before + 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_takes_twenty_different_emoji_ever() {
    let (system, _, id) = message().await;
    let emoji: Vec<String> = ('🐀'..).take(21).map(String::from).collect();
    system.wait_until_caught_up().await;
    let hold = system.pause_projection().await;
    for emoji in &emoji[..20] {
        let done = system.post("bob", react(&id, emoji)).await;
        assert_eq!(done.status, 201, "{done:?}");
    }
    system.post("bob", react(&id, &emoji[20])).await.assert_problem(422, "too_many");
    hold.rollback().await.unwrap();
    // The same when only the read model knows them.
    system.wait_until_caught_up().await;
    system.clear_redis().await;
    let before = system.records().await.len();
    system.post("bob", react(&id, &emoji[20])).await.assert_problem(422, "too_many");
    assert_eq!(system.records().await.len(), before);
    // One that was taken back still counts; one that is there is open to all.
    let removed = system.post("bob", labelled(&id, &emoji[0], "remove")).await;
    system.wait_until_projected(&removed).await;
    assert_eq!(system.post("carol", react(&id, &emoji[20])).await.field_errors(), [("emoji", "too_many")]);
    for (user, emoji) in [("carol", &emoji[0]), ("dan", &emoji[19])] {
        assert_eq!(system.post(user, react(&id, emoji)).await.status, 201);
    }
    // Taking back what was never given is done, too.
    assert_eq!(system.post("dan", labelled(&id, &emoji[20], "remove")).await.status, 200);
}
