//! A user's list of conversations.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::System;
use crate::harness::http::Response;

/// Asserts that conversations are in the list's order: by last activity, then by id, both descending.
#[track_caller]
fn assert_in_order(conversations: &[Value]) {
    let places: Vec<_> = conversations.iter().map(|it| (it["updatedAt"].as_str(), it["id"].as_str())).collect();
    assert!(places.is_sorted_by(|one, next| one > next), "{places:?}");
}

fn ids(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| item["id"].as_str().unwrap()).collect()
}

/// Others to talk to, as many as wanted, with names of their own.
fn others(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number}")).collect()
}

async fn group(system: &System, creator: &str, others: &[String]) -> String {
    system.conversation(creator, &others.iter().map(String::as_str).collect::<Vec<_>>()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_most_recently_active_conversation_comes_first() {
    let system = System::unlimited().await;
    let mut made = Vec::new();
    for other in others("bob", 5) {
        made.push(system.conversation("alice", &[&other]).await);
    }
    let quiet = system.message("bob-0", &made[0], "first").await;
    let said = system.post("bob-1", json!({"conversationId": made[1], "content": "hi"})).await;
    system.wait_until_caught_up().await;
    let list = system.get_after(&said, "alice", "/api/messages").await;
    assert_in_order(list.data().as_array().unwrap());
    assert_eq!(&list.ids()[..2], &[&made[1], &made[0]]);
    assert_eq!(list.data()[0]["updatedAt"], said.data()["createdAt"]);
    assert_eq!(list.body["page"], json!({"limit": 20, "nextCursor": null}));
    // Nothing but messages makes a conversation active.
    for body in [
        json!({"action": "reaction", "messageId": quiet, "emoji": "👍"}),
        json!({"action": "mark_read", "conversationId": made[0]}),
        json!({"action": "typing_start", "conversationId": made[0]}),
    ] {
        assert!([200, 201, 202].contains(&system.post("alice", body).await.status));
    }
    let path = format!("/api/messages/{quiet}");
    let edited = system.ask("bob-0", "PATCH", &path).json(&json!({"content": "edited"})).send().await;
    let again = system.get_after(&edited, "alice", "/api/messages").await;
    assert_eq!(again.ids(), list.ids());
    assert_eq!(again.data()[1]["lastMessage"]["content"], "edited");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_and_small_conversations_are_one_list() {
    let system = System::unlimited().await;
    // 64 is the largest that counts as small.
    let small = group(&system, "alice", &others("s", 63)).await;
    let large = group(&system, "alice", &others("l", 64)).await;
    let direct = system.conversation("alice", &["bob"]).await;
    let largest = group(&system, "alice", &others("x", 999)).await;
    let path = "/api/messages";
    // They are on several partitions, which nobody promises to be projected in this order.
    system.wait_until_all_published().await;
    for (sender, active) in [("l-63", &large), ("alice", &direct), ("s-62", &small), ("x-998", &largest)] {
        let sent = system.post(sender, json!({"conversationId": active, "content": "hi"})).await;
        system.wait_until_published(&sent).await;
        let list = system.get_after(&sent, "alice", path).await;
        assert_eq!((list.header("x-cache"), list.ids()[0], list.ids().len()), ("miss", active.as_str(), 4));
        assert_in_order(list.data().as_array().unwrap());
        let unread = i64::from(sender != "alice");
        assert_eq!(list.data()[0]["unreadCount"], unread);
        assert_eq!(list.data()[0]["lastMessage"]["id"], sent.id());
        assert_eq!(system.get(sender, path).await.ids()[0], active);
        let again = system.get_after(&sent, "alice", path).await;
        assert_eq!((again.header("x-cache"), &again.body), ("hit", &list.body));
    }
    // The same in pages of any size.
    let whole = system.all_pages("alice", "/api/messages?limit=100").await;
    for limit in 1..=4 {
        assert_eq!(system.all_pages("alice", &format!("{path}?limit={limit}")).await, whole);
    }
    assert_eq!(whole[0]["participantCount"], 1_000);
    assert_eq!(whole[0]["participants"].as_array().unwrap().len(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_conversation_is_skipped_or_repeated_while_messages_arrive() {
    let system = Arc::new(System::unlimited().await);
    let mut made = Vec::new();
    for other in others("bob", 15) {
        made.push(system.conversation("alice", &[&other]).await);
    }
    let (busy, quiet) = made.split_at(6);
    let sent = system.post("bob-0", json!({"conversationId": busy[0], "content": "hi"})).await;
    // A position says nothing of other partitions.
    system.wait_until_caught_up().await;
    assert_eq!(system.get_after(&sent, "alice", "/api/messages").await.ids().len(), 15);
    let (writer, wanted) = (system.clone(), busy.to_vec());
    let writing = tokio::spawn(async move {
        loop {
            for (number, conversation) in wanted.iter().enumerate() {
                writer.message(&format!("bob-{number}"), conversation, "hi").await;
            }
        }
    });
    let mut moved = BTreeSet::new();
    for limit in [1, 2, 4, 7, 1, 2] {
        let walked = system.all_pages("alice", &format!("/api/messages?limit={limit}")).await;
        let seen = ids(&walked);
        let unique: BTreeSet<_> = seen.iter().collect();
        assert_eq!(unique.len(), seen.len(), "repeated: {seen:?}");
        let steady: Vec<_> = seen.iter().filter(|id| quiet.iter().any(|it| it == *id)).copied().collect();
        let expected: Vec<_> = quiet.iter().rev().map(String::as_str).collect();
        assert_eq!(steady, expected, "skipped or out of order");
        assert_in_order(&walked);
        // What is shown together is of one moment.
        for busy in walked.iter().filter(|it| !it["lastMessage"].is_null()) {
            let last = &busy["lastMessage"];
            assert_eq!((&busy["position"], &busy["updatedAt"]), (&last["position"], &last["createdAt"]));
            assert_eq!(busy["unreadCount"], last["seq"]);
        }
        moved.insert(seen[0].to_owned());
    }
    assert!(moved.len() > 1, "nothing moved meanwhile");
    writing.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_says_what_is_unread_and_how_far_everyone_has_read() {
    let system = System::unlimited().await;
    let conversation = system.conversation("alice", &["bob", "carol"]).await;
    let mut messages = Vec::new();
    for number in 1..=5 {
        messages.push(system.message("alice", &conversation, &number.to_string()).await);
    }
    let path = format!("/api/conversations/{conversation}");
    // After what was done: bob's unread count, and up to where alice, bob and carol have read.
    let check = async |done: Response, unread: i64, marks: [i64; 3]| {
        assert!([200, 201].contains(&done.status), "{done:?}");
        let one = system.get_after(&done, "bob", &path).await;
        let list = system.get_after(&done, "bob", "/api/messages").await;
        for view in [one.data(), &list.data()[0]] {
            assert_eq!(view["unreadCount"], unread, "{done:?}");
            let participants = view["participants"].as_array().unwrap();
            let seqs: Vec<i64> = participants.iter().map(|it| it["lastReadSeq"].as_i64().unwrap()).collect();
            assert_eq!(seqs, marks, "{done:?}");
            for participant in participants {
                assert_eq!(participant["lastReadAt"].is_null(), participant["lastReadSeq"] == 0);
            }
        }
    };
    let mark = async |user: &str, up_to: Option<&String>| {
        system.post(user, json!({"action": "mark_read", "conversationId": conversation, "messageId": up_to})).await
    };
    let delete = |index: usize| system.ask("alice", "DELETE", &format!("/api/messages/{}", messages[index])).send();
    let say = |user| system.post(user, json!({"conversationId": conversation, "content": "hi"}));
    check(mark("carol", Some(&messages[0])).await, 5, [5, 0, 1]).await;
    check(mark("bob", Some(&messages[1])).await, 3, [5, 2, 1]).await;
    // Never back.
    check(mark("bob", Some(&messages[0])).await, 3, [5, 2, 1]).await;
    // Of those that are read one more is deleted, of those that aren't too.
    check(delete(1).await, 3, [5, 2, 1]).await;
    check(delete(3).await, 2, [5, 2, 1]).await;
    check(say("bob").await, 0, [5, 6, 1]).await;
    check(say("carol").await, 1, [5, 6, 7]).await;
    check(delete(4).await, 1, [5, 6, 7]).await;
    check(mark("bob", None).await, 0, [5, 7, 7]).await;
}
