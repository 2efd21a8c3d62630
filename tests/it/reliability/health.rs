//! What the processes say about themselves: every state that `/readyz` enters and leaves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::task::AbortHandle;

/// The pause between two looks at a process, and how long it may take to answer.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
const ANSWER_TIMEOUT: Duration = Duration::from_millis(2_500);

/// A process, and what it names: a dependency, or `process` if it doesn't answer.
type State = (String, String);

#[derive(Default)]
struct ObservedStates {
    /// The present states, and what the process says about each.
    present: BTreeMap<State, String>,
    /// How often each dependency was named by any process, and how often that ended.
    entered: BTreeMap<String, usize>,
    left: BTreeMap<String, usize>,
}

/// Watches `/readyz` of every process until it is dropped.
pub(super) struct HealthWatch {
    seen: Arc<Mutex<ObservedStates>>,
    watchers: Vec<AbortHandle>,
}

impl HealthWatch {
    pub(super) fn start(processes: Vec<(String, String)>) -> Self {
        let seen = Arc::<Mutex<ObservedStates>>::default();
        let watch = |(name, url): (String, String)| {
            let seen = seen.clone();
            tokio::spawn(async move {
                let client = reqwest::Client::builder().timeout(ANSWER_TIMEOUT).build().unwrap();
                loop {
                    let named = names(&client, &format!("{url}/readyz")).await;
                    seen.lock().unwrap().note(&name, &named);
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
            })
            .abort_handle()
        };
        let watchers = processes.into_iter().map(watch).collect();
        Self { seen, watchers }
    }

    /// Whether a process names this dependency now.
    pub(super) fn names(&self, dependency: &str) -> bool {
        self.seen.lock().unwrap().present.keys().any(|(_, named)| named == dependency)
    }

    /// What the processes name now, in words.
    pub(super) fn present(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.present.iter().map(|((process, named), detail)| format!("{process}: {named} ({detail})")).collect()
    }

    /// How often each dependency was named, and how often that ended.
    pub(super) fn counts(&self) -> BTreeMap<String, (usize, usize)> {
        let seen = self.seen.lock().unwrap();
        let left = |named: &String| seen.left.get(named).copied().unwrap_or(0);
        seen.entered.iter().map(|(named, entered)| (named.clone(), (*entered, left(named)))).collect()
    }
}

impl ObservedStates {
    fn note(&mut self, process: &str, named: &BTreeMap<String, String>) {
        let gone: Vec<State> =
            self.present.keys().filter(|(of, name)| of == process && !named.contains_key(name)).cloned().collect();
        for state in gone {
            self.present.remove(&state);
            *self.left.entry(state.1).or_default() += 1;
        }
        for (name, detail) in named {
            if self.present.insert((process.to_owned(), name.clone()), detail.clone()).is_none() {
                *self.entered.entry(name.clone()).or_default() += 1;
            }
        }
    }
}

impl Drop for HealthWatch {
    fn drop(&mut self) {
        for watcher in &self.watchers {
            watcher.abort();
        }
    }
}

/// The dependencies that a process names, with the details: those without which it can't work, and those that degrade it.
async fn names(client: &reqwest::Client, url: &str) -> BTreeMap<String, String> {
    let body = async { client.get(url).send().await?.json::<Value>().await };
    let body = match body.await {
        Ok(body) => body,
        Err(error) => return BTreeMap::from([("process".to_owned(), error.to_string())]),
    };
    let lists = ["errors", "degraded"].into_iter().filter_map(|list| body[list].as_array());
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    lists.flatten().map(|entry| (text(entry, "field"), text(entry, "detail"))).collect()
}
