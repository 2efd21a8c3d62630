//! The fold: what an event of each type changes, and that a late, repeated or invalid event changes nothing.

use domain::event::{ConversationKind, EventData, MessageSent, Request};
use domain::fold::fold;
use domain::state::{Changes, Conversation, Member, Message, Reaction, State};
use domain::{Event, EventId, MessageId, Position};
use uuid::Uuid;

use crate::support::{at, conversation, id, message, picture, sent, user, users};

/// A log in one conversation, and its state. Event number `n`, from 0, has offset `n` and id `n`, and happens in second
/// `n`.
#[derive(Default)]
struct Log {
    state: State,
    length: i64,
}

impl Log {
    /// A log with one event: Alice creates a group with Bob and Zoë.
    fn with_group() -> Self {
        let mut log = Self::default();
        assert!(log.add("alice", created(&["alice", "bob", "zoë"])));
        log
    }

    /// Appends an event with this data and folds it. Returns whether it changed anything but the record of folded
    /// events.
    fn add(&mut self, actor: &str, data: EventData) -> bool {
        let event = self.next(actor, data);
        self.fold(&event)
    }

    /// The next event of the log, not yet appended.
    fn next(&self, actor: &str, data: EventData) -> Event {
        Event {
            event_id: EventId(Uuid::from_u128(self.length.unsigned_abs().into())),
            occurred_at: at(self.length),
            conversation_id: conversation(1),
            actor_id: user(actor),
            request: None,
            data,
        }
    }

    /// Appends an event and folds it. Returns whether it changed anything but the record of folded events.
    fn fold(&mut self, event: &Event) -> bool {
        let before = self.state.clone();
        let mut changes = Changes::default();
        let position = Position { partition: 3, offset: self.length };
        self.length += 1;
        fold(&mut self.state, &mut changes, event, position);
        let changed = (&before.conversations, &before.members, &before.messages)
            != (&self.state.conversations, &self.state.members, &self.state.messages);
        let reported = !changes.conversations.is_empty();
        assert_eq!(reported, changed, "the changes are exactly what changed: {changes:?}");
        if !changed {
            assert!(changes.created.is_empty() && changes.members.is_empty() && changes.messages.is_empty());
        }
        changed
    }

    fn conversation(&self) -> &Conversation {
        &self.state.conversations[&conversation(1)]
    }

    fn message(&self, number: u128) -> &Message {
        &self.state.messages[&(conversation(1), message(number))]
    }

    fn member(&self, name: &str) -> &Member {
        &self.state.members[&(conversation(1), user(name))]
    }
}

fn position(offset: i64) -> Position {
    Position { partition: 3, offset }
}

fn created(names: &[&str]) -> EventData {
    EventData::ConversationCreated {
        kind: ConversationKind::Group,
        title: Some("Team".to_owned()),
        participant_ids: users(names),
    }
}

fn send(number: u128) -> EventData {
    EventData::MessageSent(sent(number, "hello"))
}

fn edit(number: u128, content: &str) -> EventData {
    EventData::MessageEdited { message_id: message(number), content: content.to_owned(), mentions: users(&["zoë"]) }
}

fn delete(number: u128) -> EventData {
    EventData::MessageDeleted { message_id: message(number) }
}

fn react(number: u128, emoji: &str, label: Option<&str>) -> EventData {
    EventData::ReactionAdded { message_id: message(number), emoji: emoji.to_owned(), label: label.map(str::to_owned) }
}

fn unreact(number: u128, emoji: &str) -> EventData {
    EventData::ReactionRemoved { message_id: message(number), emoji: emoji.to_owned() }
}

fn read(message_id: Option<MessageId>) -> EventData {
    EventData::MessagesRead { message_id }
}

fn reaction(emoji: &str, label: Option<&str>, names: &[&str]) -> Reaction {
    Reaction { emoji: emoji.to_owned(), label: label.map(str::to_owned), user_ids: users(names) }
}

