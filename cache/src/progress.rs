//! The projector's progress as it publishes it, followed in the background, so that a reader who waits for a position
//! is woken and doesn't poll, and every process can name the partitions that make no progress.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use domain::PositionVector;
use tokio::sync::watch;

use crate::as_of::{STALL_AFTER, merge_stalls};
use crate::connection::{Cache, CacheError};
use crate::subscription::Subscription;

/// How often the process reads the progress again, in case it missed a publication.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// Follows the projector's published progress.
#[derive(Clone)]
pub struct Progress {
    cache: Cache,
    known: watch::Receiver<KnownProgress>,
    followed_since: Instant,
}

/// The progress of one generation of the projection, as far as this process knows.
#[derive(Debug, Clone, Default)]
struct KnownProgress {
    generation: i64,
    progress: PositionVector,
    /// By partition.
    as_of: BTreeMap<i32, i64>,
    /// When the progress or the as-of of each partition last moved, as far as this process saw.
    moved_at: BTreeMap<i32, Instant>,
    /// When Redis last answered.
    heard_at: Option<Instant>,
    /// The partitions that projectors report to make no progress, with the reasons.
    stalls: BTreeMap<i32, String>,
}

impl KnownProgress {
    /// The partitions that make no progress, with the reasons. Empty while Redis doesn't answer: nothing is known then.
    fn stalled(&self, partitions: usize, followed_since: Instant, now: Instant) -> BTreeMap<i32, String> {
        if self.heard_at.is_none_or(|heard_at| now.duration_since(heard_at) > STALL_AFTER / 2) {
            return BTreeMap::new();
        }
        let is_still = |partition: &i32| {
            let moved_at = self.moved_at.get(partition).copied().unwrap_or(followed_since).max(followed_since);
            now.duration_since(moved_at) > STALL_AFTER
        };
        let reason = |partition: i32| {
            let reported = self.stalls.get(&partition).cloned();
            (partition, reported.unwrap_or_else(|| "no projector reports on it".to_owned()))
        };
        (0..).take(partitions).filter(is_still).map(reason).collect()
    }
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
        Self { cache, known, followed_since: Instant::now() }
    }

    /// Waits for the next change, and returns the next offset of every partition that the projector has published: of
    /// none when it has begun a newer generation. None when nobody follows the publications any more.
    pub async fn changed(&mut self) -> Option<PositionVector> {
        self.known.changed().await.ok()?;
        let known = self.known.borrow_and_update();
        Some(if known.generation == self.cache.generation() {
            known.progress.clone()
        } else {
            PositionVector::default()
        })
    }

    /// Waits until the projector has published all of `position`; false if that takes longer than `timeout`.
    pub async fn reached(&self, position: &PositionVector, timeout: Duration) -> bool {
        let mut known = self.known.clone();
        let reached = known.wait_for(|known| self.includes(known, position));
        matches!(tokio::time::timeout(timeout, reached).await, Ok(Ok(_)))
    }

    /// Whether the projector is known to have published all of `position`.
    pub fn has_reached(&self, position: &PositionVector) -> bool {
        self.includes(&self.known.borrow(), position)
    }

    fn includes(&self, known: &KnownProgress, position: &PositionVector) -> bool {
        // Other tasks of this process enter generations too. The progress of an older one then says nothing.
        known.generation == self.cache.generation() && known.progress.covers(position)
    }

    /// The partitions of a topic with so many partitions that have made no progress for 10 s, although there is some to
    /// make or nobody reports on them; with the reasons. Empty while Redis doesn't answer.
    pub fn stalled(&self, partitions: usize) -> BTreeMap<i32, String> {
        self.known.borrow().stalled(partitions, self.followed_since, Instant::now())
    }
}

