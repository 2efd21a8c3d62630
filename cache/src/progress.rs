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
    seen: watch::Receiver<PositionVector>,
}

impl Progress {
    /// Follows the announcements until the last clone is dropped. Also enters newer generations as they are
    /// announced.
    pub fn follow(cache: Cache) -> Self {
        let (sender, seen) = watch::channel(PositionVector::default());
        tokio::spawn(async move {
            while !sender.is_closed() {
                if let Err(error) = listen(&cache, &sender).await {
                    tracing::debug!(%error, "the announcements of progress are out of reach");
                }
                tokio::select! {
                    () = tokio::time::sleep(REFRESH) => {}
                    () = sender.closed() => {}
                }
            }
        });
        Self { seen }
    }

    /// What is known to have been passed.
    pub fn now(&self) -> PositionVector {
        self.seen.borrow().clone()
    }

    /// Waits until everything in `wanted` was passed; false when that takes longer than `limit`.
    pub async fn reached(&self, wanted: &PositionVector, limit: Duration) -> bool {
        let mut seen = self.seen.clone();
        let reached = seen.wait_for(|progress| progress.covers(wanted));
        matches!(tokio::time::timeout(limit, reached).await, Ok(Ok(_)))
    }
}

async fn listen(cache: &Cache, sender: &watch::Sender<PositionVector>) -> Result<(), CacheError> {
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
                let (generation, progress) = cache.read_progress().await?;
                enter(cache, sender, generation);
                advance(sender, &progress);
            }
            () = sender.closed() => return Ok(()),
        }
    }
}

/// Takes an announcement: the generation, then `partition:next` for each partition that moved.
fn take(cache: &Cache, sender: &watch::Sender<PositionVector>, announcement: &str) {
    let mut words = announcement.split(' ');
    let Some(generation) = words.next().and_then(|word| word.parse().ok()) else { return };
    enter(cache, sender, generation);
    if generation == cache.generation() {
        let pair = |word: &str| {
            let (partition, next) = word.split_once(':')?;
            Some((partition.parse().ok()?, next.parse().ok()?))
        };
        let moved: Vec<(i32, i64)> = words.filter_map(pair).collect();
        advance(sender, &moved);
    }
}

fn enter(cache: &Cache, sender: &watch::Sender<PositionVector>, generation: i64) {
    if generation > cache.generation() {
        cache.enter_generation(generation);
        // A newer generation starts from the beginning of the log.
        sender.send_replace(PositionVector::default());
    }
}

fn advance(sender: &watch::Sender<PositionVector>, moved: &[(i32, i64)]) {
    sender.send_if_modified(|progress| {
        let before = progress.clone();
        for (partition, next) in moved {
            grow(progress, *partition);
            progress.advance(*partition, *next);
        }
        *progress != before
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
    /// The generation that is served and its progress, as pairs of partition and next offset.
    async fn read_progress(&self) -> Result<(i64, Vec<(i32, i64)>), CacheError> {
        let keys = self.keys();
        let mut both = redis::pipe();
        both.get(keys.current_generation()).hgetall(keys.progress());
        let (generation, progress): (Option<i64>, Vec<(i32, i64)>) = both.query_async(&mut self.connection()).await?;
        Ok((generation.unwrap_or(keys.generation), progress))
    }
}
