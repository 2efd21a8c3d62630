//! The tail: how far the relay is on the log, and the records that it has passed and the projector may not have.
//!
//! A socket that comes needs everything after the token of its `connection:ready`. What the projector has folded is in
//! the memberships that the socket joins by, and comes with the client's sync. What the relay passes from now on is
//! delivered. Between the two, the socket follows the tail. Usually that is nothing or a few records; while the
//! projector can't fold a partition, it is everything that happens there.
//!
//! # The timeline of a socket
//!
//! | When | What happens |
//! |---|---|
//! | demand | [`RelayTail::membership_demand`] says what memberships must include: everything that the relay has passed, but of a partition on which the projector lags only what is older than the tail. |
//! | follow | [`RelayTail::follow_after`] returns a [`TailReader`], which starts where the memberships of a lagging partition end, and at the relay's offset of the others. It also returns the records that may have created conversations since. |
//! | read | [`TailReader::read`] returns the records from there on, part by part. The tail keeps them until all readers have them. |
//! | end | Once the reader has everything that the relay has passed, the relay delivers to the socket itself. Both happen under one lock, so no record falls between. |
//!
//! An example: the projector stands at offset 40 of partition 3, and the relay is at 45. Alice's memberships include
//! 40, so her `connection:ready` says 40. The reader returns 40 to 44, and the relay delivers 45.
//!
//! The tail must never claim to have a record that it has dropped. Beyond its limit it drops the oldest records of the
//! partition that takes the most memory. A socket that needs them waits for the projector instead.

mod partition;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cache::Progress;
use domain::{Position, PositionVector};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::partition::{PartitionTail, TailEntry};
use super::relayed_record::RelayedRecord;

/// How much memory the tail may take on a node.
const MAX_BYTES: usize = 64 << 20;
/// How many records of a partition a reader gets at a time.
const RECORDS_PER_READ: usize = 64;

domain::limit_rows! {
    Memory, "events that the projector has not folded yet, on a realtime node", Bytes MAX_BYTES, "new sockets wait for the projector", "memory";
}

struct TailState {
    partitions: Vec<PartitionTail>,
    /// The next offset of each partition that each reader needs.
    readers: HashMap<Uuid, Vec<i64>>,
    max_bytes: usize,
}

impl TailState {
    fn offsets(&self, of: impl FnMut(&PartitionTail) -> i64) -> PositionVector {
        PositionVector(self.partitions.iter().map(of).collect())
    }

    /// Drops the entries of a partition that the projector and all readers have.
    fn prune(&mut self, partition: usize) {
        let Some(tail) = self.partitions.get_mut(partition) else { return };
        if tail.has_projected() {
            let needed = self.readers.values().filter_map(|next| next.get(partition)).copied().min();
            tail.drop_below(needed.unwrap_or(i64::MAX).min(tail.projected));
        }
    }

    fn enforce_limit(&mut self) {
        while self.partitions.iter().map(|tail| tail.bytes).sum::<usize>() > self.max_bytes
            && let Some(largest) = self.partitions.iter_mut().max_by_key(|tail| tail.bytes)
        {
            largest.drop_oldest();
        }
    }
}

/// What the memberships of a socket must include.
pub(crate) struct MembershipDemand {
    /// The relay's offsets. The relay puts the user into conversations that are created from here on.
    relayed: PositionVector,
    /// The offsets to demand.
    pub(crate) at_least: PositionVector,
}

/// A reader of the tail, with the records from its start on that may have created conversations.
pub(crate) struct FollowedTail {
    pub(crate) reader: TailReader,
    pub(crate) creations: Vec<Arc<RelayedRecord>>,
}

/// The tail of the topic of record.
pub(crate) struct RelayTail(Mutex<TailState>);

impl RelayTail {
    /// An empty tail, of a relay that begins at the log's `end` and reads from the offsets `from` on.
    pub(crate) fn new(from: &PositionVector, end: &PositionVector) -> Arc<Self> {
        Self::with_limit(from, end, MAX_BYTES)
    }

