//! Decisions: each reason to refuse a command, and the event of each command that is accepted.

use domain::command::SendMessage;
use domain::decide::{Context, decide, notifications};
use domain::event::{ConversationKind, EventData, MessageSent, MessageType};
use domain::facts::{ConversationFacts, Facts, MessageFacts};
use domain::{Command, ConversationId, Event, EventId, FieldError, MessageId, Rejection, UserId, limits};
use proptest::prelude::*;
use uuid::Uuid;

use crate::support::{at, conversation, id, message, picture, sent, user, users};

const FRESH_EVENT_ID: Uuid = Uuid::from_u128(1);
const FRESH_ENTITY_ID: Uuid = Uuid::from_u128(2);

/// The context of a command that `actor` issues in second 7.
fn context(actor: &str, key: Option<&str>) -> Context {
    Context {
        actor: user(actor),
        now: at(7),
        key: key.map(id),
        fresh_event_id: FRESH_EVENT_ID,
        fresh_entity_id: FRESH_ENTITY_ID,
    }
}

/// Decides a command without an idempotency key.
fn decide_as(actor: &str, command: &Command, facts: &Facts) -> Result<Event, Rejection> {
    decide(&context(actor, None), command, facts)
}

/// The first conversation, of Alice, Bob and Zoë, and its first message, which Alice wrote.
fn facts() -> Facts {
    Facts {
        conversation: Some(ConversationFacts {
            id: conversation(1),
            is_participant: true,
            participants: users(&["alice", "bob", "zoë"]),
        }),
        message: Some(MessageFacts {
            id: message(1),
            conversation_id: conversation(1),
            sender_id: user("alice"),
            has_attachments: false,
            deleted_at: None,
            emoji: Vec::new(),
        }),
    }
}

fn facts_with_message(change: impl FnOnce(&mut MessageFacts)) -> Facts {
    let mut facts = facts();
    change(facts.message.as_mut().unwrap());
    facts
}

/// The facts after Alice deleted the message in second 5.
fn facts_after_deletion() -> Facts {
    facts_with_message(|message| message.deleted_at = Some(at(5)))
}

/// The facts for a caller who isn't a participant.
fn facts_for_outsider() -> Facts {
    let mut facts = facts();
    facts.conversation.as_mut().unwrap().is_participant = false;
    facts
}

fn send(content: &str) -> SendMessage {
    SendMessage {
        conversation_id: conversation(1),
        content: content.to_owned(),
        message_type: MessageType::Text,
        attachments: Vec::new(),
        reply_to_id: None,
        mentions: Vec::new(),
    }
}

fn edit(content: &str) -> Command {
    Command::Edit { message_id: message(1), content: content.to_owned() }
}

fn delete() -> Command {
    Command::Delete { message_id: message(1) }
}

fn reaction(emoji: &str) -> Command {
    Command::Reaction { message_id: message(1), emoji: emoji.to_owned(), label: None }
}

fn remove_reaction() -> Command {
    Command::RemoveReaction { message_id: message(1), emoji: "👍".to_owned() }
}

fn mark_read(message_id: Option<MessageId>) -> Command {
    Command::MarkRead { conversation_id: conversation(1), message_id }
}

/// Each command in an existing conversation, with the data of its event.
fn commands_and_events() -> Vec<(Command, EventData)> {
    let conversation_id = conversation(1);
    let message_id = message(1);
    let emoji = "👍".to_owned();
    let label = Some("agreed".to_owned());
    let hello = MessageSent { message_id: MessageId(FRESH_ENTITY_ID), ..sent(0, "hello") };
    let edited = EventData::MessageEdited { message_id, content: "bye".to_owned(), mentions: Vec::new() };
    vec![
        (Command::Message(send("hello")), EventData::MessageSent(hello)),
        (edit("bye"), edited),
        (delete(), EventData::MessageDeleted { message_id }),
        (
            Command::Reaction { message_id, emoji: emoji.clone(), label: label.clone() },
            EventData::ReactionAdded { message_id, emoji: emoji.clone(), label },
        ),
        (remove_reaction(), EventData::ReactionRemoved { message_id, emoji }),
        (Command::TypingStart { conversation_id }, EventData::TypingStart {}),
        (Command::TypingStop { conversation_id }, EventData::TypingStop {}),
        (mark_read(None), EventData::MessagesRead { message_id: None }),
        (mark_read(Some(message_id)), EventData::MessagesRead { message_id: Some(message_id) }),
    ]
}

