//! Derived ids and request hashes, compared with literals that another program computed. They must never change: a
//! retry, however late, has to arrive at the same ones.

use domain::command::SendMessage;
use domain::decide::notifications;
use domain::event::{Attachment, ConversationKind, MessageType};
use domain::ids::NAMESPACE;
use domain::{Command, ConversationId, EventId, MessageId, envelope};
use serde_json::{Value, json};

use crate::golden;
use crate::support::{id, user, users};

const GROUP: &str = "5be73996-f1de-5d12-a535-034a2d576ac2";
const MESSAGE: &str = "3f1177e1-166e-5ff0-b27e-4082c69de73b";

#[test]
fn the_namespace_is_the_published_one() {
    assert_eq!(NAMESPACE.to_string(), "8f1d6c5e-3b0a-4e5c-9d27-5a4c7e21b6f0");
}

#[test]
fn two_users_have_one_direct_conversation_whoever_creates_it() {
    let expected = id::<ConversationId>("dca49851-ef34-561f-a82f-9fb0f941e29f");
    assert_eq!(ConversationId::direct(&user("alice"), &user("zoë")), expected);
    assert_eq!(ConversationId::direct(&user("zoë"), &user("alice")), expected);
}

#[test]
fn ids_derive_from_compact_json_with_the_fewest_escapes() {
    let expected = id::<ConversationId>("856cb51a-4374-5e03-94db-93ce920fc9de");
    assert_eq!(ConversationId::direct(&user("é@😀"), &user("a\"b\\c")), expected);
}

#[test]
fn ids_derive_from_the_key_and_its_scope() {
    let alice = user("alice");
    let group = id::<ConversationId>(GROUP);
    assert_eq!(ConversationId::for_key(&alice, &id("key-1")), group);
    assert_eq!(MessageId::for_key(group, &alice, &id("key-2")), id(MESSAGE));
    let event_id = EventId::for_key(group, &alice, &id("key-2"), "MESSAGE_SENT");
    assert_eq!(event_id, id("126b5004-a27e-5834-922e-4619772900e3"));
    assert_eq!(EventId::for_mention(event_id, &user("zoë")), id("eb199bd9-8b9b-5894-bb33-c805a74bc047"));
}

#[test]
fn the_golden_events_have_derived_ids() {
    for (name, bytes) in golden::files() {
        let event = envelope::decode(&bytes).unwrap();
        if let Some(request) = &event.request {
            let type_name = event.data.type_name();
            let derived = EventId::for_key(event.conversation_id, &event.actor_id, &request.key, type_name);
            assert_eq!(event.event_id, derived, "{name}");
        }
    }
    let golden = |name| envelope::decode(&golden::files()[name]).unwrap();
    let notifications = notifications(&golden("message_sent.full"));
    assert_eq!(notifications.len(), 2);
    assert_eq!(notifications[0], golden("mention_notification.minimal"));
}

/// A command of every kind, with the hash of its canonical JSON.
fn commands_and_hashes() -> Vec<(Command, &'static str)> {
    let conversation_id = id(GROUP);
    let message_id = id(MESSAGE);
    let emoji = "👍🏽".to_owned();
    let label = Some("agreed".to_owned());
    let group = Command::Conversation {
        kind: ConversationKind::Group,
        title: Some("Team 🚀".to_owned()),
        participant_ids: users(&["alice", "bob", "zoë"]),
    };
    let direct = Command::Conversation {
        kind: ConversationKind::Direct,
        title: None,
        participant_ids: users(&["alice", "bob"]),
    };
    let message = Command::Message(SendMessage {
        conversation_id,
        content: "hi @bob and @zoë 👋🏽\nline \"two\" \\ \u{7f}\u{1}".to_owned(),
        message_type: MessageType::Image,
        attachments: vec![Attachment {
            url: "https://files.example/1?a=b&c=%22".to_owned(),
            name: "Übersicht \"1\".png".to_owned(),
            mime_type: "image/png".to_owned(),
            size: 9_007_199_254_740_991,
        }],
        reply_to_id: Some(id("0193a5c0-7d2e-7c3a-9b1f-2f6d1c0e8a47")),
        mentions: users(&["bob"]),
    });
    let mark_read = |message_id| Command::MarkRead { conversation_id, message_id };
    vec![
        (group, "7b3a4fa9cc64ed953818c52cb375b826b8f468e1d91e6ef447e7eb41e3fb0669"),
        (direct, "23a08a6e05d45341bd1a8cb8f29f4222c42acf65430fa0c7586370fbc408147d"),
        (message, "10b8b797159b3976a663aea029145d4fa26e34c337d154ec1b637c4c11a04be0"),
        (
            Command::Edit { message_id, content: "bye @bob".to_owned() },
            "2288d2fc56775688345f925899ae43e4f4bb68511942af2589cb760ec1ad7a6b",
        ),
        (Command::Delete { message_id }, "ffc745ccc9eb8c7cf2d3da42de57ddf3a5ce1f55a7c766f6c9d6abf5a5770689"),
        (
            Command::Reaction { message_id, emoji: emoji.clone(), label },
            "a7651d79c4caa309322af23a57335774526fa798830b3722b39c990dd6ad0ca9",
        ),
        (
            Command::RemoveReaction { message_id, emoji },
            "475ca6e6c8621c65c15a56c8bd4bbc79a76a5171583775efd72fbac5a177a588",
        ),
        (Command::TypingStart { conversation_id }, "29aa7c1ab05486a04ac7621e9fbb064f30e73dc63832664a908763d646745b17"),
        (Command::TypingStop { conversation_id }, "005ccff66f10bdb95d947cd0f24b790fb31af054c5c88000399c007978867855"),
        (mark_read(Some(message_id)), "6690791280ee968915801bd5a1a257cbd0a50728f185e704b16c059680df8e67"),
        (mark_read(None), "729e8896fdbbfe1d0659cb0d363b25e70e130e1d73f5fa5313b46bf425be3155"),
    ]
}