    /// As [`Self::new`], a tail that takes at most so much memory.
    pub(super) fn with_limit(from: &PositionVector, end: &PositionVector, max_bytes: usize) -> Arc<Self> {
        let partitions = from.0.iter().zip(&end.0).map(|(from, end)| PartitionTail::new(*from, *end)).collect();
        Arc::new(Self(Mutex::new(TailState { partitions, readers: HashMap::new(), max_bytes })))
    }

    fn lock(&self) -> MutexGuard<'_, TailState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next offset of each partition that the relay looks at.
    pub(crate) fn relayed(&self) -> PositionVector {
        self.lock().offsets(|tail| tail.relayed)
    }

    /// Passes a record. The relay calls this before it sends the record's frames: a socket that the relay doesn't
    /// deliver to yet gets them from the tail, or a token that includes the record. A copy of an earlier event passes,
    /// but nobody gets its frames. Calls `before` first, while nobody can follow or read the tail.
    pub(super) fn pass(&self, record: &Arc<RelayedRecord>, is_copy: bool, before: impl FnOnce()) {
        let mut state = self.lock();
        before();
        let position = record.position();
        let Ok(partition) = usize::try_from(position.partition) else { return };
        // The relay may read records again after an error.
        let Some(tail) = state.partitions.get_mut(partition).filter(|tail| tail.next <= position.offset) else {
            return;
        };
        let kept = (!is_copy && record.outlives_its_delivery()).then(|| record.clone());
        tail.push(TailEntry { offset: position.offset, passed_at: Instant::now(), record: kept });
        state.prune(partition);
        state.enforce_limit();
    }

    /// Follows what the projector publishes, until the shutdown, and drops what the projector has.
    pub(crate) async fn follow_progress(self: Arc<Self>, mut progress: Progress, shutdown: CancellationToken) {
        while let Some(Some(published)) = shutdown.run_until_cancelled(progress.changed()).await {
            self.set_projected(&published);
        }
    }

    /// The next offset of each partition that the projector has published.
    pub(super) fn projected(&self) -> PositionVector {
        self.lock().offsets(|tail| tail.projected)
    }

    /// Drops the records of a partition up to this one: a socket that needs them waits for the projector.
    pub(super) fn forget_up_to(&self, position: Position) {
        let mut state = self.lock();
        if let Some(tail) = usize::try_from(position.partition).ok().and_then(|at| state.partitions.get_mut(at)) {
            tail.drop_below(position.offset + 1);
        }
    }

    pub(super) fn set_projected(&self, published: &PositionVector) {
        let mut state = self.lock();
        for partition in 0..state.partitions.len() {
            // It goes back when somebody rebuilds the read model.
            state.partitions[partition].projected = published.0.get(partition).copied().unwrap_or(0);
            state.prune(partition);
        }
    }

    /// What the memberships of a socket that comes now must include.
    pub(crate) fn membership_demand(&self) -> MembershipDemand {
        let (state, now) = (self.lock(), Instant::now());
        MembershipDemand {
            relayed: state.offsets(|tail| tail.relayed),
            at_least: state.offsets(|tail| if tail.lags(now) { tail.available_from() } else { tail.relayed }),
        }
    }

    /// Follows the tail from the relay's offsets on, for a user who is in all rooms already. None while the projector
    /// lags: a sync of the client couldn't reach those offsets.
    pub(crate) fn follow(self: &Arc<Self>, reader: Uuid) -> Option<TailReader> {
        let (mut state, now) = (self.lock(), Instant::now());
        if state.partitions.iter().any(|tail| tail.lags(now)) {
            return None;
        }
        let start = state.offsets(|tail| tail.relayed);
        state.readers.insert(reader, start.0.clone());
        Some(TailReader { tail: self.clone(), id: reader, start })
    }

