//! Dead letters: retrying records that the projector couldn't fold. The same steps make the rows of a conversation anew
//! if an operator wants that.
//!
//! A late event can change the effect of every event after it. A retry therefore folds the whole conversation again
//! from the log and replaces its rows, so the read model equals the fold of the log again. It must never hold up
//! batches for long: the log is read in a task of its own, and only the last stretch between two batches.
//!
//! # The timeline of a dead letter
//!
//! | When | What happens |
//! |---|---|
//! | parked | A batch has a record that can't be decoded. Its commit stores the position and the reason. The batch goes on. |
//! | retry requested | An operator runs `messages dead-letters retry`. |
//! | read again | The projector that owns the partition reads the record again ([`DeadLetterRetrier::start_reading`]). If it is an event now, a [`ConversationReader`] collects the conversation's events, in a task of its own. Otherwise the projector parks the record again. |
//! | refolded | Between two batches, the projector reads the events that have come since, folds all of them, and replaces the conversation's rows ([`DeadLetterRetrier::finish_reading`]). |
//! | caches invalidated | The projector invalidates every cached view of the conversation, sets the dead letter to folded, and tells the other processes of the repair. |
//!
//! An example: a newer version appends a `MESSAGE_PINNED` event at `3:42`, and this version parks it. After an upgrade,
//! an operator requests a retry. The projector of partition 3, whose next offset is 90, reads `3:42`, and finds that
//! the conversation's first event is at `3:7`. The task reads offsets 7 to 89. The projector is at 95 by then, so it
//! reads 90 to 94 itself, folds the conversation's events from all of that, and replaces its rows at the offset 95.
//!
//! The status in Postgres says which of these steps is next. A projector that dies in between, or loses the partition,
//! leaves the dead letter as it is, and the next owner starts that step again.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::event::Event;
use domain::state::State;
use domain::{ConversationId, OffsetAdvance, Position};
use event_log::{LogConsumer, LogError, StartAt};
use read_model::{
    ConversationRebuild, ConversationRebuildStatus, DeadLetter, DeadLetterStatus, Projection, RefoldedConversation,
};
use tokio::task::JoinHandle;

use crate::execute::invalidate_conversation;
use crate::folding::{Batch, fold};
use crate::projector::Projector;
use crate::repairs::RepairPublisher;

/// The largest number of records that the reader takes at a time.
const MAX_RECORDS: usize = 1_000;
/// The largest number of bytes of values that the reader takes at a time.
const MAX_BYTES: usize = 8 << 20;
/// The pause before the reader checks whether it has passed offsets without a record.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How long reading the last stretch may hold up the next batch.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(1);

domain::limit_rows! {
    Projector, "records that a retry of dead letters reads at a time", Count MAX_RECORDS, "it reads the others afterwards", "the batches";
    Projector, "bytes of these records", Bytes MAX_BYTES, "it reads the others afterwards", "memory";
}

/// The projection that a projector works on, and its partitions.
#[derive(Clone)]
pub(crate) struct PartitionState {
    pub(crate) projection: Projection,
    /// The next offset of each partition that the projector owns.
    pub(crate) owned: BTreeMap<i32, i64>,
}

/// Retries the dead letters of a projector's partitions, one at a time.
#[derive(Default)]
pub(crate) struct DeadLetterRetrier {
    reading: Option<ReadTask>,
    repairs: RepairPublisher,
}

impl Drop for DeadLetterRetrier {
    fn drop(&mut self) {
        if let Some(reading) = &self.reading {
            reading.task.abort();
        }
    }
}

/// Why a conversation is folded again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// For the dead letter at this position.
    DeadLetter(Position),
    /// Because an operator wants it.
    Request,
}

/// The task that reads a conversation.
struct ReadTask {
    cause: Cause,
    conversation: ConversationId,
    partition: i32,
    task: JoinHandle<Result<ConversationReader, LogError>>,
}

/// Reads the events of one conversation from the log.
struct ConversationReader {
    cause: Cause,
    conversation: ConversationId,
    partition: i32,
    consumer: LogConsumer,
    /// How many partitions the topic has.
    partitions: usize,
    events: Vec<(Position, Event)>,
    /// The next offset to read.
    next: i64,
}

