//! Comparing a cached view in Redis with what Postgres has.
//!
//! A view that can be found is at least as recent as the progress that Redis knows. So a view is *stale* if it was there
//! before Postgres was read and afterwards, Redis knows of everything that Postgres had, and the values are others. A view
//! that changes meanwhile is looked at again.

use std::time::Duration;

use cache::{Cache, CacheError, ViewKey};
use domain::PositionVector;
use read_model::{ReadModel, ReadModelError, Snapshot};
use serde::Serialize;
use serde_json::Value;

/// The pause between two looks at a view that changes.
const PAUSE: Duration = Duration::from_millis(100);

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ViewFinding {
    /// Redis has what Postgres has.
    Same,
    /// Redis has something else.
    Stale(ViewDifference),
    /// Redis doesn't have the view, or nobody would find it any more.
    Absent,
    /// It changed at each look.
    Changing,
}

/// The first difference between a view and Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewDifference {
    /// Where it is, such as `[0].content`; empty for the whole view.
    pub path: String,
    /// The value in Redis, as JSON.
    pub found: String,
    /// The value in Postgres, as JSON.
    pub expected: String,
}

/// Why a view can't be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// Postgres doesn't answer.
    #[error(transparent)]
    ReadModel(#[from] ReadModelError),
    /// Redis doesn't answer.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// Compares a view in Redis with Postgres. Looks at it at most `looks` times.
///
/// # Errors
/// When Postgres or Redis doesn't answer.
pub async fn compare_view(
    read_model: &ReadModel,
    cache: &Cache,
    view: &ViewKey,
    looks: u32,
) -> Result<ViewFinding, CompareError> {
    for _ in 0..looks {
        // Nobody finds a view whose versions have changed.
        let Some(before) = cache.view(view).await?.view else { return Ok(ViewFinding::Absent) };
        let (expected, offsets) = expected(read_model, view).await?;
        let after = cache.view(view).await?;
        if after.view.as_ref() == Some(&before) {
            let difference = difference(before.body(), &expected);
            match difference {
                None => return Ok(ViewFinding::Same),
                Some(difference) if after.progress.covers(&offsets) => return Ok(ViewFinding::Stale(difference)),
                // Redis hasn't heard yet of what Postgres has.
                Some(_) => {}
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(ViewFinding::Changing)
}

/// How the body of a view differs from what it has to show.
fn difference(body: &[u8], expected: &Value) -> Option<ViewDifference> {
    // Somebody may have written anything there.
    let Ok(found) = serde_json::from_slice::<Value>(body) else {
        let found = String::from_utf8_lossy(body).into_owned();
        return Some(ViewDifference { path: String::new(), found, expected: expected.to_string() });
    };
    let found = found.get("data").cloned().unwrap_or(found);
    first_difference(String::new(), &found, expected)
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

/// The first value that differs, with the path to it.
fn first_difference(path: String, found: &Value, expected: &Value) -> Option<ViewDifference> {
    match (found, expected) {
        (Value::Object(one), Value::Object(other)) if one.keys().eq(other.keys()) => {
            one.iter().find_map(|(name, value)| first_difference(format!("{path}.{name}"), value, &other[name]))
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            let mut pairs = one.iter().zip(other).enumerate();
            pairs.find_map(|(index, (value, other))| first_difference(format!("{path}[{index}]"), value, other))
        }
        (one, other) => {
            (one != other).then(|| ViewDifference { path, found: one.to_string(), expected: other.to_string() })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_difference_is_named_with_its_path() {
        let (one, other) = (json!([{"a": 1, "b": {"c": [1, 2]}}]), json!([{"a": 1, "b": {"c": [1, 3]}}]));
        let [path, found, expected] = ["[0].b.c[1]", "2", "3"].map(str::to_owned);
        let expected = ViewDifference { path, found, expected };
        assert_eq!(first_difference(String::new(), &one, &other), Some(expected));
        assert_eq!(first_difference(String::new(), &one, &one), None);
        assert!(first_difference(String::new(), &one, &json!([])).is_some());
    }

    #[test]
    fn a_view_that_is_no_json_differs_as_a_whole() {
        assert_eq!(difference(br#"{"data": 7}"#, &json!(7)), None);
        let foreign = difference(b"\xff{", &json!(7)).unwrap();
        assert_eq!((foreign.path.as_str(), foreign.expected.as_str()), ("", "7"));
    }
}
