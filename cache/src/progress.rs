//! Following the projector's progress, so that those who wait for a position are woken, not polled for.

use std::time::Duration;

use domain::PositionVector;
use futures_util::StreamExt;
use tokio::sync::watch;

use crate::connection::{Cache, CacheError};

/// How often progress is read again in case an announcement was missed.
const REFRESH: Duration = Duration::from_secs(1);

/// The projector's progress as announced, followed in the background.
#[derive(Clone)]
pub struct Progress {
    cache: Cache,
    seen: watch::Receiver<Seen>,
}

/// What a generation of the projection is known to have passed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Seen {
    generation: i64,
    progress: PositionVector,
}

impl Progress {
    /// Follows the announcements until the last clone is dropped. Also enters newer generations as they are
    /// announced.
    pub fn follow(cache: Cache) -> Self {
        let (sender, seen) = watch::channel(Seen::default());
        let followed = cache.clone();
        tokio::spawn(async move {
            while !sender.is_closed() {
                if let Err(error) = listen(&followed, &sender).await {
                    tracing::debug!(%error, "the announcements of progress are out of reach");
                }
                tokio::select! {
                    () = tokio::time::sleep(REFRESH) => {}
                    () = sender.closed() => {}
                }
            }
        });
        Self { cache, seen }
    }

    /// Waits until everything in `wanted` was passed; false when that takes longer than `limit`.
    pub async fn reached(&self, wanted: &PositionVector, limit: Duration) -> bool {
        let mut seen = self.seen.clone();
        // Others in this process enter generations too: what an older one had passed says nothing then.
        let reached = seen.wait_for(|seen| seen.generation == self.cache.generation() && seen.progress.covers(wanted));
        matches!(tokio::time::timeout(limit, reached).await, Ok(Ok(_)))
    }
}

async fn listen(cache: &Cache, sender: &watch::Sender<Seen>) -> Result<(), CacheError> {
    let mut subscription = cache.client().get_async_pubsub().await?;
    subscription.subscribe(cache.keys().progress_channel()).await?;
    let mut announcements = subscription.on_message();
    let mut refresh = tokio::time::interval(REFRESH);
    loop {
        tokio::select! {
            announcement = announcements.next() => {
                let Some(announcement) = announcement else { return Ok(()) };
                take(cache, sender, &announcement.get_payload::<String>()?);
            }
            _ = refresh.tick() => {
                cache.enter_generation(cache.read_generation().await?);
                let (generation, progress) = cache.read_progress().await?;
                advance(sender, generation, &progress);
            }
            () = sender.closed() => return Ok(()),
        }
    }
}

/// Takes an announcement: the generation, then `partition:next` for each partition that moved.
fn take(cache: &Cache, sender: &watch::Sender<Seen>, announcement: &str) {
    let mut words = announcement.split(' ');
    let Some(generation) = words.next().and_then(|word| word.parse().ok()) else { return };
    cache.enter_generation(generation);
    let pair = |word: &str| {
        let (partition, next) = word.split_once(':')?;
        Some((partition.parse().ok()?, next.parse().ok()?))
    };
    let moved: Vec<(i32, i64)> = words.filter_map(pair).collect();
    advance(sender, generation, &moved);
}

fn advance(sender: &watch::Sender<Seen>, generation: i64, moved: &[(i32, i64)]) {
    sender.send_if_modified(|seen| {
        if generation < seen.generation {
            return false;
        }
        let before = seen.clone();
        if generation > seen.generation {
            // A newer generation starts from the beginning of the log.
            *seen = Seen { generation, progress: PositionVector::default() };
        }
        for (partition, next) in moved {
            grow(&mut seen.progress, *partition);
            seen.progress.advance(*partition, *next);
        }
        *seen != before
    });
}

fn grow(progress: &mut PositionVector, partition: i32) {
    let needed = usize::try_from(partition).map_or(0, |index| index + 1);
    if progress.0.len() < needed {
        progress.0.resize(needed, 0);
    }
}

/// A vector from pairs of partition and next offset.
pub(crate) fn vector(pairs: &[(i32, i64)]) -> PositionVector {
    let mut progress = PositionVector::default();
    for (partition, next) in pairs {
        grow(&mut progress, *partition);
        progress.advance(*partition, *next);
    }
    progress
}

impl Cache {
    /// The generation that is served; 0 when Redis doesn't know.
    async fn read_generation(&self) -> Result<i64, CacheError> {
        let mut get = redis::cmd("GET");
        let generation: Option<i64> =
            get.arg(self.keys().current_generation()).query_async(&mut self.connection()).await?;
        Ok(generation.unwrap_or(0))
    }

    /// A generation and its progress, as pairs of partition and next offset.
    async fn read_progress(&self) -> Result<(i64, Vec<(i32, i64)>), CacheError> {
        let keys = self.keys();
        let mut read = redis::cmd("HGETALL");
        let progress = read.arg(keys.progress()).query_async(&mut self.connection()).await?;
        Ok((keys.generation, progress))
    }
}
