//! The picture of health: what each dependency of a process can do for it now, and since when.
//!
//! A dependency *works*, *half works* (it answers, but can't do what the process needs), or is *gone* (nobody answers).
//! A check of each runs in the background, all the time: nobody who asks for the picture costs a dependency anything. A
//! check must do what the services do, because a server that answers a ping may still refuse every write.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use domain::{FieldError, Timestamp};
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::clock;

/// How long a check may take. After that, its dependency is gone.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause between two checks of a dependency.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

domain::limit_rows! {
    Services, "a check of a dependency, for `/readyz`", Time CHECK_TIMEOUT, "the dependency counts as gone", "the checks after it";
}

/// What a check found wrong with a dependency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nobody answers; the text says how that showed.
    Gone(String),
    /// It answers, but can't do what the process needs; the text says why.
    HalfWorks(String),
}

impl Fault {
    fn status(&self) -> DependencyStatus {
        match self {
            Self::Gone(_) => DependencyStatus::Gone,
            Self::HalfWorks(_) => DependencyStatus::HalfWorks,
        }
    }

    /// The state in which the dependency is, as a stable code.
    fn code(&self) -> &'static str {
        match self {
            Self::Gone(_) => "gone",
            Self::HalfWorks(_) => "half_works",
        }
    }

    fn reason(&self) -> &str {
        let (Self::Gone(reason) | Self::HalfWorks(reason)) = self;
        reason
    }

    /// The value of the metric `dependency_state`; 0 stands for a dependency that works.
    fn metric(&self) -> f64 {
        match self {
            Self::HalfWorks(_) => 1.0,
            Self::Gone(_) => 2.0,
        }
    }
}

/// What a dependency of a process can do for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DependencyStatus {
    /// Everything that the process needs.
    Works,
    /// It answers, but can't do what the process needs.
    HalfWorks,
    /// Nobody answers.
    Gone,
}

/// What a check found, and since when it finds that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckReport {
    /// The name of what is checked, such as `postgres`.
    #[schema(example = "postgres")]
    pub dependency: &'static str,
    /// What it can do.
    pub status: DependencyStatus,
    /// Since when, as far as the process saw.
    pub since: Timestamp,
    /// What is wrong; null while it works.
    #[schema(required)]
    pub detail: Option<String>,
}

/// Whether a process can do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReadinessStatus {
    /// It can, though maybe more slowly or with fewer features.
    Ready,
    /// A dependency is missing that it requires.
    NotReady,
    /// It is about to end.
    Stopping,
}

/// The health of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthReport {
    /// Whether it can do its work.
    pub status: ReadinessStatus,
    /// Each check, in the order of their names.
    pub checks: Vec<CheckReport>,
}

/// Whether the process can do its work without a dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Not at all: while it doesn't work, the process isn't ready.
    Required,
    /// More slowly, or with fewer features: the process is ready, but degraded. Otherwise an outage of Redis would take
    /// away every node at once, though each still works.
    Optional,
}

type Check = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), Fault>> + Send>> + Send + Sync>;

