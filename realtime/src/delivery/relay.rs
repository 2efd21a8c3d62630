//! The relay: reads records from the log and delivers their events to the rooms of this node.
//!
//! It must never deliver an event twice, and never hold up all rooms because of one socket.

use std::sync::Arc;
use std::time::Duration;

use domain::PositionVector;
use domain::event::{Event, EventData};
use event_log::{LogConsumer, LogError, StartAt};
use service::clock;
use service::trace;
use socketioxide::extract::SocketRef;
use tokio_util::sync::CancellationToken;

use super::frame_sender::FrameSender;
use super::passage::Passage;
use super::recipients::deliveries_of;
use super::relayed_record::RelayedRecord;
use super::tail::RelayTail;
use super::typing::{TYPING_TIMEOUT, TypingTimeouts};
use crate::rooms::{EventRef, Rooms};

/// The most records in a batch.
const BATCH_RECORDS: usize = 1_000;
/// The most bytes of values in a batch.
const BATCH_BYTES: usize = 8 << 20;
/// After how many records the relay yields to the sockets' tasks. Far fewer than the frames that fit into a socket's
/// queue, so a burst of events fills only the queues of slow clients.
const RECORDS_PER_TURN: usize = 16;
/// After how many bytes it yields.
const BYTES_PER_TURN: usize = 64 << 10;
/// How long ago the oldest record was appended that a relay reads first, to recognize copies of what other nodes have
/// relayed.
const READ_BACK: Duration = Duration::from_secs(120);
/// How many of these records it reads of a partition, at most.
const READ_BACK_RECORDS: i64 = 25_000;
/// The pause after Kafka's first error. Each pause after that is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest of these pauses.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Relays the records of one topic.
pub(crate) struct Relay {
    pub(crate) log: Arc<LogConsumer>,
    /// The tail of the topic of record. None for the separate topic of typing events: tokens don't cover it.
    pub(crate) tail: Option<Arc<RelayTail>>,
    pub(crate) partitions: usize,
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) frames: FrameSender,
    pub(crate) typing: Arc<TypingTimeouts>,
    pub(crate) shutdown: CancellationToken,
}

impl Relay {
    /// Makes a consumer of the topic of record read from some way before the log's end: far enough for the relay to
    /// recognize the copy of an event that another node has relayed already. Returns the offsets from which it reads.
    ///
    /// # Errors
    /// When Kafka doesn't answer.
    pub(crate) async fn assign_before(log: &LogConsumer, end: &PositionVector) -> Result<PositionVector, LogError> {
        let beginning = log.beginning_offsets().await?;
        let recent = log.offsets_at(clock::before(clock::now(), READ_BACK).as_millis()).await?;
        let offsets = (0..).zip(end.0.iter().zip(&beginning.0));
        let from = offsets.map(|(partition, (end, beginning))| {
            recent.next(partition).max(end - READ_BACK_RECORDS).clamp(*beginning, *end)
        });
        let from = PositionVector(from.collect());
        Self::assign(log, &from)?;
        Ok(from)
    }

    /// Makes a consumer read from these offsets on.
    ///
    /// # Errors
    /// When librdkafka refuses the assignment.
    pub(super) fn assign(log: &LogConsumer, from: &PositionVector) -> Result<(), LogError> {
        let starts: Vec<_> = (0..).zip(&from.0).map(|(partition, next)| (partition, StartAt::Offset(*next))).collect();
        log.assign(&starts)
    }

    /// Relays until the shutdown. Records from before the relay's begin are remembered, and kept in the tail.
    pub(crate) async fn run(self) {
        let mut passage = Passage::new(self.rooms.clone(), self.tail.clone(), self.partitions);
        let mut pause = FIRST_PAUSE;
        while let Some(read) = self.shutdown.run_until_cancelled(self.log.next_batch(BATCH_RECORDS, BATCH_BYTES)).await
        {
            match read {
                Ok(records) => {
                    pause = FIRST_PAUSE;
                    let (mut turn_records, mut turn_bytes) = (0, 0);
                    for record in records {
                        turn_records += 1;
                        turn_bytes += record.value.len();
                        if let Some(record) = passage.pass(record) {
                            self.relay(&record, &passage);
                        }
                        if turn_records >= RECORDS_PER_TURN || turn_bytes >= BYTES_PER_TURN {
                            (turn_records, turn_bytes) = (0, 0);
                            tokio::task::yield_now().await;
                        }
                    }
                }
                Err(error) => {
                    metrics::counter!("realtime_read_failures_total").increment(1);
                    tracing::warn!(%error, ?pause, "reading the log failed; retrying after a pause");
                    let _ = self.shutdown.run_until_cancelled(tokio::time::sleep(pause)).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                }
            }
        }
    }

    fn relay(&self, record: &RelayedRecord, passage: &Passage<SocketRef>) {
        if !record.may_concern(|conversation| self.rooms.participant_count(conversation).is_some()) {
            return;
        }
        let position = record.position();
        let event = match record.event(self.partitions) {
            Ok(event) => event,
            Err(error) => {
                metrics::counter!("realtime_undecodable_total").increment(1);
                tracing::error!(%position, %error, "a record is not an event; skipping it");
                return;
            }
        };
        let event_ref = EventRef::of(event, position);
        if passage.is_doubtful(event, position) {
            return self.leave_to_projector(event_ref);
        }
        if !self.note_typing(event, record, event_ref) {
            return;
        }
        let Some(deliveries) = deliveries_of(&self.rooms, event, event_ref) else { return };
        let _span = trace::record_span("deliver", record.event_type(), record.traceparent());
        for delivery in deliveries {
            self.frames.send_delivery(&delivery);
        }
        metrics::histogram!("realtime_delivery_seconds").record(clock::since_millis(record.timestamp_ms()));
    }

    /// Closes the sockets of a room instead of sending an event that may be a copy. Their clients reconnect and sync, once
    /// the projector knows what the event does.
    fn leave_to_projector(&self, event: EventRef) {
        metrics::counter!("realtime_doubtful_total").increment(1);
        let sockets = self.rooms.next_frame(event).map(|room| room.sockets).unwrap_or_default();
        tracing::warn!(
            position = %event.position,
            sockets = sockets.len(),
            "a retried event is older than the relay's memory; closing its sockets to make their clients sync"
        );
        for socket in sockets {
            self.frames.close(&socket);
        }
    }

    /// Notes who types, before the event's frames are sent. Returns false if the event is outdated.
    fn note_typing(&self, event: &Event, record: &RelayedRecord, event_ref: EventRef) -> bool {
        match &event.data {
            EventData::TypingStart {} if clock::since_millis(record.timestamp_ms()) > TYPING_TIMEOUT => return false,
            EventData::TypingStart {} => self.typing.start(&event.actor_id, event_ref),
            EventData::TypingStop {} => self.typing.stop(&event.actor_id, event_ref),
            _ => {}
        }
        true
    }
}
