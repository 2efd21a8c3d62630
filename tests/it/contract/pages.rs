//! Reading messages and conversations: single ones, pages with cursors, and invalid parameters.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::http::Response;
use crate::harness::{System, unknown_id};

fn seqs(items: &[Value]) -> Vec<i64> {
    items.iter().map(|item| item["seq"].as_i64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_message_is_skipped_or_repeated_while_other_users_write() {
    let system = Arc::new(System::unlimited().await);
    let conversation = system.conversation("alice", &["bob"]).await;
    let (writer, write_to) = (system.clone(), conversation.clone());
    let writing = tokio::spawn(async move {
        loop {
            writer.message("bob", &write_to, "hi").await;
        }
    });
    let path = format!("/api/messages?conversationId={conversation}");
    let mut lengths = Vec::new();
    for limit in [1, 2, 7, 20, 100, 3] {
        let sent = system.send("alice", &conversation, "hi").await;
        system.get_after(&sent, "alice", &path).await;
        let messages = system.all_pages("alice", &format!("{path}&limit={limit}")).await;
        let length = i64::try_from(messages.len()).unwrap();
        assert_eq!(seqs(&messages), (1..=length).rev().collect::<Vec<_>>());
        lengths.push(length);
    }
    assert!(lengths.is_sorted_by(|one, next| one < next), "bob wrote nothing while alice read: {lengths:?}");
    writing.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_has_as_many_items_as_the_limit_and_only_the_last_page_has_no_cursor() {
    let system = System::unlimited().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let mut last = None;
    for number in 1..=41 {
        last = Some(system.send("alice", &conversation, &number.to_string()).await);
    }
    let path = format!("/api/messages?conversationId={conversation}");
    let first = system.get_after(&last.unwrap(), "bob", &path).await;
    assert_eq!(seqs(first.data().as_array().unwrap()), (22..=41).rev().collect::<Vec<_>>());
    assert_eq!(first.data()[0]["content"], "41");
    assert_eq!(first.body["page"]["limit"], 20);

    // A page that ends exactly at the list's end is the last one, as with the limit 41.
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

/// A message of alice's in a group with bob and carol, and how every view must show it.
struct ShownMessage {
    system: System,
    conversation: String,
    id: String,
    expected: Value,
}

impl ShownMessage {
    /// Sends a message in which every field has a value.
    async fn send() -> Self {
        let system = System::unlimited().await;
        let conversation = system.conversation("alice", &["bob", "carol"]).await;
        let first = system.message("bob", &conversation, "look?").await;
        let file = json!({"url": "https://files.test/a.png", "name": "a.png", "mimeType": "image/png", "size": 7});
        let body = json!({"action": "message", "conversationId": conversation, "content": "look @bob",
                          "messageType": "IMAGE", "attachments": [file], "replyToId": first, "mentions": ["carol"]});
        let sent = system.post("alice", body).await;
        let id = sent.id();
        assert_eq!(sent.header("location"), format!("/api/messages/{id}"));
        let expected = json!({
            "id": id, "conversationId": conversation, "seq": 2, "position": sent.position(), "senderId": "alice",
            "content": "look @bob", "messageType": "IMAGE", "attachments": [file], "mentions": ["carol", "bob"],
            "replyToId": first, "reactions": [], "createdAt": sent.data()["createdAt"], "editedAt": null,
            "deletedAt": null,
        });
        let message = Self { system, conversation, id, expected };
        message.assert_shown_after(&sent).await;
        message
    }

    /// Sends a reaction with a label, or without one.
    async fn react(&self, user: &str, emoji: &str, label: Option<&str>) -> Response {
        let body = json!({"action": "reaction", "messageId": self.id, "emoji": emoji, "reaction": label});
        self.system.post(user, body).await
    }

    /// Asserts that after a command the message itself, its page and the list of conversations show what is expected.
    async fn assert_shown_after(&self, done: &Response) {
        assert!([200, 201].contains(&done.status), "{done:?}");
        let single = self.system.get_after(done, "bob", &format!("/api/messages/{}", self.id)).await;
        assert_eq!(single.body, json!({"data": self.expected}));
        let path = format!("/api/messages?conversationId={}", self.conversation);
        let page = self.system.get_after(done, "carol", &path).await;
        assert_eq!(page.data()[0], self.expected);
        let list = self.system.get_after(done, "alice", "/api/messages").await;
        assert_eq!(list.data()[0]["lastMessage"], self.expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_view_shows_an_edited_message() {
    let mut message = ShownMessage::send().await;
    let edited = message.system.edit("alice", &message.id, "never mind").await;
    message.expected["content"] = json!("never mind");
    message.expected["mentions"] = json!([]);
    message.expected["editedAt"] = edited.data()["editedAt"].clone();
    message.expected["position"] = json!(edited.position());
    message.assert_shown_after(&edited).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_view_shows_the_reactions_to_a_message() {
    let mut message = ShownMessage::send().await;
    message.react("bob", "👍", None).await;
    message.react("alice", "🎉", Some("party")).await;
    message.react("carol", "👍", Some("agree")).await;
    // A reaction without a label keeps the emoji's label. A user's second reaction with an emoji only changes its
    // label.
    message.react("alice", "👍", None).await;
    let reacted = message.react("bob", "👍", Some("yes")).await;
    message.expected["reactions"] = json!([
        {"emoji": "👍", "label": "yes", "count": 3, "userIds": ["bob", "carol", "alice"]},
        {"emoji": "🎉", "label": "party", "count": 1, "userIds": ["alice"]},
    ]);
    message.expected["position"] = json!(reacted.position());
    message.assert_shown_after(&reacted).await;

    // No view shows an emoji that no user reacts with any more. It keeps its place, in case a user reacts with it
    // again.
    message.react("bob", "🎉", Some("remove")).await;
    let removed = message.react("alice", "🎉", Some("remove")).await;
    message.expected["reactions"].as_array_mut().unwrap().pop();
    message.expected["position"] = json!(removed.position());
    message.assert_shown_after(&removed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_view_shows_a_deleted_message_without_its_content() {
    let mut message = ShownMessage::send().await;
    message.react("bob", "👍", Some("yes")).await;
    let edited = message.system.edit("alice", &message.id, "never mind").await;
    let deleted = message.system.delete("alice", &message.id).await;
    for field in ["attachments", "mentions", "reactions"] {
        message.expected[field] = json!([]);
    }
    message.expected["content"] = Value::Null;
    message.expected["editedAt"] = edited.data()["editedAt"].clone();
    message.expected["deletedAt"] = deleted.data()["deletedAt"].clone();
    message.expected["position"] = json!(deleted.position());
    message.assert_shown_after(&deleted).await;

    let second_deletion = message.system.delete("alice", &message.id).await;
    message.assert_shown_after(&second_deletion).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reaction_names_its_first_twenty_users_and_counts_all() {
    let system = System::unlimited().await;
    let users: Vec<String> = (0..25).map(|number| format!("user-{number}")).collect();
    let conversation = system.conversation("alice", &users.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let message = system.message("alice", &conversation, "hi").await;
    let mut last = None;
    for user in users.iter().rev() {
        last = Some(system.react(user, &message, "👍").await);
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
    let created = system.post("alice", body).await;
    let id = created.id();
    let path = format!("/api/conversations/{id}");
    let mut everyone = vec!["alice".to_owned()];
    everyone.extend(users);

    let first = system.get_after(&created, "user-7", &path).await;
    let created_at = first.data()["createdAt"].clone();
    let has_read_nothing = |user: &String| json!({"userId": user, "lastReadSeq": 0, "lastReadAt": null});
    assert_eq!(
        *first.data(),
        json!({
            "id": id, "type": "GROUP", "title": "All of us", "participantCount": 121,
            "participants": everyone[..50].iter().map(has_read_nothing).collect::<Vec<_>>(), "lastMessage": null,
            "unreadCount": 0, "createdAt": created_at, "updatedAt": created_at, "position": created.position(),
        })
    );

    for limit in [50, 100, 40] {
        assert_eq!(participants(&system, &path, limit, usize::MAX).await, everyone);
    }
    // Four of the 121 pages of one participant each are enough.
    assert_eq!(participants(&system, &path, 1, 4).await, everyone[..4]);
}

/// Reads at most `max_pages` pages of a conversation's participants as `user-7`. Returns the participants' names.
async fn participants(system: &System, path: &str, limit: usize, max_pages: usize) -> Vec<String> {
    let mut names = Vec::new();
    let mut next = format!("{path}?limit={limit}");
    for _ in 0..max_pages {
        let page = system.get("user-7", &next).await;
        assert_eq!(page.body["page"]["limit"], limit);
        let participants = page.data()["participants"].as_array().unwrap();
        assert!((1..=limit).contains(&participants.len()));
        names.extend(participants.iter().map(|it| it["userId"].as_str().unwrap().to_owned()));
        let Some(cursor) = page.next_cursor() else { break };
        next = format!("{path}?limit={limit}&cursor={cursor}");
    }
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_cannot_tell_a_conversation_from_an_unknown_id() {
    struct View {
        path: String,
        field: &'static str,
    }
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let sent = system.send("alice", &conversation, "a secret").await;
    for View { path, field } in [
        View { path: format!("/api/messages?conversationId={conversation}"), field: "conversationId" },
        View { path: format!("/api/messages/{}", sent.id()), field: "messageId" },
        View { path: format!("/api/conversations/{conversation}"), field: "id" },
    ] {
        let unknown_path = path.replace(&conversation, &unknown_id()).replace(&sent.id(), &unknown_id());
        // The second time the view is in the cache, because bob has read it.
        for _ in 0..2 {
            let mut bodies = Vec::new();
            for mut refused in [
                system.get_after(&sent, "mallory", &path).await,
                system.get_after(&sent, "mallory", &unknown_path).await,
                system.get_after(&sent, "alice", &unknown_path).await,
            ] {
                refused.assert_field_refused(404, field, "not_found");
                refused.body["requestId"].take();
                bodies.push(refused.body);
            }
            assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
            assert_eq!(system.get_after(&sent, "bob", &path).await.status, 200);
        }
    }
    assert_eq!(system.get_after(&sent, "mallory", "/api/messages").await.data(), &json!([]));
}

/// A path of alice's with a page of one item, and the cursor of the next page.
struct FirstPage {
    path: String,
    cursor: String,
}

impl FirstPage {
    async fn read(system: &System, after: &Response, path: String) -> Self {
        let page = system.get_after(after, "alice", &path).await;
        let cursor = page.next_cursor().unwrap_or_else(|| panic!("only one page: {page:?}")).to_owned();
        Self { path, cursor }
    }

    fn with_cursor(&self, cursor: &str) -> String {
        format!("{}&cursor={cursor}", self.path)
    }
}

/// Asserts that a query is refused because of one parameter.
async fn assert_query_refused(system: &System, user: &str, path: &str, parameter: &str, code: &str) {
    let refused = system.get(user, path).await;
    refused.assert_problem(400, code);
    assert_eq!(refused.field_errors(), [(parameter, code)], "{path}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_parameter_is_named() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let sent = system.send("alice", &conversation, "hi").await;
    system.wait_until_caught_up().await;
    let message = format!("/api/messages/{}", sent.id());
    let conversation_path = format!("/api/conversations/{conversation}");
    for (path, parameter, code) in [
        ("/api/messages?limit=1&page=2".to_owned(), "page", "unknown_parameter"),
        ("/api/messages?limit=1&limit=1".to_owned(), "limit", "repeated_parameter"),
        ("/api/messages?limit=0".to_owned(), "limit", "invalid_limit"),
        ("/api/messages?limit=101".to_owned(), "limit", "invalid_limit"),
        ("/api/messages?limit=abc".to_owned(), "limit", "invalid_limit"),
        ("/api/messages?limit=".to_owned(), "limit", "invalid_limit"),
        ("/api/messages?limit=99999999999999999999".to_owned(), "limit", "invalid_limit"),
        ("/api/messages?conversationId=nonsense".to_owned(), "conversationId", "invalid_id"),
        ("/api/messages?conversationId=".to_owned(), "conversationId", "invalid_id"),
        ("/api/messages?cursor=".to_owned(), "cursor", "invalid_cursor"),
        ("/api/messages?cursor=nonsense".to_owned(), "cursor", "invalid_cursor"),
        ("/api/messages/nonsense".to_owned(), "messageId", "invalid_id"),
        ("/api/messages/%ff".to_owned(), "messageId", "invalid_id"),
        (format!("{message}?limit=1"), "limit", "unknown_parameter"),
        ("/api/conversations/nonsense".to_owned(), "id", "invalid_id"),
        (format!("{conversation_path}?limit=101"), "limit", "invalid_limit"),
        (format!("{conversation_path}?limit=1&conversationId={conversation}"), "conversationId", "unknown_parameter"),
    ] {
        assert_query_refused(&system, "alice", &path, parameter, code).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_is_valid_only_for_its_list_and_its_user() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let other = system.conversation("alice", &["carol"]).await;
    for _ in 0..2 {
        system.message("alice", &conversation, "hi").await;
    }
    let sent = system.send("alice", &other, "hi").await;
    system.wait_until_caught_up().await;
    let list = FirstPage::read(&system, &sent, "/api/messages?limit=1".to_owned()).await;
    let messages_path = format!("/api/messages?conversationId={conversation}&limit=1");
    let messages = FirstPage::read(&system, &sent, messages_path).await;
    let participants_path = format!("/api/conversations/{conversation}?limit=1");
    let participants = FirstPage::read(&system, &sent, participants_path).await;

    let of_other_conversation = |page: &FirstPage| page.with_cursor(&page.cursor).replace(&conversation, &other);
    for (user, path) in [
        ("alice", list.with_cursor(&list.cursor[1..])),
        ("alice", list.with_cursor(&messages.cursor)),
        ("bob", list.with_cursor(&list.cursor)),
        ("alice", messages.with_cursor(&list.cursor)),
        ("alice", messages.with_cursor(&participants.cursor)),
        ("alice", of_other_conversation(&messages)),
        ("alice", of_other_conversation(&participants)),
    ] {
        assert_query_refused(&system, user, &path, "cursor", "invalid_cursor").await;
    }

    for page in [&list, &messages, &participants] {
        let second = system.get("alice", &page.with_cursor(&page.cursor)).await;
        assert_eq!((second.status, second.next_cursor()), (200, None), "{second:?}");
    }
}