impl ConversationReader {
    /// Reads every record below the offset `end`. A caller that drops the future loses nothing and can call again.
    async fn read_to(&mut self, end: i64) -> Result<(), LogError> {
        while self.next < end {
            let records = tokio::time::timeout(POLL_INTERVAL, self.consumer.next_batch(MAX_RECORDS, MAX_BYTES)).await;
            for record in records.unwrap_or_else(|_| Ok(Vec::new()))? {
                if record.position.offset >= end {
                    break;
                }
                self.next = record.position.offset + 1;
                match record.event(self.partitions) {
                    Ok(event) if event.conversation_id == self.conversation => {
                        self.events.push((record.position, event));
                    }
                    _ => {}
                }
            }
            // The consumer also passes offsets that have no record.
            let passed = self.consumer.positions()?.first().map_or(0, |(_, next)| *next);
            self.next = self.next.max(passed.min(end));
        }
        Ok(())
    }
}

impl DeadLetterRetrier {
    /// The partition of which the next step replaces rows. No batch of it may run meanwhile.
    pub(crate) fn partition_to_replace(&self) -> Option<i32> {
        let finished = self.reading.as_ref().filter(|reading| reading.task.is_finished());
        finished.map(|reading| reading.partition)
    }

    /// Does the next step of the timeline, if one is due; it takes little more than [`CATCH_UP_TIMEOUT`]. A retry that
    /// fails parks its dead letter again, and holds up no other.
    ///
    /// # Errors
    /// When Postgres doesn't answer, or another projector owns the partition.
    pub(crate) async fn run_step(
        &mut self,
        projector: &Projector,
        log: &LogConsumer,
        state: &PartitionState,
    ) -> anyhow::Result<()> {
        let (read_model, topic) = (&projector.read_model, &projector.topic);
        let partitions: Vec<i32> = state.owned.keys().copied().collect();
        let upkeep = read_model.upkeep(topic.id, &partitions).await?;
        metrics::gauge!("projector_dead_letters").set(upkeep.open_dead_letters as f64);
        self.repairs.publish(projector, upkeep).await?;
        if let Some(ReadTask { cause, conversation, task, .. }) =
            self.reading.take_if(|reading| reading.task.is_finished())
        {
            match task.await? {
                Ok(reader) => self.finish_reading(projector, state, reader).await?,
                Err(error) => give_up(projector, cause, conversation, &error.to_string()).await?,
            }
        }
        if self.reading.is_some() {
            return Ok(());
        }
        match read_model.next_dead_letter(topic.id, &partitions).await? {
            Some(DeadLetter {
                status: DeadLetterStatus::FoldedPendingInvalidation,
                position,
                conversation_id: Some(conversation),
                ..
            }) => invalidate(projector, state.projection.generation, position, conversation).await,
            Some(letter) => self.retry(projector, log, state, letter.position).await,
            None if upkeep.has_requests => self.fulfil_request(projector, state, &partitions).await,
            None => Ok(()),
        }
    }

    /// Goes on with the first conversation that an operator wants to be folded again, if there is one.
    async fn fulfil_request(
        &mut self,
        projector: &Projector,
        state: &PartitionState,
        partitions: &[i32],
    ) -> anyhow::Result<()> {
        let Some(request) = projector.read_model.next_conversation_rebuild(partitions).await? else { return Ok(()) };
        let ConversationRebuild { conversation, partition, status, .. } = request;
        if status == ConversationRebuildStatus::Replaced {
            let position = Position { partition, offset: 0 };
            if let Err(error) =
                invalidate_conversation(projector, state.projection.generation, position, conversation).await
            {
                tracing::info!(%error, %conversation, "cache invalidation failed; retrying in a second");
                return Ok(());
            }
            projector.read_model.note_repair_told(conversation).await?;
            tracing::info!(%conversation, "made the rows of a conversation anew");
            return Ok(projector.read_model.finish_conversation_rebuild(conversation).await?);
        }
        // From the beginning: the rows can't be trusted to say which event came first.
        self.start_reading(projector, state, Cause::Request, conversation, Position { partition, offset: 0 })
    }

