//! The states of one conversation at points of the log: what its participants saw then, from the log alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use domain::fold::fold;
use domain::limits::REACTION_USERS_IN_VIEW;
use domain::state::{Changes, Conversation, Member, Message, State};
use domain::view::{MessageView, ReactionView};
use domain::{ConversationId, MessageId, PositionVector, UserId};
use event_log::{LogConsumer, LogRecord, partition_of};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::decode::conversation_of;
use crate::read::{ReadProgress, WAITING_MAX, read_log};
use crate::replay::ReplayError;

/// How many bytes of events of a conversation are folded. Its state takes several times as much memory.
const FOLDED_BYTES_MAX: usize = 128 << 20;

domain::limit_rows! {
    Memory, "events of the conversation that `replay --fold` folds", Bytes FOLDED_BYTES_MAX, "it ends with code 1; without `--fold`, `replay` writes the events", "memory";
}

/// What a line of a state is about. Sorts as the lines do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ItemKey {
    Conversation,
    /// By the participant's place in the list of participants.
    ReadMark(i32),
    /// By the message's `seq`.
    Message(i64),
}

impl ItemKey {
    /// The name that `sync` has for it.
    fn kind(self) -> &'static str {
        match self {
            Self::Conversation => "conversation",
            Self::ReadMark(_) => "readMark",
            Self::Message(_) => "message",
        }
    }
}

/// What one conversation was at a point of the log.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ConversationState(BTreeMap<ItemKey, Value>);

impl ConversationState {
    /// Whether the conversation didn't exist yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A line for the conversation, one for each participant's read mark, and one for each message.
    pub fn lines(&self) -> impl Iterator<Item = Value> {
        self.0.iter().map(|(key, value)| json!({"kind": key.kind(), "value": value}))
    }

    /// The conversation, each participant's read mark and each message: the name of its kind, and its fields.
    pub fn into_items(self) -> impl Iterator<Item = (&'static str, Value)> {
        self.0.into_iter().map(|(key, value)| (key.kind(), value))
    }

    /// A line for each of them that differs in a later state, with both values.
    pub fn lines_that_differ(&self, later: &Self) -> impl Iterator<Item = Value> {
        let keys: BTreeSet<ItemKey> = self.0.keys().chain(later.0.keys()).copied().collect();
        keys.into_iter().filter_map(|key| {
            let (before, after) = (self.0.get(&key), later.0.get(&key));
            (before != after).then(|| json!({"kind": key.kind(), "before": before, "after": after}))
        })
    }

    /// What a folded state has of a conversation.
    ///
    /// # Errors
    /// Never: messages always have a JSON form.
    pub fn of(state: &State, id: ConversationId) -> serde_json::Result<Self> {
        let mut items = BTreeMap::new();
        if let Some(conversation) = state.conversations.get(&id) {
            items.insert(ItemKey::Conversation, conversation_value(id, conversation));
        }
        let sent = SentMessages::of(state);
        for ((_, user), member) in &state.members {
            items.insert(ItemKey::ReadMark(member.ordinal), read_mark_value(&sent, user, member));
        }
        for ((_, message_id), message) in &state.messages {
            let view = message_view(id, *message_id, message);
            items.insert(ItemKey::Message(message.seq), serde_json::to_value(view)?);
        }
        Ok(Self(items))
    }
}

fn conversation_value(id: ConversationId, conversation: &Conversation) -> Value {
    let Conversation { kind, title, participant_count, created_at, updated_at, last_message, position, .. } =
        conversation;
    json!({
        "id": id, "type": kind, "title": title, "participantCount": participant_count, "createdAt": created_at,
        "updatedAt": updated_at, "lastMessageId": last_message, "position": position,
    })
}

/// The messages that aren't deleted, by their `seq` in ascending order.
struct SentMessages<'a> {
    all: Vec<i64>,
    by_sender: HashMap<&'a UserId, Vec<i64>>,
}

impl<'a> SentMessages<'a> {
    fn of(state: &'a State) -> Self {
        let mut sent = Self { all: Vec::new(), by_sender: HashMap::new() };
        for message in state.messages.values().filter(|message| message.deleted_at.is_none()) {
            sent.all.push(message.seq);
            sent.by_sender.entry(&message.sender_id).or_default().push(message.seq);
        }
        sent.all.sort_unstable();
        sent.by_sender.values_mut().for_each(|own| own.sort_unstable());
        sent
    }

    /// How many messages of others are after a user's read mark.
    fn unread(&self, user: &UserId, last_read_seq: i64) -> usize {
        let after = |seqs: &[i64]| seqs.len() - seqs.partition_point(|seq| *seq <= last_read_seq);
        after(&self.all) - self.by_sender.get(user).map_or(0, |own| after(own))
    }
}

fn read_mark_value(sent: &SentMessages<'_>, user: &UserId, member: &Member) -> Value {
    let Member { last_read_seq, last_read_at, position, .. } = member;
    json!({
        "userId": user, "lastReadSeq": last_read_seq, "lastReadAt": last_read_at,
        "unreadCount": sent.unread(user, *last_read_seq), "position": position,
    })
}

