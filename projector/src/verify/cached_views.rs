//! Comparing all views in Redis with what Postgres has.

use std::fmt;

use cache::{Cache, ViewKey};
use read_model::ReadModel;
use read_path::{CompareError, ViewDifference, ViewFinding, compare_view};

/// How many views are compared.
const VIEWS_MAX: u64 = 10_000;
/// How many stale views are described.
const DESCRIBED_MAX: usize = 20;
/// How often a view is looked at that changes meanwhile.
const LOOKS_MAX: u32 = 20;

domain::limit_rows! {
    Redis, "cached views that `verify` compares", Count VIEWS_MAX, "it says that there are more", "Redis and Postgres";
    Redis, "looks of `verify` at a view that changes meanwhile", Count LOOKS_MAX, "the view isn't compared", "Redis and Postgres";
    Memory, "stale views that `verify` describes", Count DESCRIBED_MAX, "it only counts the others", "memory, and operators, who read them";
}

/// The result of comparing cached views.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ViewComparison {
    /// How many views were compared.
    pub compared: u64,
    /// How many changed all the time.
    pub restless: u64,
    /// Whether Redis has more views than were compared.
    pub has_more: bool,
    /// How many are stale.
    pub stale: u64,
    /// The first of these, with what differs.
    pub first: Vec<StaleView>,
}

/// A view that isn't what Postgres has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaleView {
    /// What Redis has it under.
    pub view: ViewKey,
    /// The first difference.
    pub difference: ViewDifference,
}

impl fmt::Display for StaleView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { view, difference: ViewDifference { path, found, expected } } = self;
        let place = if path.is_empty() { String::new() } else { format!(" at {path}") };
        write!(f, "Redis: {view}:{place} {found}, must be {expected}")
    }
}

/// Compares the views in Redis with Postgres. Reports how many are compared.
///
/// # Errors
/// When Postgres or Redis doesn't answer.
pub async fn compare_cached_views(
    read_model: &ReadModel,
    cache: &Cache,
    report: impl Fn(u64),
) -> anyhow::Result<ViewComparison> {
    let mut comparison = ViewComparison::default();
    let Some(generation) = read_model.generation().await? else { return Ok(comparison) };
    cache.enter_generation(generation);
    let mut from = 0;
    loop {
        let part = cache.stored_views(from).await?;
        for view in part.views {
            if comparison.compared + comparison.restless >= VIEWS_MAX {
                comparison.has_more = true;
                return Ok(comparison);
            }
            compare(read_model, cache, view, &mut comparison).await?;
            report(comparison.compared);
        }
        from = part.next;
        if from == 0 {
            return Ok(comparison);
        }
    }
}

async fn compare(
    read_model: &ReadModel,
    cache: &Cache,
    view: ViewKey,
    comparison: &mut ViewComparison,
) -> Result<(), CompareError> {
    match compare_view(read_model, cache, &view, LOOKS_MAX).await? {
        ViewFinding::Absent => {}
        ViewFinding::Changing => comparison.restless += 1,
        ViewFinding::Same => comparison.compared += 1,
        ViewFinding::Stale(difference) => {
            comparison.compared += 1;
            comparison.stale += 1;
            if comparison.first.len() < DESCRIBED_MAX {
                comparison.first.push(StaleView { view, difference });
            }
        }
    }
    Ok(())
}
