//! The memory of relayed events. With it the relay recognizes a second record of the same event, and drops it.
//!
//! The command API may append an event again as long as it can't know that it did: it looks the key up among the folded
//! events, and appends within [`REPEATABLE_FOR_MS`] of that. So the relay must remember an event until the projector
//! has published it, and [`REPEATABLE_FOR_MS`] longer. Usually that is half a minute; while the projector stands still, it is
//! everything since.
//!
//! The memory is bounded. If it has to forget an event that may still be repeated, it can't recognize a copy, but an
//! event says itself when it was decided: one that was decided after everything that the memory has forgotten is new.
//! Of others the relay doesn't know, and leaves them to the projector.

use std::collections::{HashMap, HashSet, VecDeque};

use domain::{Event, EventId, Position, PositionVector};

/// How long after the projector has published an event the command API may append it again, in milliseconds: a look-up
/// counts for 1 s, and an append ends within 10 s. The rest is for a busy machine.
const REPEATABLE_FOR_MS: i64 = 30_000;
/// How often the memory notes what the projector has published, in milliseconds.
const NOTE_INTERVAL_MS: i64 = 1_000;
/// How many notes it keeps: a relay that lags by less than two minutes finds those that it needs.
const MAX_NOTES: usize = 150;
/// How much the clocks of the command API, of Kafka and of this node may differ, in milliseconds.
const CLOCK_SKEW_MS: i64 = 10_000;
/// About how many bytes of memory an event takes: its entry, and its place in a hash table.
const BYTES_PER_EVENT: usize = 64;
/// How much memory all of them may take.
const MAX_BYTES: usize = 64 << 20;

domain::limit_rows! {
    Memory, "events that a relay has passed and that may come again", Bytes MAX_BYTES, "events that it can't tell from copies come with the next sync", "memory";
    Memory, "seconds for which a relay knows how far the projector was", Count MAX_NOTES, "the relay remembers events for longer", "memory";
}

struct PassedEvent {
    offset: i64,
    timestamp_ms: i64,
    id: EventId,
}

/// What the relay remembers of one partition.
struct PartitionMemory {
    /// The remembered events, oldest first.
    passed: VecDeque<PassedEvent>,
    /// The next offset that the relay reads.
    next: i64,
    /// The memory has all events from this offset on.
    complete_from: i64,
    /// Every event before that offset was on the log by this time.
    forgotten_until_ms: i64,
    /// Nobody can append again what is before this offset.
    settled: i64,
}

impl PartitionMemory {
    /// Forgets the oldest event. Returns its id.
    fn forget_oldest(&mut self) -> Option<EventId> {
        let oldest = self.passed.pop_front()?;
        self.complete_from = oldest.offset + 1;
        self.forgotten_until_ms = oldest.timestamp_ms;
        Some(oldest.id)
    }
}

/// What the projector had published at a time in Unix milliseconds.
struct Note {
    at_ms: i64,
    published: PositionVector,
}

/// The events that may be repeated.
pub(super) struct RecentEventIds {
    known: HashSet<EventId>,
    partitions: HashMap<i32, PartitionMemory>,
    /// Oldest first.
    notes: VecDeque<Note>,
    /// When the relay began to read.
    began_at_ms: i64,
    max_events: usize,
}

impl RecentEventIds {
    /// The memory of a relay that begins to read now, some way before the log's end.
    pub(super) fn new(now_ms: i64) -> Self {
        Self::with_capacity(now_ms, MAX_BYTES / BYTES_PER_EVENT)
    }

    fn with_capacity(began_at_ms: i64, max_events: usize) -> Self {
        let (known, partitions, notes) = (HashSet::new(), HashMap::new(), VecDeque::new());
        Self { known, partitions, notes, began_at_ms, max_events }
    }

