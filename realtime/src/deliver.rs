//! What an event means for the sockets: pure.

use domain::event::{Event, EventData};
use domain::view::{ConversationView, MessageView, ParticipantView};
use domain::{ConversationId, Position, UserId, limits};
use serde_json::{Value, json};

/// Read marks and presence go to conversations of up to this size.
pub(crate) const SOCIABLE: i64 = 50;

/// Who gets a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Everyone in the conversation. Such frames carry the position of the one before, so that a gap shows.
    Room,
    /// Everyone in the conversation but one.
    Others(UserId),
    /// One user, if they are in the conversation.
    Member(UserId),
}

/// A frame to send.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Delivery {
    pub(crate) name: &'static str,
    pub(crate) payload: Value,
    pub(crate) audience: Audience,
}

fn to_room(name: &'static str, payload: Value) -> Delivery {
    Delivery { name, payload, audience: Audience::Room }
}

/// The frames that an event makes in a conversation of so many participants.
pub(crate) fn deliveries(event: &Event, position: Position, participants: i64) -> Vec<Delivery> {
    let (conversation, actor, at) = (event.conversation_id, &event.actor_id, event.occurred_at);
    let frame = match &event.data {
        EventData::ConversationCreated { .. } => to_room("conversation:created", json!(created(event, position))),
        EventData::MessageSent(sent) => {
            let mut view = MessageView::sent(conversation, actor.clone(), sent.clone(), at);
            view.position = Some(position);
            let mut frames = vec![to_room("message:new", json!(view))];
            frames.extend(sent.mentions.iter().filter(|user| *user != actor).map(|user| Delivery {
                name: "mention:new",
                payload: json!({
                    "messageId": sent.message_id, "conversationId": conversation, "userId": user, "by": actor,
                }),
                audience: Audience::Member(user.clone()),
            }));
            return frames;
        }
        EventData::MessageEdited { .. } => to_room("message:edited", json!(domain::response::data(event))),
        EventData::MessageDeleted { message_id } => to_room(
            "message:deleted",
            json!({"messageId": message_id, "conversationId": conversation, "deletedAt": at}),
        ),
        EventData::ReactionAdded { message_id, emoji, label } => to_room(
            "reaction:added",
            json!({
                "messageId": message_id, "conversationId": conversation, "userId": actor, "emoji": emoji,
                "label": label,
            }),
        ),
        EventData::ReactionRemoved { message_id, emoji } => to_room(
            "reaction:removed",
            json!({
                "messageId": message_id, "conversationId": conversation, "userId": actor, "emoji": emoji,
                "label": null,
            }),
        ),
        EventData::MessagesRead { message_id } if participants <= SOCIABLE => {
            to_room("messages:read", json!({"conversationId": conversation, "userId": actor, "messageId": message_id}))
        }
        EventData::TypingStart {} => typing("typing:start", actor, conversation),
        EventData::TypingStop {} => typing("typing:stop", actor, conversation),
        EventData::MessagesRead { .. } | EventData::MentionNotification { .. } => return Vec::new(),
    };
    vec![frame]
}

/// That somebody types, or stopped.
pub(crate) fn typing(name: &'static str, user: &UserId, conversation: ConversationId) -> Delivery {
    let payload = json!({"userId": user, "conversationId": conversation});
    Delivery { name, payload, audience: Audience::Others(user.clone()) }
}

/// A conversation as it began.
fn created(event: &Event, position: Position) -> Option<ConversationView> {
    let EventData::ConversationCreated { kind, title, participant_ids } = &event.data else { return None };
    let participant = |user: &UserId| ParticipantView { user_id: user.clone(), last_read_seq: 0, last_read_at: None };
    Some(ConversationView {
        id: event.conversation_id,
        kind: *kind,
        title: title.clone(),
        participant_count: i64::try_from(participant_ids.len()).unwrap_or(i64::MAX),
        participants: participant_ids.iter().take(limits::PARTICIPANTS_IN_VIEW).map(participant).collect(),
        last_message: None,
        unread_count: 0,
        created_at: event.occurred_at,
        updated_at: event.occurred_at,
        position,
    })
}

#[cfg(test)]
mod tests {
    use domain::event::{ConversationKind, MessageSent, MessageType};
    use domain::{EventId, MessageId, Timestamp};
    use uuid::Uuid;

    use super::*;

    fn user(name: &str) -> UserId {
        name.parse().unwrap()
    }

    fn of(data: EventData, participants: i64) -> Vec<Delivery> {
        let event = Event {
            event_id: EventId(Uuid::nil()),
            occurred_at: Timestamp::from_millis(0).unwrap(),
            conversation_id: ConversationId(Uuid::nil()),
            actor_id: user("alice"),
            request: None,
            data,
        };
        deliveries(&event, Position { partition: 3, offset: 7 }, participants)
    }

    fn message() -> MessageId {
        MessageId(Uuid::nil())
    }

    #[test]
    fn a_message_goes_to_the_room_and_its_mentions_to_the_others_mentioned() {
        let sent = MessageSent {
            message_id: message(),
            content: "@alice @bob".to_owned(),
            message_type: MessageType::Text,
            attachments: Vec::new(),
            mentions: vec![user("alice"), user("bob")],
            reply_to_id: None,
        };
        let frames = of(EventData::MessageSent(sent), 2);
        assert_eq!(frames.iter().map(|frame| frame.name).collect::<Vec<_>>(), ["message:new", "mention:new"]);
        assert_eq!(frames[0].audience, Audience::Room);
        assert_eq!(frames[0].payload["position"], "3:7");
        assert!(frames[0].payload.get("seq").is_none(), "the fold alone knows it");
        assert_eq!(frames[1].audience, Audience::Member(user("bob")));
        let nil = Uuid::nil();
        assert_eq!(frames[1].payload, json!({"messageId": nil, "conversationId": nil, "userId": "bob", "by": "alice"}));
    }

    #[test]
    fn a_new_conversation_is_shown_with_the_first_fifty() {
        let participant_ids = (0..60).map(|number| user(&number.to_string())).collect();
        let frames =
            of(EventData::ConversationCreated { kind: ConversationKind::Group, title: None, participant_ids }, 60);
        assert_eq!(frames[0].name, "conversation:created");
        assert_eq!(frames[0].payload["participantCount"], 60);
        assert_eq!(frames[0].payload["participants"].as_array().unwrap().len(), 50);
        assert_eq!(frames[0].payload["participants"][0], json!({"userId": "0", "lastReadSeq": 0, "lastReadAt": null}));
        assert_eq!(frames[0].payload["position"], "3:7");
    }

    #[test]
    fn read_marks_stay_in_small_conversations() {
        let read = || EventData::MessagesRead { message_id: None };
        assert_eq!(of(read(), SOCIABLE)[0].payload["messageId"], Value::Null);
        assert_eq!(of(read(), SOCIABLE + 1), []);
    }

    #[test]
    fn typing_goes_to_the_others() {
        assert_eq!(of(EventData::TypingStart {}, 2)[0].audience, Audience::Others(user("alice")));
    }

    #[test]
    fn changes_of_a_message_go_to_the_room() {
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
            assert_eq!(of(event, 1_000), [Delivery { name, payload, audience: Audience::Room }]);
        }
    }

    #[test]
    fn notifications_are_for_others_than_sockets() {
        assert_eq!(of(EventData::MentionNotification { message_id: message(), user_id: user("bob") }, 2), []);
    }
}
