//! Deciding: each reason to refuse, and the event of each command that is accepted.

use domain::command::SendMessage;
use domain::decide::{Context, decide, notifications};
use domain::event::{ConversationKind, EventData, MessageSent, MessageType};
use domain::facts::{ConversationFacts, Facts, MessageFacts};
use domain::{Command, ConversationId, EventId, FieldError, MessageId, Rejection, UserId, limits};
use uuid::Uuid;

use crate::support::{at, conversation, id, message, picture, sent, user, users};

fn by(actor: &str, key: Option<&str>) -> Context {
    Context {
        actor: user(actor),
        now: at(7),
        key: key.map(id),
        fresh_event: Uuid::from_u128(1),
        fresh_entity: Uuid::from_u128(2),
    }
}

/// Alice, Bob and Zoë are in the first conversation; Alice wrote its first message.
fn known() -> Facts {
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

fn known_message(change: impl FnOnce(&mut MessageFacts)) -> Facts {
    let mut facts = known();
    change(facts.message.as_mut().unwrap());
    facts
}

fn deleted() -> Facts {
    known_message(|message| message.deleted_at = Some(at(5)))
}

/// What someone sees who isn't in the conversation.
fn outside() -> Facts {
    let mut facts = known();
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

fn reaction(emoji: &str) -> Command {
    Command::Reaction { message_id: message(1), emoji: emoji.to_owned(), label: None }
}

fn remove_reaction() -> Command {
    Command::RemoveReaction { message_id: message(1), emoji: "👍".to_owned() }
}

fn read(message_id: Option<MessageId>) -> Command {
    Command::MarkRead { conversation_id: conversation(1), message_id }
}

/// Every command but that which begins a conversation, with the event that it makes when nothing speaks against it.
fn about_something_known() -> Vec<(Command, EventData)> {
    let (conversation_id, message_id) = (conversation(1), message(1));
    let (emoji, label) = ("👍".to_owned(), Some("agreed".to_owned()));
    let hello = MessageSent { message_id: MessageId(Uuid::from_u128(2)), ..sent(0, "hello") };
    let edited = EventData::MessageEdited { message_id, content: "bye".to_owned(), mentions: Vec::new() };
    vec![
        (Command::Message(send("hello")), EventData::MessageSent(hello)),
        (edit("bye"), edited),
        (Command::Delete { message_id }, EventData::MessageDeleted { message_id }),
        (
            Command::Reaction { message_id, emoji: emoji.clone(), label: label.clone() },
            EventData::ReactionAdded { message_id, emoji: emoji.clone(), label },
        ),
        (remove_reaction(), EventData::ReactionRemoved { message_id, emoji }),
        (Command::TypingStart { conversation_id }, EventData::TypingStart {}),
        (Command::TypingStop { conversation_id }, EventData::TypingStop {}),
        (read(None), EventData::MessagesRead { message_id: None }),
        (read(Some(message_id)), EventData::MessagesRead { message_id: Some(message_id) }),
    ]
}

#[track_caller]
fn assert_not_found(result: Result<domain::Event, Rejection>, field: &str) {
    let Err(Rejection::NotFound(error)) = result else { panic!("{result:?}") };
    assert_eq!((error.field.as_str(), error.code), (field, "not_found"));
}

#[track_caller]
fn assert_invalid(result: Result<domain::Event, Rejection>, expected: &[(&str, &'static str)]) {
    let Err(Rejection::Invalid(errors)) = result else { panic!("{result:?}") };
    let found: Vec<(&str, &str)> = errors.iter().map(|error| (error.field.as_str(), error.code)).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_valid_command_makes_its_event() {
    for (command, data) in about_something_known() {
        let event = decide(&by("alice", None), &command, &known()).unwrap();
        assert_eq!(event.event_id, EventId(Uuid::from_u128(1)));
        assert_eq!((event.occurred_at, event.conversation_id), (at(7), conversation(1)));
        assert_eq!((event.actor_id, event.request), (user("alice"), None));
        assert_eq!(event.data, data);
    }
}

#[test]
fn a_key_gives_the_ids_and_stands_in_the_event() {
    for (command, data) in about_something_known() {
        let event = decide(&by("alice", Some("k")), &command, &known()).unwrap();
        let (alice, key) = (user("alice"), id("k"));
        if matches!(data, EventData::TypingStart {} | EventData::TypingStop {}) {
            assert_eq!((event.event_id, event.request), (EventId(Uuid::from_u128(1)), None), "keys are ignored");
            continue;
        }
        assert_eq!(event.event_id, EventId::for_key(conversation(1), &alice, &key, data.type_name()));
        let request = event.request.unwrap();
        assert_eq!((request.key, request.hash), (key.clone(), command.hash()));
        if let EventData::MessageSent(sent) = event.data {
            assert_eq!(sent.message_id, MessageId::for_key(conversation(1), &alice, &key));
        }
    }
}

#[test]
fn a_conversation_begins_without_facts() {
    let group = |kind, names: &[&str]| Command::Conversation { kind, title: None, participant_ids: users(names) };
    let made = |key, command: &Command| decide(&by("bob", key), command, &Facts::default()).unwrap();
    let direct = group(ConversationKind::Direct, &["bob", "alice"]);
    for key in [None, Some("k")] {
        assert_eq!(made(key, &direct).conversation_id, ConversationId::direct(&user("alice"), &user("bob")));
    }
    for names in [&["bob", "alice"][..], &["bob", "alice", "zoë"]] {
        let group = group(ConversationKind::Group, names);
        assert_eq!(made(None, &group).conversation_id, ConversationId(Uuid::from_u128(2)));
        assert_eq!(made(Some("k"), &group).conversation_id, ConversationId::for_key(&user("bob"), &id("k")));
        let EventData::ConversationCreated { participant_ids, .. } = made(None, &group).data else { panic!("created") };
        assert_eq!(participant_ids, users(names));
    }
}

#[test]
fn what_is_not_there_and_what_is_not_ones_own_look_alike() {
    for (command, _) in about_something_known() {
        let field = if command.conversation_id().is_some() { "conversationId" } else { "messageId" };
        let refused = |facts: &Facts| decide(&by("eve", None), &command, facts);
        assert_not_found(refused(&Facts::default()), field);
        assert_not_found(refused(&outside()), field);
        assert_eq!(refused(&Facts::default()), refused(&outside()));
        // Not even that it is deleted, or that someone else wrote it.
        let mut outside = outside();
        outside.message = deleted().message;
        assert_eq!(refused(&Facts::default()), refused(&outside));
    }
}

#[test]
fn a_message_that_is_not_there_is_not_found() {
    let facts = Facts { message: None, ..known() };
    for command in [edit("bye"), Command::Delete { message_id: message(1) }, reaction("👍"), remove_reaction()] {
        assert_not_found(decide(&by("alice", None), &command, &facts), "messageId");
    }
}

#[test]
fn replies_and_marks_to_a_message_elsewhere_look_like_none() {
    let elsewhere = known_message(|message| message.conversation_id = conversation(2));
    let nowhere = Facts { message: None, ..known() };
    let reply = Command::Message(SendMessage { reply_to_id: Some(message(1)), ..send("yes") });
    for (command, field) in [(reply, "replyToId"), (read(Some(message(1))), "messageId")] {
        let refused = |facts: &Facts| decide(&by("alice", None), &command, facts);
        assert_not_found(refused(&nowhere), field);
        assert_eq!(refused(&elsewhere), refused(&nowhere));
        assert!(refused(&known()).is_ok());
        assert!(refused(&deleted()).is_ok(), "a deleted message keeps its place");
    }
}

#[test]
fn only_the_author_edits_and_deletes() {
    for command in [edit("bye"), Command::Delete { message_id: message(1) }] {
        for facts in [known(), deleted()] {
            assert_eq!(decide(&by("bob", None), &command, &facts), Err(Rejection::NotAuthor));
        }
    }
}

#[test]
fn a_deleted_message_is_only_deleted_again() {
    for command in [edit("bye"), reaction("👍"), remove_reaction()] {
        assert_eq!(decide(&by("alice", None), &command, &deleted()), Err(Rejection::MessageDeleted));
    }
    let again = decide(&by("alice", None), &Command::Delete { message_id: message(1) }, &deleted()).unwrap();
    assert_eq!(again.occurred_at, at(5), "the first deletedAt stays");
}

#[test]
fn an_edit_leaves_a_message_empty_only_with_attachments() {
    let with_attachments = known_message(|message| message.has_attachments = true);
    for blank in ["", " \n"] {
        assert_invalid(decide(&by("alice", None), &edit(blank), &known()), &[("content", "empty")]);
        assert!(decide(&by("alice", None), &edit(blank), &with_attachments).is_ok());
    }
}

#[test]
fn a_message_has_up_to_twenty_different_emoji() {
    let emoji: Vec<String> = (0..20_u32).map(|number| char::from_u32(0x1f400 + number).unwrap().to_string()).collect();
    let add = |emoji: &str, count: usize, all: &[String]| {
        let facts = known_message(|message| message.emoji = all[..count].to_vec());
        decide(&by("bob", None), &reaction(emoji), &facts)
    };
    assert!(add("👍", limits::EMOJI_PER_MESSAGE - 1, &emoji).is_ok());
    assert_invalid(add("👍", limits::EMOJI_PER_MESSAGE, &emoji), &[("emoji", "too_many")]);
    assert!(add(&emoji[0], limits::EMOJI_PER_MESSAGE, &emoji).is_ok(), "it is one of them");
}

/// Whom a message mentions, or the errors.
fn mentioned(content: &str, named: &[&str], participants: Vec<UserId>) -> Result<Vec<UserId>, Rejection> {
    let mut facts = known();
    facts.conversation.as_mut().unwrap().participants = participants;
    let command = Command::Message(SendMessage { mentions: users(named), ..send(content) });
    match decide(&by("alice", None), &command, &facts)?.data {
        EventData::MessageSent(sent) => Ok(sent.mentions),
        other => panic!("{other:?}"),
    }
}

#[test]
fn those_named_and_those_in_the_text_are_mentioned_once() {
    let all = || users(&["alice", "bob", "zoë"]);
    assert_eq!(mentioned("@bob @zoë @bob @eve", &[], all()), Ok(users(&["bob", "zoë"])));
    assert_eq!(mentioned("@bob @alice", &["zoë", "bob"], all()), Ok(users(&["zoë", "bob", "alice"])));
    let stranger = |index: usize| {
        FieldError::new(format!("mentions[{index}]"), "not_a_participant", "is not a participant of the conversation")
    };
    let refused = Err(Rejection::Invalid(vec![stranger(0), stranger(2)]));
    assert_eq!(mentioned("", &["eve", "bob", "mallory"], all()), refused);
}

#[test]
fn up_to_twenty_are_mentioned() {
    let names: Vec<String> = (0..=limits::MENTIONS).map(|number| format!("u{number}")).collect();
    let participants: Vec<UserId> = names.iter().map(|name| user(name)).collect();
    let text = |names: &[String]| names.iter().map(|name| format!("@{name} ")).collect::<String>();
    assert_eq!(mentioned(&text(&names[1..]), &[], participants.clone()).unwrap().len(), limits::MENTIONS);
    let too_many = Err(FieldError::new("mentions", "too_many", "must mention at most 20 participants").into());
    assert_eq!(mentioned(&text(&names), &[], participants.clone()), too_many);
    assert_eq!(mentioned(&text(&names[1..]), &["u0"], participants), too_many);
}

#[test]
fn an_edit_mentions_anew() {
    let event = decide(&by("alice", None), &edit("now @zoë"), &known()).unwrap();
    let EventData::MessageEdited { mentions, .. } = &event.data else { panic!("{event:?}") };
    assert_eq!(*mentions, users(&["zoë"]));
    assert_eq!(notifications(&event), []);
}

#[test]
fn everyone_mentioned_but_the_sender_is_notified() {
    let command = Command::Message(SendMessage { attachments: vec![picture()], ..send("@alice @bob @zoë") });
    let event = decide(&by("alice", Some("k")), &command, &known()).unwrap();
    let following = notifications(&event);
    let about = |event: &domain::Event| match &event.data {
        EventData::MentionNotification { message_id, user_id } => (*message_id, user_id.clone()),
        other => panic!("{other:?}"),
    };
    let message_id = event.data.message_id().unwrap();
    let expected = [(message_id, user("bob")), (message_id, user("zoë"))];
    assert_eq!(following.iter().map(about).collect::<Vec<_>>(), expected);
    for notification in &following {
        let (_, user) = about(notification);
        assert_eq!(notification.event_id, EventId::for_mention(event.event_id, &user));
        assert_eq!(
            (notification.conversation_id, notification.occurred_at),
            (event.conversation_id, event.occurred_at)
        );
        assert_eq!((&notification.actor_id, &notification.request), (&event.actor_id, &None));
    }
}

#[test]
fn participants_are_needed_only_where_someone_could_be_mentioned() {
    let needed = |command: &Command| command.needs_participants();
    assert!(!needed(&Command::Message(send("hello"))));
    assert!(needed(&Command::Message(send("hello @"))));
    assert!(needed(&Command::Message(SendMessage { mentions: users(&["bob"]), ..send("hello") })));
    assert!(!needed(&edit("hello")) && needed(&edit("@bob")));
    assert!(!needed(&read(None)));
}
