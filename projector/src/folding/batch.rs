//! A batch: the next records of some partitions, which are folded and committed together. A record that can't be
//! decoded must never stop the batch.

use std::collections::HashSet;
use std::sync::Arc;

use domain::event::Event;
use domain::state::{Changes, State, Touched};
use domain::{ConversationId, OffsetAdvance, Position, limits};
use read_model::ParkedRecord;

use super::pending_record::PendingRecord;

/// How many of a message's reactions cost as much as a row: its row of an emoji holds everyone who gives it.
const REACTIONS_PER_ROW: usize = 16;

/// The next records of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) partition: i32,
    /// The partition's next offset before the batch.
    pub(super) from: i64,
    /// The next offset after it. Beyond the last record where the log has offsets without a record.
    pub(super) to: i64,
    pub(super) entries: Vec<Arc<PendingRecord>>,
}

/// Which partitions a batch is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// All healthy partitions.
    Shared,
    /// One partition that is set apart.
    Apart,
}

/// The next records of some partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    pub(super) parts: Vec<Part>,
    /// The partitions that the batch began with. Some may have been trimmed off.
    pub(super) partitions: Vec<i32>,
    pub(super) lane: Lane,
    /// How many rows the batch may cost.
    pub(super) rows: usize,
}

impl Batch {
    /// The partitions that the batch began with.
    pub fn partitions(&self) -> &[i32] {
        &self.partitions
    }

    /// Whether it is for all healthy partitions, and not for one that is set apart.
    pub fn is_shared(&self) -> bool {
        self.lane == Lane::Shared
    }

    /// How many records the batch has.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.entries.len()).sum()
    }

    /// Whether the batch has no records. It may still pass offsets without a record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The records, partition by partition.
    pub fn entries(&self) -> impl Iterator<Item = &PendingRecord> {
        self.parts.iter().flat_map(|part| &part.entries).map(Arc::as_ref)
    }

    /// The events, partition by partition, each with its position.
    pub fn events(&self) -> impl Iterator<Item = (Position, &Event)> {
        self.entries().filter_map(|entry| Some((entry.position, entry.event.as_ref().ok()?)))
    }

    /// How many events the batch has.
    pub fn event_count(&self) -> usize {
        self.events().count()
    }

    /// The records that can't be decoded as events.
    pub fn parked(&self) -> Vec<ParkedRecord> {
        let parked = |entry: &PendingRecord| {
            let reason = entry.event.as_ref().err()?.clone();
            Some(ParkedRecord { position: entry.position, reason })
        };
        self.entries().filter_map(parked).collect()
    }

    /// How far the batch moves the partitions' offsets.
    pub fn advances(&self) -> Vec<OffsetAdvance> {
        let advance = |part: &Part| OffsetAdvance { partition: part.partition, from: part.from, to: part.to };
        self.parts.iter().map(advance).collect()
    }

    /// Everything that the batch can touch: what to load before it is folded.
    pub fn touched(&self) -> Touched {
        Touched::by(self.events().map(|(_, event)| event))
    }

    /// Keeps only the first records of each partition, so that the batch stays within its budget, now that the state shows
    /// what each record costs. Partitions take turns. At least one record stays. Returns the cost of what stays.
    pub(super) fn trim(&mut self, state: &State) -> usize {
        let mut prices = Prices { state, paid: HashSet::new() };
        let mut kept = vec![0; self.parts.len()];
        let mut cost = 0;
        for turn in 0..self.parts.iter().map(|part| part.entries.len()).max().unwrap_or(0) {
            for (part, kept) in self.parts.iter().zip(&mut kept) {
                // A partition that has come to its end, in an earlier turn or because the budget was spent.
                let Some(entry) = part.entries.get(turn).filter(|_| *kept == turn) else { continue };
                let price = prices.price(entry);
                if cost > 0 && cost + price > self.rows {
                    continue;
                }
                prices.pay(entry);
                cost += price;
                *kept += 1;
            }
        }
        for (part, kept) in self.parts.iter_mut().zip(kept) {
            if kept < part.entries.len() {
                part.to = part.entries.get(kept).map_or(part.to, |first_left| first_left.position.offset);
                part.entries.truncate(kept);
            }
        }
        self.parts.retain(|part| part.from < part.to);
        cost
    }

    /// Folds the batch's events into a state that holds what it can touch. Returns what changed.
    pub fn fold(&self, state: &mut State) -> Changes {
        fold(self.events(), state)
    }
}

/// Folds events into a state. Returns what changed.
pub fn fold<'a>(events: impl IntoIterator<Item = (Position, &'a Event)>, state: &mut State) -> Changes {
    let mut changes = Changes::default();
    for (position, event) in events {
        domain::fold::fold(state, &mut changes, event, position);
    }
    changes
}

/// What records cost, given the state that they are folded into.
struct Prices<'a> {
    state: &'a State,
    /// The conversations whose members' rows the batch rewrites already: once, however many of its events change them.
    paid: HashSet<ConversationId>,
}

impl Prices<'_> {
    fn price(&self, entry: &PendingRecord) -> usize {
        let Ok(event) = &entry.event else { return entry.cost() };
        if !event.data.changes_state() {
            return entry.cost();
        }
        let id = event.conversation_id;
        let conversation = self.state.conversations.get(&id).filter(|_| !self.paid.contains(&id));
        let members = conversation.map_or(0, |conversation| {
            usize::try_from(conversation.participant_count)
                .ok()
                .filter(|count| *count <= limits::SMALL_CONVERSATION_MAX)
                .unwrap_or(0)
        });
        let message = event.data.message_id().and_then(|message| self.state.messages.get(&(id, message)));
        let reactions: usize = message
            .map_or(0, |message| message.reactions.iter().map(|reaction| 1 + reaction.user_ids.len()).sum::<usize>());
        entry.cost() + members + reactions / REACTIONS_PER_ROW
    }

    fn pay(&mut self, entry: &PendingRecord) {
        if let Ok(event) = &entry.event
            && event.data.changes_state()
        {
            self.paid.insert(event.conversation_id);
        }
    }
}
