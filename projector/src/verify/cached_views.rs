//! Comparing the views in Redis with what Postgres has.
//!
//! A view that can be found is at least as recent as the progress that Redis knows. So a view is *stale* if it was there
//! before Postgres was read and afterwards, Redis knows of everything that Postgres had, and the values are others. Views
//! that change meanwhile are looked at again.

use std::fmt;
use std::time::Duration;

use cache::{Cache, ViewKey};
use domain::PositionVector;
use read_model::{ReadModel, ReadModelError, Snapshot};
use serde::Serialize;
use serde_json::Value;

/// How many views are compared.
const VIEWS_MAX: u64 = 10_000;
/// How many stale views are described.
const DESCRIBED_MAX: usize = 20;
/// How often a view is looked at that changes meanwhile, and the pause between two looks.
const LOOKS_MAX: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

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
    /// Where the first difference is, such as `[0].content`.
    pub path: String,
    /// The value in Redis, as JSON.
    pub found: String,
    /// The value in Postgres, as JSON.
    pub expected: String,
}

impl fmt::Display for StaleView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { view, path, found, expected } = self;
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
) -> anyhow::Result<()> {
    for _ in 0..LOOKS_MAX {
        // Nobody finds a view whose versions have changed.
        let Some(before) = cache.view(&view).await?.view else { return Ok(()) };
        let (expected, offsets) = expected(read_model, &view).await?;
        let after = cache.view(&view).await?;
        if after.view.as_ref() == Some(&before) {
            let found: Value = serde_json::from_slice(before.body())?;
            let found = found.get("data").cloned().unwrap_or(found);
            let difference = first_difference(String::new(), &found, &expected);
            let Some((path, found, expected)) = difference else {
                comparison.compared += 1;
                return Ok(());
            };
            if after.progress.covers(&offsets) {
                comparison.compared += 1;
                comparison.stale += 1;
                if comparison.first.len() < DESCRIBED_MAX {
                    comparison.first.push(StaleView { view, path, found, expected });
                }
                return Ok(());
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    comparison.restless += 1;
    Ok(())
}

/// What a view has to show, and the offsets that this includes.
async fn expected(read_model: &ReadModel, view: &ViewKey) -> Result<(Value, PositionVector), ReadModelError> {
    match view {
        ViewKey::Conversations { user, page_size } => {
            shown(read_model.conversations(user, *page_size, None).await?, |page| Some(page.items))
        }
        ViewKey::Messages { conversation, page_size } => {
            shown(read_model.messages(*conversation, *page_size, None).await?, |page| Some(page.items))
        }
        ViewKey::Message(id) => shown(read_model.message(*id).await?, |message| message),
        ViewKey::Conversation { conversation, user, page_size } => {
            let limit = i32::try_from(*page_size).unwrap_or(i32::MAX);
            shown(read_model.conversation(*conversation, user, limit, 0).await?, |page| page.map(|page| page.view))
        }
        ViewKey::MessageFacts(id) => shown(read_model.message_facts(*id).await?, |facts| facts),
        ViewKey::Memberships(user) => {
            let snapshot = read_model.memberships(user).await?;
            shown(snapshot, Some)
        }
    }
}

fn shown<T, V: Serialize>(
    snapshot: Snapshot<T>,
    value: impl FnOnce(T) -> Option<V>,
) -> Result<(Value, PositionVector), ReadModelError> {
    // Views always have a JSON form.
    let json = value(snapshot.value).and_then(|value| serde_json::to_value(value).ok()).unwrap_or(Value::Null);
    Ok((json, snapshot.offsets))
}

/// The path to the first value that differs, with both values as JSON.
fn first_difference(path: String, found: &Value, expected: &Value) -> Option<(String, String, String)> {
    match (found, expected) {
        (Value::Object(one), Value::Object(other)) if one.keys().eq(other.keys()) => {
            one.iter().find_map(|(name, value)| first_difference(format!("{path}.{name}"), value, &other[name]))
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            let mut pairs = one.iter().zip(other).enumerate();
            pairs.find_map(|(index, (value, other))| first_difference(format!("{path}[{index}]"), value, other))
        }
        (one, other) => (one != other).then(|| (path, one.to_string(), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_difference_is_named_with_its_path() {
        let (one, other) = (json!([{"a": 1, "b": {"c": [1, 2]}}]), json!([{"a": 1, "b": {"c": [1, 3]}}]));
        let expected = ("[0].b.c[1]".to_owned(), "2".to_owned(), "3".to_owned());
        assert_eq!(first_difference(String::new(), &one, &other), Some(expected));
        assert_eq!(first_difference(String::new(), &one, &one), None);
        assert!(first_difference(String::new(), &one, &json!([])).is_some());
    }
}
