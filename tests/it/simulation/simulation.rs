//! The scheduler: from a seed it decides who does the next step, and what fails.

use std::cell::RefCell;
use std::fmt::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use cache::Cache;
use domain::testing::{Rng, World};
use domain::{Event, Position, PositionVector, UserId};
use read_model::Projection;
use uuid::Uuid;

use super::bugs::Bug;
use super::clients::{CommandRun, CommandStep, Surroundings};
use super::log::{Log, PARTITIONS};
use super::postgres_model::{CompareAndSet, PostgresModel};
use super::projectors::{CommitFaults, Projector, RunStep};
use super::readers::{Reader, ViewResponse};
use super::redis_model::{Health, RedisModel};
use super::views::{Between, ViewRequest};

/// The prefix of the keys in Redis.
const PREFIX: &str = "s";
/// The key of the published progress.
const PROGRESS_KEY: &str = "s:1:2:progress";

pub(super) const PROJECTION: Projection = Projection { topic_id: Uuid::from_u128(16), generation: 1 };

/// How likely what is in this simulation, in percent: seeds differ in more than their order of steps.
#[derive(Debug)]
struct Climate {
    crashes: usize,
    redis_faults: usize,
    standing_partitions: usize,
    lost_replies: usize,
    /// How many readers are on their way at a time.
    readers: usize,
    most_records_per_read: usize,
    /// How many different views are read. The fewer, the likelier it is that something happens to one meanwhile.
    views: usize,
    /// About how many records the log gets.
    records: usize,
}

impl Climate {
    fn new(rng: &mut Rng) -> Self {
        let mut one_of = |choices: &[usize]| rng.pick(choices).unwrap();
        Self {
            crashes: one_of(&[0, 1, 5, 20]),
            redis_faults: one_of(&[0, 1, 5, 20]),
            standing_partitions: one_of(&[0, 0, 3]),
            lost_replies: one_of(&[0, 0, 10]),
            readers: one_of(&[1, 3, 6]),
            most_records_per_read: one_of(&[1, 3, 10, 50]),
            views: one_of(&[2, 4, 10]),
            records: one_of(&[4, 6, 8, 16]),
        }
    }
}

/// A whole system, on models.
pub(super) struct Simulation<'a> {
    pub(super) rng: Rng,
    climate: Climate,
    pub(super) bug: Option<Bug>,
    pub(super) redis: &'a RedisModel,
    pub(super) postgres: Rc<RefCell<PostgresModel>>,
    pub(super) log: Log,
    world: World,
    /// The caches of the nodes that serve clients.
    pub(super) nodes: Vec<Cache>,
    /// Each projector, with its cache.
    pub(super) projectors: Vec<(Cache, Projector)>,
    commands: Vec<CommandRun>,
    pub(super) readers: Vec<Reader>,
    pub(super) faults: CommitFaults,
    /// The commands that were issued: a client may issue one again.
    issued: Vec<(domain::decide::Context, domain::Command)>,
    pub(super) acknowledged: Vec<(Event, Position)>,
    /// The views that were ever read.
    pub(super) read: Vec<ViewRequest>,
    /// What happened, for a report.
    pub(super) trace: Option<String>,
}

/// What a simulation found to be wrong.
pub(super) type Violation = String;