    /// Whether it is time to note what the projector has published.
    pub(super) fn wants_note(&self, now_ms: i64) -> bool {
        self.notes.back().is_none_or(|note| now_ms.abs_diff(note.at_ms) >= NOTE_INTERVAL_MS.unsigned_abs())
    }

    /// The next offset of each partition.
    pub(super) fn passed(&self) -> PositionVector {
        let mut passed = PositionVector::default();
        self.partitions.iter().for_each(|(partition, memory)| passed.advance(*partition, memory.next));
        passed
    }

    /// Notes what the projector has published by now.
    pub(super) fn note(&mut self, now_ms: i64, published: PositionVector) {
        if self.notes.len() == MAX_NOTES {
            self.notes.pop_front();
        }
        self.notes.push_back(Note { at_ms: now_ms, published });
    }

    /// Remembers the event of a record. Returns whether it is new, as far as the memory knows.
    pub(super) fn insert(&mut self, position: Position, timestamp_ms: i64, id: EventId) -> bool {
        let Position { partition, offset } = position;
        let published = self.notes.back().map_or(0, |note| note.published.next(partition));
        let memory = self.partitions.entry(partition).or_insert_with(|| PartitionMemory {
            passed: VecDeque::new(),
            next: offset,
            complete_from: offset,
            forgotten_until_ms: timestamp_ms.min(self.began_at_ms),
            // The relay reads back further than events are repeatable.
            settled: published,
        });
        // The relay may read records again after an error.
        let is_new = offset >= memory.next && self.known.insert(id);
        memory.next = memory.next.max(offset + 1);
        if is_new {
            memory.passed.push_back(PassedEvent { offset, timestamp_ms, id });
        }
        self.settle(partition, timestamp_ms);
        if self.known.len() > self.max_events
            && let Some(largest) = self.partitions.values_mut().max_by_key(|memory| memory.passed.len())
            && let Some(id) = largest.forget_oldest()
        {
            self.known.remove(&id);
        }
        is_new
    }

    /// Forgets what nobody has appended again by a time on the log, and nobody will. The time is that of a record, not
    /// this node's: the relay may lag.
    fn settle(&mut self, partition: i32, timestamp_ms: i64) {
        let settled_by = timestamp_ms.saturating_sub(REPEATABLE_FOR_MS + CLOCK_SKEW_MS);
        let older = self.notes.partition_point(|note| note.at_ms <= settled_by);
        let Some(note) = older.checked_sub(1).and_then(|index| self.notes.get(index)) else { return };
        let Some(memory) = self.partitions.get_mut(&partition) else { return };
        // It goes back when somebody rebuilds the read model.
        memory.settled = note.published.next(partition);
        while memory.passed.front().is_some_and(|oldest| oldest.offset < memory.settled)
            && let Some(id) = memory.forget_oldest()
        {
            self.known.remove(&id);
        }
    }

    /// Whether an event that seems to be new may be a copy of one that the memory has forgotten.
    pub(super) fn may_have_forgotten(&self, event: &Event, partition: i32) -> bool {
        let Some(memory) = self.partitions.get(&partition) else { return false };
        // Only an event with a key is ever appended again.
        event.request.is_some()
            && memory.settled < memory.complete_from
            && event.occurred_at.as_millis() <= memory.forgotten_until_ms.saturating_add(CLOCK_SKEW_MS)
    }
}

#[cfg(test)]
mod tests {
    use domain::Timestamp;
    use domain::testing::World;
    use uuid::Uuid;

    use super::*;

    const BEGAN_MS: i64 = 1_000_000;
    const FORGOTTEN_AFTER_MS: i64 = REPEATABLE_FOR_MS + CLOCK_SKEW_MS;

    fn id(number: i64) -> EventId {
        EventId(Uuid::from_u128(number as u128))
    }

    /// Inserts an event at this offset of the only partition, appended so long after the relay began.
    fn insert(memory: &mut RecentEventIds, offset: i64, after_ms: i64, id: EventId) -> bool {
        memory.insert(Position { partition: 0, offset }, BEGAN_MS + after_ms, id)
    }

