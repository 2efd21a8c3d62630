//! Golden files hold the format of every type and version of events, because an event on the log must stay readable
//! permanently. Decoding accepts all of them. Encoding writes the canonical ones, byte for byte; a `*.tolerated.json`
//! is another spelling of the same event as a canonical one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use domain::event::{Attachment, ConversationKind, EventData, MessageSent, MessageType, Request};
use domain::{Event, EventId, MessageId, envelope};

use crate::support::{id, user, users};

const GROUP: &str = "5be73996-f1de-5d12-a535-034a2d576ac2";
const DIRECT: &str = "dca49851-ef34-561f-a82f-9fb0f941e29f";
const FRESH_EVENT: &str = "0193a5c0-0000-7000-8000-000000000002";
const THUMBS_UP: &str = "👍🏽";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/v1")
}

/// The content of every golden file, by its name without `.json`.
pub(crate) fn files() -> BTreeMap<String, Vec<u8>> {
    let paths = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    paths
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().strip_suffix(".json").unwrap().to_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect()
}

/// The event of a command without an idempotency key.
fn without_key(conversation: &str, data: EventData) -> Event {
    Event {
        event_id: id(FRESH_EVENT),
        occurred_at: id("2026-11-23T09:00:00.123Z"),
        conversation_id: id(conversation),
        actor_id: user("alice"),
        request: None,
        data,
    }
}

/// The event in the group of a command with an idempotency key.
fn with_key(event_id: &str, actor: &str, key: &str, hash: &str, data: EventData) -> Event {
    let request = Some(Request { key: id(key), hash: hash.to_owned() });
    Event { event_id: id(event_id), actor_id: user(actor), request, ..without_key(GROUP, data) }
}

fn first_message() -> MessageId {
    id("0193a5c0-0000-7000-8000-000000000001")
}

fn keyed_message() -> MessageId {
    id("3f1177e1-166e-5ff0-b27e-4082c69de73b")
}

/// The event of every canonical file, by the file's name.
fn canonical() -> BTreeMap<&'static str, Event> {
    new_conversations_and_messages().into_iter().chain(changes_to_messages()).collect()
}

fn new_conversations_and_messages() -> Vec<(&'static str, Event)> {
    let team = EventData::ConversationCreated {
        kind: ConversationKind::Group,
        title: Some("Team 🚀".to_owned()),
        participant_ids: users(&["alice", "bob", "zoë"]),
    };
    let direct = EventData::ConversationCreated {
        kind: ConversationKind::Direct,
        title: None,
        participant_ids: users(&["alice", "zoë"]),
    };
    let full = EventData::MessageSent(MessageSent {
        message_id: keyed_message(),
        content: "hi @bob and @zoë 👋🏽\nline \"two\" \\ \u{7f}\u{1}".to_owned(),
        message_type: MessageType::Image,
        attachments: vec![Attachment {
            url: "https://files.example/1?a=b&c=%22".to_owned(),
            name: "Übersicht \"1\".png".to_owned(),
            mime_type: "image/png".to_owned(),
            size: 9_007_199_254_740_991,
        }],
        mentions: users(&["bob", "zoë"]),
        reply_to_id: Some(id("0193a5c0-7d2e-7c3a-9b1f-2f6d1c0e8a47")),
    });
    let minimal = EventData::MessageSent(MessageSent {
        message_id: first_message(),
        content: "hello".to_owned(),
        message_type: MessageType::Text,
        attachments: Vec::new(),
        mentions: Vec::new(),
        reply_to_id: None,
    });
    let mention = EventData::MentionNotification { message_id: keyed_message(), user_id: user("bob") };
    let notification: EventId = id("7ae8af00-ff7a-5b6b-8315-cb636b257f8f");
    vec![
        (
            "conversation_created.full",
            with_key(
                "3c8ec4a5-a2e4-5cdc-a54b-1a3dc70249f6",
                "alice",
                "key-1",
                "7b3a4fa9cc64ed953818c52cb375b826b8f468e1d91e6ef447e7eb41e3fb0669",
                team,
            ),
        ),
        ("conversation_created.minimal", without_key(DIRECT, direct)),
        (
            "message_sent.full",
            with_key(
                "126b5004-a27e-5834-922e-4619772900e3",
                "alice",
                "key-2",
                "10b8b797159b3976a663aea029145d4fa26e34c337d154ec1b637c4c11a04be0",
                full,
            ),
        ),
        ("message_sent.minimal", without_key(GROUP, minimal)),
        ("mention_notification.minimal", Event { event_id: notification, ..without_key(GROUP, mention) }),
        ("typing_start.minimal", without_key(GROUP, EventData::TypingStart {})),
        ("typing_stop.minimal", without_key(GROUP, EventData::TypingStop {})),
    ]
}