    /// Follows the tail for a user with memberships that include these offsets. None if the tail has dropped records
    /// that the memberships lack.
    pub(crate) fn follow_after(
        self: &Arc<Self>,
        reader: Uuid,
        demand: &MembershipDemand,
        includes: &PositionVector,
    ) -> Option<FollowedTail> {
        let (mut state, now) = (self.lock(), Instant::now());
        let mut start = PositionVector::zero(state.partitions.len());
        let mut creations = Vec::new();
        for (partition, tail) in (0..).zip(&state.partitions) {
            let included = includes.next(partition).min(tail.relayed);
            let is_reached = included >= demand.relayed.next(partition);
            if !is_reached && included < tail.available_from() {
                return None;
            }
            let from = if is_reached && !tail.lags(now) { tail.relayed } else { included.max(tail.available_from()) };
            start.advance(partition, from);
            let since = tail.since(included).filter_map(|entry| entry.record.as_ref());
            creations.extend(since.filter(|record| record.may_create_conversation()).cloned());
        }
        state.readers.insert(reader, start.0.clone());
        let reader = TailReader { tail: self.clone(), id: reader, start };
        Some(FollowedTail { reader, creations })
    }
}

/// What a reader gets.
pub(super) enum TailPart {
    /// The next records. There may be none for the socket among those that the reader has passed.
    Records(Vec<Arc<RelayedRecord>>),
    /// Nothing: the reader has everything that the relay has passed.
    End,
    /// The tail has dropped records that the reader needs.
    Lost,
}

/// Reads the tail for one socket. Until it is dropped, the tail keeps what it needs.
pub(crate) struct TailReader {
    tail: Arc<RelayTail>,
    id: Uuid,
    start: PositionVector,
}

impl TailReader {
    /// The offsets from which on the reader gets all records.
    pub(crate) fn start(&self) -> &PositionVector {
        &self.start
    }

    /// The next records. At the end, calls `at_end` with the offsets from which on the
    /// relay has to deliver, before the relay passes another record.
    pub(super) fn read(&self, at_end: impl FnOnce(PositionVector)) -> TailPart {
        let mut state = self.tail.lock();
        let TailState { partitions, readers, .. } = &mut *state;
        let Some(next) = readers.get_mut(&self.id) else { return TailPart::Lost };
        let mut records = Vec::new();
        let mut has_passed_any = false;
        for (next, tail) in next.iter_mut().zip(partitions.iter()) {
            if *next < tail.available_from() {
                return TailPart::Lost;
            }
            for entry in tail.since(*next).take(RECORDS_PER_READ) {
                *next = entry.offset + 1;
                has_passed_any = true;
                records.extend(entry.record.clone());
            }
        }
        if has_passed_any {
            return TailPart::Records(records);
        }
        at_end(PositionVector(next.clone()));
        TailPart::End
    }
}

