//! Messages and participants, one and in pages; and parameters that are wrong.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::{System, unknown_id};

fn seqs(items: &[Value]) -> Vec<i64> {
    items.iter().map(|item| item["seq"].as_i64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_message_is_skipped_or_repeated_while_others_write() {
    let system = Arc::new(System::unlimited().await);
    let conversation = system.conversation("alice", &["bob"]).await;
    let (writer, to) = (system.clone(), conversation.clone());
    let writing = tokio::spawn(async move {
        loop {
            writer.message("bob", &to, "hi").await;
        }
    });
    let path = format!("/api/messages?conversationId={conversation}");
    let mut lengths = Vec::new();
    for limit in [1, 2, 7, 20, 100, 3] {
        let sent = system.post("alice", json!({"conversationId": conversation, "content": "hi"})).await;
        system.get_after(&sent, "alice", &path).await;
        let walked = system.all_pages("alice", &format!("{path}&limit={limit}")).await;
        let length = i64::try_from(walked.len()).unwrap();
        assert_eq!(seqs(&walked), (1..=length).rev().collect::<Vec<_>>());
        lengths.push(length);
    }
    assert!(lengths.is_sorted_by(|one, next| one < next), "nothing was written meanwhile: {lengths:?}");
    writing.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_has_as_many_as_asked_for_and_the_last_one_no_cursor() {
    let system = System::unlimited().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let mut last = None;
    for number in 1..=41 {
        let body = json!({"conversationId": conversation, "content": number.to_string()});
        last = Some(system.post("alice", body).await);
    }
    let path = format!("/api/messages?conversationId={conversation}");
    let first = system.get_after(&last.unwrap(), "bob", &path).await;
    assert_eq!(seqs(first.data().as_array().unwrap()), (22..=41).rev().collect::<Vec<_>>());
    assert_eq!(first.data()[0]["content"], "41");
    assert_eq!(first.body["page"]["limit"], 20);
    // A page that ends where the list does is the last.
    for (limit, pages) in [(20, 3), (41, 1), (40, 2), (100, 1)] {
        let mut next = format!("{path}&limit={limit}");
        for number in 1..=pages {
            let page = system.get("bob", &next).await;
            assert_eq!((page.status, &page.body["page"]["limit"]), (200, &json!(limit)));
            assert_eq!(page.next_cursor().is_none(), number == pages, "limit {limit}, page {number}");
            next = format!("{path}&limit={limit}&cursor={}", page.next_cursor().unwrap_or_default());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_shown_with_all_its_fields() {
    let system = System::unlimited().await;
    let conversation = system.conversation("alice", &["bob", "carol"]).await;
    let first = system.message("bob", &conversation, "look?").await;
    let attachment = json!({"url": "https://files.test/a.png", "name": "a.png", "mimeType": "image/png", "size": 7});
    let sent = system
        .post(
            "alice",
            json!({"action": "message", "conversationId": conversation, "content": "look @bob", "messageType": "IMAGE",
                   "attachments": [attachment], "replyToId": first, "mentions": ["carol"]}),
        )
        .await;
    let (id, created) = (sent.id(), sent.data()["createdAt"].clone());
    assert_eq!(sent.header("location"), format!("/api/messages/{id}"));
    let path = format!("/api/messages/{id}");
    let mut expected = json!({
        "id": id, "conversationId": conversation, "seq": 2, "position": sent.position(), "senderId": "alice",
        "content": "look @bob", "messageType": "IMAGE", "attachments": [attachment], "mentions": ["carol", "bob"],
        "replyToId": first, "reactions": [], "createdAt": created, "editedAt": null, "deletedAt": null,
    });
    let check = async |done: &crate::harness::http::Response, expected: &Value| {
        assert!([200, 201].contains(&done.status), "{done:?}");
        let one = system.get_after(done, "bob", &path).await;
        assert_eq!(one.body, json!({"data": expected}));
        let page = system.get_after(done, "carol", &format!("/api/messages?conversationId={conversation}")).await;
        assert_eq!(&page.data()[0], expected);
        let list = system.get_after(done, "alice", "/api/messages").await;
        assert_eq!(&list.data()[0]["lastMessage"], expected);
    };
    check(&sent, &expected).await;

    let edited = system.ask("alice", "PATCH", &path).json(&json!({"content": "never mind"})).send().await;
    expected["content"] = json!("never mind");
    expected["mentions"] = json!([]);
    expected["editedAt"] = edited.data()["editedAt"].clone();
    expected["position"] = json!(edited.position());
    check(&edited, &expected).await;

    let react = |user, emoji, label: Value| {
        system.post(user, json!({"action": "reaction", "messageId": id, "emoji": emoji, "reaction": label}))
    };
    react("bob", "👍", Value::Null).await;
    react("alice", "🎉", json!("party")).await;
    react("carol", "👍", json!("agree")).await;
    // One without a label keeps it; one's own again adds nothing.
    react("alice", "👍", Value::Null).await;
    let reacted = react("bob", "👍", json!("yes")).await;
    expected["reactions"] = json!([
        {"emoji": "👍", "label": "yes", "count": 3, "userIds": ["bob", "carol", "alice"]},
        {"emoji": "🎉", "label": "party", "count": 1, "userIds": ["alice"]},
    ]);
    expected["position"] = json!(reacted.position());
    check(&reacted, &expected).await;

    // What nobody gives any more isn't shown, and comes back in its old place.
    react("bob", "🎉", json!("remove")).await;
    let removed = react("alice", "🎉", json!("remove")).await;
    expected["reactions"].as_array_mut().unwrap().pop();
    expected["position"] = json!(removed.position());
    check(&removed, &expected).await;

    let deleted = system.ask("alice", "DELETE", &path).send().await;
    for field in ["attachments", "mentions", "reactions"] {
        expected[field] = json!([]);
    }
    expected["content"] = Value::Null;
    expected["deletedAt"] = deleted.data()["deletedAt"].clone();
    expected["position"] = json!(deleted.position());
    check(&deleted, &expected).await;
    // The first deletion stays.
    let again = system.ask("alice", "DELETE", &path).send().await;
    check(&again, &expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reaction_shows_its_first_twenty_users_and_counts_all() {
    let system = System::unlimited().await;
    let users: Vec<String> = (0..25).map(|number| format!("user-{number}")).collect();
    let conversation = system.conversation("alice", &users.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let message = system.message("alice", &conversation, "hi").await;
    let mut last = None;
    for user in users.iter().rev() {
        last = Some(system.post(user, json!({"action": "reaction", "messageId": message, "emoji": "👍"})).await);
    }
    let seen = system.get_after(&last.unwrap(), "alice", &format!("/api/messages/{message}")).await;
    let reaction = &seen.data()["reactions"][0];
    let first: Vec<&String> = users.iter().rev().take(20).collect();
    assert_eq!(*reaction, json!({"emoji": "👍", "label": null, "count": 25, "userIds": first}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_shows_its_participants_in_pages() {
    let system = System::unlimited().await;
    let users: Vec<String> = (0..120).map(|number| format!("user-{number}")).collect();
    let body = json!({"action": "conversation", "participantIds": users, "title": "All of us"});
    let made = system.post("alice", body).await;
    let id = made.id();
    let path = format!("/api/conversations/{id}");
    let first = system.get_after(&made, "user-7", &path).await;
    let at = first.data()["createdAt"].clone();
    let mut everyone = vec!["alice".to_owned()];
    everyone.extend(users);
    let unread = |user: &String| json!({"userId": user, "lastReadSeq": 0, "lastReadAt": null});
    assert_eq!(
        *first.data(),
        json!({
            "id": id, "type": "GROUP", "title": "All of us", "participantCount": 121,
            "participants": everyone[..50].iter().map(unread).collect::<Vec<_>>(), "lastMessage": null,
            "unreadCount": 0, "createdAt": at, "updatedAt": at, "position": made.position(),
        })
    );
    for limit in [50, 100, 40, 1] {
        let (mut names, mut next) = (Vec::new(), format!("{path}?limit={limit}"));
        loop {
            let page = system.get("user-7", &next).await;
            assert_eq!(page.body["page"]["limit"], limit);
            let some = page.data()["participants"].as_array().unwrap();
            assert!((1..=limit).contains(&some.len()));
            names.extend(some.iter().map(|it| it["userId"].as_str().unwrap().to_owned()));
            let Some(cursor) = page.next_cursor() else { break };
            next = format!("{path}?limit={limit}&cursor={cursor}");
            // One by one is the same a hundred times.
            if limit == 1 && names.len() > 3 {
                return;
            }
        }
        assert_eq!(names, everyone);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_is_not_in_is_not_there() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let sent = system.post("alice", json!({"conversationId": conversation, "content": "a secret"})).await;
    for (there, field) in [
        (format!("/api/messages?conversationId={conversation}"), "conversationId"),
        (format!("/api/messages/{}", sent.id()), "messageId"),
        (format!("/api/conversations/{conversation}"), "id"),
    ] {
        let nowhere = there.replace(&conversation, &unknown_id()).replace(&sent.id(), &unknown_id());
        // Once more when what others may see of it is cached.
        for _ in 0..2 {
            let mut answers = Vec::new();
            for (path, user) in [(&there, "mallory"), (&nowhere, "mallory"), (&nowhere, "alice")] {
                let mut answer = system.get_after(&sent, user, path).await;
                answer.assert_problem(404, "not_found");
                assert_eq!(answer.field_errors(), [(field, "not_found")]);
                answer.body["requestId"].take();
                answers.push(answer.body);
            }
            assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
            assert_eq!(system.get_after(&sent, "bob", &there).await.status, 200);
        }
    }
    assert_eq!(system.get_after(&sent, "mallory", "/api/messages").await.data(), &json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_parameter_is_named() {
    let system = System::start().await;
    let (one, other) = (system.conversation("alice", &["bob"]).await, system.conversation("alice", &["carol"]).await);
    for _ in 0..2 {
        system.message("alice", &one, "hi").await;
    }
    let sent = system.post("alice", json!({"conversationId": other, "content": "hi"})).await;
    system.wait_until_caught_up().await;
    let (messages, list) = (format!("/api/messages?conversationId={one}&limit=1"), "/api/messages?limit=1");
    let participants = format!("/api/conversations/{one}?limit=1");
    let mut cursors = Vec::new();
    for path in [&messages, list, &participants] {
        let page = system.get_after(&sent, "alice", path).await;
        cursors.push(page.next_cursor().unwrap_or_else(|| panic!("one page: {page:?}")).to_owned());
    }
    let [of_messages, of_list, of_participants] = &cursors[..] else { unreachable!() };
    let message = format!("/api/messages/{}", sent.id());
    let cases = [
        ("alice", format!("{list}&page=2"), "page", "unknown_parameter"),
        ("alice", "/api/messages?limit=1&limit=1".to_owned(), "limit", "repeated_parameter"),
        ("alice", "/api/messages?limit=0".to_owned(), "limit", "invalid_limit"),
        ("alice", "/api/messages?limit=101".to_owned(), "limit", "invalid_limit"),
        ("alice", "/api/messages?limit=abc".to_owned(), "limit", "invalid_limit"),
        ("alice", "/api/messages?limit=".to_owned(), "limit", "invalid_limit"),
        ("alice", "/api/messages?limit=99999999999999999999".to_owned(), "limit", "invalid_limit"),
        ("alice", "/api/messages?conversationId=nonsense".to_owned(), "conversationId", "invalid_id"),
        ("alice", "/api/messages?conversationId=".to_owned(), "conversationId", "invalid_id"),
        ("alice", "/api/messages?cursor=".to_owned(), "cursor", "invalid_cursor"),
        ("alice", "/api/messages?cursor=nonsense".to_owned(), "cursor", "invalid_cursor"),
        ("alice", format!("{list}&cursor={}", &of_list[1..]), "cursor", "invalid_cursor"),
        ("alice", format!("{list}&cursor={of_messages}"), "cursor", "invalid_cursor"),
        ("bob", format!("{list}&cursor={of_list}"), "cursor", "invalid_cursor"),
        ("alice", format!("{messages}&cursor={of_list}"), "cursor", "invalid_cursor"),
        ("alice", format!("{messages}&cursor={of_participants}"), "cursor", "invalid_cursor"),
        ("alice", format!("{}&cursor={of_messages}", messages.replace(&one, &other)), "cursor", "invalid_cursor"),
        ("alice", "/api/messages/nonsense".to_owned(), "messageId", "invalid_id"),
        ("alice", "/api/messages/%ff".to_owned(), "messageId", "invalid_id"),
        ("alice", format!("{message}?limit=1"), "limit", "unknown_parameter"),
        ("alice", "/api/conversations/nonsense".to_owned(), "id", "invalid_id"),
        ("alice", format!("/api/conversations/{one}?limit=101"), "limit", "invalid_limit"),
        ("alice", format!("{participants}&conversationId={one}"), "conversationId", "unknown_parameter"),
        (
            "alice",
            format!("{}&cursor={of_participants}", participants.replace(&one, &other)),
            "cursor",
            "invalid_cursor",
        ),
    ];
    for (user, path, field, code) in cases {
        let answer = system.get(user, &path).await;
        answer.assert_problem(400, code);
        assert_eq!(answer.field_errors(), [(field, code)], "{path}");
    }
    // Where each cursor belongs, it leads on.
    for (path, cursor) in [(&messages, of_messages), (&list.to_owned(), of_list), (&participants, of_participants)] {
        let answer = system.get("alice", &format!("{path}&cursor={cursor}")).await;
        assert_eq!((answer.status, answer.next_cursor()), (200, None), "{answer:?}");
    }
}
