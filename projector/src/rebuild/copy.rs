//! Folding the sorted log, and copying the rows that it demands.

use std::sync::{Arc, Mutex, PoisonError};

use domain::state::{Changes, State};
use futures_util::future::try_join_all;
use read_model::{ParkedRecord, RowBuffers, TableCopier, demanded_applied, demanded_rows};
use replay::{Bucket, DecodedBlock, SpillError};
use tokio::sync::mpsc;

use super::courtesy::Courtesy;

/// What folding one bucket demands.
struct FoldedBucket {
    rows: RowBuffers,
    parked: Vec<ParkedRecord>,
}

/// How many threads fold at once.
const THREADS: usize = 2;
/// How many parts of a table's rows wait for Postgres.
const WAITING_PARTS_MAX: usize = 2;

domain::limit_rows! {
    Memory, "folded parts of a table's rows that wait for Postgres in a rebuild", Count WAITING_PARTS_MAX, "folding waits", "memory";
}

/// Folds the buckets of a log with so many partitions, and copies their rows. While Postgres takes the rows of some
/// buckets, the next ones are folded. Returns the records that aren't events.
pub(super) async fn copy_rows(
    buckets: Vec<Bucket>,
    partitions: usize,
    bucket_max: u64,
    copiers: Vec<TableCopier>,
    courtesy: &mut Courtesy,
    report: impl Fn(u64, u64),
) -> anyhow::Result<Vec<ParkedRecord>> {
    let total = buckets.len() as u64;
    let (sender, folded) = mpsc::channel(1);
    let buckets = Arc::new(Mutex::new(buckets));
    let folding: Vec<_> = (0..THREADS)
        .map(|_| {
            let (buckets, sender) = (buckets.clone(), sender.clone());
            tokio::task::spawn_blocking(move || fold_buckets(&buckets, partitions, bucket_max, &sender))
        })
        .collect();
    drop(sender);
    let (tables, receivers): (Vec<_>, Vec<_>) = copiers.iter().map(|_| mpsc::channel(WAITING_PARTS_MAX)).unzip();
    let copying = copiers.into_iter().zip(receivers).map(|(copier, rows)| copier.copy(rows));
    let copying = async { Ok(try_join_all(copying).await?) };
    let feeding = feed(folded, tables, courtesy, |done| report(done, total));
    let (parked, _) = tokio::try_join!(feeding, copying)?;
    for thread in folding {
        thread.await??;
    }
    Ok(parked)
}

/// Shares folded rows out to the tables.
async fn feed(
    mut folded: mpsc::Receiver<Option<FoldedBucket>>,
    tables: Vec<mpsc::Sender<Vec<u8>>>,
    courtesy: &mut Courtesy,
    report: impl Fn(u64),
) -> anyhow::Result<Vec<ParkedRecord>> {
    let (mut parked, mut done) = (Vec::new(), 0);
    while let Some(part) = folded.recv().await {
        match part {
            Some(FoldedBucket { rows, parked: more }) => {
                courtesy.yield_to_live().await;
                for (table, rows) in tables.iter().zip(rows.into_tables()) {
                    if table.send(rows).await.is_err() {
                        // Copying has failed, which says why.
                        return std::future::pending().await;
                    }
                }
                parked.extend(more);
            }
            None => {
                done += 1;
                report(done);
            }
        }
    }
    Ok(parked)
}

/// Takes one bucket after the other and folds it, and sends what each demands, and then that it is done. A bucket that is too large
/// comes in parts. Ends when nobody receives any more.
fn fold_buckets(
    buckets: &Mutex<Vec<Bucket>>,
    partitions: usize,
    bucket_max: u64,
    sender: &mpsc::Sender<Option<FoldedBucket>>,
) -> Result<(), SpillError> {
    loop {
        let Some(bucket) = buckets.lock().unwrap_or_else(PoisonError::into_inner).pop() else { return Ok(()) };
        let mut open = vec![bucket];
        while let Some(bucket) = open.pop() {
            if bucket.bytes() > bucket_max && bucket.is_divisible() {
                open.extend(bucket.divide()?);
            } else if sender.blocking_send(Some(fold_bucket(bucket, partitions)?)).is_err() {
                return Ok(());
            }
        }
        let _ = sender.blocking_send(None);
    }
}

fn fold_bucket(mut bucket: Bucket, partitions: usize) -> Result<FoldedBucket, SpillError> {
    let (mut state, mut changes) = (State::default(), Changes::default());
    let mut parked = Vec::new();
    while let Some(block) = bucket.next_block()? {
        let decoded = DecodedBlock::of(&block, partitions);
        for (position, event) in &decoded.events {
            domain::fold::fold(&mut state, &mut changes, event, *position);
        }
        let undecodable = decoded.undecodable.into_iter();
        parked.extend(undecodable.map(|(position, reason)| ParkedRecord { position, reason }));
    }
    let mut rows = RowBuffers::default();
    demanded_rows(&state).for_each(|row| rows.add(&row));
    changes.applied.iter().for_each(|applied| rows.add(&demanded_applied(applied)));
    Ok(FoldedBucket { rows, parked })
}
