//! Which offsets of its partition have a conversation's events.

use domain::{ConversationId, EventData, Position};
use event_log::partition_of;
use replay::ConversationScan;
use service::problem::Problem;

use super::log_scanner::LogScan;
use crate::{AdminApi, log_problem, postgres_problem};

/// The part of a partition in which a conversation's events are.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogStretch {
    /// The partition of the conversation's events.
    pub(super) partition: i32,
    /// The first offset that the log still has.
    beginning: i64,
    /// The offset of the conversation's first event, by what the read model includes; else the beginning.
    pub(super) created: i64,
    /// The offset up to which readers get records.
    pub(super) readable: i64,
}

impl LogStretch {
    /// Asks Postgres where the conversation begins, and Kafka which records there are.
    ///
    /// # Errors
    /// 503 when Kafka or Postgres doesn't answer.
    pub(super) async fn find(api: &AdminApi, conversation: ConversationId) -> Result<Self, Problem> {
        let shared = &api.0;
        let first = shared.read_model.first_event(conversation).await.map_err(|error| postgres_problem(&error))?;
        let ends = tokio::try_join!(shared.log.beginning_offsets(), shared.log.readable_end_offsets());
        let (beginning, readable) = ends.map_err(|error| log_problem(&error))?;
        let partition = partition_of(conversation, shared.partitions);
        let beginning = beginning.next(partition);
        let created = first.unwrap_or(beginning).max(beginning);
        Ok(Self { partition, beginning, created, readable: readable.next(partition) })
    }

    /// The offset of a position that a parameter names.
    ///
    /// # Errors
    /// 400 when it is on another partition.
    pub(super) fn offset_of(&self, name: &str, position: Position) -> Result<i64, Problem> {
        if position.partition == self.partition {
            return Ok(position.offset);
        }
        let detail = format!("must be on partition {}, which has the events of this conversation", self.partition);
        Err(Problem::invalid_parameter(name, "invalid_id", detail))
    }

    /// The offset at which to go on after another one, as far as the log still has records.
    pub(super) fn later(&self, offset: i64) -> i64 {
        offset.saturating_add(1).max(self.beginning)
    }

    /// Reads from the conversation's creation on. Postgres says where that is, unless somebody has changed its rows: then
    /// it reads from the beginning.
    ///
    /// # Errors
    /// 503 when Kafka doesn't answer.
    pub(super) async fn read_from_creation(
        &self,
        scan: &LogScan<'_>,
        conversation: ConversationId,
        end: i64,
        records_max: usize,
    ) -> Result<ConversationScan, Problem> {
        let found = scan.read(conversation, self.created, end, records_max).await?;
        let is_creation = found.records.first().is_some_and(|record| {
            record.event.as_ref().is_ok_and(|event| matches!(event.data, EventData::ConversationCreated { .. }))
        });
        if is_creation || self.created == self.beginning {
            return Ok(found);
        }
        scan.read(conversation, self.beginning, end, records_max).await
    }
}