impl<'a> Simulation<'a> {
    /// A system in which nothing has happened.
    pub(super) fn new(seed: u64, bug: Option<Bug>, redis: &'a RedisModel, is_traced: bool) -> Self {
        redis.reset();
        let mut rng = Rng::new(seed);
        let connect = |_| {
            let cache = Cache::with_executor(Arc::new(redis.clone()), PREFIX);
            cache.enter_generation(PROJECTION.generation);
            cache
        };
        let mut postgres = PostgresModel::new(PROJECTION, PARTITIONS);
        if bug == Some(Bug::CommitIgnoresOffset) {
            postgres.compare_and_set = CompareAndSet::IgnoresOffset;
        }
        let start =
            |cache: Cache| (cache.clone(), Projector::start(cache, PROJECTION, &PositionVector::zero(PARTITIONS)));
        Self {
            climate: Climate::new(&mut rng),
            bug,
            redis,
            postgres: Rc::new(RefCell::new(postgres)),
            log: Log::default(),
            world: World::new(rng.bits()),
            nodes: (0..2).map(connect).collect(),
            projectors: (0..2).map(connect).map(start).collect(),
            commands: Vec::new(),
            readers: Vec::new(),
            faults: CommitFaults::default(),
            issued: Vec::new(),
            acknowledged: Vec::new(),
            read: Vec::new(),
            trace: is_traced.then(String::new),
            rng,
        }
    }

    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let _ = writeln!(trace, "{}", line());
        }
    }

    /// Lets everything happen until the log has enough records.
    pub(super) async fn run(&mut self) -> Result<(), Violation> {
        while self.log.len() < self.climate.records {
            match self.rng.below(100) {
                0..25 => self.step_client().await,
                25..65 => self.step_projector().await?,
                65..97 => self.step_reader()?,
                _ => self.change_faults(),
            }
        }
        Ok(())
    }

    async fn step_client(&mut self) {
        match self.rng.below(10) {
            0 => self.append_past_the_api(),
            1..4 => {
                let (context, command) = self.next_command();
                self.note(|| format!("client: {} issues {command:?}", context.actor));
                self.commands.push(CommandRun::new(context, command));
            }
            _ if self.commands.is_empty() => {}
            _ => {
                let mut command = self.commands.swap_remove(self.rng.below(self.commands.len()));
                if self.rng.percent(self.climate.crashes) {
                    self.note(|| "client: its node dies".to_owned());
                    return;
                }
                let cache = self.nodes[self.rng.below(self.nodes.len())].clone();
                let mut around = Surroundings {
                    cache: &cache,
                    postgres: &self.postgres,
                    log: &mut self.log,
                    world: &mut self.world,
                    rng: &mut self.rng,
                };
                match command.step(&mut around).await {
                    CommandStep::GoesOn => self.commands.push(command),
                    CommandStep::Refused => {}
                    CommandStep::Acknowledged(event, position) => {
                        self.note(|| format!("client: {position} is acknowledged: {:?}", event.data));
                        self.acknowledged.push((*event, position));
                    }
                }
            }
        }
    }

    /// A new command, perhaps with a key that its user has used before, or an old one again, with its key.
    fn next_command(&mut self) -> (domain::decide::Context, domain::Command) {
        let (context, command) = self.world.random_command();
        if let Some((before, same)) = self.rng.pick(&self.issued).filter(|_| self.rng.percent(30)) {
            let again = domain::decide::Context { actor: before.actor, key: before.key, ..context };
            return (again, if self.rng.percent(60) { same } else { command });
        }
        self.issued.push((context.clone(), command.clone()));
        (context, command)
    }

    /// Appends what no command appends: invalid events, copies, what nobody can decode, and offsets without a record.
    fn append_past_the_api(&mut self) {
        let length = self.world.log.len();
        self.world.step();
        let events = self.world.log[length..].to_vec();
        for event in &events {
            let position = self.log.append(event);
            self.note(|| format!("log: {position} is {event:?}"));
        }
        if let Some(event) = events.first().filter(|_| self.rng.percent(10)) {
            self.log.append_undecodable(event, self.rng.percent(50));
        }
        if self.rng.percent(10) {
            self.log.skip_offset(self.rng.below(PARTITIONS));
        }
    }

    async fn step_projector(&mut self) -> Result<(), Violation> {
        let index = self.rng.below(self.projectors.len());
        if self.rng.percent(self.climate.crashes) && self.rng.percent(20) {
            self.note(|| format!("projector {index}: dies"));
            self.start_projector(index);
            return Ok(());
        }
        let is_idle = self.projectors[index].1.is_idle();
        match self.rng.below(10) {
            0 if self.rng.percent(20) => self.projectors[index].1.republish(),
            0..2 => self.begin_batch(index),
            _ if is_idle => self.begin_batch(index),
            _ => return self.work(index).await,
        }
        Ok(())
    }

    /// Lets a projector read some records and begin a batch.
    fn begin_batch(&mut self, index: usize) {
        for partition in 0..PARTITIONS {
            let limit = self.rng.below(self.climate.most_records_per_read + 1);
            self.projectors[index].1.read(&self.log, i32::try_from(partition).unwrap(), limit);
        }
        let pause = Duration::from_millis(self.rng.bits() % 500);
        let is_apart = self.rng.percent(40);
        self.projectors[index].1.begin_batch(is_apart, pause);
    }

    /// Does a step of a projector's batch.
    pub(super) async fn work(&mut self, index: usize) -> Result<(), Violation> {
        let (_, projector) = &mut self.projectors[index];
        let step = projector.step(&self.postgres, &mut self.rng, self.faults, self.bug).await;
        self.note(|| format!("projector {index}: {step:?}"));
        if let RunStep::Ended(_) = step {
            self.start_projector(index);
        }
        if step != RunStep::Idle {
            self.check_progress()?;
        }
        Ok(())
    }

    pub(super) fn start_projector(&mut self, index: usize) {
        let (cache, projector) = &mut self.projectors[index];
        *projector = Projector::start(cache.clone(), PROJECTION, &self.postgres.borrow().offsets());
    }

    /// Checks that the published progress is committed. Returns it.
    pub(super) fn check_progress(&self) -> Result<PositionVector, Violation> {
        let mut progress = PositionVector::zero(PARTITIONS);
        for (partition, next) in self.redis.numbers_in(PROGRESS_KEY) {
            progress.advance(partition, next);
        }
        let offsets = self.postgres.borrow().offsets();
        if offsets.covers(&progress) {
            return Ok(progress);
        }
        Err(format!("progress {:?} is published, but only {:?} is committed", progress.0, offsets.0))
    }

    fn step_reader(&mut self) -> Result<(), Violation> {
        if self.readers.len() < self.climate.readers
            && self.rng.percent(40)
            && let Some(request) = self.next_request()
        {
            self.start_reader(request);
        }
        if self.readers.is_empty() {
            return Ok(());
        }
        let index = self.rng.below(self.readers.len());
        self.step_reader_at(index)
    }

    pub(super) fn start_reader(&mut self, request: ViewRequest) {
        let mut at_least = PositionVector::default();
        if let Some((_, position)) = self.rng.pick(&self.acknowledged).filter(|_| self.rng.percent(50)) {
            at_least.merge(&PositionVector::up_to(position));
        }
        let cache = self.nodes[self.rng.below(self.nodes.len())].clone();
        self.note(|| format!("reader: begins {request:?} from at least {:?}", at_least.0));
        if !self.read.contains(&request) {
            self.read.push(request.clone());
        }
        self.readers.push(Reader::start(cache, self.postgres.clone(), self.bug, request, at_least));
    }

    /// A view of something that is on the log, often one that was read before.
    fn next_request(&mut self) -> Option<ViewRequest> {
        if self.read.len() >= self.climate.views || self.rng.percent(50) && !self.read.is_empty() {
            return self.rng.pick(&self.read);
        }
        let event = self.rng.pick(&self.world.log)?;
        let user: UserId = self.rng.pick(&self.world.log)?.actor_id;
        let conversation = event.conversation_id;
        Some(match (self.rng.below(6), event.data.message_id()) {
            (0, Some(message)) => ViewRequest::Message(message),
            (1, Some(message)) => ViewRequest::MessageFacts(message),
            (2, _) => ViewRequest::Messages(conversation),
            (3, _) => ViewRequest::Memberships(user),
            (4, _) => ViewRequest::Conversations(user),
            _ => ViewRequest::Conversation(conversation, user),
        })
    }

    pub(super) fn step_reader_at(&mut self, index: usize) -> Result<(), Violation> {
        let Poll::Ready(response) = self.readers[index].step() else { return Ok(()) };
        let reader = self.readers.swap_remove(index);
        let request = &reader.request;
        let Some(response) = response else {
            self.note(|| format!("reader: {request:?}: Postgres is behind"));
            return Ok(());
        };
        self.note(|| format!("reader: {request:?}: hit {}, includes {:?}", response.is_hit, response.includes.0));
        self.check_response(request, &reader.at_least, &response)
    }

    /// Checks that an response is what the fold of the log gave: at exactly the position that it claims if it is from
    /// Postgres, else there or later.
    pub(super) fn check_response(
        &self,
        request: &ViewRequest,
        at_least: &PositionVector,
        response: &ViewResponse,
    ) -> Result<(), Violation> {
        let mut least = response.includes.clone();
        least.merge(at_least);
        let most = if response.is_hit { self.postgres.borrow().offsets() } else { least.clone() };
        let between = Between { least: &least, most: &most };
        request
            .check(response.view.as_ref(), &self.log.expected, &between)
            .map_err(|wrong| format!("{request:?} (hit: {}, {:?} to {:?}) {wrong}", response.is_hit, least.0, most.0))
    }

    fn change_faults(&mut self) {
        if self.rng.percent(self.climate.redis_faults) {
            let what = match self.rng.below(4) {
                0 => {
                    self.redis.lose_everything();
                    "loses everything"
                }
                1 => {
                    self.redis.set_health(Health::Down);
                    "is down"
                }
                2 => {
                    self.redis.set_health(Health::LosesNextReply);
                    "loses a reply"
                }
                _ => {
                    self.redis.set_health(Health::Up);
                    "is up"
                }
            };
            self.note(|| format!("Redis {what}"));
        } else if self.rng.percent(30) {
            self.redis.set_health(Health::Up);
        }
        let stands = self.rng.percent(self.climate.standing_partitions * 10);
        let before = self.faults.standing;
        self.faults = CommitFaults {
            standing: stands.then(|| i32::try_from(self.rng.below(PARTITIONS)).unwrap()),
            lost_replies: self.climate.lost_replies,
        };
        let standing = self.faults.standing;
        if let Some(partition) = standing.filter(|_| standing != before) {
            self.note(|| format!("partition {partition}: stands still"));
        }
        self.redis.pass_time(1_000);
    }
}
