//! Dead letters that are to be tried again: their conversations are folded again from the log, so that the read model
//! is the fold of the log again, and takes the place of what was folded without them.
//!
//! The log is read in a task of its own, however long it is; what came meanwhile is read, and all of it committed,
//! between two batches.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::event::Event;
use domain::state::State;
use domain::{ConversationId, OffsetAdvance, Position};
use event_log::{LogConsumer, LogError, StartAt};
use read_model::{DeadLetterStatus, Projection, RefoldedConversation};
use tokio::task::JoinHandle;

use crate::batch::fold;
use crate::invalidate::announce_all;
use crate::worker::{Projector, fenced};

/// Most records that are taken at a time.
const RECORDS: usize = 1_000;
/// Most bytes of values that are taken at a time.
const BYTES: usize = 8 << 20;
/// How often it is looked whether what is left to read has no records.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long a batch may have to wait until the rest of a conversation is read.
const REST: Duration = Duration::from_secs(1);

/// Where a projector is.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) generation: i64,
    pub(crate) owned: &'a BTreeMap<i32, i64>,
}

/// What a projector does about dead letters: one at a time.
#[derive(Default)]
pub(crate) struct Retries {
    reading: Option<(Position, JoinHandle<Result<Reading, LogError>>)>,
}

impl Drop for Retries {
    fn drop(&mut self) {
        if let Some((_, reading)) = &self.reading {
            reading.abort();
        }
    }
}

/// A conversation's events, as far as they are read.
struct Reading {
    position: Position,
    conversation: ConversationId,
    consumer: LogConsumer,
    partitions: usize,
    events: Vec<(Position, Event)>,
    /// Everything below is read.
    next: i64,
}

impl Reading {
    /// Reads on until everything below `to` is read. Nothing is lost when the future is dropped.
    async fn until(&mut self, to: i64) -> Result<(), LogError> {
        while self.next < to {
            let records = tokio::time::timeout(LOOK_EVERY, self.consumer.next_batch(RECORDS, BYTES)).await;
            for record in records.unwrap_or_else(|_| Ok(Vec::new()))? {
                if record.position.offset >= to {
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
            // Beyond offsets without a record.
            let passed = self.consumer.positions()?.first().map_or(0, |(_, next)| *next);
            self.next = self.next.max(passed.min(to));
        }
        Ok(())
    }
}

impl Retries {
    /// Does what there is to do next, if anything; never for long. What goes wrong with a letter parks it again, and
    /// holds nothing else up.
    ///
    /// # Errors
    /// When Postgres doesn't answer, or another projector has the partition.
    pub(crate) async fn step(&mut self, projector: &Projector, log: &LogConsumer, at: At<'_>) -> anyhow::Result<()> {
        let (read_model, topic) = (&projector.read_model, &projector.topic);
        let partitions: Vec<i32> = at.owned.keys().copied().collect();
        let open = read_model.count_dead_letters(topic.id, &partitions).await?;
        metrics::gauge!("projector_dead_letters").set(open as f64);
        if let Some((position, reading)) = self.reading.take() {
            if !reading.is_finished() {
                self.reading = Some((position, reading));
                return Ok(());
            }
            match reading.await? {
                Ok(reading) => self.finish(projector, at, reading).await?,
                Err(error) => park(projector, position, &error.to_string()).await?,
            }
            if self.reading.is_some() {
                return Ok(());
            }
        }
        let Some(letter) = read_model.next_dead_letter(topic.id, &partitions).await? else { return Ok(()) };
        match (letter.status, letter.conversation_id) {
            (DeadLetterStatus::FoldedPendingInvalidation, Some(conversation)) => {
                match announce_all(&projector.cache, read_model, at.generation, conversation).await {
                    Ok(()) => {
                        read_model
                            .set_dead_letter_status(topic.id, letter.position, DeadLetterStatus::Folded, None)
                            .await?;
                        tracing::info!(position = %letter.position, %conversation, "a dead letter was folded");
                    }
                    Err(error) => tracing::info!(%error, "the caches are told of a dead letter in a second"),
                }
                Ok(())
            }
            _ => self.begin(projector, log, at, letter.position).await,
        }
    }

    /// Looks at a record again. Where it is an event now, begins to read its conversation.
    async fn begin(
        &mut self,
        projector: &Projector,
        log: &LogConsumer,
        at: At<'_>,
        position: Position,
    ) -> anyhow::Result<()> {
        let (read_model, topic) = (&projector.read_model, &projector.topic);
        let event = match log.read_at(position).await {
            Ok(Some(record)) => record.event(topic.partitions).map_err(|error| error.to_string()),
            Ok(None) => Err("the log doesn't have it any more".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        let conversation = match event {
            Ok(event) => event.conversation_id,
            Err(reason) => return park(projector, position, &reason).await,
        };
        let first = read_model.first_event(conversation).await?.unwrap_or(i64::MAX).min(position.offset);
        let consumer = LogConsumer::new(&projector.brokers, &topic.name, "dead-letters")?;
        consumer.assign(&[(position.partition, StartAt::Offset(first))])?;
        let (partitions, events) = (topic.partitions, Vec::new());
        let reading = Reading { position, conversation, consumer, partitions, events, next: first };
        self.read_on(reading, at.owned.get(&position.partition).copied().unwrap_or(first));
        Ok(())
    }

    /// Reads what came meanwhile, and puts the conversation in its place; where that takes longer, another time.
    async fn finish(&mut self, projector: &Projector, at: At<'_>, mut reading: Reading) -> anyhow::Result<()> {
        // Somebody else has the partition now, and begins anew.
        let Some(next) = at.owned.get(&reading.position.partition) else { return Ok(()) };
        match tokio::time::timeout(REST, reading.until(*next)).await {
            Ok(Ok(())) => put_in_place(projector, at.generation, &reading).await,
            Ok(Err(error)) => park(projector, reading.position, &error.to_string()).await,
            Err(_) => {
                self.read_on(reading, *next);
                Ok(())
            }
        }
    }

    fn read_on(&mut self, mut reading: Reading, to: i64) {
        let position = reading.position;
        let task = tokio::spawn(async move { reading.until(to).await.map(|()| reading) });
        self.reading = Some((position, task));
    }
}

async fn park(projector: &Projector, position: Position, reason: &str) -> anyhow::Result<()> {
    tracing::warn!(%position, reason, "a dead letter can't be folded");
    projector
        .read_model
        .set_dead_letter_status(projector.topic.id, position, DeadLetterStatus::Parked, Some(reason))
        .await?;
    Ok(())
}

async fn put_in_place(projector: &Projector, generation: i64, reading: &Reading) -> anyhow::Result<()> {
    let mut state = State::default();
    let changes = fold(&reading.events, &mut state);
    let positions: Vec<Position> = reading.events.iter().map(|(position, _)| *position).collect();
    let here = OffsetAdvance { partition: reading.position.partition, from: reading.next, to: reading.next };
    let refolded = RefoldedConversation {
        conversation: reading.conversation,
        state: &state,
        changes: &changes,
        events: &positions,
        offset: here,
        owner: &projector.owner,
    };
    fenced(
        projector
            .read_model
            .replace_conversation(&refolded, Projection { topic_id: projector.topic.id, generation })
            .await,
    )
}