    fn note(memory: &mut RecentEventIds, after_ms: i64, published: i64) {
        memory.note(BEGAN_MS + after_ms, PositionVector(vec![published]));
    }

    /// An event with a key, decided so long after the relay began.
    fn keyed(after_ms: i64) -> Event {
        let mut world = World::new(16);
        while !world.log.iter().any(|event| event.request.is_some()) {
            world.step();
        }
        let mut event = world.log.into_iter().find(|event| event.request.is_some()).unwrap();
        event.occurred_at = Timestamp::from_millis(BEGAN_MS + after_ms).unwrap();
        event
    }

    #[test]
    fn recognizes_a_copy_however_many_events_come_between_while_the_projector_lags() {
        let mut memory = RecentEventIds::new(BEGAN_MS);
        // Ten thousand events a second for a minute.
        for offset in 0..600_000 {
            let after_ms = offset / 10;
            if memory.wants_note(BEGAN_MS + after_ms) {
                note(&mut memory, after_ms, 0);
            }
            assert!(insert(&mut memory, offset, after_ms, id(offset)));
        }
        assert!(!insert(&mut memory, 600_000, 60_000, id(0)));
        assert!(!memory.may_have_forgotten(&keyed(0), 0));
    }

    #[test]
    fn forgets_an_event_once_the_projector_has_published_it_and_nobody_appends_it_any_more() {
        let mut memory = RecentEventIds::new(BEGAN_MS);
        (0..1_000).for_each(|offset| assert!(insert(&mut memory, offset, 0, id(offset))));
        note(&mut memory, 0, 900);
        note(&mut memory, NOTE_INTERVAL_MS, 1_000);
        assert!(!insert(&mut memory, 1_000, FORGOTTEN_AFTER_MS - 1, id(0)), "it was looked up before it was published");
        assert_eq!(memory.known.len(), 1_000);
        assert!(insert(&mut memory, 1_001, FORGOTTEN_AFTER_MS, id(1_001)));
        assert_eq!(memory.known.len(), 101);
        assert!(!memory.may_have_forgotten(&keyed(0), 0), "nobody appends again what the projector has");
        assert!(!insert(&mut memory, 500, 0, id(500)), "the relay reads a record again");
    }

    #[test]
    fn a_relay_that_lags_remembers_what_it_passed_a_moment_ago() {
        let mut memory = RecentEventIds::new(BEGAN_MS);
        for seconds in 0..MAX_NOTES as i64 {
            note(&mut memory, 1_000 * seconds, 1_000);
        }
        assert!(insert(&mut memory, 0, 0, id(0)));
        assert!(!insert(&mut memory, 1, 10_000, id(0)));
    }

    #[test]
    fn says_of_which_events_it_may_have_forgotten_a_copy_beyond_its_size() {
        const SIZE: i64 = 100;
        let mut memory = RecentEventIds::with_capacity(BEGAN_MS, SIZE as usize);
        note(&mut memory, 0, 0);
        (0..2 * SIZE).for_each(|offset| assert!(insert(&mut memory, offset, offset, id(offset))));
        assert_eq!(memory.known.len(), SIZE as usize);

        assert!(memory.may_have_forgotten(&keyed(0), 0));
        assert!(!memory.may_have_forgotten(&keyed(SIZE + CLOCK_SKEW_MS), 0), "it was decided later");
        let without_key = Event { request: None, ..keyed(0) };
        assert!(!memory.may_have_forgotten(&without_key, 0));
        note(&mut memory, NOTE_INTERVAL_MS, 2 * SIZE);
        assert!(insert(&mut memory, 2 * SIZE, NOTE_INTERVAL_MS + FORGOTTEN_AFTER_MS, id(2 * SIZE)));
        assert!(!memory.may_have_forgotten(&keyed(0), 0), "the projector has what the memory has forgotten");
    }
}