#[test]
fn a_new_conversation_has_its_participants_in_order() {
    let mut log = Log::default();
    let event = log.next("alice", created(&["alice", "bob", "alice", "zoë"]));
    let mut changes = Changes::default();
    fold(&mut log.state, &mut changes, &event, position(0));
    let expected = Conversation {
        kind: ConversationKind::Group,
        title: Some("Team".to_owned()),
        participant_count: 3,
        created_at: at(0),
        updated_at: at(0),
        last_seq: 0,
        last_message: None,
        position: position(0),
    };
    assert_eq!(*log.conversation(), expected);
    for (ordinal, name) in (0..).zip(["alice", "bob", "zoë"]) {
        let expected = Member { ordinal, last_read_seq: 0, last_read_at: None, position: position(0) };
        assert_eq!(*log.member(name), expected);
    }
    assert_eq!(changes.created, [(conversation(1), users(&["alice", "bob", "zoë"]))]);
    assert_eq!(changes.members.len(), 3);
}

#[test]
fn a_second_creation_and_one_without_participants_change_nothing() {
    let mut log = Log::default();
    assert!(!log.add("alice", created(&[])));
    assert!(log.add("alice", created(&["alice", "bob"])));
    assert!(!log.add("bob", created(&["bob", "eve"])));
}

#[test]
fn messages_are_numbered_from_one_without_gaps() {
    let mut log = Log::with_group();
    assert!(log.add("alice", send(1)));
    assert!(!log.add("bob", send(1)), "the id is taken");
    assert!(!log.add("eve", send(2)), "eve is not a participant");
    assert!(log.add("bob", send(3)));
    assert!(log.add("bob", delete(3)));
    assert!(log.add("alice", send(4)));
    assert_eq!([log.message(1).seq, log.message(3).seq, log.message(4).seq], [1, 2, 3]);
    assert_eq!((log.conversation().last_seq, log.conversation().last_message), (3, Some(message(4))));
}

#[test]
fn a_new_message_has_all_fields_of_its_event() {
    let mut log = Log::with_group();
    let with_all_fields = MessageSent {
        attachments: vec![picture()],
        mentions: users(&["bob"]),
        reply_to_id: Some(message(9)),
        ..sent(1, "hi @bob")
    };
    assert!(log.add("alice", EventData::MessageSent(with_all_fields)));
    let expected = Message {
        seq: 1,
        sender_id: user("alice"),
        content: Some("hi @bob".to_owned()),
        message_type: domain::event::MessageType::Text,
        attachments: vec![picture()],
        mentions: users(&["bob"]),
        reply_to_id: Some(message(9)),
        reactions: Vec::new(),
        created_at: at(1),
        edited_at: None,
        deleted_at: None,
        position: position(1),
    };
    assert_eq!(*log.message(1), expected);
    assert_eq!(log.conversation().position, position(1));
}

#[test]
fn updated_at_is_the_latest_time_of_creation_and_messages() {
    let mut log = Log::with_group();
    for (number, second, latest) in [(1, 50, 50), (2, 20, 50), (3, 60, 60)] {
        let event = Event { occurred_at: at(second), ..log.next("alice", send(number)) };
        assert!(log.fold(&event));
        assert_eq!(log.message(number).created_at, at(second), "a message keeps its own time");
        assert_eq!(log.conversation().updated_at, at(latest));
        assert_eq!(log.conversation().last_message, Some(message(number)));
    }
    for data in [edit(3, "x"), react(3, "👍", None), delete(3), read(None)] {
        log.add("alice", data);
        assert_eq!(log.conversation().updated_at, at(60), "only creation and messages count");
    }
}

#[test]
fn only_the_author_edits() {
    let mut log = Log::with_group();
    log.add("alice", send(1));
    assert!(!log.add("bob", edit(1, "no")) && !log.add("eve", edit(1, "no")) && !log.add("alice", edit(2, "no")));
    assert!(log.add("alice", edit(1, "now @zoë")));
    let edited = log.message(1);
    assert_eq!((edited.content.as_deref(), &edited.mentions), (Some("now @zoë"), &users(&["zoë"])));
    assert_eq!((edited.created_at, edited.edited_at, edited.position), (at(1), Some(at(5)), position(5)));
    assert_eq!(log.conversation().position, position(5));
}

