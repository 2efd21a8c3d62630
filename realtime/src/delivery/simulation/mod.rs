//! A simulation of delivery with a seed: a relay, a projector that stands still or lags, and sockets that come and go, each
//! step in an order that the seed decides. The rooms, the tail and the passage of records are the product's. The log
//! has copies of records, and the relay reads some records again.
//!
//! A failure prints its seed and what happened. `MESSAGES_SEED=42` runs that seed alone.

mod bugs;
mod log;
mod sockets;

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use domain::PositionVector;
use domain::testing::Rng;

use self::bugs::{BUGS, Bug, Violation};
use self::log::{Log, PARTITIONS};
use self::sockets::{Socket, Stage, Surroundings};
use super::passage::Passage;
use super::recipients::deliveries_of;
use super::relayed_record::RelayedRecord;
use super::tail::RelayTail;
use crate::rooms::{EventRef, Rooms};

/// How many seeds a run of the tests simulates.
const SEEDS: u64 = 2_000;
/// How many seeds are enough for each fault to happen, and for a planted bug to show.
const FEW_SEEDS: u64 = 100;
/// How many records the log gets, about.
const RECORDS: i64 = 40;
/// How many steps everybody needs at most to finish.
const MOST_STEPS: usize = 1_500;

/// What happens in simulations. If no seed meets it, the simulation has become too harmless.
const EVENTS: [&str; 9] = [
    "enters",
    "looks up its memberships",
    "joins",
    "reads the tail",
    "is live",
    "falls behind the tail",
    "leaves the rooms",
    "stands still",
    "goes on",
];

struct Simulation {
    rng: Rng,
    bug: Option<Bug>,
    log: Log,
    passage: Passage<usize>,
    tail: Arc<RelayTail>,
    rooms: Arc<Rooms<usize>>,
    /// The next offset of each partition that the relay reads.
    read: PositionVector,
    /// A record that the tail has, and whose frames the relay hasn't sent.
    passed: Option<Arc<RelayedRecord>>,
    /// The next offsets in the read model, and those that are published.
    committed: PositionVector,
    published: PositionVector,
    /// The partitions on which the projector stands still.
    standing: [bool; PARTITIONS],
    sockets: Vec<Socket>,
    /// What happened, for a report.
    trace: Trace,
}

/// Lines, if somebody wants them.
struct Trace(Option<String>);

impl Trace {
    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.0 {
            let _ = writeln!(lines, "{}", line());
        }
    }
}

impl Simulation {
    fn new(seed: u64, bug: Option<Bug>, is_traced: bool) -> Self {
        let mut rng = Rng::new(seed);
        let mut log = Log::new(&mut rng);
        for _ in 0..rng.below(30) {
            log.grow(&mut rng);
        }
        let zero = PositionVector::zero(PARTITIONS);
        // Some tails drop records.
        let bytes = if rng.percent(15) { 6_000 } else { usize::MAX };
        let tail = RelayTail::with_limit(&zero, &log.end(), bytes);
        let rooms = Arc::<Rooms<usize>>::default();
        Self {
            bug,
            passage: Passage::new(rooms.clone(), Some(tail.clone()), PARTITIONS),
            tail,
            rooms,
            read: zero.clone(),
            passed: None,
            committed: zero.clone(),
            published: zero,
            standing: std::array::from_fn(|_| rng.percent(20)),
            sockets: Vec::new(),
            trace: Trace(is_traced.then(String::new)),
            log,
            rng,
        }
    }

    async fn run(&mut self) -> Result<(), Violation> {
        while self.log.end().0.iter().sum::<i64>() < RECORDS {
            match self.rng.below(100) {
                0..10 => self.log.grow(&mut self.rng),
                10..40 => self.relay()?,
                40..55 => self.project(),
                55..90 => self.step_socket()?,
                90..96 => self.come_or_leave(),
                96..97 => self.stop_or_go_on(),
                97..98 => self.read_again(),
                _ => tokio::time::advance(Duration::from_millis(self.rng.bits() % 1_500)).await,
            }
        }
        Ok(())
    }

    /// Lets everybody finish, also while the projector stands still on some partitions, and checks the result.
    async fn finish(&mut self) -> Result<(), Violation> {
        for step in 0..MOST_STEPS {
            tokio::time::advance(Duration::from_millis(50)).await;
            self.relay()?;
            self.project();
            for index in 0..self.sockets.len() {
                self.step(index)?;
            }
            // A tail that has dropped records waits for the projector.
            self.standing = self.standing.map(|stands| stands && step < MOST_STEPS / 2);
            let is_settled = |socket: &Socket| matches!(socket.stage, Stage::Live | Stage::Ended);
            if self.read == self.log.end() && self.passed.is_none() && self.sockets.iter().all(is_settled) {
                break;
            }
        }
        let mut open = self.sockets.iter().filter(|socket| !matches!(socket.stage, Stage::Ended));
        open.try_for_each(|socket| socket.check_complete(&self.log))
    }

    /// Passes the next record of a partition, or sends the frames of the one that was passed.
    fn relay(&mut self) -> Result<(), Violation> {
        if let Some(record) = self.passed.take() {
            return self.deliver(&record);
        }
        let partition = self.rng.below(PARTITIONS);
        let next = self.read.0[partition];
        let Some(record) = self.log.partitions[partition].get(usize::try_from(next).unwrap()).cloned() else {
            return Ok(());
        };
        self.trace.note(|| {
            let data = record.event(PARTITIONS).map(|event| event.data);
            format!("relay: reads {} {data:?}", record.position)
        });
        self.read.0[partition] = next + 1;
        if self.bug == Some(Bug::ForgetsEventIds) {
            self.passage = Passage::new(self.rooms.clone(), Some(self.tail.clone()), PARTITIONS);
        }
        self.passed = self.passage.pass(record);
        Ok(())
    }

