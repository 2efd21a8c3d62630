//! Projectors: the production core, driven step by step against the models. Two of them work on the same partitions, as
//! if leases protected nothing.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use cache::{Cache, Dependency};
use domain::testing::Rng;
use domain::{OffsetAdvance, PositionVector};
use projector::folding::{Backlog, BatchRun, PendingRecord, Reply, Request, Setback};
use read_model::Projection;

use super::bugs::Bug;
use super::log::{Log, PARTITIONS};
use super::postgres_model::{CommitFailure, PostgresModel};

/// What happens to the projectors' commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct CommitFaults {
    /// Commits with this partition don't get through.
    pub(super) standing: Option<i32>,
    /// How many of 100 commits are made although the projector never hears of it.
    pub(super) lost_replies: usize,
}

/// One projector, from its start to its next crash.
pub(super) struct Projector {
    cache: Cache,
    projection: Projection,
    backlog: Backlog,
    runs: Vec<BatchRun>,
    /// The projector's clock.
    now: Instant,
}

/// How a step of a projector ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RunStep {
    Worked(&'static str),
    Idle,
    /// The projector has to start again.
    Ended(&'static str),
}

impl Projector {
    /// Starts from the committed offsets, and publishes them again.
    pub(super) fn start(cache: Cache, projection: Projection, offsets: &PositionVector) -> Self {
        let mut backlog = Backlog::default();
        for (partition, next) in (0..).zip(&offsets.0) {
            backlog.add(partition, *next);
        }
        let mut projector = Self { cache, projection, backlog, runs: Vec::new(), now: Instant::now() };
        projector.republish();
        projector
    }

    /// Publishes the committed offsets again, as the worker does once a second.
    pub(super) fn republish(&mut self) {
        let next_offsets = self.backlog.next_offsets().into_iter();
        let unmoved = next_offsets.map(|(partition, next)| OffsetAdvance { partition, from: next, to: next });
        self.runs.push(BatchRun::republish(unmoved.collect()));
    }

    /// Reads some records of a partition.
    pub(super) fn read(&mut self, log: &Log, partition: i32, limit: usize) {
        let Some(from) = self.backlog.read_offsets().get(&partition).copied() else { return };
        let (records, next) = log.read(partition, from, limit);
        for record in records {
            self.backlog.push(PendingRecord::new(record.clone(), PARTITIONS));
        }
        self.backlog.pass(partition, next);
    }

    /// Begins the next batch, if there is one.
    pub(super) fn begin_batch(&mut self, is_apart: bool, pause: Duration) {
        self.now += pause;
        let batch = if is_apart { self.backlog.apart_batch(self.now) } else { self.backlog.shared_batch() };
        self.runs.extend(batch.map(BatchRun::new));
    }

    /// Whether no batch is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.runs.is_empty()
    }

    /// Whether everything below these offsets is committed and published, as far as this projector knows.
    pub(super) fn is_done(&self, end: &PositionVector) -> bool {
        let next_offsets = self.backlog.next_offsets();
        self.runs.is_empty() && (0..).zip(&end.0).all(|(partition, next)| next_offsets.get(&partition) == Some(next))
    }

    /// Does the next step of one of the batches on their way.
    pub(super) async fn step(
        &mut self,
        postgres: &Rc<RefCell<PostgresModel>>,
        rng: &mut Rng,
        faults: CommitFaults,
        bug: Option<Bug>,
    ) -> RunStep {
        if self.runs.is_empty() {
            return RunStep::Idle;
        }
        let mut run = self.runs.swap_remove(rng.below(self.runs.len()));
        let was_committed = run.is_committed();
        let Some(request) = run.request() else { return RunStep::Worked("has nothing to do") };
        let seams = Seams { cache: &self.cache, projection: self.projection, postgres, faults, bug };
        let (step, outcome) = seams.fulfil(&request, rng).await;
        match outcome {
            Outcome::Reply(reply) => {
                run.reply(*reply);
                if run.is_committed()
                    && !was_committed
                    && let Some(batch) = run.batch()
                {
                    let took = Duration::from_millis(rng.bits() % 1_000);
                    self.backlog.committed(batch, run.cost(), took);
                }
                if run.request().is_some() {
                    self.runs.push(run);
                }
            }
            Outcome::SetBack(setback) => {
                if let Some(batch) = run.batch() {
                    self.backlog.set_back(batch, &setback, self.now);
                }
            }
            // The next republication finds that Redis is behind.
            Outcome::RedisFailed => {}
            Outcome::MustStartAgain => return RunStep::Ended(step),
        }
        RunStep::Worked(step)
    }
}

