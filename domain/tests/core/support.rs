//! Short constructors of test values, and strategies for random events.

use domain::event::{Attachment, ConversationKind, EventData, MessageSent, MessageType, Request};
use domain::{ConversationId, Event, EventId, MessageId, Timestamp, UserId};
use proptest::prelude::*;
use uuid::Uuid;

/// Parses a text id, UUID or time.
pub(crate) fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

pub(crate) fn user(name: &str) -> UserId {
    id(name)
}

pub(crate) fn users(names: &[&str]) -> Vec<UserId> {
    names.iter().map(|name| user(name)).collect()
}

pub(crate) fn conversation(number: u128) -> ConversationId {
    ConversationId(Uuid::from_u128(0xc000 + number))
}

pub(crate) fn message(number: u128) -> MessageId {
    MessageId(Uuid::from_u128(0x3e00 + number))
}

/// The time this many seconds after the start of the year 2026.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_767_225_600_000 + seconds * 1_000).unwrap()
}

pub(crate) fn sent(number: u128, content: &str) -> MessageSent {
    MessageSent {
        message_id: message(number),
        content: content.to_owned(),
        message_type: MessageType::Text,
        attachments: Vec::new(),
        mentions: Vec::new(),
        reply_to_id: None,
    }
}

pub(crate) fn picture() -> Attachment {
    Attachment {
        url: "https://files.example/1".to_owned(),
        name: "one.png".to_owned(),
        mime_type: "image/png".to_owned(),
        size: 7,
    }
}

/// Any event that can be on the log, valid or not.
pub(crate) fn any_event() -> impl Strategy<Value = Event> {
    let request = proptest::option::of(("[!-~]{1,128}", "[0-9a-f]{64}"));
    (any_uuid(), any_time(), any_uuid(), any_user(), request, any_data()).prop_map(
        |(event_id, occurred_at, conversation_id, actor_id, request, data)| Event {
            event_id: EventId(event_id),
            occurred_at,
            conversation_id: ConversationId(conversation_id),
            actor_id,
            request: request.map(|(key, hash)| Request { key: id(&key), hash }),
            data,
        },
    )
}

fn any_uuid() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

/// Mostly one of a few ids, so that events concern the same messages.
fn any_message_id() -> impl Strategy<Value = MessageId> {
    prop_oneof![3 => (0..4_u128).prop_map(message), 1 => any_uuid().prop_map(MessageId)]
}

/// A time in the years 0 to 9999.
fn any_time() -> impl Strategy<Value = Timestamp> {
    (-62_167_219_200_000_i64..=253_402_300_799_999).prop_map(|millis| Timestamp::from_millis(millis).unwrap())
}

fn any_user() -> impl Strategy<Value = UserId> {
    "[\\PC&&\\S]{1,128}".prop_filter_map("not a user id", |text| text.parse().ok())
}

fn any_users() -> impl Strategy<Value = Vec<UserId>> {
    proptest::collection::vec(any_user(), 0..4)
}

/// A text with any characters except U+0000.
fn any_text() -> impl Strategy<Value = String> {
    any::<String>().prop_map(|text| text.replace('\0', ""))
}

fn any_attachment() -> impl Strategy<Value = Attachment> {
    (any_text(), any_text(), any_text(), any::<u64>()).prop_map(|(url, name, mime_type, size)| Attachment {
        url,
        name,
        mime_type,
        size,
    })
}

fn any_data() -> impl Strategy<Value = EventData> {
    prop_oneof![
        (any_kind(), proptest::option::of(any_text()), any_users()).prop_map(|(kind, title, participant_ids)| {
            EventData::ConversationCreated { kind, title, participant_ids }
        }),
        any_sent().prop_map(EventData::MessageSent),
        (any_message_id(), any_text(), any_users())
            .prop_map(|(message_id, content, mentions)| { EventData::MessageEdited { message_id, content, mentions } }),
        any_message_id().prop_map(|message_id| EventData::MessageDeleted { message_id }),
        (any_message_id(), any_text(), proptest::option::of(any_text()))
            .prop_map(|(message_id, emoji, label)| EventData::ReactionAdded { message_id, emoji, label }),
        (any_message_id(), any_text()).prop_map(|(message_id, emoji)| EventData::ReactionRemoved { message_id, emoji }),
        Just(EventData::TypingStart {}),
        Just(EventData::TypingStop {}),
        proptest::option::of(any_message_id()).prop_map(|message_id| EventData::MessagesRead { message_id }),
        (any_message_id(), any_user())
            .prop_map(|(message_id, user_id)| EventData::MentionNotification { message_id, user_id }),
    ]
}

fn any_kind() -> impl Strategy<Value = ConversationKind> {
    prop_oneof![Just(ConversationKind::Direct), Just(ConversationKind::Group)]
}

fn any_sent() -> impl Strategy<Value = MessageSent> {
    let kinds = [MessageType::Text, MessageType::Image, MessageType::Video, MessageType::Audio, MessageType::File];
    let attachments = proptest::collection::vec(any_attachment(), 0..3);
    let reply = proptest::option::of(any_message_id());
    (any_message_id(), any_text(), proptest::sample::select(kinds.to_vec()), attachments, any_users(), reply).prop_map(
        |(message_id, content, message_type, attachments, mentions, reply_to_id)| MessageSent {
            message_id,
            content,
            message_type,
            attachments,
            mentions,
            reply_to_id,
        },
    )
}