fn changes_to_messages() -> Vec<(&'static str, Event)> {
    let first = first_message();
    let message_id = keyed_message();
    let edited = |message_id, content: &str, mentions: &[&str]| EventData::MessageEdited {
        message_id,
        content: content.to_owned(),
        mentions: users(mentions),
    };
    let added = |message_id, label: Option<&str>| EventData::ReactionAdded {
        message_id,
        emoji: THUMBS_UP.to_owned(),
        label: label.map(str::to_owned),
    };
    let removed = |message_id| EventData::ReactionRemoved { message_id, emoji: THUMBS_UP.to_owned() };
    let full = [
        (
            "message_edited.full",
            ["c03e1c48-b717-5773-a1f0-98b2bdcee71b", "alice", "key-3"],
            "2288d2fc56775688345f925899ae43e4f4bb68511942af2589cb760ec1ad7a6b",
            edited(message_id, "bye @bob", &["bob"]),
        ),
        (
            "message_deleted.full",
            ["b12541b3-a933-5571-a786-3df766642186", "alice", "key-4"],
            "ffc745ccc9eb8c7cf2d3da42de57ddf3a5ce1f55a7c766f6c9d6abf5a5770689",
            EventData::MessageDeleted { message_id },
        ),
        (
            "reaction_added.full",
            ["c5b9800a-189f-50db-9d97-6402a8cae3a5", "zoë", "key-5"],
            "a7651d79c4caa309322af23a57335774526fa798830b3722b39c990dd6ad0ca9",
            added(message_id, Some("agreed")),
        ),
        (
            "reaction_removed.full",
            ["f76cc3ab-e050-5459-8f6d-2aaaa23185fb", "zoë", "key-6"],
            "475ca6e6c8621c65c15a56c8bd4bbc79a76a5171583775efd72fbac5a177a588",
            removed(message_id),
        ),
        (
            "messages_read.full",
            ["1380f352-30e9-50f3-a725-c9b12b633191", "zoë", "key-7"],
            "6690791280ee968915801bd5a1a257cbd0a50728f185e704b16c059680df8e67",
            EventData::MessagesRead { message_id: Some(message_id) },
        ),
    ];
    let full =
        full.map(|(name, [event_id, actor, key], hash, data)| (name, with_key(event_id, actor, key, hash, data)));
    let minimal = [
        ("message_edited.minimal", edited(first, "bye", &[])),
        ("message_deleted.minimal", EventData::MessageDeleted { message_id: first }),
        ("reaction_added.minimal", added(first, None)),
        ("reaction_removed.minimal", removed(first)),
        ("messages_read.minimal", EventData::MessagesRead { message_id: None }),
    ];
    full.into_iter().chain(minimal.map(|(name, data)| (name, without_key(GROUP, data)))).collect()
}

/// The event of a tolerated file: that of a canonical file, with an empty content if the tolerated file has none.
fn tolerated(name: &str) -> Event {
    let event_type = name.split('.').next().unwrap();
    let form = if name.contains(".full.") { "full" } else { "minimal" };
    let mut event = canonical()[format!("{event_type}.{form}").as_str()].clone();
    if let EventData::MessageSent(sent) = &mut event.data
        && form == "minimal"
    {
        sent.content.clear();
    }
    event
}

#[test]
fn every_golden_file_decodes_to_its_event() {
    let canonical = canonical();
    for (name, bytes) in files() {
        let expected = canonical.get(name.as_str()).cloned().unwrap_or_else(|| tolerated(&name));
        let decoded = envelope::decode(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(decoded, expected, "{name}");
    }
}

#[test]
fn every_canonical_event_encodes_to_its_golden_file() {
    for (name, event) in canonical() {
        let path = folder().join(format!("{name}.json"));
        let encoded = envelope::encode(&event);
        if !path.exists() && std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &encoded).unwrap();
        }
        let golden = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{name}: {error}; UPDATE_GOLDEN=1 cargo test -p domain writes a new file"));
        assert_eq!(
            String::from_utf8(encoded).unwrap(),
            golden,
            "{name}: the format of a published version must never change"
        );
    }
}

#[test]
fn every_type_has_a_canonical_and_a_tolerated_golden_file() {
    let names = files();
    for event in canonical().values() {
        let event_type = event.data.type_name().to_lowercase();
        for form in ["minimal", "tolerated"] {
            assert!(names.contains_key(&format!("{event_type}.{form}")), "{event_type}.{form}");
        }
    }
    let types: std::collections::BTreeSet<&str> = canonical().values().map(|event| event.data.type_name()).collect();
    assert_eq!(types.len(), 10);
}

#[test]
fn every_type_is_named_and_has_a_golden_file() {
    let types = files().into_values().map(|value| envelope::decode(&value).unwrap().data.type_name());
    assert_eq!(types.collect::<BTreeSet<_>>(), BTreeSet::from(EventData::TYPE_NAMES));
}