/// What a request came to.
enum Outcome {
    Reply(Box<Reply>),
    SetBack(Setback),
    RedisFailed,
    MustStartAgain,
}

/// Between the core and the models: where requests are fulfilled, and where most bugs are planted.
struct Seams<'a> {
    cache: &'a Cache,
    projection: Projection,
    postgres: &'a Rc<RefCell<PostgresModel>>,
    faults: CommitFaults,
    bug: Option<Bug>,
}

impl Seams<'_> {
    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    async fn fulfil(&self, request: &Request<'_>, rng: &mut Rng) -> (&'static str, Outcome) {
        match request {
            Request::Load(touched) => {
                let mut state = self.postgres.borrow().load(touched);
                if self.has(Bug::ForgetsFoldedEvents) {
                    state.applied.clear();
                }
                if self.has(Bug::ForgetsUsedKeys) {
                    state.keys.clear();
                }
                ("loads", Outcome::Reply(Box::new(Reply::Loaded(state))))
            }
            Request::Commit { state, changes, parked, advances } => {
                let mut advances = advances.clone();
                if self.has(Bug::PublishesBeforeCommit) {
                    let _ = self.cache.publish_progress(self.projection.generation, &[], &advances).await;
                }
                if let Some(last) = advances.last_mut().filter(|_| self.has(Bug::AdvancesTooFar) && rng.percent(10)) {
                    last.to += 1;
                }
                if let Some(standing) = self.faults.standing.filter(|it| advances.iter().any(|to| to.partition == *it))
                {
                    let held = if rng.percent(50) { Setback::Held(vec![standing]) } else { Setback::Failed };
                    return ("can't commit", Outcome::SetBack(held));
                }
                let committed = self.postgres.borrow_mut().commit(state, changes, parked, &advances, self.projection);
                match committed {
                    Ok(()) if rng.percent(self.faults.lost_replies) => ("commits unheard", Outcome::MustStartAgain),
                    Ok(()) => ("commits", Outcome::Reply(Box::new(Reply::Committed))),
                    Err(CommitFailure::Fenced) => ("is fenced off", Outcome::MustStartAgain),
                    Err(CommitFailure::Violation) => ("violates an index", Outcome::MustStartAgain),
                }
            }
            Request::MembersOfSmall(conversations) => {
                let members = self.postgres.borrow().members_of_small(conversations);
                let members = if self.has(Bug::ForgetsParticipants) { Vec::new() } else { members };
                ("lists members", Outcome::Reply(Box::new(Reply::Members(members))))
            }
            Request::Publish(publication) => {
                let generation = self.projection.generation;
                if self.has(Bug::PublishesBeforeInvalidation) && rng.percent(30) {
                    // It dies before it invalidates.
                    let _ = self.cache.publish_progress(generation, &[], &publication.advances).await;
                    return ("publishes early", Outcome::MustStartAgain);
                }
                let mut dependencies = publication.dependencies.clone();
                if self.has(Bug::ForgetsMemberships) {
                    dependencies.retain(|dependency| !matches!(dependency, Dependency::Memberships(_)));
                }
                let published = self.cache.publish_progress(generation, &dependencies, &publication.advances).await;
                match published {
                    Ok(outcome) => ("publishes", Outcome::Reply(Box::new(Reply::Published(outcome)))),
                    Err(_) => ("can't publish", Outcome::RedisFailed),
                }
            }
            Request::ListChanges(cursor) => {
                let postgres = self.postgres.borrow();
                let mut page = postgres.changed_entities(cursor);
                if self.has(Bug::RepairSkipsPage)
                    && let Some(next) = &page.next
                {
                    page = postgres.changed_entities(next);
                }
                ("lists changes", Outcome::Reply(Box::new(Reply::Changed(page))))
            }
        }
    }
}
