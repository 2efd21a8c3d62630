//! The frames of each event. Pure: it must never read a clock, a room or a cache.

use domain::event::{ConversationKind, Event, EventData, MessageSent};
use domain::view::{ConversationView, MessageView, ParticipantView};
use domain::{ConversationId, Position, UserId, limits};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::rooms::PRESENCE_PARTICIPANTS_MAX;
use crate::server_events::{
    CONVERSATION_CREATED, MENTION_NEW, MESSAGE_DELETED, MESSAGE_EDITED, MESSAGE_NEW, MESSAGES_READ, Mention,
    MessageDeleted, MessageEdited, MessagesRead, REACTION_ADDED, REACTION_REMOVED, ReactionChange, ServerEvent,
    TYPING_START, TYPING_STOP, Typing,
};

/// The recipients of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Audience {
    /// Everyone in the conversation. These frames have the position of the frame before, from which a client sees a
    /// gap.
    Room,
    /// Everyone in the conversation, except this user.
    RoomExcept(UserId),
    /// This user, if they are in the conversation.
    Member(UserId),
}

/// A frame to send.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) name: &'static str,
    /// The frame's first argument.
    pub(super) payload: Box<RawValue>,
    pub(super) audience: Audience,
}

fn to_room<P: Serialize>(event: &ServerEvent<P>, payload: &P) -> Frame {
    Frame { name: event.name, payload: event.encode(payload), audience: Audience::Room }
}

/// The frames of an event, in a conversation with this number of participants.
pub(super) fn frames_of(event: &Event, position: Position, participants: i64) -> Vec<Frame> {
    let (conversation_id, user_id, at) = (event.conversation_id, &event.actor_id, event.occurred_at);
    let frame = match &event.data {
        EventData::ConversationCreated { kind, title, participant_ids } => {
            to_room(&CONVERSATION_CREATED, &new_conversation(event, position, *kind, title.clone(), participant_ids))
        }
        EventData::MessageSent(sent) => return frames_of_message(event, position, sent),
        &EventData::MessageEdited { message_id: id, ref content, ref mentions } => {
            to_room(&MESSAGE_EDITED, &MessageEdited { id, conversation_id, content, mentions, edited_at: at })
        }
        &EventData::MessageDeleted { message_id } => {
            to_room(&MESSAGE_DELETED, &MessageDeleted { message_id, conversation_id, deleted_at: at })
        }
        &EventData::ReactionAdded { message_id, ref emoji, ref label } => {
            let label = label.as_deref();
            to_room(&REACTION_ADDED, &ReactionChange { message_id, conversation_id, user_id, emoji, label })
        }
        &EventData::ReactionRemoved { message_id, ref emoji } => {
            to_room(&REACTION_REMOVED, &ReactionChange { message_id, conversation_id, user_id, emoji, label: None })
        }
        &EventData::MessagesRead { message_id } if participants <= PRESENCE_PARTICIPANTS_MAX => {
            to_room(&MESSAGES_READ, &MessagesRead { conversation_id, user_id, message_id })
        }
        EventData::TypingStart {} => typing_frame(&TYPING_START, user_id, conversation_id),
        EventData::TypingStop {} => typing_frame(&TYPING_STOP, user_id, conversation_id),
        EventData::MessagesRead { .. } | EventData::MentionNotification { .. } => return Vec::new(),
    };
    vec![frame]
}

/// The frames of a new message: to the room, and to those whom it mentions.
fn frames_of_message(event: &Event, position: Position, sent: &MessageSent) -> Vec<Frame> {
    let (conversation_id, by) = (event.conversation_id, &event.actor_id);
    let mut view = MessageView::sent(conversation_id, by.clone(), sent.clone(), event.occurred_at);
    view.position = Some(position);
    let mention = |user_id: &UserId| Frame {
        name: MENTION_NEW.name,
        payload: MENTION_NEW.encode(&Mention { message_id: sent.message_id, conversation_id, user_id, by }),
        audience: Audience::Member(user_id.clone()),
    };
    let mentioned = sent.mentions.iter().filter(|user| *user != by);
    [to_room(&MESSAGE_NEW, &view)].into_iter().chain(mentioned.map(mention)).collect()
}

/// A frame about the typing of a user.
pub(super) fn typing_frame<'a>(
    event: &ServerEvent<Typing<'a>>,
    user_id: &'a UserId,
    conversation_id: ConversationId,
) -> Frame {
    let payload = event.encode(&Typing { user_id, conversation_id });
    Frame { name: event.name, payload, audience: Audience::RoomExcept(user_id.clone()) }
}

/// The view of a conversation that the event has just created.
fn new_conversation(
    event: &Event,
    position: Position,
    kind: ConversationKind,
    title: Option<String>,
    participants: &[UserId],
) -> ConversationView {
    let participant = |user: &UserId| ParticipantView { user_id: user.clone(), last_read_seq: 0, last_read_at: None };
    ConversationView {
        id: event.conversation_id,
        kind,
        title,
        participant_count: i64::try_from(participants.len()).unwrap_or(i64::MAX),
        participants: participants.iter().take(limits::PARTICIPANTS_IN_VIEW).map(participant).collect(),
        last_message: None,
        unread_count: 0,
        created_at: event.occurred_at,
        updated_at: event.occurred_at,
        position,
    }
}

