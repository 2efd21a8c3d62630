//! A model of the read model in Postgres: the methods of `ReadModel` that the core uses, on tables in memory. Each method
//! is one transaction, so what it returns is one state of the tables.

mod conformance;
mod tables;
mod views;

use std::collections::BTreeMap;

use domain::state::{Changes, State, Touched};
use domain::{ConversationId, OffsetAdvance, PositionVector, UserId, limits};
use read_model::{ChangedEntities, ChangesCursor, ParkedRecord, Projection};

use self::tables::Tables;

/// Why the model didn't commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommitFailure {
    /// Another offset, topic or generation than the projector expects.
    Fenced,
    /// A row violates a unique index.
    Violation,
}

/// What tells the models of a correct system from the planted bugs of the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CompareAndSet {
    Checked,
    /// Ignores the expected offset.
    IgnoresOffset,
}

/// The read model of one projection.
#[derive(Debug, Clone)]
pub(super) struct PostgresModel {
    projection: Projection,
    next_offsets: PositionVector,
    tables: Tables,
    pub(super) parked: BTreeMap<domain::Position, String>,
    pub(super) compare_and_set: CompareAndSet,
}

impl PostgresModel {
    /// An empty read model of a topic with this number of partitions.
    pub(super) fn new(projection: Projection, partitions: usize) -> Self {
        Self {
            projection,
            next_offsets: PositionVector::zero(partitions),
            tables: Tables::default(),
            parked: BTreeMap::new(),
            compare_and_set: CompareAndSet::Checked,
        }
    }

    pub(super) fn offsets(&self) -> PositionVector {
        self.next_offsets.clone()
    }

    /// As `ReadModel::load`.
    pub(super) fn load(&self, touched: &Touched) -> State {
        let tables = &self.tables;
        let conversations = touched.conversations.iter().filter_map(|id| Some((*id, tables.conversation(*id)?)));
        let members = touched.members.iter().filter_map(|key| Some((key.clone(), tables.member(key)?)));
        let messages = touched.messages.iter().filter_map(|key| Some((*key, tables.message(*key)?)));
        State {
            conversations: conversations.collect(),
            members: members.collect(),
            messages: messages.collect(),
            applied: touched.events.iter().filter(|key| tables.applied_events.contains(key)).copied().collect(),
            keys: touched.keys.iter().filter(|key| tables.used_keys.contains(key)).cloned().collect(),
        }
    }

    /// As `ReadModel::commit`: all of it or nothing.
    pub(super) fn commit(
        &mut self,
        state: &State,
        changes: &Changes,
        parked: &[ParkedRecord],
        advances: &[OffsetAdvance],
        projection: Projection,
    ) -> Result<(), CommitFailure> {
        let is_expected = |advance: &OffsetAdvance| {
            let is_known = usize::try_from(advance.partition).is_ok_and(|index| index < self.next_offsets.0.len());
            is_known && self.next_offsets.next(advance.partition) == advance.from
        };
        let is_checked = self.compare_and_set == CompareAndSet::Checked;
        if projection != self.projection || (is_checked && !advances.iter().all(is_expected)) {
            return Err(CommitFailure::Fenced);
        }
        let mut tables = self.tables.clone();
        for id in &changes.conversations {
            tables.write_conversation(*id, &state.conversations[id]);
        }
        for key in &changes.members {
            tables.write_member(key, &state.members[key]);
        }
        for key in &changes.messages {
            tables.write_message(*key, &state.messages[key]);
        }
        for applied in &changes.applied {
            let is_new = tables.applied_events.insert((applied.conversation_id, applied.event_id));
            let key = applied.key.clone().map(|(actor, key)| (applied.conversation_id, actor, key));
            if !is_new || key.is_some_and(|key| !tables.used_keys.insert(key)) {
                return Err(CommitFailure::Violation);
            }
        }
        self.tables = tables;
        for record in parked {
            self.parked.entry(record.position).or_insert_with(|| record.reason.clone());
        }
        for advance in advances {
            let index = usize::try_from(advance.partition).unwrap();
            self.next_offsets.0[index] = advance.to;
        }
        Ok(())
    }

    /// As `ReadModel::members_of_small`, in order.
    pub(super) fn members_of_small(&self, conversations: &[ConversationId]) -> Vec<UserId> {
        let is_small = |id: &&ConversationId| {
            let row = self.tables.conversations.get(id);
            row.is_some_and(|row| row.participant_count <= i64::try_from(limits::SMALL_CONVERSATION_MAX).unwrap())
        };
        let small = conversations.iter().filter(is_small);
        let mut users: Vec<UserId> =
            small.flat_map(|id| self.tables.members_of(*id)).map(|(user, _)| user.clone()).collect();
        users.sort_unstable();
        users.dedup();
        users
    }

    /// As `ReadModel::changed_entities`, in pages of another size: a page covers the offsets up to the next changed
    /// conversation's.
    pub(super) fn changed_entities(&self, cursor: &ChangesCursor) -> ChangedEntities {
        let (partition, from) = self.position_of(cursor);
        let is_here = |id: &ConversationId| self.tables.conversations[id].partition == partition;
        let changed = self.tables.conversations.iter().filter(|(id, row)| is_here(id) && row.changed >= from);
        let Some((id, row)) = changed.min_by_key(|(_, row)| row.changed) else { return ChangedEntities::default() };
        let next = row.changed + 1;
        let messages = self.tables.messages.iter();
        let messages = messages.filter(|((of, _), row)| is_here(of) && (from..next).contains(&row.position));
        ChangedEntities {
            conversations: vec![*id],
            messages: messages.map(|(_, row)| row.id).collect(),
            users: self.tables.members_of(*id).into_iter().map(|(user, _)| user.clone()).collect(),
            next: Some(ChangesCursor::since(partition, next)),
        }
    }

    /// The partition and offset that a cursor was made from.
    fn position_of(&self, cursor: &ChangesCursor) -> (i32, i64) {
        let all = (0..).zip(&self.next_offsets.0);
        let mut all = all.flat_map(|(partition, next)| (0..=*next).map(move |offset| (partition, offset)));
        all.find(|(partition, offset)| *cursor == ChangesCursor::since(*partition, *offset)).expect("a cursor of ours")
    }

    /// As `ReadModel::export_state`.
    pub(super) fn export_state(&self) -> State {
        self.tables.export()
    }
}
