//! A long history, event by event: a crowd that shares one conversation, and a user who has thousands of others.

use domain::event::{ConversationKind, MessageSent, MessageType};
use domain::testing::Rng;
use domain::{ConversationId, Event, EventData, EventId, MessageId, Timestamp, UserId};
use uuid::Uuid;

/// How many participants the long conversation has: more than a conversation may have whose changes the read model
/// copies to its members.
const CROWD: usize = 200;
/// 2026-01-01T00:00:00Z in Unix milliseconds.
const START_MS: i64 = 1_767_225_600_000;
/// The emoji of all reactions.
pub(super) const EMOJI: [&str; 3] = ["👍", "❤️", "🎉"];

/// The history so far, as far as the next event depends on it.
pub(super) struct History {
    rng: Rng,
    events: usize,
    /// The participants of the long conversation. The first has all the short ones, too.
    crowd: Vec<UserId>,
    /// The long conversation, then the short ones.
    conversations: Vec<Conversation>,
    messages: Vec<SentMessage>,
}

struct Conversation {
    id: ConversationId,
    /// The other user of a short conversation. None for the long one.
    friend: Option<UserId>,
}

#[derive(Clone)]
struct SentMessage {
    id: MessageId,
    /// The index of its conversation.
    conversation: usize,
    sender: UserId,
}

impl History {
    /// A history that begins with the creation of the long conversation.
    pub(super) fn new() -> Self {
        let crowd = (0..CROWD).map(|number| format!("user-{number}").parse().unwrap()).collect();
        Self { rng: Rng::new(1), events: 0, crowd, conversations: Vec::new(), messages: Vec::new() }
    }

    /// The user who is in every conversation.
    pub(super) fn hub(&self) -> &UserId {
        &self.crowd[0]
    }

    /// A user of the long conversation who only reads the others' messages, and has never marked one as read.
    pub(super) fn lurker(&self) -> &UserId {
        &self.crowd[CROWD - 1]
    }

    /// The one that the whole crowd shares.
    pub(super) fn long_conversation(&self) -> ConversationId {
        self.conversations[0].id
    }

    /// How many conversations the hub has.
    pub(super) fn conversation_count(&self) -> usize {
        self.conversations.len()
    }

    /// The events that follow.
    pub(super) fn next_events(&mut self, count: usize) -> Vec<Event> {
        let mut events: Vec<Event> = Vec::with_capacity(count);
        while events.len() < count {
            let event = match events.last() {
                // A producer may append a record twice.
                Some(previous) if self.rng.below(1_000) < 2 => previous.clone(),
                _ => self.next_event(),
            };
            events.push(event);
        }
        events
    }

    fn next_event(&mut self) -> Event {
        self.events += 1;
        if self.conversations.is_empty() {
            return self.create_conversation(None);
        }
        // Of a thousand events; the rest are about messages.
        match self.rng.below(1_000) {
            0..6 => {
                let friend = format!("friend-{}", self.conversations.len()).parse().unwrap();
                self.create_conversation(Some(friend))
            }
            6..536 => self.send(0),
            536..790 => {
                let conversation = self.rng.below(self.conversations.len());
                self.send(conversation)
            }
            790..830 => {
                let conversation = if self.rng.percent(50) { 0 } else { self.rng.below(self.conversations.len()) };
                let reader = self.participant(conversation);
                self.event(conversation, reader, EventData::MessagesRead { message_id: None })
            }
            choice => self.change(choice),
        }
    }

    fn create_conversation(&mut self, friend: Option<UserId>) -> Event {
        let id = ConversationId(Uuid::now_v7());
        let kind = if friend.is_some() { ConversationKind::Direct } else { ConversationKind::Group };
        let participant_ids =
            friend.as_ref().map_or(self.crowd.clone(), |friend| vec![self.hub().clone(), friend.clone()]);
        self.conversations.push(Conversation { id, friend });
        let data = EventData::ConversationCreated { kind, title: None, participant_ids };
        self.event(self.conversations.len() - 1, self.hub().clone(), data)
    }

    fn send(&mut self, conversation: usize) -> Event {
        let sender = self.participant(conversation);
        let id = MessageId(Uuid::now_v7());
        self.messages.push(SentMessage { id, conversation, sender: sender.clone() });
        let data = EventData::MessageSent(MessageSent {
            message_id: id,
            content: format!("message {} of {sender}, about as long as what people write to one another", self.events),
            message_type: MessageType::Text,
            attachments: Vec::new(),
            mentions: Vec::new(),
            reply_to_id: None,
        });
        self.event(conversation, sender, data)
    }

    /// A change of a message: half of the time of one of the latest. `choice` decides which.
    fn change(&mut self, choice: usize) -> Event {
        let latest = self.messages.len().min(1_000);
        let range = if self.rng.percent(50) { latest } else { self.messages.len() };
        let index = self.messages.len() - range + self.rng.below(range);
        let Some(SentMessage { id: message_id, conversation, sender }) = self.messages.get(index).cloned() else {
            return self.send(0);
        };
        let emoji = EMOJI[self.rng.below(EMOJI.len())].to_owned();
        let reacting = self.participant(conversation);
        match choice {
            ..900 => {
                let content = format!("edited {}", self.events);
                self.event(conversation, sender, EventData::MessageEdited { message_id, content, mentions: Vec::new() })
            }
            900..930 => self.event(conversation, sender, EventData::MessageDeleted { message_id }),
            930..990 => self.event(conversation, reacting, EventData::ReactionAdded { message_id, emoji, label: None }),
            _ => self.event(conversation, reacting, EventData::ReactionRemoved { message_id, emoji }),
        }
    }

    /// A participant who writes. The lurker doesn't.
    fn participant(&mut self, conversation: usize) -> UserId {
        let hub = self.rng.percent(20);
        match &self.conversations[conversation].friend {
            _ if hub => self.hub().clone(),
            Some(friend) => friend.clone(),
            None => self.crowd[self.rng.below(CROWD - 1)].clone(),
        }
    }

    fn event(&self, conversation: usize, actor_id: UserId, data: EventData) -> Event {
        Event {
            event_id: EventId(Uuid::now_v7()),
            occurred_at: Timestamp::from_millis(START_MS + 10 * self.events as i64).unwrap(),
            conversation_id: self.conversations[conversation].id,
            actor_id,
            request: None,
            data,
        }
    }
}
