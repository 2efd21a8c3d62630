//! Tells Redis, once a second, what it needn't keep much longer because its event is folded: reservations of
//! idempotency keys, and pending entities. What Redis isn't told ends by itself, much later.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use cache::keys::RESERVATION_TTL;
use cache::{Cache, FoldedKey};
use tokio_util::sync::CancellationToken;

use crate::folding::Batch;

/// The pause between two calls of Redis.
const INTERVAL: Duration = Duration::from_secs(1);
/// How many keys one call names. Redis serves nobody else meanwhile.
const KEYS_PER_CALL: usize = 500;
/// How many keys wait at most: 20 MB. More come in a second only while a projector catches up.
const MAX_WAITING: usize = 100_000;

domain::limit_rows! {
    Memory, "reservations that a projector lets end", Count MAX_WAITING, "Redis keeps the others until they expire", "memory";
}

/// The keys that Redis has to be told about. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct FoldedKeys(Arc<Mutex<Vec<FoldedKey>>>);

impl FoldedKeys {
    /// Takes note of a committed batch.
    pub(crate) fn add(&self, cache: &Cache, batch: &Batch) {
        let forgotten_before = SystemTime::now() - RESERVATION_TTL;
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, event) in batch.events() {
            let may_be_kept = SystemTime::from(event.occurred_at.to_date_time()) > forgotten_before;
            if may_be_kept && waiting.len() < MAX_WAITING {
                waiting.extend(cache.folded_keys(event));
            }
        }
    }

    /// Keeps what Redis has not been told, before what has come since.
    fn keep(&self, mut untold: Vec<FoldedKey>) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        untold.append(&mut waiting);
        untold.truncate(MAX_WAITING);
        *waiting = untold;
    }

    /// Tells Redis until the shutdown.
    pub(crate) async fn run(self, cache: Cache, shutdown: CancellationToken) {
        let mut interval = tokio::time::interval(INTERVAL);
        while shutdown.run_until_cancelled(interval.tick()).await.is_some() {
            let mut waiting = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
            while !waiting.is_empty() {
                let rest = waiting.split_off(waiting.len().min(KEYS_PER_CALL));
                if let Err(error) = cache.expire_folded(&waiting).await {
                    tracing::debug!(%error, "Redis failed; telling it again in a second what is folded");
                    waiting.extend(rest);
                    self.keep(waiting);
                    break;
                }
                waiting = rest;
            }
        }
    }
}