async fn listen(cache: &Cache, sender: &watch::Sender<KnownProgress>) -> Result<(), CacheError> {
    let channel = cache.keys().progress_channel();
    let mut subscription = Subscription::open(cache.evictable_subscribable()?, &channel).await?;
    let mut refresh = tokio::time::interval(REFRESH_INTERVAL);
    loop {
        tokio::select! {
            publication = subscription.next() => receive(cache, sender, &publication?.get_payload::<String>()?),
            _ = refresh.tick() => {
                let (generation, repairs) = cache.read_generation().await?;
                cache.enter_generation(generation);
                cache.learn_of_repairs(&repairs);
                let (generation, moved, stalls) = cache.read_progress().await?;
                advance(sender, generation, &moved);
                // Nobody waits for what this changes.
                sender.send_if_modified(|known| {
                    known.heard_at = Some(Instant::now());
                    known.stalls = stalls;
                    false
                });
            }
            () = sender.closed() => return Ok(()),
        }
    }
}

/// What a publication says: pairs of partition and next offset, and pairs of partition and as-of.
#[derive(Default)]
struct Moved {
    progress: Vec<(i32, i64)>,
    as_of: Vec<(i32, i64)>,
}

/// Receives a publication: the generation, then `partition:next` for each partition that moved, or `@partition:time`
/// for each whose as-of did.
fn receive(cache: &Cache, sender: &watch::Sender<KnownProgress>, publication: &str) {
    let mut words = publication.split(' ');
    let Some(generation) = words.next().and_then(|word| word.parse().ok()) else { return };
    cache.enter_generation(generation);
    let pair = |word: &str| {
        let (partition, value) = word.split_once(':')?;
        Some((partition.parse().ok()?, value.parse().ok()?))
    };
    let mut moved = Moved::default();
    for word in words {
        match word.strip_prefix('@') {
            Some(word) => moved.as_of.extend(pair(word)),
            None => moved.progress.extend(pair(word)),
        }
    }
    advance(sender, generation, &moved);
}

/// Wakes those who wait if the progress moved.
fn advance(sender: &watch::Sender<KnownProgress>, generation: i64, moved: &Moved) {
    sender.send_if_modified(|known| {
        if generation < known.generation {
            return false;
        }
        let mut has_moved = generation > known.generation;
        if has_moved {
            // A newer generation starts from the beginning of the log.
            *known = KnownProgress { generation, heard_at: known.heard_at, ..KnownProgress::default() };
        }
        let now = Instant::now();
        for (partition, next) in &moved.progress {
            grow(&mut known.progress, *partition);
            if known.progress.next(*partition) < *next {
                known.progress.advance(*partition, *next);
                known.moved_at.insert(*partition, now);
                has_moved = true;
            }
        }
        for (partition, as_of) in &moved.as_of {
            if known.as_of.get(partition).is_none_or(|before| before < as_of) {
                known.as_of.insert(*partition, *as_of);
                known.moved_at.insert(*partition, now);
            }
        }
        has_moved
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
    /// The generation that is served, and the published repairs; 0 and nothing where Redis doesn't know.
    async fn read_generation(&self) -> Result<(i64, String), CacheError> {
        let mut read = redis::pipe();
        read.get(self.keys().current_generation()).get(self.keys().repairs());
        let (generation, repairs): (Option<i64>, Option<String>) =
            read.query_async(&mut self.evictable_connection("read_generation")).await?;
        Ok((generation.unwrap_or(0), repairs.unwrap_or_default()))
    }

    /// A generation, its progress and as-ofs, and the partitions that make no progress, with the reasons.
    async fn read_progress(&self) -> Result<(i64, Moved, BTreeMap<i32, String>), CacheError> {
        let keys = self.keys();
        let mut read = redis::pipe();
        read.hgetall(keys.progress()).hgetall(keys.as_of()).hvals(keys.stalls());
        let (progress, as_of, stalls) = read.query_async(&mut self.evictable_connection("read_progress")).await?;
        Ok((keys.generation, Moved { progress, as_of }, merge_stalls(stalls)))
    }
}