#[track_caller]
fn assert_not_found(result: Result<Event, Rejection>, field: &str) {
    let Err(Rejection::NotFound(error)) = result else { panic!("{result:?}") };
    assert_eq!((error.field.as_str(), error.code), (field, "not_found"));
}

#[track_caller]
fn assert_invalid(result: Result<Event, Rejection>, field: &str, code: &'static str) {
    let Err(Rejection::Invalid(errors)) = result else { panic!("{result:?}") };
    let found: Vec<(&str, &str)> = errors.iter().map(|error| (error.field.as_str(), error.code)).collect();
    assert_eq!(found, [(field, code)]);
}

#[test]
fn a_valid_command_becomes_its_event() {
    for (command, data) in commands_and_events() {
        let event = decide_as("alice", &command, &facts()).unwrap();
        let expected = Event {
            event_id: EventId(FRESH_EVENT_ID),
            occurred_at: at(7),
            conversation_id: conversation(1),
            actor_id: user("alice"),
            request: None,
            data,
        };
        assert_eq!(event, expected);
    }
}

#[test]
fn the_ids_of_an_event_with_a_key_derive_from_the_key() {
    let alice = user("alice");
    let key = id("k");
    for (command, data) in commands_and_events() {
        let event = decide(&context("alice", Some("k")), &command, &facts()).unwrap();
        if matches!(data, EventData::TypingStart {} | EventData::TypingStop {}) {
            assert_eq!((event.event_id, event.request), (EventId(FRESH_EVENT_ID), None), "typing ignores keys");
            continue;
        }
        assert_eq!(event.event_id, EventId::for_key(conversation(1), &alice, &key, data.type_name()));
        let request = event.request.unwrap();
        assert_eq!((&request.key, request.hash), (&key, command.hash()));
        if let EventData::MessageSent(sent) = event.data {
            assert_eq!(sent.message_id, MessageId::for_key(conversation(1), &alice, &key));
        }
    }
}

/// Decides to create a conversation on behalf of Bob, without any facts.
fn create_conversation(kind: ConversationKind, participants: &[&str], key: Option<&str>) -> Event {
    let command = Command::Conversation { kind, title: None, participant_ids: users(participants) };
    decide(&context("bob", key), &command, &Facts::default()).unwrap()
}

#[test]
fn the_id_of_a_direct_conversation_derives_from_its_two_users() {
    for key in [None, Some("k")] {
        let event = create_conversation(ConversationKind::Direct, &["bob", "alice"], key);
        assert_eq!(event.conversation_id, ConversationId::direct(&user("alice"), &user("bob")));
    }
}

#[test]
fn the_id_of_a_group_derives_from_the_key_or_is_fresh() {
    for participants in [&["bob", "alice"][..], &["bob", "alice", "zoë"]] {
        let without_key = create_conversation(ConversationKind::Group, participants, None);
        let with_key = create_conversation(ConversationKind::Group, participants, Some("k"));
        assert_eq!(without_key.conversation_id, ConversationId(FRESH_ENTITY_ID));
        assert_eq!(with_key.conversation_id, ConversationId::for_key(&user("bob"), &id("k")));
        let EventData::ConversationCreated { participant_ids, .. } = without_key.data else { panic!("not created") };
        assert_eq!(participant_ids, users(participants));
    }
}

