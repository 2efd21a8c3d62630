//! The events of a benchmark. Messages and the baselines append the same ones.

use std::time::SystemTime;

use domain::event::{ConversationKind, MessageSent, MessageType};
use domain::{ConversationId, Event, EventData, EventId, MessageId, Timestamp, UserId};
use time::OffsetDateTime;
use uuid::Uuid;

/// The byte before a message's number. Ids and names never contain it.
const NUMBER_MARK: u8 = b'#';

/// How many users are in how many conversations: user n is in conversation n modulo the number of conversations.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Population {
    pub(crate) users: u32,
    pub(crate) conversations: u32,
}

impl Population {
    /// The user who sends a message.
    pub(crate) fn sender(self, number: u64) -> u32 {
        // The remainder is smaller than a u32.
        (number % u64::from(self.users)) as u32
    }

    /// The conversation of a user.
    pub(crate) fn conversation_of(self, user: u32) -> u32 {
        user % self.conversations
    }

    /// The users in a conversation; at least two.
    pub(crate) fn members(self, conversation: u32) -> impl Iterator<Item = u32> {
        (conversation..self.users).step_by(self.conversations as usize)
    }
}

/// The user with this number: the load spreads over numbered users.
pub(crate) fn user_id(number: u32) -> anyhow::Result<UserId> {
    Ok(format!("user-{number}").parse()?)
}

/// The content of a message: of usual length, with the message's number.
pub(crate) fn content(number: u64) -> String {
    let mark = char::from(NUMBER_MARK);
    format!("Message {mark}{number}, which says about as much as people say at a time in a chat.")
}

/// The number of the message whose content is part of a text.
pub(crate) fn number_in(text: &[u8]) -> Option<u64> {
    let mark = text.iter().position(|byte| *byte == NUMBER_MARK)?;
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

/// Makes the events of a population, in log order.
pub(crate) struct Events {
    population: Population,
    conversations: Vec<ConversationId>,
}

impl Events {
    pub(crate) fn new(population: Population) -> Self {
        let conversations = (0..population.conversations).map(|_| ConversationId(Uuid::now_v7())).collect();
        Self { population, conversations }
    }

    /// The creation of each conversation.
    pub(crate) fn conversations_created(&self) -> anyhow::Result<Vec<Event>> {
        let created = (0..).zip(&self.conversations).map(|(number, conversation)| {
            let participant_ids = self.population.members(number).map(user_id).collect::<anyhow::Result<Vec<_>>>()?;
            let data = EventData::ConversationCreated { kind: ConversationKind::Group, title: None, participant_ids };
            event(*conversation, user_id(number)?, data)
        });
        created.collect()
    }

    /// The message with this number.
    pub(crate) fn message_sent(&self, number: u64) -> anyhow::Result<Event> {
        let sender = self.population.sender(number);
        let sent = MessageSent {
            message_id: MessageId(Uuid::now_v7()),
            content: content(number),
            message_type: MessageType::Text,
            attachments: Vec::new(),
            mentions: Vec::new(),
            reply_to_id: None,
        };
        let conversation = self.conversations[self.population.conversation_of(sender) as usize];
        event(conversation, user_id(sender)?, EventData::MessageSent(sent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_with_a_messages_content_has_its_number() {
        let event = Events::new(Population { users: 4, conversations: 2 }).message_sent(1_234).unwrap();
        assert_eq!(number_in(&domain::envelope::encode(&event)), Some(1_234));
        assert_eq!(number_in(b"no number"), None);
    }

    #[test]
    fn each_user_is_a_member_of_the_conversation_that_they_send_to() {
        let population = Population { users: 200, conversations: 50 };
        for number in 0..200 {
            let sender = population.sender(number);
            assert!(population.members(population.conversation_of(sender)).any(|member| member == sender));
        }
        assert_eq!(population.members(49).collect::<Vec<_>>(), [49, 99, 149, 199]);
    }
}
