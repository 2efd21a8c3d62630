//! Reads one conversation from the log for an admin who waits, within a budget. One such read runs at a time on a process:
//! it reads all records of a partition, so it must never take more than a small part of what Kafka and the process can do.

use std::time::Duration;

use domain::ConversationId;
use event_log::{LogConsumer, LogError};
use replay::{ConversationScan, ScanPlan, scan_conversation};
use service::problem::Problem;
use tokio::sync::SemaphorePermit;
use tokio::time::Instant;

use crate::log_problem;
use crate::turns::Turns;

/// How many offsets of a partition a request reads.
pub(super) const OFFSETS_MAX: i64 = 200_000;
/// How many bytes of events a request collects.
const BYTES_MAX: usize = 8 << 20;
/// How long a request reads.
const SCAN_TIMEOUT: Duration = Duration::from_secs(5);

domain::limit_rows! {
    Queries, "offsets of a partition that the admin API reads for one look at a conversation", Count OFFSETS_MAX, "the page ends early; a state is refused with 409 `too_large`", "Kafka, and the process";
    Queries, "bytes of events of this look", Bytes BYTES_MAX, "the page ends early; a state is refused with 409 `too_large`", "memory";
    Queries, "time for this look", Time SCAN_TIMEOUT, "the page ends early; a state is refused with 409 `too_large`", "Kafka, and the process";
}

/// Reads for one request at a time.
pub(crate) struct LogScanner {
    brokers: String,
    topic: String,
    partitions: usize,
    turns: Turns,
}

/// The turn of a request: a consumer of its own, and the time that is left.
pub(super) struct LogScan<'s> {
    scanner: &'s LogScanner,
    consumer: Option<LogConsumer>,
    deadline: Instant,
    _turn: SemaphorePermit<'s>,
}

impl LogScanner {
    /// Reads this topic. Connects with each request: a consumer that nobody polls would keep its own statistics forever.
    pub(crate) fn new(brokers: String, topic: String, partitions: usize) -> Self {
        Self { brokers, topic, partitions, turns: Turns::default() }
    }

    /// Waits for the turn of a request.
    ///
    /// # Errors
    /// 503 `busy` when the others take too long.
    pub(super) async fn begin(&self) -> Result<LogScan<'_>, Problem> {
        let turn = self.turns.take().await?;
        let consumer = LogConsumer::new(&self.brokers, &self.topic, "admin-scan").without_headers();
        let deadline = Instant::now() + SCAN_TIMEOUT;
        Ok(LogScan { scanner: self, consumer: Some(consumer), deadline, _turn: turn })
    }
}

impl LogScan<'_> {
    /// Reads the conversation's records between two offsets of its partition, as far as the budget allows.
    ///
    /// # Errors
    /// 503 when Kafka doesn't answer.
    pub(super) async fn read(
        &self,
        conversation: ConversationId,
        from: i64,
        end: i64,
        records_max: usize,
    ) -> Result<ConversationScan, Problem> {
        let Some(consumer) = &self.consumer else { return Err(Problem::internal()) };
        let plan = ScanPlan {
            conversation,
            partitions: self.scanner.partitions,
            from,
            end,
            offsets_max: OFFSETS_MAX,
            records_max,
            bytes_max: BYTES_MAX,
            deadline: self.deadline,
        };
        let scan = scan_conversation(consumer, plan).await.map_err(|error| log_problem(&error))?;
        if scan.next == from && from < end {
            return Err(log_problem(&LogError::TimedOut));
        }
        Ok(scan)
    }
}

impl Drop for LogScan<'_> {
    fn drop(&mut self) {
        // It blocks for 100 to 200 ms.
        if let (Some(consumer), Ok(runtime)) = (self.consumer.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn_blocking(move || drop(consumer));
        }
    }
}
