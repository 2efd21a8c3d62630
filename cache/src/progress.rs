//! The projector's progress as it publishes it, followed in the background, so that a reader who waits for a position
//! is woken and doesn't poll.

use std::time::Duration;

use domain::PositionVector;
use futures_util::StreamExt;
use tokio::sync::watch;

use crate::connection::{Cache, CacheError};

/// How often the process reads the progress again, in case it missed a publication.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// Follows the projector's published progress.
#[derive(Clone)]
pub struct Progress {
    cache: Cache,
    known: watch::Receiver<KnownProgress>,
}

/// The progress of one generation of the projection, as far as this process knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct KnownProgress {
    generation: i64,
    progress: PositionVector,
}

impl Progress {
    /// Follows publications until the last clone is dropped. Enters newer generations as they are published.
    pub fn follow(cache: Cache) -> Self {
        let (sender, known) = watch::channel(KnownProgress::default());
        let followed = cache.clone();
        tokio::spawn(async move {
            while !sender.is_closed() {
                if let Err(error) = listen(&followed, &sender).await {
                    tracing::debug!(%error, "following the projector's progress failed; retrying every second");
                }
                tokio::select! {
                    () = tokio::time::sleep(REFRESH_INTERVAL) => {}
                    () = sender.closed() => {}
                }
            }
        });
        Self { cache, known }
    }

    /// Waits until the projector has published all of `position`; false if that takes longer than `timeout`.
    pub async fn reached(&self, position: &PositionVector, timeout: Duration) -> bool {
        let mut known = self.known.clone();
        // Other tasks of this process enter generations too. The progress of an older one then says nothing.
        let reached =
            known.wait_for(|known| known.generation == self.cache.generation() && known.progress.covers(position));
        matches!(tokio::time::timeout(timeout, reached).await, Ok(Ok(_)))
    }
}

async fn listen(cache: &Cache, sender: &watch::Sender<KnownProgress>) -> Result<(), CacheError> {
    let mut subscription = cache.client().get_async_pubsub().await?;
    subscription.subscribe(cache.keys().progress_channel()).await?;
    let mut publications = subscription.on_message();
    let mut refresh = tokio::time::interval(REFRESH_INTERVAL);
    loop {
        tokio::select! {
            publication = publications.next() => {
                let Some(publication) = publication else { return Ok(()) };
                receive(cache, sender, &publication.get_payload::<String>()?);
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

/// Receives a publication: the generation, then `partition:next` for each partition that moved.
fn receive(cache: &Cache, sender: &watch::Sender<KnownProgress>, publication: &str) {
    let mut words = publication.split(' ');
    let Some(generation) = words.next().and_then(|word| word.parse().ok()) else { return };
    cache.enter_generation(generation);
    let pair = |word: &str| {
        let (partition, next) = word.split_once(':')?;
        Some((partition.parse().ok()?, next.parse().ok()?))
    };
    let moved: Vec<(i32, i64)> = words.filter_map(pair).collect();
    advance(sender, generation, &moved);
}

fn advance(sender: &watch::Sender<KnownProgress>, generation: i64, moved: &[(i32, i64)]) {
    sender.send_if_modified(|known| {
        if generation < known.generation {
            return false;
        }
        let before = known.clone();
        if generation > known.generation {
            // A newer generation starts from the beginning of the log.
            *known = KnownProgress { generation, progress: PositionVector::default() };
        }
        for (partition, next) in moved {
            grow(&mut known.progress, *partition);
            known.progress.advance(*partition, *next);
        }
        *known != before
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
    /// The generation that is served; 0 where Redis doesn't know.
    async fn read_generation(&self) -> Result<i64, CacheError> {
        let mut get = redis::cmd("GET");
        let generation: Option<i64> =
            get.arg(self.keys().current_generation()).query_async(&mut self.connection("read_generation")).await?;
        Ok(generation.unwrap_or(0))
    }

    /// A generation and its progress, as pairs of partition and next offset.
    async fn read_progress(&self) -> Result<(i64, Vec<(i32, i64)>), CacheError> {
        let keys = self.keys();
        let mut read = redis::cmd("HGETALL");
        let progress = read.arg(keys.progress()).query_async(&mut self.connection("read_progress")).await?;
        Ok((keys.generation, progress))
    }
}
