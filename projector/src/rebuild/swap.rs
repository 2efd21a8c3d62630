//! From the copied rows to the swap.

use std::time::Duration;

use domain::PositionVector;
use read_model::{Differences, DifferingConversations, LockedGeneration, NextGeneration, ReadModel, SwapError};
use tokio::time::{Instant, timeout};

use super::catch_up::LogFollower;
use super::differences::describe;

/// How long the live generation may stand still at a time.
const STANDSTILL_MAX: Duration = Duration::from_secs(2);
/// How little must be left to fold before the swap, as the time that folding the last part took.
const NEARLY_DONE: Duration = Duration::from_millis(100);
/// How often the swap is tried, and the pause between two attempts.
const ATTEMPTS_MAX: u32 = 20;
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How long the rebuild looks for the outcome when the answer to the commit is lost.
const OUTCOME_TIMEOUT: Duration = Duration::from_secs(15);
/// How many differing rows of a table are looked at in full.
const DIFFERING_ROWS_MAX: usize = 20;

domain::limit_rows! {
    Services, "standstill of the projectors when a rebuilt generation becomes the live one", Time STANDSTILL_MAX, "the rebuild lets them go on, and tries again", "readers, who wait for the projectors";
    Memory, "rows of each table in which a rebuild differs that it looks at", Count DIFFERING_ROWS_MAX, "only their conversations count", "Postgres, and operators, who read them";
    Services, "wait of a rebuild for Postgres when it doesn't know whether its rows are in use", Time OUTCOME_TIMEOUT, "the command says so", "operators, who wait for its end";
    Services, "attempts to make a rebuilt generation the live one", Count ATTEMPTS_MAX, "the rebuild ends, and nothing has changed", "the projectors";
}

/// The answer to the last commit was lost, and Postgres doesn't answer any more.
#[derive(Debug, thiserror::Error)]
#[error("whether the new rows are in use is unknown, because Postgres doesn't answer: see messages doctor")]
pub(crate) struct UnknownOutcome;

/// What a rebuild is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebuildGoal {
    /// The next generation becomes the live one, if it is equal.
    ReplaceIfEqual,
    /// The next generation becomes the live one, also with other rows.
    Replace,
    /// Nothing changes; only the differences count.
    Compare,
}

/// A generation that is about to replace the live one.
pub(super) struct Swap<'a> {
    pub(super) live: &'a ReadModel,
    pub(super) next: &'a mut NextGeneration,
    pub(super) follower: LogFollower,
    /// Up to where both are compared.
    pub(super) compared: PositionVector,
    /// The conversations that differ.
    pub(super) differing: DifferingConversations,
}

/// How it ended.
pub(super) struct Swapped {
    pub(super) offsets: PositionVector,
    pub(super) differences: Differences,
    /// How long the live generation stood still; none if it is still the live one.
    pub(super) stood_still: Option<Duration>,
}

/// What an attempt came to.
enum Attempt {
    Done(Swapped),
    /// It took too long.
    Late(anyhow::Error),
}

impl Swap<'_> {
    /// Folds what has come since, until the last part took little time, and compares it.
    pub(super) async fn catch_up_with_live(&mut self) -> anyhow::Result<()> {
        loop {
            let began = Instant::now();
            let live = self.live.offsets().await?;
            self.follower.fold_to(&live).await?;
            if began.elapsed() < NEARLY_DONE {
                break;
            }
        }
        self.compare_since().await
    }

    /// Compares what has changed since the last comparison.
    async fn compare_since(&mut self) -> anyhow::Result<()> {
        let since = self.compared.clone();
        let includes = self.next.begin_live_digests().await?;
        self.next.store_live_digests(Some(&since)).await?;
        self.follower.fold_to(&includes).await?;
        let found = self.next.compare_changed(&since).await?;
        self.differing.extend(found);
        self.compared = includes;
        Ok(())
    }

    /// Lets the next generation replace the live one, if that is the goal and nothing forbids it.
    pub(super) async fn run(&mut self, goal: RebuildGoal) -> anyhow::Result<Swapped> {
        if goal == RebuildGoal::Compare && self.differing.is_empty() {
            // Nobody needs to stand still for that.
            let (offsets, differences) = (self.compared.clone(), Differences::default());
            return Ok(Swapped { offsets, differences, stood_still: None });
        }
        let mut attempt = 1;
        loop {
            let reason = match self.attempt(goal).await? {
                Attempt::Done(swapped) => return Ok(swapped),
                Attempt::Late(reason) => reason,
            };
            if attempt == ATTEMPTS_MAX {
                return Err(reason.context("the swap took too long each time; try again when there is less to do"));
            }
            tracing::info!(attempt, "the swap took too long ({reason:#}); trying again");
            tokio::time::sleep(RETRY_PAUSE).await;
            self.catch_up_with_live().await?;
            attempt += 1;
        }
    }

    async fn attempt(&mut self, goal: RebuildGoal) -> anyhow::Result<Attempt> {
        let Self { live, next, follower, compared, differing } = self;
        let generation = next.projection().generation;
        let began = Instant::now();
        let mut locked = match next.lock_live().await {
            Ok(locked) => locked,
            Err(SwapError::ReadModel(error)) if error.is_worth_retrying() => return Ok(Attempt::Late(error.into())),
            Err(error) => return Err(error.into()),
        };
        let offsets = locked.offsets.clone();
        let prepared = timeout(STANDSTILL_MAX, prepare(&mut locked, follower, compared, differing)).await;
        let too_long = || anyhow::anyhow!("the projectors stood still for too long");
        let differences = match prepared.unwrap_or_else(|_| Err(too_long())) {
            Ok(differences) => differences,
            Err(error) => {
                locked.release().await?;
                return Ok(Attempt::Late(error));
            }
        };
        let is_wanted = match goal {
            RebuildGoal::ReplaceIfEqual => differences.is_empty(),
            RebuildGoal::Replace => true,
            RebuildGoal::Compare => false,
        };
        if !is_wanted || began.elapsed() > STANDSTILL_MAX {
            locked.release().await?;
            return Ok(match is_wanted {
                true => Attempt::Late(too_long()),
                false => Attempt::Done(Swapped { offsets, differences, stood_still: None }),
            });
        }
        if let Err(error) = locked.replace(follower.parked.as_deref(), differing).await {
            // The answer to the commit may be lost.
            match has_become_live(live, generation).await {
                Some(true) => {}
                Some(false) => return Err(error.into()),
                None => return Err(anyhow::Error::from(error).context(UnknownOutcome)),
            }
        }
        Ok(Attempt::Done(Swapped { offsets, differences, stood_still: Some(began.elapsed()) }))
    }
}

/// Whether a generation is the live one; none if Postgres doesn't answer for a while.
async fn has_become_live(read_model: &ReadModel, generation: i64) -> Option<bool> {
    let asking = async {
        loop {
            match read_model.generation().await {
                Ok(present) => return present == Some(generation),
                Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
            }
        }
    };
    timeout(OUTCOME_TIMEOUT, asking).await.ok()
}

/// Folds the next generation to exactly where the live one stands still, and says what differs.
async fn prepare(
    locked: &mut LockedGeneration<'_>,
    follower: &mut LogFollower,
    compared: &PositionVector,
    differing: &mut DifferingConversations,
) -> anyhow::Result<Differences> {
    follower.fold_to(&locked.offsets.clone()).await?;
    differing.extend(locked.compare_since(compared).await?);
    if differing.is_empty() {
        return Ok(Differences::default());
    }
    let rows = locked.differing_rows(differing, DIFFERING_ROWS_MAX).await?;
    Ok(describe(&rows, differing))
}
