//! A user's list of conversations: its order, its pages while messages arrive, and its unread counts.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::System;
use crate::harness::http::Response;

/// Asserts the list's order: by last activity, then by id, both descending.
#[track_caller]
fn assert_in_order(conversations: &[Value]) {
    let keys: Vec<_> = conversations.iter().map(|it| (it["updatedAt"].as_str(), it["id"].as_str())).collect();
    assert!(keys.is_sorted_by(|one, next| one > next), "{keys:?}");
}

fn ids(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| item["id"].as_str().unwrap()).collect()
}

/// `count` different users.
fn users(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number}")).collect()
}

async fn group(system: &System, creator: &str, others: &[String]) -> String {
    system.conversation(creator, &others.iter().map(String::as_str).collect::<Vec<_>>()).await
}

/// Creates direct conversations of alice with `bob-0`, `bob-1`, …
async fn direct_conversations(system: &System, count: usize) -> Vec<String> {
    let mut conversations = Vec::new();
    for other in users("bob", count) {
        conversations.push(system.conversation("alice", &[&other]).await);
    }
    conversations
}

#[tokio::test(flavor = "multi_thread")]
async fn the_most_recently_active_conversation_comes_first() {
    let system = System::unlimited().await;
    let conversations = direct_conversations(&system, 5).await;

    system.message("bob-0", &conversations[0], "first").await;
    let sent = system.send("bob-1", &conversations[1], "hi").await;
    system.wait_until_caught_up().await;

    let list = system.get_after(&sent, "alice", "/api/messages").await;
    assert_in_order(list.data().as_array().unwrap());
    assert_eq!(&list.ids()[..2], &[&conversations[1], &conversations[0]]);
    assert_eq!(list.data()[0]["updatedAt"], sent.data()["createdAt"]);
    assert_eq!(list.body["page"], json!({"limit": 20, "nextCursor": null}));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_messages_are_activity_in_a_conversation() {
    let system = System::unlimited().await;
    let conversations = direct_conversations(&system, 2).await;
    let quiet = &conversations[0];
    let message = system.message("bob-0", quiet, "first").await;
    let sent = system.send("bob-1", &conversations[1], "hi").await;
    system.wait_until_caught_up().await;
    let before = system.get_after(&sent, "alice", "/api/messages").await;
    assert_eq!(before.ids(), [&conversations[1], quiet]);

    let typing = json!({"action": "typing_start", "conversationId": quiet});
    assert_eq!(system.react("alice", &message, "👍").await.status, 201);
    assert_eq!(system.mark_read("alice", quiet, None).await.status, 200);
    assert_eq!(system.post("alice", typing).await.status, 202);
    let edited = system.edit("bob-0", &message, "edited").await;

    let after = system.get_after(&edited, "alice", "/api/messages").await;
    assert_eq!(after.ids(), before.ids());
    assert_eq!(after.data()[1]["lastMessage"]["content"], "edited");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_and_small_conversations_are_one_list() {
    struct Activity<'a> {
        sender: &'a str,
        conversation: &'a str,
    }
    let system = System::unlimited().await;
    // A conversation of 64 is the largest that is stored as a small one.
    let small = group(&system, "alice", &users("s", 63)).await;
    let large = group(&system, "alice", &users("l", 64)).await;
    let direct = system.conversation("alice", &["bob"]).await;
    let largest = group(&system, "alice", &users("x", 999)).await;
    let path = "/api/messages";
    // The conversations are on several partitions, which the projector doesn't read in the order of their creation.
    system.wait_until_all_published().await;

    for Activity { sender, conversation } in [
        Activity { sender: "l-63", conversation: &large },
        Activity { sender: "alice", conversation: &direct },
        Activity { sender: "s-62", conversation: &small },
        Activity { sender: "x-998", conversation: &largest },
    ] {
        let sent = system.send(sender, conversation, "hi").await;
        system.wait_until_published(&sent).await;

        let list = system.get_after(&sent, "alice", path).await;
        assert_eq!((list.header("x-cache"), list.ids()[0], list.ids().len()), ("miss", conversation, 4));
        assert_in_order(list.data().as_array().unwrap());
        assert_eq!(list.data()[0]["unreadCount"], i64::from(sender != "alice"));
        assert_eq!(list.data()[0]["lastMessage"]["id"], sent.id());
        assert_eq!(system.get(sender, path).await.ids()[0], conversation);
        let again = system.get_after(&sent, "alice", path).await;
        assert_eq!((again.header("x-cache"), &again.body), ("hit", &list.body));
    }

    let complete_list = system.all_pages("alice", "/api/messages?limit=100").await;
    for limit in 1..=4 {
        assert_eq!(system.all_pages("alice", &format!("{path}?limit={limit}")).await, complete_list);
    }
    assert_eq!(complete_list[0]["participantCount"], 1_000);
    assert_eq!(complete_list[0]["participants"].as_array().unwrap().len(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_conversation_is_skipped_or_repeated_while_messages_arrive() {
    // Given busy conversations, in which users write all the time, and quiet ones.
    let system = Arc::new(System::unlimited().await);
    let conversations = direct_conversations(&system, 15).await;
    let (busy, quiet) = conversations.split_at(6);
    let sent = system.send("bob-0", &busy[0], "hi").await;
    // The position of `sent` includes only one partition.
    system.wait_until_caught_up().await;
    assert_eq!(system.get_after(&sent, "alice", "/api/messages").await.ids().len(), 15);
    let (writer, write_to) = (system.clone(), busy.to_vec());
    let writing = tokio::spawn(async move {
        loop {
            for (number, conversation) in write_to.iter().enumerate() {
                writer.message(&format!("bob-{number}"), conversation, "hi").await;
            }
        }
    });

    let mut first_ids = BTreeSet::new();
    for limit in [1, 2, 4, 7, 1, 2] {
        let list = system.all_pages("alice", &format!("/api/messages?limit={limit}")).await;

        let ids = ids(&list);
        let unique: BTreeSet<_> = ids.iter().collect();
        assert_eq!(unique.len(), ids.len(), "the list repeats a conversation: {ids:?}");
        let quiet_ids: Vec<_> = ids.iter().filter(|id| quiet.iter().any(|it| it == *id)).copied().collect();
        let expected: Vec<_> = quiet.iter().rev().map(String::as_str).collect();
        assert_eq!(quiet_ids, expected, "the list skips a conversation or is out of order");
        assert_in_order(&list);
        // All fields of a conversation are of the same moment.
        for active in list.iter().filter(|it| !it["lastMessage"].is_null()) {
            let last = &active["lastMessage"];
            assert_eq!((&active["position"], &active["updatedAt"]), (&last["position"], &last["createdAt"]));
            assert_eq!(active["unreadCount"], last["seq"]);
        }
        first_ids.insert(ids[0].to_owned());
    }
    assert!(first_ids.len() > 1, "the order didn't change while the test read the list");
    writing.abort();
}

/// What a conversation of alice, bob and carol must show to bob.
struct ExpectedReadState {
    unread_by_bob: i64,
    /// The `lastReadSeq` of alice, bob and carol.
    read_up_to: [i64; 3],
}

/// Asserts what bob sees after a command, in the conversation itself and in his list.
async fn assert_bob_sees(system: &System, conversation: &str, done: Response, expected: ExpectedReadState) {
    assert!([200, 201].contains(&done.status), "{done:?}");
    let path = format!("/api/conversations/{conversation}");
    let single = system.get_after(&done, "bob", &path).await;
    let list = system.get_after(&done, "bob", "/api/messages").await;
    for view in [single.data(), &list.data()[0]] {
        assert_eq!(view["unreadCount"], expected.unread_by_bob, "{done:?}");
        let participants = view["participants"].as_array().unwrap();
        let read_up_to: Vec<i64> = participants.iter().map(|it| it["lastReadSeq"].as_i64().unwrap()).collect();
        assert_eq!(read_up_to, expected.read_up_to, "{done:?}");
        for participant in participants {
            assert_eq!(participant["lastReadAt"].is_null(), participant["lastReadSeq"] == 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_shows_the_unread_count_and_every_read_mark() {
    // Given five messages of alice's.
    let system = System::unlimited().await;
    let conversation = system.conversation("alice", &["bob", "carol"]).await;
    let mut messages = Vec::new();
    for number in 1..=5 {
        messages.push(system.message("alice", &conversation, &number.to_string()).await);
    }
    let assert_bob_sees = async |done: Response, unread_by_bob: i64, read_up_to: [i64; 3]| {
        assert_bob_sees(&system, &conversation, done, ExpectedReadState { unread_by_bob, read_up_to }).await;
    };

    let carol_read_first = system.mark_read("carol", &conversation, Some(&messages[0])).await;
    assert_bob_sees(carol_read_first, 5, [5, 0, 1]).await;
    let bob_read_second = system.mark_read("bob", &conversation, Some(&messages[1])).await;
    assert_bob_sees(bob_read_second, 3, [5, 2, 1]).await;
    let bob_marked_an_earlier_one = system.mark_read("bob", &conversation, Some(&messages[0])).await;
    assert_bob_sees(bob_marked_an_earlier_one, 3, [5, 2, 1]).await;

    let read_one_deleted = system.delete("alice", &messages[1]).await;
    assert_bob_sees(read_one_deleted, 3, [5, 2, 1]).await;
    let unread_one_deleted = system.delete("alice", &messages[3]).await;
    assert_bob_sees(unread_one_deleted, 2, [5, 2, 1]).await;

    let bob_wrote = system.send("bob", &conversation, "hi").await;
    assert_bob_sees(bob_wrote, 0, [5, 6, 1]).await;
    let carol_wrote = system.send("carol", &conversation, "hi").await;
    assert_bob_sees(carol_wrote, 1, [5, 6, 7]).await;
    let read_one_deleted = system.delete("alice", &messages[4]).await;
    assert_bob_sees(read_one_deleted, 1, [5, 6, 7]).await;
    let bob_read_all = system.mark_read("bob", &conversation, None).await;
    assert_bob_sees(bob_read_all, 0, [5, 7, 7]).await;
}