impl Drop for TailReader {
    fn drop(&mut self) {
        self.tail.lock().readers.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use event_log::LogRecord;

    use super::partition::LAGS_AFTER;
    use super::*;

    /// A tail of two partitions, whose relay begins at their offset 0.
    fn tail() -> Arc<RelayTail> {
        RelayTail::new(&PositionVector::zero(2), &PositionVector::zero(2))
    }

    fn record(partition: i32, offset: i64, bytes: usize) -> Arc<RelayedRecord> {
        Arc::new(RelayedRecord::new(LogRecord {
            position: Position { partition, offset },
            timestamp_ms: 0,
            key: Vec::new(),
            event_id: None,
            event_type: Some("MESSAGE_SENT".to_owned()),
            traceparent: None,
            value: vec![0; bytes],
        }))
    }

    fn pass(tail: &RelayTail, partition: i32, offsets: std::ops::Range<i64>) {
        for offset in offsets {
            tail.pass(&record(partition, offset, 1), false, || ());
        }
    }

    /// The offsets of the records that a reader gets until it has reached the end; none if it has lost some.
    fn read_all(reader: &TailReader) -> Option<Vec<i64>> {
        let mut offsets = Vec::new();
        loop {
            match reader.read(|_| ()) {
                TailPart::Records(records) => offsets.extend(records.iter().map(|record| record.position().offset)),
                TailPart::End => return Some(offsets),
                TailPart::Lost => return None,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_partition_on_which_the_projector_lags_is_followed_from_where_the_memberships_end() {
        let tail = tail();
        pass(&tail, 0, 0..5);
        tail.set_projected(&PositionVector(vec![3, 0]));
        assert_eq!(tail.membership_demand().at_least.0, [5, 0], "the projector usually needs only milliseconds");
        tokio::time::advance(LAGS_AFTER).await;
        pass(&tail, 1, 0..2);

        let demand = tail.membership_demand();
        assert_eq!(demand.at_least.0, [3, 2]);
        assert!(tail.follow(Uuid::from_u128(1)).is_none(), "a sync couldn't reach the relay's offsets");
        let FollowedTail { reader, .. } =
            tail.follow_after(Uuid::from_u128(1), &demand, &PositionVector(vec![4, 2])).unwrap();
        assert_eq!(reader.start().0, [4, 2]);
        pass(&tail, 1, 2..3);
        assert_eq!(read_all(&reader), Some(vec![4, 2]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_stays_until_the_projector_and_every_reader_have_it() {
        let tail = tail();
        let reader = tail.follow(Uuid::from_u128(1)).unwrap();
        pass(&tail, 0, 0..100);
        tail.set_projected(&PositionVector(vec![90, 0]));
        assert_eq!(read_all(&reader), Some((0..100).collect()));
        let kept = || tail.lock().partitions[0].entries.iter().map(|entry| entry.offset).collect::<Vec<_>>();
        assert_eq!(kept(), (0..100).collect::<Vec<_>>());
        tail.set_projected(&PositionVector(vec![95, 0]));
        assert_eq!(kept(), (95..100).collect::<Vec<_>>());
        drop(reader);
        tail.set_projected(&PositionVector(vec![100, 0]));
        assert_eq!((kept(), tail.lock().partitions[0].bytes), (vec![], 0));
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_its_limit_the_tail_forgets_the_oldest_records_of_the_largest_partition_and_says_so() {
        let tail = tail();
        let reader = tail.follow(Uuid::from_u128(1)).unwrap();
        pass(&tail, 1, 0..1);
        for offset in 0..40 {
            tail.pass(&record(0, offset, 1 << 20), false, || ());
        }
        tokio::time::advance(LAGS_AFTER).await;

        assert!(tail.lock().partitions.iter().map(|partition| partition.bytes).sum::<usize>() <= MAX_BYTES);
        assert_eq!(read_all(&reader), None);
        let demand = tail.membership_demand();
        assert!(demand.at_least.next(0) > 0, "memberships must include what the tail has forgotten");
        assert_eq!(demand.at_least.next(1), 0, "the record of the small partition is still there");
        assert!(tail.follow_after(Uuid::nil(), &demand, &PositionVector::zero(2)).is_none());
        assert!(tail.follow_after(Uuid::nil(), &demand, &demand.at_least).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_of_an_event_passes_but_no_reader_gets_it() {
        let tail = tail();
        let reader = tail.follow(Uuid::nil()).unwrap();
        tail.pass(&record(0, 0, 1), true, || ());
        assert_eq!(tail.relayed().0, [1, 0]);
        assert_eq!(read_all(&reader), Some(vec![]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_relay_that_begins_at_the_logs_end_has_a_tail_once_it_has_read_what_is_before() {
        let tail = RelayTail::new(&PositionVector(vec![10]), &PositionVector(vec![20]));
        pass(&tail, 0, 10..15);
        tokio::time::advance(LAGS_AFTER).await;
        assert_eq!((tail.relayed().0, tail.membership_demand().at_least.0), (vec![20], vec![20]));
        pass(&tail, 0, 15..20);
        assert_eq!((tail.relayed().0, tail.membership_demand().at_least.0), (vec![20], vec![10]));
    }
}
