//! The relay: from a record to the frames of its room.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::event::{Event, EventData};
use domain::{ConversationId, Position, PositionVector};
use event_log::{LogConsumer, LogError, LogRecord, StartAt};
use service::trace;

use crate::Shared;
use crate::connect::now;
use crate::deliver::deliveries;
use crate::recent::{self, Recent};
use crate::rooms::Origin;
use crate::typing;

/// Most records that are taken at a time.
const BATCH_RECORDS: usize = 1_000;
/// Most bytes of values that are taken at a time.
const BATCH_BYTES: usize = 8 << 20;
/// After how many records the sockets' own tasks get a turn: far fewer than frames fit into a socket's buffer,
/// so that a burst fills only the buffers of those who are slow.
const TURN: usize = 16;
/// The pause after an error of Kafka's; it doubles up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often the relay is compared with the log's end.
const WATCH_EVERY: Duration = Duration::from_secs(5);

/// Whether the relay follows the log, as the last look found it.
pub(crate) struct Health(Mutex<Result<(), String>>);

impl Default for Health {
    fn default() -> Self {
        Self(Mutex::new(Ok(())))
    }
}

impl Health {
    /// What is wrong, if something is.
    pub(crate) fn now(&self) -> Result<(), String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, health: Result<(), String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }
}

/// Begins to read at these offsets.
fn assign(log: &LogConsumer, from: &PositionVector) -> Result<(), LogError> {
    let starts: Vec<_> = (0..).zip(&from.0).map(|(partition, next)| (partition, StartAt::Offset(*next))).collect();
    log.assign(&starts)
}

/// Begins to read so far before the log's end that a copy of what others have relayed is known for one.
///
/// # Errors
/// When Kafka doesn't answer.
pub(crate) async fn begin(log: &LogConsumer, end: &PositionVector) -> Result<(), LogError> {
    let each = i64::try_from(recent::REMEMBERED / end.0.len().max(1)).unwrap_or(i64::MAX);
    let beginning = log.beginning_offsets().await?;
    let from = end.0.iter().zip(&beginning.0).map(|(end, beginning)| (end - each).max(*beginning));
    assign(log, &PositionVector(from.collect()))
}