#[test]
fn a_deletion_clears_the_message_and_is_permanent() {
    let mut log = Log::with_group();
    let mentioning = MessageSent { attachments: vec![picture()], mentions: users(&["bob"]), ..sent(1, "hi @bob") };
    log.add("alice", EventData::MessageSent(mentioning));
    log.add("bob", react(1, "👍", Some("agreed")));
    assert!(!log.add("bob", delete(1)) && !log.add("alice", delete(2)));
    assert!(log.add("alice", delete(1)));
    let deleted = log.message(1).clone();
    assert_eq!((deleted.seq, deleted.content.as_deref(), deleted.deleted_at), (1, None, Some(at(5))));
    assert!(deleted.attachments.is_empty() && deleted.mentions.is_empty() && deleted.reactions.is_empty());
    for late in [edit(1, "no"), react(1, "👍", None), unreact(1, "👍"), delete(1), send(1)] {
        assert!(!log.add("alice", late));
    }
    assert_eq!(*log.message(1), deleted, "nothing changes after the deletion");
}

#[test]
fn reactions_are_one_by_user_and_emoji_in_the_order_of_their_coming() {
    let mut log = Log::with_group();
    log.add("alice", send(1));
    assert!(log.add("bob", react(1, "👍", None)));
    assert!(log.add("zoë", react(1, "🎉", None)));
    assert!(log.add("alice", react(1, "👍", None)));
    assert!(!log.add("bob", react(1, "👍", None)), "a repetition");
    assert!(!log.add("eve", react(1, "👍", None)) && !log.add("bob", react(2, "👍", None)));
    assert_eq!(log.message(1).reactions, [reaction("👍", None, &["bob", "alice"]), reaction("🎉", None, &["zoë"])]);
    assert_eq!(log.message(1).position, position(4));
}

#[test]
fn a_reaction_has_the_last_label_and_keeps_it_without_a_new_one() {
    let mut log = Log::with_group();
    log.add("alice", send(1));
    let mut add = |label: Option<&str>| {
        let changed = log.add("bob", react(1, "👍", label));
        (changed, log.message(1).reactions.clone())
    };
    assert_eq!(add(None), (true, vec![reaction("👍", None, &["bob"])]));
    assert_eq!(add(Some("agreed")), (true, vec![reaction("👍", Some("agreed"), &["bob"])]));
    assert_eq!(add(Some("agreed")), (false, vec![reaction("👍", Some("agreed"), &["bob"])]));
    assert_eq!(add(None), (false, vec![reaction("👍", Some("agreed"), &["bob"])]));
    assert_eq!(add(Some("fine")), (true, vec![reaction("👍", Some("fine"), &["bob"])]));
    log.add("zoë", react(1, "👍", None));
    assert_eq!(log.message(1).reactions, [reaction("👍", Some("fine"), &["bob", "zoë"])]);
}

#[test]
fn a_removed_reaction_keeps_its_emoji_and_label() {
    let mut log = Log::with_group();
    log.add("alice", send(1));
    assert!(!log.add("bob", unreact(1, "👍")), "there is no reaction");
    log.add("bob", react(1, "👍", Some("agreed")));
    assert!(!log.add("zoë", unreact(1, "👍")) && !log.add("bob", unreact(1, "🎉")));
    assert!(log.add("bob", unreact(1, "👍")));
    assert!(!log.add("bob", unreact(1, "👍")), "a repetition");
    assert_eq!(log.message(1).reactions, [reaction("👍", Some("agreed"), &[])]);
    assert!(log.add("zoë", react(1, "👍", None)));
    assert_eq!(log.message(1).reactions, [reaction("👍", Some("agreed"), &["zoë"])]);
}

#[test]
fn spellings_of_an_emoji_are_one_reaction_that_looks_as_first_given() {
    let mut log = Log::with_group();
    log.add("alice", send(1));
    assert!(log.add("bob", react(1, "❤", None)));
    assert!(!log.add("bob", react(1, "❤\u{fe0f}", None)), "the same reaction again");
    assert!(log.add("zoë", react(1, "❤\u{fe0f}", Some("warm"))));
    assert!(log.add("bob", react(1, "🏳\u{fe0f}\u{200d}🌈", None)));
    assert!(!log.add("bob", react(1, "🏳\u{200d}🌈", None)));
    let flag = reaction("🏳\u{fe0f}\u{200d}🌈", None, &["bob"]);
    assert_eq!(log.message(1).reactions, [reaction("❤", Some("warm"), &["bob", "zoë"]), flag.clone()]);
    assert!(log.add("bob", unreact(1, "❤\u{fe0e}")));
    assert!(!log.add("bob", unreact(1, "❤")), "nothing is left of it");
    assert_eq!(log.message(1).reactions, [reaction("❤", Some("warm"), &["zoë"]), flag]);
}

