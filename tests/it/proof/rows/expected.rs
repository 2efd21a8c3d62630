//! What the read model must hold, folded from the log without the product's fold: small enough for millions of rows.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};

use domain::event::MessageSent;
use domain::{ConversationId, Event, EventData, EventId, MessageId, UserId, envelope};
use rdkafka::message::Message as _;
use service::config::Config;

use crate::harness::log;

/// The rows that the log makes.
#[derive(Default)]
pub(super) struct Expected {
    pub(super) conversations: HashMap<ConversationId, Conversation>,
    pub(super) messages: HashMap<MessageId, Message>,
    /// The users of each emoji that was ever added to a message which isn't deleted, in the order of their reactions.
    pub(super) reactions: HashMap<(MessageId, String), Vec<UserId>>,
    folded: HashSet<EventId>,
}

#[derive(Default)]
pub(super) struct Conversation {
    /// The participants' read marks.
    pub(super) read_marks: HashMap<UserId, i64>,
    pub(super) last_seq: i64,
    pub(super) deleted: Vec<i64>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Message {
    pub(super) conversation: ConversationId,
    pub(super) seq: i64,
    pub(super) sender: UserId,
    /// The hash of the content; see [`hash`]. None once the message is deleted.
    pub(super) content: Option<u64>,
    pub(super) created_ms: i64,
    pub(super) edited_ms: Option<i64>,
    pub(super) deleted_ms: Option<i64>,
}

/// A text's hash, so that a million contents fit into memory.
pub(super) fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

impl Expected {
    /// Reads the log up to its present end.
    pub(super) async fn read(config: &Config) -> Self {
        let (brokers, topic) = (config.kafka_brokers.clone(), config.kafka_topic.clone());
        tokio::task::spawn_blocking(move || {
            let mut expected = Self::default();
            log::read(&brokers, &topic, |record| expected.fold(&envelope::decode(record.payload().unwrap()).unwrap()));
            expected
        })
        .await
        .unwrap()
    }

    /// How many messages of a conversation are unread for a user.
    pub(super) fn unread(&self, conversation: ConversationId, user: &UserId) -> i64 {
        let Conversation { read_marks, last_seq, deleted } = &self.conversations[&conversation];
        let read = read_marks[user];
        let deleted = deleted.iter().filter(|seq| **seq > read).count();
        last_seq - read - i64::try_from(deleted).unwrap()
    }

    /// Folds an event that a command could have had, or a copy of one.
    fn fold(&mut self, event: &Event) {
        if !self.folded.insert(event.event_id) {
            return;
        }
        let conversation = self.conversations.entry(event.conversation_id).or_default();
        let at_ms = event.occurred_at.as_millis();
        match &event.data {
            EventData::ConversationCreated { participant_ids, .. } => {
                conversation.read_marks = participant_ids.iter().map(|user| (user.clone(), 0)).collect();
            }
            EventData::MessageSent(sent) => self.add_message(event, sent),
            EventData::MessagesRead { message_id: None } => {
                conversation.read_marks.insert(event.actor_id.clone(), conversation.last_seq);
            }
            EventData::MessageEdited { message_id, content, .. } => {
                if let Some(message) = self.kept(*message_id) {
                    message.content = Some(hash(content));
                    message.edited_ms = Some(at_ms);
                }
            }
            EventData::MessageDeleted { message_id } => {
                let Some(message) = self.kept(*message_id) else { return };
                (message.content, message.deleted_ms) = (None, Some(at_ms));
                let seq = message.seq;
                self.conversations.get_mut(&event.conversation_id).unwrap().deleted.push(seq);
                // The history has few emoji, and this is cheaper than a map of maps.
                for emoji in super::history::EMOJI {
                    self.reactions.remove(&(*message_id, emoji.to_owned()));
                }
            }
            EventData::ReactionAdded { message_id, emoji, .. } => {
                if self.kept(*message_id).is_some() {
                    let users = self.reactions.entry((*message_id, emoji.clone())).or_default();
                    if !users.contains(&event.actor_id) {
                        users.push(event.actor_id.clone());
                    }
                }
            }
            EventData::ReactionRemoved { message_id, emoji } => {
                if let Some(users) = self.reactions.get_mut(&(*message_id, emoji.clone())) {
                    users.retain(|user| *user != event.actor_id);
                }
            }
            other => panic!("the history has no such event: {other:?}"),
        }
    }

    fn add_message(&mut self, event: &Event, sent: &MessageSent) {
        let conversation = self.conversations.get_mut(&event.conversation_id).unwrap();
        conversation.last_seq += 1;
        // A sender has read everything above the message.
        conversation.read_marks.insert(event.actor_id.clone(), conversation.last_seq);
        let message = Message {
            conversation: event.conversation_id,
            seq: conversation.last_seq,
            sender: event.actor_id.clone(),
            content: Some(hash(&sent.content)),
            created_ms: event.occurred_at.as_millis(),
            edited_ms: None,
            deleted_ms: None,
        };
        self.messages.insert(sent.message_id, message);
    }

    /// A message that isn't deleted.
    fn kept(&mut self, id: MessageId) -> Option<&mut Message> {
        self.messages.get_mut(&id).filter(|message| message.deleted_ms.is_none())
    }
}
