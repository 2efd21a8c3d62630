//! The events of a benchmark. Messages and the baselines append the same ones.

use std::time::SystemTime;

use domain::event::{ConversationKind, MessageSent, MessageType};
use domain::{ConversationId, Event, EventData, EventId, MessageId, Timestamp, UserId};
use time::OffsetDateTime;
use uuid::Uuid;

/// The byte before a message's number. Ids and names never contain it.
const NUMBER_MARK: u8 = b'#';
/// Every number is written with this many digits.
const NUMBER_DIGITS: usize = 10;

/// Users in conversations of equal size: conversation c has the users from c times its size on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Population {
    pub(crate) conversations: u32,
    /// Users in a conversation.
    pub(crate) members: u32,
    /// Users of a conversation who have a socket.
    pub(crate) connected: u32,
}

impl Population {
    pub(crate) fn users(self) -> u32 {
        self.conversations * self.members
    }

    /// The user who sends a message: one conversation after the other, and in each one member after the other.
    pub(crate) fn sender(self, number: u64) -> u32 {
        let conversations = u64::from(self.conversations);
        let member = number / conversations % u64::from(self.members);
        // Both remainders are smaller than a u32.
        (number % conversations * u64::from(self.members) + member) as u32
    }

    pub(crate) fn conversation_of(self, user: u32) -> u32 {
        user / self.members
    }

    /// The users in a conversation.
    pub(crate) fn members_of(self, conversation: u32) -> impl Iterator<Item = u32> {
        (0..self.members).map(move |member| conversation * self.members + member)
    }

    /// The users in a conversation who have a socket.
    pub(crate) fn connected_of(self, conversation: u32) -> impl Iterator<Item = u32> {
        self.members_of(conversation).take(self.connected as usize)
    }
}

/// The user with this number: the load spreads over numbered users.
pub(crate) fn user_id(number: u32) -> anyhow::Result<UserId> {
    Ok(format!("user-{number}").parse()?)
}

/// The content of a message: of usual length, the same for each, with the message's number.
pub(crate) fn content(number: u64) -> String {
    let mark = char::from(NUMBER_MARK);
    format!("Message {mark}{number:0NUMBER_DIGITS$}, which says about as much as people say at a time in a chat.")
}

/// Writes another number into a text with a message's content.
pub(crate) fn set_number(text: &mut [u8], number: u64) {
    let Some(mark) = text.iter().rposition(|byte| *byte == NUMBER_MARK) else { return };
    let mut rest = number;
    for digit in text.iter_mut().skip(mark + 1).take(NUMBER_DIGITS).rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
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
            let participant_ids =
                self.population.members_of(number).map(user_id).collect::<anyhow::Result<Vec<_>>>()?;
            let data = EventData::ConversationCreated { kind: ConversationKind::Group, title: None, participant_ids };
            event(*conversation, user_id(number * self.population.members)?, data)
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
        let population = Population { conversations: 2, members: 2, connected: 0 };
        let event = Events::new(population).message_sent(1_234).unwrap();
        assert_eq!(number_in(&domain::envelope::encode(&event)), Some(1_234));
        assert_eq!(number_in(b"no number"), None);
        let mut text = content(7).into_bytes();
        set_number(&mut text, 4_000_000_000);
        assert_eq!(text, content(4_000_000_000).into_bytes());
    }

    #[test]
    fn all_users_send_in_turn_to_their_own_conversation() {
        let population = Population { conversations: 50, members: 4, connected: 2 };
        let senders: Vec<u32> = (0..200).map(|number| population.sender(number)).collect();
        assert_eq!(senders[..3], [0, 4, 8]);
        assert_eq!(senders[50], 1);
        let mut all = senders.clone();
        all.sort_unstable();
        assert_eq!(all, (0..200).collect::<Vec<_>>());
        for sender in senders {
            assert!(population.members_of(population.conversation_of(sender)).any(|member| member == sender));
        }
        assert_eq!(population.members_of(49).collect::<Vec<_>>(), [196, 197, 198, 199]);
        assert_eq!(population.connected_of(49).collect::<Vec<_>>(), [196, 197]);
    }
}