    fn deliver(&mut self, record: &RelayedRecord) -> Result<(), Violation> {
        if !record.may_concern(|conversation| self.rooms.participant_count(conversation).is_some()) {
            return Ok(());
        }
        let event = record.event(PARTITIONS).as_ref().map_err(|error| format!("{error}"))?;
        let event_ref = EventRef::of(event, record.position());
        for delivery in deliveries_of(&self.rooms, event, event_ref).into_iter().flatten() {
            let mut sockets = delivery.sockets;
            sockets.sort_unstable();
            for number in sockets {
                self.trace.note(|| format!("relay: sends {} {} to {number}", delivery.frame.name, record.position()));
                self.sockets[number].receive(delivery.frame.name, event_ref, delivery.sequence.as_ref(), &self.log)?;
            }
        }
        Ok(())
    }

    /// Commits some records, or publishes what is committed.
    fn project(&mut self) {
        let partition = self.rng.below(PARTITIONS);
        if self.rng.percent(50) && !self.standing[partition] {
            let end = self.log.end().0[partition];
            let next = &mut self.committed.0[partition];
            *next = (*next + 1 + i64::try_from(self.rng.below(4)).unwrap()).min(end);
        } else {
            self.published.0[partition] = self.committed.0[partition];
            self.tail.set_projected(&self.published);
            self.trace.note(|| format!("projector: publishes {:?}", self.published.0));
        }
    }

    /// Makes the projector stop on a partition, or go on.
    fn stop_or_go_on(&mut self) {
        let partition = self.rng.below(PARTITIONS);
        let stands = &mut self.standing[partition];
        *stands = !*stands;
        self.trace.note(|| format!("projector: {} on {partition}", if *stands { "stands still" } else { "goes on" }));
    }

    /// Makes the relay read some records again, as after an error of Kafka.
    fn read_again(&mut self) {
        let partition = self.rng.below(PARTITIONS);
        let next = &mut self.read.0[partition];
        *next = (*next - i64::try_from(self.rng.below(4)).unwrap()).max(0);
    }

    fn come_or_leave(&mut self) {
        if self.rng.percent(60) {
            if let Some(user) = self.rng.pick(&self.log.users()) {
                self.trace.note(|| format!("socket {}: comes for {user}", self.sockets.len()));
                self.sockets.push(Socket::new(self.sockets.len(), user));
            }
        } else if !self.sockets.is_empty() {
            let index = self.rng.below(self.sockets.len());
            let socket = &mut self.sockets[index];
            if self.rng.percent(50) {
                self.trace.note(|| format!("socket {index}: leaves"));
                socket.leave(&self.rooms);
            } else {
                self.trace.note(|| format!("{} leaves the rooms, if no socket is there", socket.user));
                self.rooms.forget(&socket.user);
            }
        }
    }

    fn step_socket(&mut self) -> Result<(), Violation> {
        if self.sockets.is_empty() {
            return Ok(());
        }
        let index = self.rng.below(self.sockets.len());
        self.step(index)
    }

    fn step(&mut self, index: usize) -> Result<(), Violation> {
        let includes = if self.rng.percent(50) { &self.published } else { &self.committed };
        let (rooms, tail) = (&self.rooms, &self.tail);
        let around = Surroundings { log: &self.log, rooms, tail, includes, bug: self.bug };
        let socket = &mut self.sockets[index];
        let before = socket.stage.name();
        socket.step(&around)?;
        let now = socket.stage.name();
        let start = socket.start.as_ref().map(|start| &start.0);
        if before != now {
            self.trace.note(|| format!("socket {index}: {now}, its token includes {start:?}"));
        }
        Ok(())
    }
}

/// Simulates one seed. Returns what happened, if it is traced, and the result.
async fn simulate(seed: u64, bug: Option<Bug>, is_traced: bool) -> (Option<String>, Result<(), Violation>) {
    let mut simulation = Simulation::new(seed, bug, is_traced);
    let mut result = simulation.run().await;
    if result.is_ok() {
        result = simulation.finish().await;
    }
    (simulation.trace.0, result)
}

#[tokio::test(start_paused = true)]
async fn every_socket_gets_each_frame_after_its_token_once() {
    let only: Option<u64> = std::env::var("MESSAGES_SEED").ok().map(|seed| seed.parse().expect("a number"));
    for seed in only.map_or(0..SEEDS, |seed| seed..seed + 1) {
        if let (_, Err(violation)) = simulate(seed, None, false).await {
            let (trace, _) = simulate(seed, None, true).await;
            panic!("{}MESSAGES_SEED={seed}: {violation}", trace.unwrap_or_default());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_seed_repeats_everything() {
    for seed in 0..20 {
        assert_eq!(simulate(seed, None, true).await, simulate(seed, None, true).await, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_seeds_meet_every_fault() {
    let mut unmet = EVENTS.to_vec();
    for seed in 0..FEW_SEEDS {
        let trace = simulate(seed, None, true).await.0.unwrap();
        unmet.retain(|event| !trace.contains(event));
    }
    assert_eq!(unmet, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn each_planted_bug_is_found() {
    for bug in BUGS {
        let mut found = None;
        for seed in 0..FEW_SEEDS {
            if let (_, Err(violation)) = simulate(seed, Some(bug), false).await {
                found = Some((seed, violation));
                break;
            }
        }
        let (seed, violation) = found.unwrap_or_else(|| panic!("no seed finds {bug:?}"));
        println!("{bug:?}: seed {seed}: {violation}");
    }
}