    /// Reads a dead letter again. If it is an event now, starts to read its conversation.
    async fn retry(
        &mut self,
        projector: &Projector,
        log: &LogConsumer,
        state: &PartitionState,
        position: Position,
    ) -> anyhow::Result<()> {
        let (read_model, topic) = (&projector.read_model, &projector.topic);
        let event = match log.read_at(position).await {
            Ok(Some(record)) => record.event(topic.partitions).map_err(|error| error.to_string()),
            Ok(None) => Err("the log no longer has the record".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        let conversation = match event {
            Ok(event) => event.conversation_id,
            Err(reason) => return park_again(projector, position, &reason).await,
        };
        let first = read_model.first_event(conversation).await?.unwrap_or(i64::MAX).min(position.offset);
        let from = Position { offset: first, ..position };
        self.start_reading(projector, state, Cause::DeadLetter(position), conversation, from)
    }

    /// Starts to read a conversation's events, from this position on.
    fn start_reading(
        &mut self,
        projector: &Projector,
        state: &PartitionState,
        cause: Cause,
        conversation: ConversationId,
        from: Position,
    ) -> anyhow::Result<()> {
        let Position { partition, offset: next } = from;
        let consumer = LogConsumer::new(&projector.brokers, &projector.topic.name, "dead-letters");
        consumer.assign(&[(partition, StartAt::Offset(next))])?;
        let (partitions, events) = (projector.topic.partitions, Vec::new());
        let reader = ConversationReader { cause, conversation, partition, consumer, partitions, events, next };
        self.spawn_reader(reader, state.owned.get(&partition).copied().unwrap_or(next));
        Ok(())
    }

    /// Reads the events that have come in the meantime, and replaces the conversation. If there are too many of them,
    /// continues in another task.
    async fn finish_reading(
        &mut self,
        projector: &Projector,
        state: &PartitionState,
        mut reader: ConversationReader,
    ) -> anyhow::Result<()> {
        // Another projector owns the partition now, and makes the retry from its beginning.
        let Some(next) = state.owned.get(&reader.partition) else { return Ok(()) };
        match tokio::time::timeout(CATCH_UP_TIMEOUT, reader.read_to(*next)).await {
            Ok(Ok(())) => replace_conversation(projector, state.projection, &reader).await,
            Ok(Err(error)) => give_up(projector, reader.cause, reader.conversation, &error.to_string()).await,
            Err(_) => {
                self.spawn_reader(reader, *next);
                Ok(())
            }
        }
    }

    fn spawn_reader(&mut self, mut reader: ConversationReader, end: i64) {
        let ConversationReader { cause, conversation, partition, .. } = reader;
        let task = tokio::spawn(async move { reader.read_to(end).await.map(|()| reader) });
        self.reading = Some(ReadTask { cause, conversation, partition, task });
    }
}

/// Logs the records of a committed batch that were parked.
pub(crate) fn log_parked(batch: &Batch) {
    for record in batch.parked() {
        metrics::counter!("projector_undecodable_total").increment(1);
        tracing::error!(
            position = %record.position,
            error = record.reason,
            "parked a record that can't be decoded; see messages dead-letters list"
        );
    }
}

/// Notes why a conversation couldn't be folded again.
async fn give_up(
    projector: &Projector,
    cause: Cause,
    conversation: ConversationId,
    reason: &str,
) -> anyhow::Result<()> {
    match cause {
        Cause::DeadLetter(position) => park_again(projector, position, reason).await,
        Cause::Request => {
            tracing::warn!(%conversation, reason, "making the rows of a conversation anew failed");
            Ok(projector.read_model.fail_conversation_rebuild(conversation, reason).await?)
        }
    }
}

async fn park_again(projector: &Projector, position: Position, reason: &str) -> anyhow::Result<()> {
    tracing::warn!(%position, reason, "retrying a dead letter failed; it is parked again");
    let (topic_id, parked) = (projector.topic.id, DeadLetterStatus::Parked);
    projector.read_model.set_dead_letter_status(topic_id, position, parked, Some(reason)).await?;
    Ok(())
}

async fn replace_conversation(
    projector: &Projector,
    projection: Projection,
    reader: &ConversationReader,
) -> anyhow::Result<()> {
    let mut state = State::default();
    let changes = fold(reader.events.iter().map(|(position, event)| (*position, event)), &mut state);
    let positions: Vec<Position> = reader.events.iter().map(|(position, _)| *position).collect();
    let refolded = RefoldedConversation {
        conversation: reader.conversation,
        state: &state,
        changes: &changes,
        events: &positions,
        offset: OffsetAdvance { partition: reader.partition, from: reader.next, to: reader.next },
        owner: &projector.owner,
    };
    Ok(projector.read_model.replace_conversation(&refolded, projection).await?)
}

/// Invalidates the cached views of a dead letter's conversation, and sets the dead letter to folded.
async fn invalidate(
    projector: &Projector,
    generation: i64,
    position: Position,
    conversation: ConversationId,
) -> anyhow::Result<()> {
    if let Err(error) = invalidate_conversation(projector, generation, position, conversation).await {
        tracing::info!(%error, %position, "cache invalidation for a dead letter failed; retrying in a second");
        return Ok(());
    }
    projector.read_model.note_repair_told(conversation).await?;
    let (topic_id, folded) = (projector.topic.id, DeadLetterStatus::Folded);
    projector.read_model.set_dead_letter_status(topic_id, position, folded, None).await?;
    tracing::info!(%position, %conversation, "folded a dead letter");
    Ok(())
}