#[test]
fn an_outsider_cannot_tell_a_conversation_from_a_missing_one() {
    let mut outsider_after_deletion = facts_for_outsider();
    outsider_after_deletion.message = facts_after_deletion().message;
    for (command, _) in commands_and_events() {
        let field = if command.conversation_id().is_some() { "conversationId" } else { "messageId" };
        let where_nothing_exists = decide_as("eve", &command, &Facts::default());
        let where_it_exists = decide_as("eve", &command, &facts_for_outsider());
        let after_deletion = decide_as("eve", &command, &outsider_after_deletion);
        assert_not_found(where_nothing_exists.clone(), field);
        assert_not_found(where_it_exists.clone(), field);
        assert_eq!(where_nothing_exists, where_it_exists);
        assert_eq!(where_nothing_exists, after_deletion, "neither the deletion nor the author shows");
    }
}

#[test]
fn a_missing_message_is_not_found() {
    let facts = Facts { message: None, ..facts() };
    for command in [edit("bye"), delete(), reaction("👍"), remove_reaction()] {
        assert_not_found(decide_as("alice", &command, &facts), "messageId");
    }
}

#[test]
fn a_reply_or_mark_to_a_message_elsewhere_is_refused_like_one_to_a_missing_message() {
    let message_elsewhere = facts_with_message(|message| message.conversation_id = conversation(2));
    let message_missing = Facts { message: None, ..facts() };
    let reply = Command::Message(SendMessage { reply_to_id: Some(message(1)), ..send("yes") });
    for (command, field) in [(reply, "replyToId"), (mark_read(Some(message(1))), "messageId")] {
        let decide_with = |facts: &Facts| decide_as("alice", &command, facts);
        assert_not_found(decide_with(&message_missing), field);
        assert_eq!(decide_with(&message_elsewhere), decide_with(&message_missing));
        assert!(decide_with(&facts()).is_ok());
        assert!(decide_with(&facts_after_deletion()).is_ok(), "a deleted message keeps its place");
    }
}

#[test]
fn only_the_author_edits_and_deletes() {
    for command in [edit("bye"), delete()] {
        for facts in [facts(), facts_after_deletion()] {
            assert_eq!(decide_as("bob", &command, &facts), Err(Rejection::NotAuthor));
        }
    }
}

#[test]
fn a_deleted_message_is_neither_edited_nor_reacted_to() {
    for command in [edit("bye"), reaction("👍"), remove_reaction()] {
        assert_eq!(decide_as("alice", &command, &facts_after_deletion()), Err(Rejection::MessageDeleted));
    }
}

#[test]
fn a_repeated_deletion_has_the_time_of_the_first() {
    let repeated = decide_as("alice", &delete(), &facts_after_deletion()).unwrap();
    assert_eq!(repeated.occurred_at, at(5));
}

#[test]
fn an_edit_may_leave_the_content_blank_only_with_attachments() {
    let with_attachments = facts_with_message(|message| message.has_attachments = true);
    for blank in ["", " \n"] {
        assert_invalid(decide_as("alice", &edit(blank), &facts()), "content", "empty");
        assert!(decide_as("alice", &edit(blank), &with_attachments).is_ok());
    }
}

#[test]
fn a_message_has_up_to_twenty_different_emoji() {
    let animals: Vec<String> =
        (0..20_u32).map(|number| char::from_u32(0x1f400 + number).unwrap().to_string()).collect();
    let react_after = |count: usize, emoji: &str| {
        let facts = facts_with_message(|message| message.emoji = animals[..count].to_vec());
        decide_as("bob", &reaction(emoji), &facts)
    };
    assert!(react_after(limits::MAX_EMOJI_PER_MESSAGE - 1, "👍").is_ok());
    assert_invalid(react_after(limits::MAX_EMOJI_PER_MESSAGE, "👍"), "emoji", "too_many");
    for spelling in [animals[0].clone(), format!("{}\u{fe0f}", animals[0])] {
        assert!(react_after(limits::MAX_EMOJI_PER_MESSAGE, &spelling).is_ok(), "the message already has this emoji");
    }
}