/// The checks of a process. It collects them at the start, and then watches them with [`HealthChecks::watch`].
#[derive(Default)]
pub struct HealthChecks(Vec<(&'static str, Need, Check)>);

impl HealthChecks {
    /// Adds the check of a dependency without which the process can't do its work.
    #[must_use]
    pub fn with_required<F, C>(self, name: &'static str, check: C) -> Self
    where
        F: Future<Output = Result<(), Fault>> + Send + 'static,
        C: Fn() -> F + Send + Sync + 'static,
    {
        self.with(name, Need::Required, check)
    }

    /// Adds the check of a dependency without which the process works more slowly or with fewer features.
    #[must_use]
    pub fn with_optional<F, C>(self, name: &'static str, check: C) -> Self
    where
        F: Future<Output = Result<(), Fault>> + Send + 'static,
        C: Fn() -> F + Send + Sync + 'static,
    {
        self.with(name, Need::Optional, check)
    }

    fn with<F, C>(mut self, name: &'static str, need: Need, check: C) -> Self
    where
        F: Future<Output = Result<(), Fault>> + Send + 'static,
        C: Fn() -> F + Send + Sync + 'static,
    {
        self.0.push((name, need, Box::new(move || Box::pin(check()))));
        self
    }

    /// Repeats all checks in the background, each by itself, until the shutdown. Needs a tokio runtime.
    pub fn watch(self, shutdown: &CancellationToken) -> Health {
        let unknown = self.0.iter().map(|(name, need, _)| (*name, Dependency { need: *need, state: None }));
        let picture = Arc::new(watch::Sender::new(unknown.collect::<Picture>()));
        let health = Health { picture: picture.subscribe(), shutdown: shutdown.clone() };
        for (name, _, check) in self.0 {
            let (picture, shutdown) = (picture.clone(), shutdown.clone());
            tokio::spawn(async move {
                loop {
                    let outcome = tokio::time::timeout(CHECK_TIMEOUT, check()).await;
                    let timed_out = || Err(Fault::Gone(format!("no answer within {} s", CHECK_TIMEOUT.as_secs())));
                    note(&picture, name, outcome.unwrap_or_else(|_| timed_out()));
                    if shutdown.run_until_cancelled(tokio::time::sleep(CHECK_INTERVAL)).await.is_none() {
                        return;
                    }
                }
            });
        }
        health
    }
}

/// Each dependency by its name.
type Picture = BTreeMap<&'static str, Dependency>;

#[derive(Debug, Clone)]
struct Dependency {
    need: Need,
    /// None before the first check.
    state: Option<State>,
}

/// What the last check found.
#[derive(Debug, Clone)]
struct State {
    /// None while the dependency works.
    fault: Option<Fault>,
    /// When the dependency entered this state, as far as the process saw.
    since: Timestamp,
}

/// Notes what a check found. Logs when the dependency enters another state.
fn note(picture: &watch::Sender<Picture>, name: &'static str, outcome: Result<(), Fault>) {
    let fault = outcome.err();
    metrics::gauge!("dependency_state", "dependency" => name).set(fault.as_ref().map_or(0.0, Fault::metric));
    picture.send_modify(|picture| {
        let Some(dependency) = picture.get_mut(name) else { return };
        let code = fault.as_ref().map(Fault::code);
        let before = dependency.state.take();
        let (code_before, since) = match &before {
            Some(state) => (state.fault.as_ref().map(Fault::code), state.since),
            None => (None, clock::now()),
        };
        if code == code_before {
            dependency.state = Some(State { fault, since });
            return;
        }
        let seconds = clock::since_millis(since.as_millis()).as_secs();
        match &fault {
            Some(Fault::Gone(reason)) => tracing::warn!(dependency = name, reason, "a dependency is gone"),
            Some(Fault::HalfWorks(reason)) => tracing::warn!(dependency = name, reason, "a dependency half works"),
            None => tracing::info!(dependency = name, after_seconds = seconds, "a dependency works again"),
        }
        dependency.state = Some(State { fault, since: clock::now() });
    });
}

/// The picture of a process's health. Clones share it.
#[derive(Clone)]
pub struct Health {
    picture: watch::Receiver<Picture>,
    shutdown: CancellationToken,
}

/// The dependencies that don't work, each with its state as the code, and the reason and the beginning as the detail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Those without which the process can't do its work.
    pub(crate) required: Vec<FieldError>,
    /// Those without which it works more slowly or with fewer features.
    pub(crate) optional: Vec<FieldError>,
}

impl Health {
    /// Whether the process is stopping.
    pub(crate) fn is_stopping(&self) -> bool {
        self.shutdown.is_cancelled()
    }

    /// All that the process knows of its health. Waits until each check has run once.
    pub async fn report(&self) -> HealthReport {
        let picture = self.complete_picture().await;
        let checks = picture.iter().filter_map(|(name, dependency)| {
            let State { fault, since } = dependency.state.as_ref()?;
            let status = fault.as_ref().map_or(DependencyStatus::Works, Fault::status);
            let detail = fault.as_ref().map(|fault| fault.reason().to_owned());
            Some(CheckReport { dependency: name, status, since: *since, detail })
        });
        let lacks_required = picture.values().any(|dependency| {
            dependency.need == Need::Required && dependency.state.as_ref().is_some_and(|state| state.fault.is_some())
        });
        let status = match (self.is_stopping(), lacks_required) {
            (true, _) => ReadinessStatus::Stopping,
            (false, true) => ReadinessStatus::NotReady,
            (false, false) => ReadinessStatus::Ready,
        };
        HealthReport { status, checks: checks.collect() }
    }

    /// The picture once each check has run; empty if none ever will.
    async fn complete_picture(&self) -> Picture {
        let mut picture = self.picture.clone();
        let is_complete = |picture: &Picture| picture.values().all(|dependency| dependency.state.is_some());
        picture.wait_for(is_complete).await.map(|picture| picture.clone()).unwrap_or_default()
    }

    /// What doesn't work now. Waits until each check has run once.
    pub(crate) async fn faults(&self) -> Faults {
        let picture = self.complete_picture().await;
        let mut faults = Faults::default();
        for (name, dependency) in &picture {
            let Some(State { fault: Some(fault), since }) = &dependency.state else { continue };
            let error = FieldError::new(*name, fault.code(), format!("{} (since {since})", fault.reason()));
            match dependency.need {
                Need::Required => faults.required.push(error),
                Need::Optional => faults.optional.push(error),
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_state_begins_when_it_is_entered_and_ends_by_itself() {
        let outcome = Arc::new(Mutex::new(Ok(())));
        let checked = outcome.clone();
        let shutdown = CancellationToken::new();
        let health = HealthChecks::default()
            .with_optional("redis", move || {
                let outcome = checked.lock().unwrap().clone();
                async move { outcome }
            })
            .watch(&shutdown);
        assert_eq!(health.faults().await, Faults::default());
        let mut details = Vec::new();
        for reason in ["it is full", "it is a replica"] {
            *outcome.lock().unwrap() = Err(Fault::HalfWorks(reason.to_owned()));
            tokio::time::sleep(2 * CHECK_INTERVAL).await;
            let faults = health.faults().await.optional;
            assert_eq!((faults.len(), faults[0].field.as_str(), faults[0].code), (1, "redis", "half_works"));
            details.push(faults[0].detail.clone());
        }
        let since = |detail: &str| detail.split_once(" (since ").unwrap().1.to_owned();
        assert!(details[0].starts_with("it is full (since 2"), "{details:?}");
        assert_eq!(since(&details[0]), since(&details[1]), "another reason isn't another state");
        *outcome.lock().unwrap() = Err(Fault::Gone("refused".to_owned()));
        tokio::time::sleep(2 * CHECK_INTERVAL).await;
        assert_eq!(health.faults().await.optional[0].code, "gone");
        let gone = health.report().await;
        assert_eq!((gone.status, gone.checks[0].status), (ReadinessStatus::Ready, DependencyStatus::Gone));
        assert_eq!(gone.checks[0].detail.as_deref(), Some("refused"));
        *outcome.lock().unwrap() = Ok(());
        tokio::time::sleep(2 * CHECK_INTERVAL).await;
        assert_eq!(health.faults().await, Faults::default());
        let works = health.report().await.checks.remove(0);
        assert_eq!((works.status, works.detail), (DependencyStatus::Works, None));
        assert!(works.since >= gone.checks[0].since);
        tokio::time::sleep(2 * CHECK_INTERVAL).await;
        assert_eq!(health.report().await.checks[0].since, works.since, "it still works");
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_never_ends_holds_up_no_other() {
        let health = HealthChecks::default()
            .with_required("kafka", std::future::pending)
            .with_required("postgres", || async { Ok(()) })
            .watch(&CancellationToken::new());
        let faults = health.faults().await.required;
        assert_eq!((faults.len(), faults[0].field.as_str(), faults[0].code), (1, "kafka", "gone"));
        assert!(faults[0].detail.starts_with("no answer within 2 s"), "{faults:?}");
        assert_eq!(health.report().await.status, ReadinessStatus::NotReady);
    }
}