fn message_view(conversation_id: ConversationId, id: MessageId, message: &Message) -> MessageView {
    let with_users = message.reactions.iter().filter(|reaction| !reaction.user_ids.is_empty());
    let reactions = with_users.map(|reaction| ReactionView {
        emoji: reaction.emoji.clone(),
        label: reaction.label.clone(),
        count: i64::try_from(reaction.user_ids.len()).unwrap_or(i64::MAX),
        user_ids: reaction.user_ids.iter().take(REACTION_USERS_IN_VIEW).cloned().collect(),
    });
    MessageView {
        id,
        conversation_id,
        seq: Some(message.seq),
        position: Some(message.position),
        sender_id: message.sender_id.clone(),
        content: message.content.clone(),
        message_type: message.message_type,
        attachments: message.attachments.clone(),
        mentions: message.mentions.clone(),
        reply_to_id: message.reply_to_id,
        reactions: reactions.collect(),
        created_at: message.created_at,
        edited_at: message.edited_at,
        deleted_at: message.deleted_at,
    }
}

/// Folds one conversation from the beginning of the log, and returns its state before each of these offsets of its
/// partition, which must not descend. The log must have all its records.
///
/// # Errors
/// When Kafka doesn't answer, the conversation has too many events, or `shutdown` comes first.
pub async fn conversation_states(
    log: &LogConsumer,
    partitions: usize,
    conversation: ConversationId,
    ends: &[PositionVector],
    shutdown: &CancellationToken,
    report: impl Fn(ReadProgress),
) -> Result<Vec<ConversationState>, ReplayError> {
    let partition = partition_of(conversation, partitions);
    let ends: Vec<i64> = ends.iter().map(|end| end.next(partition)).collect();
    let mut end = PositionVector::zero(partitions);
    end.advance(partition, ends.last().copied().unwrap_or(0));
    let (sender, records) = mpsc::channel(WAITING_MAX);
    let folding =
        tokio::task::spawn_blocking(move || fold_records(records, partitions, conversation, &ends, FOLDED_BYTES_MAX));
    let from = PositionVector::zero(partitions);
    let reading = shutdown.run_until_cancelled(read_log(log, &from, &end, &sender, report)).await;
    reading.ok_or(ReplayError::Stopped)??;
    drop(sender);
    folding.await.map_err(|_| ReplayError::Stopped)?
}

/// Folds the records of a conversation. Returns the states before these offsets.
fn fold_records(
    mut records: mpsc::Receiver<Vec<LogRecord>>,
    partitions: usize,
    conversation: ConversationId,
    ends: &[i64],
    bytes_max: usize,
) -> Result<Vec<ConversationState>, ReplayError> {
    let (mut state, mut changes) = (State::default(), Changes::default());
    let (mut states, mut bytes) = (Vec::new(), 0);
    let state_of = |state: &State| ConversationState::of(state, conversation).map_err(std::io::Error::from);
    while let Some(records) = records.blocking_recv() {
        for record in records {
            while ends.get(states.len()).is_some_and(|end| record.position.offset >= *end) {
                states.push(state_of(&state)?);
            }
            if conversation_of(&record) == Some(conversation)
                && let Ok(event) = record.event(partitions)
            {
                bytes += record.value.len();
                if bytes > bytes_max {
                    return Err(ReplayError::TooLarge(bytes_max));
                }
                fold(&mut state, &mut changes, &event, record.position);
            }
        }
        changes = Changes::default();
    }
    while states.len() < ends.len() {
        states.push(state_of(&state)?);
    }
    Ok(states)
}

#[cfg(test)]
mod tests {
    use domain::testing::random_history;
    use domain::{Position, envelope};

    use super::*;

    #[test]
    fn a_conversation_with_too_many_events_is_refused() {
        let events = random_history(1, 100);
        let is_creation = |event: &&domain::Event| matches!(event.data, domain::EventData::ConversationCreated { .. });
        let conversation = events.iter().find(is_creation).unwrap().conversation_id;
        let records: Vec<LogRecord> = (0..)
            .zip(events.iter().filter(|event| event.conversation_id == conversation))
            .map(|(offset, event)| LogRecord {
                position: Position { partition: 0, offset },
                timestamp_ms: 0,
                key: conversation.to_string().into_bytes(),
                event_id: None,
                event_type: None,
                traceparent: None,
                value: envelope::encode(event),
            })
            .collect();
        let bytes: usize = records.iter().map(|record| record.value.len()).sum();
        let fold = |bytes_max| {
            let (sender, receiver) = mpsc::channel(1);
            sender.try_send(records.clone()).unwrap();
            drop(sender);
            fold_records(receiver, 1, conversation, &[i64::MAX], bytes_max)
        };
        assert!(!fold(bytes).unwrap()[0].is_empty());
        assert!(matches!(fold(bytes - 1), Err(ReplayError::TooLarge(_))));
    }
}
