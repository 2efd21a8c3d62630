//! The steps of a verification, from the snapshot to the last bucket.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use domain::ConversationId;
use event_log::LogConsumer;
use read_model::{Differences, FoldedTopic, OpenError, ParkedRecords, ReadModel, StoredRows};
use replay::{Bucket, Buckets, ReadProgress, SortBudget, hash_of, sort_log};
use uuid::Uuid;

use super::comparison::{Comparison, compare_all};
use super::row_codec::EncodedRow;
use crate::complete_log::{ensure_complete, ensure_same_partitions};

/// A read model, and the topic that it must be the fold of.
pub struct Verification {
    /// The addresses of the Kafka brokers.
    pub brokers: String,
    /// The topic's name.
    pub topic: String,
    /// The topic's id.
    pub topic_id: Uuid,
    /// How many partitions the topic has.
    pub partitions: usize,
    /// Where the rows are.
    pub read_model: ReadModel,
    /// What may be in memory.
    pub budget: SortBudget,
}

/// How far a verification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyProgress {
    /// It has read so many rows from Postgres.
    Rows(u64),
    /// It reads the log.
    Log(ReadProgress),
    /// It compares. Counts buckets.
    Comparison {
        /// How many it has compared.
        done: u64,
        /// How many there are.
        total: u64,
    },
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyOutcome {
    /// How many offsets of the log the read model includes.
    pub records: u64,
    /// How many rows Postgres has.
    pub rows: u64,
    /// What differs.
    pub differences: Differences,
    /// How many open dead letters this version can read. They aren't folded, and don't count as differences.
    pub readable_dead_letters: u64,
}

/// The rows of one snapshot, sorted by conversation.
struct SortedRows {
    buckets: Vec<Bucket>,
    count: u64,
    parked: ParkedRecords,
}

/// Compares the read model with the fold of the log, up to the offsets that the read model has now. Changes nothing.
///
/// # Errors
/// When the log no longer has its first records, or isn't that of the read model; when Kafka or Postgres doesn't answer,
/// or the disk is full.
pub async fn verify(verification: &Verification, report: impl Fn(VerifyProgress)) -> anyhow::Result<VerifyOutcome> {
    let Verification { brokers, topic, read_model, budget, .. } = verification;
    let log = LogConsumer::new(brokers, topic, "verify").without_headers();
    ensure_complete(&log).await?;
    let stored = read_model.stored_rows().await?;
    let (folded, stored) = stored.context("the read model is empty: no projector has folded anything yet")?;
    ensure_same_topic(verification, &folded)?;
    if !log.end_offsets().await?.covers(&folded.next) {
        bail!("the read model has folded records that the log doesn't have: the log isn't what it was");
    }
    // People read of one step at a time.
    let has_rows = AtomicBool::new(false);
    let report_log = |progress| {
        if has_rows.load(Ordering::Relaxed) {
            report(VerifyProgress::Log(progress));
        }
    };
    let sorting_rows = async {
        let rows = sort_rows(stored, folded.id, budget, &report).await?;
        has_rows.store(true, Ordering::Relaxed);
        anyhow::Ok(rows)
    };
    let sorting_log = async { anyhow::Ok(sort_log(&log, &folded.next, budget, report_log).await?) };
    let (rows, sorted) = tokio::try_join!(sorting_rows, sorting_log)?;
    let comparison = Comparison::new(Arc::new(rows.parked), verification.partitions);
    let buckets = sorted.into_iter().zip(rows.buckets).collect();
    let report_comparison = |done, total| report(VerifyProgress::Comparison { done, total });
    let comparison = compare_all(comparison, buckets, budget.bucket_max, report_comparison).await?;
    Ok(VerifyOutcome {
        records: folded.next.0.iter().map(|next| u64::try_from(*next).unwrap_or(0)).sum(),
        rows: rows.count,
        differences: comparison.differences,
        readable_dead_letters: comparison.readable_dead_letters,
    })
}

fn ensure_same_topic(verification: &Verification, folded: &FoldedTopic) -> anyhow::Result<()> {
    if folded.id != verification.topic_id {
        return Err(OpenError::AnotherTopic {
            folded_id: folded.id,
            folded_partitions: folded.partitions,
            current_id: verification.topic_id,
            current_partitions: i32::try_from(verification.partitions).unwrap_or(i32::MAX),
        }
        .into());
    }
    ensure_same_partitions(&verification.topic, verification.partitions, folded)
}

/// Sorts the rows of a snapshot by conversation, and ends the snapshot.
async fn sort_rows(
    mut stored: StoredRows,
    topic_id: Uuid,
    budget: &SortBudget,
    report: impl Fn(VerifyProgress),
) -> anyhow::Result<SortedRows> {
    let statuses = stored.dead_letters(topic_id).await?;
    let mut parked = ParkedRecords::new(statuses.context("there are too many dead letters to remember")?);
    let mut buckets = Buckets::new(budget);
    let mut count = 0;
    while let Some(page) = stored.next_page().await? {
        for row in &page {
            parked.observe(row);
            // A column of type uuid always has the text of one.
            let conversation = row.values.first().and_then(Option::as_deref).and_then(|id| id.parse().ok());
            let hash = conversation.map_or(0, |conversation: ConversationId| hash_of(conversation));
            buckets.push(hash, &EncodedRow::new(row).to_entry())?;
        }
        count += page.len() as u64;
        report(VerifyProgress::Rows(count));
    }
    Ok(SortedRows { buckets: buckets.finish(), count, parked })
}