/// Relays until the shutdown, from these offsets on: what comes before is only remembered. None for a topic that
/// isn't the one that positions are of.
pub(crate) async fn run(shared: Arc<Shared>, log: Arc<LogConsumer>, from: Option<PositionVector>) {
    let mut recent = Recent::default();
    let mut pause = PAUSE;
    while let Some(read) = shared.shutdown.run_until_cancelled(log.next_batch(BATCH_RECORDS, BATCH_BYTES)).await {
        match read {
            Ok(records) => {
                pause = PAUSE;
                for (number, record) in records.iter().enumerate() {
                    if from.as_ref().is_some_and(|from| from.includes(record.position)) {
                        remember(&shared, &mut recent, record);
                        continue;
                    }
                    if from.is_some() {
                        // Before its frames: who joins from now on gets them, or a token that includes them.
                        let mut processed = shared.processed.lock().unwrap_or_else(PoisonError::into_inner);
                        processed.advance(record.position.partition, record.position.offset + 1);
                    }
                    relay(&shared, &mut recent, record);
                    if number % TURN == TURN - 1 {
                        tokio::task::yield_now().await;
                    }
                }
            }
            Err(error) => {
                metrics::counter!("realtime_read_failures_total").increment(1);
                tracing::warn!(%error, "the log can't be read; trying again");
                let _ = shared.shutdown.run_until_cancelled(tokio::time::sleep(pause)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Compares the relay with the log's end until the shutdown. A relay that stands still although there is more
/// begins again where it is: reading a partition can have ended with an error.
pub(crate) async fn watch(shared: Arc<Shared>, log: Arc<LogConsumer>) {
    let mut look = tokio::time::interval(WATCH_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut before: Option<(PositionVector, PositionVector)> = None;
    while shared.shutdown.run_until_cancelled(look.tick()).await.is_some() {
        let end = match log.end_offsets().await {
            Ok(end) => end,
            Err(error) => {
                shared.health.set(Err(error.to_string()));
                continue;
            }
        };
        let mut reached = shared.processed();
        // Past offsets without a record, which the relay never sees.
        for (partition, next) in log.positions().unwrap_or_default() {
            reached.advance(partition, next);
        }
        let lag: i64 = end.0.iter().zip(&reached.0).map(|(end, reached)| (end - reached).max(0)).sum();
        metrics::gauge!("realtime_lag_events").set(lag as f64);
        metrics::gauge!("realtime_lag_seconds").set(oldest(&log, &reached, &end).await.as_secs_f64());
        let behind = before.as_ref().is_some_and(|(end, _)| !reached.covers(end));
        if behind && before.as_ref().is_some_and(|(_, then)| *then == reached) {
            tracing::error!(lag, "the relay stands still; it begins again where it is");
            if let Err(error) = assign(&log, &shared.processed()) {
                tracing::error!(%error, "the relay can't begin again");
            }
        }
        shared.health.set(if behind { Err(format!("{lag} events behind the log")) } else { Ok(()) });
        before = Some((end, reached));
    }
}

/// For how long the oldest record that wasn't relayed yet has been on the log.
async fn oldest(log: &LogConsumer, reached: &PositionVector, end: &PositionVector) -> Duration {
    let mut oldest = Duration::ZERO;
    for (partition, (offset, end)) in (0..).zip(reached.0.iter().zip(&end.0)) {
        if offset < end
            && let Ok(Some(record)) = log.read_at(Position { partition, offset: *offset }).await
        {
            oldest = oldest.max(age(&record));
        }
    }
    oldest
}

fn relay(shared: &Shared, recent: &mut Recent, record: &LogRecord) {
    if !concerns(shared, record) {
        remember(shared, recent, record);
        return;
    }
    let event = match record.event(shared.partitions) {
        Ok(event) => event,
        Err(error) => {
            metrics::counter!("realtime_undecodable_total").increment(1);
            tracing::error!(position = %record.position, %error, "a record is no event and was passed over");
            return;
        }
    };
    if !recent.is_new(event.event_id) {
        return;
    }
    let origin = Origin { conversation: event.conversation_id, position: record.position, event_id: event.event_id };
    if !prepare(shared, &event, record, origin) {
        return;
    }
    let Some(participants) = shared.rooms.participant_count(event.conversation_id) else { return };
    let _span = trace::record_span("deliver", record.event_type.as_deref(), record.traceparent.as_deref());
    for delivery in deliveries(&event, record.position, participants) {
        shared.deliver(origin, &delivery);
    }
    metrics::histogram!("realtime_delivery_seconds").record(age(record));
}

/// Remembers what isn't relayed here: somebody it concerns may be here before a copy of it comes.
fn remember(shared: &Shared, recent: &mut Recent, record: &LogRecord) {
    // All that the command API appends has the header, so that the value isn't looked into.
    let id = record.event_id.or_else(|| record.event(shared.partitions).ok().map(|event| event.event_id));
    if let Some(id) = id {
        recent.is_new(id);
    }
}

fn age(record: &LogRecord) -> Duration {
    let millis = now().as_millis().saturating_sub(record.timestamp_ms);
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// Whether anybody here could want the record: told by its key and header, without looking into it.
fn concerns(shared: &Shared, record: &LogRecord) -> bool {
    match record.event_type.as_deref() {
        Some("MENTION_NOTIFICATION") => false,
        // Without the header it may be a creation, which has no room yet.
        Some("CONVERSATION_CREATED") | None => true,
        Some(_) => {
            let key = std::str::from_utf8(&record.key).ok().and_then(|key| key.parse::<ConversationId>().ok());
            key.is_some_and(|id| shared.rooms.participant_count(id).is_some())
        }
    }
}

/// What has to be done before an event's frames are sent; false where none are to be sent.
fn prepare(shared: &Shared, event: &Event, record: &LogRecord, origin: Origin) -> bool {
    match &event.data {
        EventData::ConversationCreated { participant_ids, .. } => {
            shared.rooms.open(event.conversation_id, participant_ids);
        }
        EventData::TypingStart {} if age(record) > typing::LASTS => return false,
        EventData::TypingStart {} => shared.typing.start(&event.actor_id, origin),
        EventData::TypingStop {} => shared.typing.stop(&event.actor_id, origin),
        _ => {}
    }
    true
}
