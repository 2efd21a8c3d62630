//! What is sent: the same events, whoever appends them.

use std::time::SystemTime;

use domain::event::{ConversationKind, MessageSent, MessageType};
use domain::{ConversationId, Event, EventData, EventId, MessageId, Timestamp, UserId};
use time::OffsetDateTime;
use uuid::Uuid;

/// What stands before a message's number. Neither ids nor names have it.
const MARK: u8 = b'#';

/// How users are spread over conversations: user n is in conversation n modulo their number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) users: u32,
    pub(crate) conversations: u32,
}

impl Shape {
    /// The user who sends a message.
    pub(crate) fn sender(self, number: u64) -> u32 {
        // Smaller than a u32.
        (number % u64::from(self.users)) as u32
    }

    /// The conversation of a user.
    pub(crate) fn conversation_of(self, user: u32) -> u32 {
        user % self.conversations
    }

    /// Everyone in a conversation; at least two.
    pub(crate) fn members(self, conversation: u32) -> impl Iterator<Item = u32> {
        (conversation..self.users).step_by(self.conversations as usize)
    }
}

/// A user's id.
pub(crate) fn user(number: u32) -> anyhow::Result<UserId> {
    Ok(format!("user-{number}").parse()?)
}

/// A message of a usual length, with its number.
pub(crate) fn content(number: u64) -> String {
    format!("Message {}{number}, which says about as much as people say at a time in a chat.", char::from(MARK))
}

/// The number of the message whose content is somewhere in a text.
pub(crate) fn number_in(text: &[u8]) -> Option<u64> {
    let mark = text.iter().position(|byte| *byte == MARK)?;
    let digits = text[mark + 1..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

fn event(conversation: ConversationId, actor: UserId, data: EventData) -> anyhow::Result<Event> {
    Ok(Event {
        event_id: EventId(Uuid::now_v7()),
        occurred_at: Timestamp::from_date_time(OffsetDateTime::from(SystemTime::now()))?,
        conversation_id: conversation,
        actor_id: actor,
        request: None,
        data,
    })
}

/// The events of a shape, in the order of the log.
pub(crate) struct Events {
    shape: Shape,
    conversations: Vec<ConversationId>,
}

impl Events {
    pub(crate) fn new(shape: Shape) -> Self {
        let conversations = (0..shape.conversations).map(|_| ConversationId(Uuid::now_v7())).collect();
        Self { shape, conversations }
    }

    /// The conversations' beginnings.
    pub(crate) fn begun(&self) -> anyhow::Result<Vec<Event>> {
        let begun = (0..).zip(&self.conversations).map(|(number, conversation)| {
            let participant_ids = self.shape.members(number).map(user).collect::<anyhow::Result<Vec<_>>>()?;
            let data = EventData::ConversationCreated { kind: ConversationKind::Group, title: None, participant_ids };
            event(*conversation, user(number)?, data)
        });
        begun.collect()
    }

    /// A message.
    pub(crate) fn sent(&self, number: u64) -> anyhow::Result<Event> {
        let sender = self.shape.sender(number);
        let sent = MessageSent {
            message_id: MessageId(Uuid::now_v7()),
            content: content(number),
            message_type: MessageType::Text,
            attachments: Vec::new(),
            mentions: Vec::new(),
            reply_to_id: None,
        };
        let conversation = self.conversations[self.shape.conversation_of(sender) as usize];
        event(conversation, user(sender)?, EventData::MessageSent(sent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_known_by_its_number_wherever_it_is() {
        let event = Events::new(Shape { users: 4, conversations: 2 }).sent(1_234).unwrap();
        assert_eq!(number_in(&domain::envelope::encode(&event)), Some(1_234));
        assert_eq!(number_in(b"no number"), None);
    }

    #[test]
    fn everyone_is_in_the_conversation_to_which_they_send() {
        let shape = Shape { users: 200, conversations: 50 };
        for number in 0..200 {
            let sender = shape.sender(number);
            assert!(shape.members(shape.conversation_of(sender)).any(|member| member == sender));
        }
        assert_eq!(shape.members(49).collect::<Vec<_>>(), [49, 99, 149, 199]);
    }
}