#[test]
fn read_marks_never_move_back() {
    let mut log = Log::with_group();
    (1..=3).for_each(|number| assert!(log.add("alice", send(number))));
    assert!(log.add("bob", read(Some(message(2)))));
    let marked = Member { ordinal: 1, last_read_seq: 2, last_read_at: Some(at(4)), position: position(4) };
    assert_eq!(*log.member("bob"), marked);
    for back in [read(Some(message(1))), read(Some(message(2))), read(Some(message(9)))] {
        assert!(!log.add("bob", back));
    }
    assert_eq!(*log.member("bob"), marked);
    assert!(log.add("bob", read(None)));
    assert_eq!(log.member("bob").last_read_seq, 3);
    assert!(!log.add("bob", read(None)) && !log.add("eve", read(None)));
}

#[test]
fn a_deleted_message_can_be_marked_as_read() {
    let mut log = Log::with_group();
    log.add("alice", send(1));
    log.add("alice", delete(1));
    assert!(log.add("bob", read(Some(message(1)))));
}

#[test]
fn a_read_mark_without_messages_changes_nothing() {
    let mut log = Log::with_group();
    assert!(!log.add("bob", read(None)));
    assert_eq!(log.member("bob").last_read_at, None);
}

#[test]
fn sending_marks_the_earlier_messages_as_read() {
    let mut log = Log::with_group();
    log.add("alice", send(1));
    log.add("bob", send(2));
    assert_eq!([log.member("alice").last_read_seq, log.member("bob").last_read_seq], [1, 2]);
    assert_eq!((log.member("bob").last_read_at, log.member("bob").position), (Some(at(2)), position(2)));
    assert_eq!(log.member("zoë").last_read_seq, 0);
}

#[test]
fn typing_and_notifications_leave_no_trace() {
    let mut log = Log::with_group();
    log.add("alice", send(1));
    let before = log.state.clone();
    let mention = EventData::MentionNotification { message_id: message(1), user_id: user("bob") };
    for data in [EventData::TypingStart {}, EventData::TypingStop {}, mention] {
        assert!(!log.add("alice", data));
    }
    assert_eq!(log.state, before);
}

#[test]
fn only_the_first_record_of_an_event_counts() {
    let mut log = Log::with_group();
    let first = log.next("alice", send(1));
    assert!(log.fold(&first));
    assert!(!log.fold(&first));
    let same_id = Event { data: send(2), ..first.clone() };
    assert!(!log.fold(&same_id), "the id is used, whatever the data");
    // An event id counts within its conversation only.
    let elsewhere = Event { conversation_id: conversation(2), data: created(&["alice"]), ..first };
    assert!(log.fold(&elsewhere));
}

/// The next event of a log, with the idempotency key `k`.
fn next_with_key(log: &Log, actor: &str, data: EventData) -> Event {
    Event { request: Some(Request { key: id("k"), hash: "0".repeat(64) }), ..log.next(actor, data) }
}

#[test]
fn only_the_first_event_of_a_key_counts_whatever_its_type() {
    let mut log = Log::with_group();
    let first = next_with_key(&log, "alice", send(1));
    assert!(log.fold(&first));
    let second = next_with_key(&log, "alice", react(1, "👍", None));
    assert!(!log.fold(&second), "the key is used");
    let of_bob = next_with_key(&log, "bob", react(1, "👍", None));
    assert!(log.fold(&of_bob), "a key counts for its actor only");
}

#[test]
fn an_event_without_effect_uses_its_key() {
    let mut log = Log::with_group();
    let without_effect = next_with_key(&log, "bob", edit(1, "no"));
    assert!(!log.fold(&without_effect));
    let second = next_with_key(&log, "bob", send(1));
    assert!(!log.fold(&second));
    assert!(log.state.messages.is_empty());
}

#[test]
fn events_in_a_missing_conversation_change_nothing() {
    let mut log = Log::default();
    for data in [send(1), edit(1, "x"), delete(1), react(1, "👍", None), unreact(1, "👍"), read(None)] {
        assert!(!log.add("alice", data));
    }
}