#[cfg(test)]
mod tests {
    use domain::event::MessageType;
    use domain::{EventId, MessageId, Timestamp};
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;

    fn user(name: &str) -> UserId {
        name.parse().unwrap()
    }

    /// A frame with its payload as a value.
    #[derive(Debug, PartialEq)]
    struct Decoded {
        name: &'static str,
        payload: Value,
        audience: Audience,
    }

    fn frames(data: EventData, participants: i64) -> Vec<Decoded> {
        let event = Event {
            event_id: EventId(Uuid::nil()),
            occurred_at: Timestamp::from_millis(0).unwrap(),
            conversation_id: ConversationId(Uuid::nil()),
            actor_id: user("alice"),
            request: None,
            data,
        };
        let decode = |Frame { name, payload, audience }| {
            let payload = serde_json::from_str(payload.get()).unwrap();
            Decoded { name, payload, audience }
        };
        frames_of(&event, Position { partition: 3, offset: 7 }, participants).into_iter().map(decode).collect()
    }

    fn message() -> MessageId {
        MessageId(Uuid::nil())
    }

    #[test]
    fn a_message_goes_to_the_room_and_to_mentioned_users_except_its_author() {
        let sent = MessageSent {
            message_id: message(),
            content: "@alice @bob".to_owned(),
            message_type: MessageType::Text,
            attachments: Vec::new(),
            mentions: vec![user("alice"), user("bob")],
            reply_to_id: None,
        };
        let frames = frames(EventData::MessageSent(sent), 2);
        assert_eq!(frames.iter().map(|frame| frame.name).collect::<Vec<_>>(), ["message:new", "mention:new"]);
        assert_eq!(frames[0].audience, Audience::Room);
        assert_eq!(frames[0].payload["position"], "3:7");
        assert!(frames[0].payload.get("seq").is_none(), "only the fold knows the seq");
        assert_eq!(frames[1].audience, Audience::Member(user("bob")));
        let nil = Uuid::nil();
        assert_eq!(frames[1].payload, json!({"messageId": nil, "conversationId": nil, "userId": "bob", "by": "alice"}));
    }

    #[test]
    fn a_new_conversation_lists_its_first_fifty_participants() {
        let participant_ids = (0..60).map(|number| user(&number.to_string())).collect();
        let frames =
            frames(EventData::ConversationCreated { kind: ConversationKind::Group, title: None, participant_ids }, 60);
        assert_eq!(frames[0].name, "conversation:created");
        assert_eq!(frames[0].payload["participantCount"], 60);
        assert_eq!(frames[0].payload["participants"].as_array().unwrap().len(), 50);
        assert_eq!(frames[0].payload["participants"][0], json!({"userId": "0", "lastReadSeq": 0, "lastReadAt": null}));
        assert_eq!(frames[0].payload["position"], "3:7");
    }

    #[test]
    fn read_marks_are_sent_only_in_small_conversations() {
        let read = || EventData::MessagesRead { message_id: None };
        assert_eq!(frames(read(), PRESENCE_PARTICIPANTS_MAX)[0].payload["messageId"], Value::Null);
        assert_eq!(frames(read(), PRESENCE_PARTICIPANTS_MAX + 1), []);
    }

    #[test]
    fn typing_goes_to_everyone_except_the_typist() {
        assert_eq!(frames(EventData::TypingStart {}, 2)[0].audience, Audience::RoomExcept(user("alice")));
    }

    #[test]
    fn changes_to_a_message_go_to_the_room() {
        let emoji = || "👍".to_owned();
        let (nil, epoch) = (Uuid::nil(), "1970-01-01T00:00:00.000Z");
        let reaction = |label: Value| json!({"messageId": nil, "conversationId": nil, "userId": "alice", "emoji": "👍", "label": label});
        let edited = EventData::MessageEdited { message_id: message(), content: "ho".to_owned(), mentions: Vec::new() };
        let added =
            EventData::ReactionAdded { message_id: message(), emoji: emoji(), label: Some("agreed".to_owned()) };
        for (event, name, payload) in [
            (
                edited,
                "message:edited",
                json!({"id": nil, "conversationId": nil, "content": "ho", "mentions": [], "editedAt": epoch}),
            ),
            (
                EventData::MessageDeleted { message_id: message() },
                "message:deleted",
                json!({"messageId": nil, "conversationId": nil, "deletedAt": epoch}),
            ),
            (added, "reaction:added", reaction(json!("agreed"))),
            (
                EventData::ReactionRemoved { message_id: message(), emoji: emoji() },
                "reaction:removed",
                reaction(Value::Null),
            ),
        ] {
            assert_eq!(frames(event, 1_000), [Decoded { name, payload, audience: Audience::Room }]);
        }
    }

    #[test]
    fn mention_notifications_have_no_frames() {
        assert_eq!(frames(EventData::MentionNotification { message_id: message(), user_id: user("bob") }, 2), []);
    }
}
