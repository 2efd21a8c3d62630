//! Rate limits of commands, and the limit of lookups of unknown ids.

use std::time::{Duration, Instant};

use messages::process::Roles;
use serde_json::{Value, json};

use crate::harness::http::{Request, Response};
use crate::harness::redis::FAILED_LOOKUP_LIMIT;
use crate::harness::system::{config, unlimited};
use crate::harness::{System, eventually, send_concurrently, unknown_id};

/// Asserts that a response is 429 and names the time after which the client may retry.
#[track_caller]
fn assert_limited(refused: &Response, max: u32) {
    refused.assert_problem(429, "rate_limited");
    refused.assert_rate_limit(max, 0);
    assert_eq!(refused.header("retry-after"), refused.header("ratelimit-reset"));
    assert_eq!(refused.header("messages-position"), "");
}

/// A command of alice's that has a rate limit of its own.
struct LimitedCommand {
    method: &'static str,
    path: String,
    body: Value,
    max: u32,
    /// How many commands of this kind alice has sent before the test sends the first.
    sent_before: u32,
}

impl LimitedCommand {
    fn post(body: Value, max: u32, sent_before: u32) -> Self {
        Self { method: "POST", path: "/api/messages".to_owned(), body, max, sent_before }
    }

    async fn send(&self, system: &System) -> Response {
        let request = system.ask("alice", self.method, &self.path);
        if self.body.is_null() { request.send().await } else { request.json(&self.body).send().await }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_limit_allows_its_last_command_and_not_one_more() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let id = system.message("alice", &conversation, "hi").await;
    let path = format!("/api/messages/{id}");
    let edit = json!({"content": "hi"});
    for command in [
        LimitedCommand::post(json!({"action": "conversation", "participantIds": ["bob"]}), 20, 1),
        LimitedCommand::post(json!({"conversationId": conversation, "content": "hi"}), 30, 1),
        LimitedCommand::post(json!({"action": "mark_read", "conversationId": conversation}), 120, 0),
        LimitedCommand { method: "PATCH", path: path.clone(), body: edit, max: 20, sent_before: 0 },
        LimitedCommand::post(json!({"action": "reaction", "messageId": id, "emoji": "👍"}), 100, 0),
        LimitedCommand { method: "DELETE", path: path.clone(), body: Value::Null, max: 10, sent_before: 0 },
    ] {
        let max = command.max;
        for count in command.sent_before + 1..=max {
            let done = command.send(&system).await;
            assert!([200, 201].contains(&done.status), "{count} of {max}: {done:?}");
            done.assert_rate_limit(max, max - count);
        }
        let records_before = system.records().await.len();
        assert_limited(&command.send(&system).await, max);
        assert_limited(&command.send(&system).await, max);
        assert_eq!(system.records().await.len(), records_before, "{}", command.body);
    }
    // alice's limits don't affect bob.
    let sent = system.send("bob", &conversation, "hi").await;
    assert_eq!(sent.status, 201);
    sent.assert_rate_limit(30, 29);
}

#[tokio::test(flavor = "multi_thread")]
async fn added_and_removed_reactions_count_together() {
    let system = System::with(|config| config.limits.limit_reactions = 3).await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let id = system.message("alice", &conversation, "hi").await;
    let add = json!({"action": "reaction", "messageId": id, "emoji": "👍"});
    let remove_by_word = json!({"action": "reaction", "messageId": id, "emoji": "👍", "reaction": "remove"});
    let remove = json!({"action": "remove_reaction", "messageId": id, "emoji": "👍"});

    system.post("bob", add.clone()).await.assert_rate_limit(3, 2);
    system.post("bob", remove_by_word.clone()).await.assert_rate_limit(3, 1);
    system.post("bob", remove.clone()).await.assert_rate_limit(3, 0);

    for body in [add, remove_by_word, remove] {
        assert_limited(&system.post("bob", body).await, 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_starts_and_stops_count_together() {
    let system = System::with(|config| config.limits.limit_typing = 3).await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let typing = |action: &str| json!({"action": action, "conversationId": conversation});
    for (action, left) in [("typing_start", 2), ("typing_stop", 1), ("typing_start", 0)] {
        let accepted = system.post("bob", typing(action)).await;
        assert_eq!(accepted.status, 202, "{accepted:?}");
        accepted.assert_rate_limit(3, left);
    }

    assert_limited(&system.post("bob", typing("typing_stop")).await, 3);
    assert_eq!(system.post("alice", typing("typing_start")).await.status, 202);
    assert_eq!(system.records_of(&conversation).await.len(), 1 + 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn invited_people_count_besides_the_conversations() {
    let system = System::with(|config| config.limits.limit_invitations = 5).await;
    let invite = async |people: &[&str]| {
        let body = json!({"action": "conversation", "type": "GROUP", "participantIds": people});
        system.post("alice", body).await
    };
    let first = invite(&["bob", "carol", "dave"]).await;
    assert_eq!(first.status, 201, "{first:?}");
    first.assert_rate_limit(20, 19);

    let refused = invite(&["bob", "carol", "dave"]).await;

    refused.assert_problem(429, "rate_limited");
    refused.assert_rate_limit(5, 2);
    let last = invite(&["alice", "bob", "carol"]).await;
    assert_eq!(last.status, 201, "whoever creates a conversation isn't invited: {last:?}");
    last.assert_rate_limit(20, 18);
    assert_limited(&invite(&["bob"]).await, 5);
    assert_eq!(system.records().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_and_repeated_requests_have_a_limit_of_their_own() {
    // Twenty times what all commands together may be, on each process.
    let mut config = config();
    unlimited(&mut config);
    for limit in [
        &mut config.limits.limit_messages,
        &mut config.limits.limit_reactions,
        &mut config.limits.limit_edits,
        &mut config.limits.limit_deletions,
        &mut config.limits.limit_conversations,
        &mut config.limits.limit_read_marks,
        &mut config.limits.limit_typing,
    ] {
        *limit = 1;
    }
    let system = System::with_roles(config, Roles::ALL).await;
    let conversation = system.conversation("bob", &["alice"]).await;
    let body = json!({"conversationId": conversation, "content": "hi"});
    assert_eq!(system.post_with_key("alice", "a-key", body.clone()).await.status, 201);
    for number in 1..140 {
        let refused = match number % 3 {
            0 => system.post("alice", json!({"content": 7})).await,
            1 => system.post_with_key("alice", "a-key", body.clone()).await,
            _ => system.send("alice", &unknown_id(), "hi").await,
        };
        assert!([422, 200, 404].contains(&refused.status), "{number}: {refused:?}");
    }

    assert_limited(&system.post_with_key("alice", "a-key", body.clone()).await, 140);
    assert_limited(&system.post("alice", json!({"content": 7})).await, 140);
    assert_eq!(system.post("bob", body).await.status, 201, "another user isn't affected");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_and_repeated_commands_do_not_count() {
    let system = System::with(|config| config.limits.limit_messages = 2).await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let foreign = system.conversation("bob", &["carol"]).await;
    let body = json!({"conversationId": conversation, "content": "hi"});
    let sent = system.post_with_key("alice", "a-key", body.clone()).await;
    sent.assert_rate_limit(2, 1);
    system.wait_until_caught_up().await;

    for invalid in [
        json!({"conversationId": conversation, "content": ""}),
        json!({"conversationId": conversation, "content": "hi", "mentions": ["eve"]}),
        json!({"conversationId": conversation, "content": "hi", "replyToId": unknown_id()}),
        json!({"conversationId": foreign, "content": "hi"}),
        json!({"conversationId": unknown_id(), "content": "hi"}),
    ] {
        let refused = system.post("alice", invalid).await;
        assert!([404, 422].contains(&refused.status), "{refused:?}");
        refused.assert_not_counted();
    }
    let another = json!({"conversationId": conversation, "content": "another"});
    system.post_with_key("alice", "a-key", another.clone()).await.assert_problem(409, "idempotency_key_reused");
    for _ in 0..3 {
        assert_eq!(system.post_with_key("alice", "a-key", body.clone()).await.status, 200);
    }

    system.post("alice", another).await.assert_rate_limit(2, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_the_limit_a_retry_is_answered_and_a_refused_key_stays_unused() {
    let system = System::with(|config| config.limits.limit_messages = 2).await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let body = json!({"conversationId": conversation, "content": "hi"});
    let another = json!({"conversationId": conversation, "content": "another"});
    system.post_with_key("alice", "a-key", body.clone()).await.assert_rate_limit(2, 1);
    system.post("alice", another.clone()).await.assert_rate_limit(2, 0);

    assert_eq!(system.post_with_key("alice", "a-key", body).await.status, 200);
    assert_limited(&system.post_with_key("alice", "late", another.clone()).await, 2);

    system.reset_rate_limit("messages", "alice").await;
    let late = system.post_with_key("alice", "late", another).await;
    assert_eq!((late.status, late.header("idempotent-replayed")), (201, ""), "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_share_a_users_limit() {
    let mut config = config();
    config.limits.limit_messages = 5;
    let one = System::with_config(config.clone()).await;
    let other = System::with_roles(config, Roles::COMMAND_API).await;
    let conversation = one.conversation("alice", &["bob"]).await;
    one.send("alice", &conversation, "hi").await.assert_rate_limit(5, 4);
    other.send("alice", &conversation, "hi").await.assert_rate_limit(5, 3);
    one.send("alice", &conversation, "hi").await.assert_rate_limit(5, 2);

    let body = json!({"conversationId": conversation, "content": "hi"});
    let send_to = |node: &System| node.ask("alice", "POST", "/api/messages").json(&body);
    let requests: Vec<Request> = (0..4).flat_map(|_| [send_to(&one), send_to(&other)]).collect();
    let responses = send_concurrently(requests).await;

    let (sent, refused): (Vec<_>, Vec<_>) = responses.iter().partition(|response| response.status == 201);
    assert_eq!(sent.len(), 2, "{responses:?}");
    for refused in refused {
        assert_limited(refused, 5);
    }
    assert_eq!(one.records_of(&conversation).await.len(), 1 + 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_starts_with_its_first_command_and_ends_when_it_promised() {
    let change = |config: &mut service::config::Config| {
        config.limits.limit_messages = 2;
        config.limits.limit_window_seconds = 6;
    };
    let system = System::with(change).await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let started = Instant::now();
    let first = system.send("alice", &conversation, "hi").await;
    assert_eq!(first.header("ratelimit-reset"), "6");

    // Neither the second command nor a refused one restarts the window.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let second = system.send("alice", &conversation, "hi").await;
    let refused = system.send("alice", &conversation, "hi").await;
    assert_eq!((second.status, refused.status), (201, 429), "{second:?} {refused:?}");
    let retry_after: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=4).contains(&retry_after), "{retry_after}");

    tokio::time::sleep(Duration::from_secs(retry_after)).await;
    let third = system.send("alice", &conversation, "hi").await;
    assert!(started.elapsed() >= Duration::from_secs(6));
    assert_eq!(third.status, 201, "a client that waits as long as Retry-After says must succeed: {third:?}");
    assert_eq!(third.header("ratelimit-remaining"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn lookups_of_messages_that_are_not_projected_yet_do_not_count() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    // Given more read marks on new messages than bob has failed lookups left. Redis forgets each message, and the
    // projector pauses, so each lookup fails at first.
    system.leave_failed_lookups("bob", 10).await;
    let mut marked = 0;
    while marked < 12 {
        let pause = system.pause_projection().await;
        let mut marks = Vec::new();
        for _ in 0..4 {
            let message = system.message("alice", &conversation, "hi").await;
            system.forget_pending_message(&message).await;
            let mark = json!({"action": "mark_read", "conversationId": conversation, "messageId": message});
            marks.push(system.ask("bob", "POST", "/api/messages").json(&mark));
        }
        let lookups_before = system.failed_lookups("bob").await;

        let sending = tokio::spawn(send_concurrently(marks));
        eventually("each command looks its message up", async || {
            (system.failed_lookups("bob").await >= lookups_before + 4).then_some(())
        })
        .await;
        pause.rollback().await.unwrap();

        for response in sending.await.unwrap() {
            match response.status {
                200 => marked += 1,
                // On a busy machine the projector may need longer than a command waits.
                _ => response.assert_problem(503, "projection_behind"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lookups_of_unknown_ids_have_a_limit() {
    let system = System::start().await;
    system.wait_until_caught_up().await;
    system.leave_failed_lookups("bob", 2).await;
    for _ in 0..2 {
        system.send("bob", &unknown_id(), "hi").await.assert_problem(404, "not_found");
    }
    assert_limited(&system.send("bob", &unknown_id(), "hi").await, FAILED_LOOKUP_LIMIT);
}