#[test]
fn the_hash_of_every_kind_of_command_is_stable() {
    for (command, hash) in commands_and_hashes() {
        assert_eq!(command.hash(), hash, "{command:?}");
    }
}

fn hash_of(body: Value) -> String {
    let Value::Object(body) = body else { panic!("not an object") };
    Command::from_post(&user("alice"), body).unwrap().hash()
}

#[test]
fn a_message_with_all_defaults_has_the_hash_of_one_without() {
    let short = json!({"conversationId": GROUP, "content": "hello"});
    let explicit = json!({"action": "message", "conversationId": GROUP.to_uppercase(), "content": "hello",
        "messageType": "TEXT", "attachments": [], "mentions": [], "replyToId": null});
    assert_eq!(hash_of(short.clone()), "0531db42944b532b6a730d24b304ea24b45170200042fe43e1ba3b6722f87dd6");
    assert_eq!(hash_of(short), hash_of(explicit));
}

#[test]
fn a_conversation_with_all_defaults_has_the_hash_of_one_without() {
    let short = json!({"action": "conversation", "participantIds": ["bob"]});
    let explicit = json!({"action": "conversation", "type": "DIRECT", "title": null,
        "participantIds": ["alice", "bob", "bob"]});
    assert_eq!(hash_of(short), hash_of(explicit));
}

#[test]
fn a_reaction_with_all_defaults_has_the_hash_of_one_without() {
    let short = json!({"action": "reaction", "messageId": MESSAGE, "emoji": "👍🏽"});
    let explicit = json!({"action": "reaction", "messageId": MESSAGE, "emoji": "👍🏽", "reaction": "add"});
    assert_eq!(hash_of(short.clone()), "c25b47911e4ab50f7e9e2551dd5360323d3fda173ff85e57fbba7b568560028c");
    assert_eq!(hash_of(short), hash_of(explicit));
}

#[test]
fn both_ways_to_remove_a_reaction_have_the_same_hash() {
    let by_label = json!({"action": "reaction", "messageId": MESSAGE, "emoji": "👍🏽", "reaction": "remove"});
    let by_action = json!({"action": "remove_reaction", "messageId": MESSAGE, "emoji": "👍🏽"});
    assert_eq!(hash_of(by_label), hash_of(by_action));
}

#[test]
fn requests_that_differ_in_a_field_have_different_hashes() {
    let base = json!({"conversationId": GROUP, "content": "hello"});
    for (field, value) in [
        ("content", json!("hello ")),
        ("messageType", json!("IMAGE")),
        ("mentions", json!(["bob"])),
        ("replyToId", json!(MESSAGE)),
        ("conversationId", json!(MESSAGE)),
        ("attachments", json!([{"url": "https://a.example", "name": "a", "mimeType": "a/b", "size": 1}])),
    ] {
        let mut other = base.clone();
        other[field] = value;
        assert_ne!(hash_of(base.clone()), hash_of(other), "{field}");
    }
}