/// The mentions of a message by Alice, whose text is `content` and whose request lists `listed`.
fn mentions(content: &str, listed: &[&str], participants: Vec<UserId>) -> Result<Vec<UserId>, Rejection> {
    let mut facts = facts();
    facts.conversation.as_mut().unwrap().participants = participants;
    let command = Command::Message(SendMessage { mentions: users(listed), ..send(content) });
    match decide_as("alice", &command, &facts)?.data {
        EventData::MessageSent(sent) => Ok(sent.mentions),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_message_mentions_listed_users_and_those_in_its_text_once() {
    let participants = users(&["alice", "bob", "zoë"]);
    assert_eq!(mentions("@bob @zoë @bob @eve", &[], participants.clone()), Ok(users(&["bob", "zoë"])));
    assert_eq!(mentions("@bob @alice", &["zoë", "bob"], participants), Ok(users(&["zoë", "bob", "alice"])));
}

#[test]
fn listed_users_outside_the_conversation_are_refused_each() {
    let participants = users(&["alice", "bob", "zoë"]);
    let error_at = |index: usize| {
        FieldError::new(format!("mentions[{index}]"), "not_a_participant", "is not a participant of the conversation")
    };
    let expected = Err(Rejection::Invalid(vec![error_at(0), error_at(2)]));
    assert_eq!(mentions("", &["eve", "bob", "mallory"], participants), expected);
}

#[test]
fn a_message_mentions_up_to_twenty_users() {
    let names: Vec<String> = (0..=limits::MAX_MENTIONS).map(|number| format!("u{number}")).collect();
    let participants: Vec<UserId> = names.iter().map(|name| user(name)).collect();
    let text_with = |names: &[String]| names.iter().map(|name| format!("@{name} ")).collect::<String>();
    let all = text_with(&names);
    let all_but_u0 = text_with(&names[1..]);
    let too_many = Err(FieldError::new("mentions", "too_many", "must mention at most 20 participants").into());
    assert_eq!(mentions(&all_but_u0, &[], participants.clone()).unwrap().len(), limits::MAX_MENTIONS);
    assert_eq!(mentions(&all, &[], participants.clone()), too_many);
    assert_eq!(mentions(&all_but_u0, &["u0"], participants), too_many);
}

proptest! {
    #[test]
    fn an_edit_that_changes_nothing_changes_no_mentions(content in "(@bob|@zoë|[a.`/: 用\\u{301}\\n]){0,8}") {
        let sent = mentions(&content, &[], users(&["alice", "bob", "zoë"])).unwrap();
        let edited = decide_as("alice", &edit(&content), &facts());
        if let Ok(Event { data: EventData::MessageEdited { mentions, .. }, .. }) = edited {
            prop_assert_eq!(mentions, sent);
        }
    }
}

#[test]
fn an_edit_replaces_the_mentions_and_notifies_nobody() {
    let event = decide_as("alice", &edit("now @zoë"), &facts()).unwrap();
    let EventData::MessageEdited { mentions, .. } = &event.data else { panic!("{event:?}") };
    assert_eq!(*mentions, users(&["zoë"]));
    assert_eq!(notifications(&event), []);
}

#[test]
fn each_mentioned_user_but_the_sender_is_notified() {
    let command = Command::Message(SendMessage { attachments: vec![picture()], ..send("@alice @bob @zoë") });
    let event = decide(&context("alice", Some("k")), &command, &facts()).unwrap();
    let message_id = event.data.message_id().unwrap();
    let notification_of = |name: &str| Event {
        event_id: EventId::for_mention(event.event_id, &user(name)),
        request: None,
        data: EventData::MentionNotification { message_id, user_id: user(name) },
        ..event.clone()
    };
    assert_eq!(notifications(&event), [notification_of("bob"), notification_of("zoë")]);
}

#[test]
fn a_command_needs_the_participants_only_if_it_may_mention_some() {
    let lists_bob = Command::Message(SendMessage { mentions: users(&["bob"]), ..send("hello") });
    for command in [Command::Message(send("hello @")), lists_bob, edit("@bob")] {
        assert!(command.needs_participants(), "{command:?}");
    }
    for command in [Command::Message(send("hello")), edit("hello"), mark_read(None)] {
        assert!(!command.needs_participants(), "{command:?}");
    }
}
