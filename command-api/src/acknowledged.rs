//! The events that this process has acknowledged and that nobody can read yet. Usually that takes the projector
//! milliseconds. If it takes longer than [`READ_WITHIN`], clients can't read what they wrote: a state that operators
//! must hear of, whatever its cause is.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use domain::{Position, PositionVector};
use read_path::PositionWait;

/// After how long an acknowledged event that can't be read is reported.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// An event of a partition that was acknowledged at some time.
#[derive(Debug, Clone, Copy)]
struct Acknowledgement {
    offset: i64,
    at: Instant,
}

/// The oldest known event of a partition that can't be read yet, and the newest one.
#[derive(Debug, Clone, Copy)]
struct Unread {
    oldest: Acknowledgement,
    newest: Acknowledgement,
}

/// The acknowledged events that can't be read yet: two for each partition, however many there are.
#[derive(Default)]
pub(crate) struct AcknowledgedEvents(Mutex<BTreeMap<i32, Unread>>);

impl AcknowledgedEvents {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, Unread>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that an event was acknowledged.
    pub(crate) fn note(&self, position: Position) {
        let newest = Acknowledgement { offset: position.offset, at: Instant::now() };
        let mut unread = self.lock();
        let known = unread.entry(position.partition).or_insert(Unread { oldest: newest, newest });
        // Acknowledgements overtake each other.
        if known.newest.offset < newest.offset {
            known.newest = newest;
        }
    }

    /// Forgets what can be read.
    fn note_read(&self, is_read: impl Fn(Position) -> bool) {
        self.lock().retain(|partition, unread| {
            let is_read = |event: Acknowledgement| is_read(Position { partition: *partition, offset: event.offset });
            if is_read(unread.oldest) {
                // Those in between aren't known one by one, so the newest stands for them.
                unread.oldest = unread.newest;
            }
            !is_read(unread.oldest)
        });
    }

    /// The partitions with an event that could not be read within [`READ_WITHIN`], and its offset.
    fn overdue(&self) -> BTreeMap<i32, i64> {
        let unread = self.lock();
        let overdue = unread.iter().filter(|(_, unread)| unread.oldest.at.elapsed() > READ_WITHIN);
        overdue.map(|(partition, unread)| (*partition, unread.oldest.offset)).collect()
    }

    /// Names the partitions with events that could not be read within 10 s.
    ///
    /// # Errors
    /// With the partitions and offsets, if there are any.
    pub(crate) async fn check(&self, wait: &PositionWait) -> Result<(), String> {
        self.note_read(|position| wait.is_reached(&PositionVector::up_to(position)));
        let mut overdue = self.overdue();
        // Redis may be down or behind.
        for (partition, offset) in overdue.clone() {
            if wait.reach(&PositionVector::up_to(Position { partition, offset })).await.is_err() {
                // The first is enough to know that Postgres doesn't have it either, and each costs a second.
                break;
            }
            self.note_read(|position| position.partition == partition && position.offset <= offset);
            overdue.remove(&partition);
        }
        if overdue.is_empty() {
            return Ok(());
        }
        let offsets: Vec<String> = overdue
            .iter()
            .map(|(partition, offset)| format!("partition {partition} from offset {offset} on"))
            .collect();
        Err(format!("acknowledged events can't be read after {} s: {}", READ_WITHIN.as_secs(), offsets.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(partition: i32, offset: i64) -> Position {
        Position { partition, offset }
    }

    #[test]
    fn an_event_is_overdue_until_it_can_be_read() {
        let events = AcknowledgedEvents::default();
        let noted = Instant::now();
        for (partition, offset) in [(0, 5), (0, 9), (0, 7), (1, 3)] {
            events.note(position(partition, offset));
        }
        assert_eq!(events.overdue(), BTreeMap::new(), "{:?}", noted.elapsed());
        let long_ago = Instant::now().checked_sub(2 * READ_WITHIN).unwrap();
        for unread in events.lock().values_mut() {
            (unread.oldest.at, unread.newest.at) = (long_ago, long_ago);
        }
        assert_eq!(events.overdue(), BTreeMap::from([(0, 5), (1, 3)]));
        events.note_read(|read| read.partition == 1 || read.offset <= 5);
        assert_eq!(events.overdue(), BTreeMap::from([(0, 9)]));
        events.note_read(|_| true);
        assert_eq!(events.overdue(), BTreeMap::new());
    }
}
