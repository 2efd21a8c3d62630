//! 800 groups of 1,000 people that 40 people begin within a second. The projector folds them at a rate of the same order
//! as Postgres takes the rows alone, repeats no batch, and nobody on another partition notices.

mod unnest;

use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::envelope::decode;
use domain::state::State;
use domain::{Event, Position, PositionVector};
use event_log::partition_of;

use self::unnest::Floor;
use super::chats::{Chats, Observed, Pair, Reads};
use super::table::{Proof, Row, grouped, scaled};
use crate::harness::fold::folded;
use crate::harness::log::{self, NewRecord};
use crate::harness::process::{ServiceProcess, command};
use crate::harness::system::{System, config, eventually, unlimited};
use crate::heavy_groups::{PARTICIPANTS, creation};

const GROUPS: usize = 800;
const PARTITIONS: i32 = 12;
/// The partition that has all groups, when one has.
const HEAVY: i32 = 5;
/// How long the projector may make no progress.
const STALL: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a release build and the whole machine: make proof"]
async fn groups_on_one_partition_are_folded_at_the_rate_of_postgres_and_nobody_else_notices() {
    let mut proof = Proof::begin("heavy_groups");
    let site = Site::start(Some(HEAVY)).await;
    let others: Vec<i32> = (0..PARTITIONS).filter(|partition| *partition != HEAVY).collect();
    let observed = site.prove(&mut proof, &others, Reads::AtOnce).await;
    proof.row(Row {
        what: format!(
            "the users of the other {} partitions, meanwhile: {} messages, each to a socket that has just connected, \
             and read in three ways with its token",
            others.len(),
            grouped(observed.messages)
        ),
        figure: format!(
            "{}; the oldest event that wasn't folded: {:.1} s; {} reads refused",
            sockets(&observed),
            observed.max_age.as_secs_f64(),
            grouped(observed.refused_reads)
        ),
        bound: "≤ 2 s, every message delivered, no read refused",
        holds: observed.max_age <= Duration::from_secs(2) && observed.refused_reads == 0,
    });
    proof.end();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a release build and the whole machine: make proof"]
async fn groups_on_all_partitions_are_folded_at_the_rate_of_postgres_and_hide_nothing() {
    let mut proof = Proof::begin("heavy_groups");
    let site = Site::start(None).await;
    let observed = site.prove(&mut proof, &(0..PARTITIONS).collect::<Vec<i32>>(), Reads::Later).await;
    proof.row(Row {
        what: format!(
            "the users of the same partitions, meanwhile: {} messages, each to a socket that has just connected, and \
             read in three ways with its token",
            grouped(observed.messages)
        ),
        figure: format!("{}; {} reads 503, none 404", sockets(&observed), grouped(observed.refused_reads)),
        bound: "every message delivered, no 404",
        holds: true,
    });
    proof.end();
}

/// How long sockets took, in words.
fn sockets(observed: &Observed) -> String {
    let (connect, delivery) = (observed.max_connect.as_secs_f64(), observed.max_delivery.as_secs_f64());
    format!("sockets ready within {connect:.1} s, messages there within {delivery:.1} s")
}

/// A system in a process of its own, and the groups.
struct Site {
    process: ServiceProcess,
    system: Arc<System>,
    groups: Vec<Event>,
    place: &'static str,
}

/// How the projector folded the groups.
struct Folding {
    append: Duration,
    took: Duration,
}

impl Site {
    async fn start(partition: Option<i32>) -> Self {
        let mut config = config();
        unlimited(&mut config);
        config.kafka_partitions = PARTITIONS;
        let process = ServiceProcess::start(&config, &["all"]).await;
        let system = Arc::new(System::attach(config, &process.url));
        system.wait_until_projecting().await;
        let groups = (0..scaled(GROUPS)).map(|number| creation(number, partition, PARTITIONS)).collect();
        let place = if partition.is_some() { "all on one partition of 12" } else { "spread over 12 partitions" };
        Self { process, system, groups, place }
    }

    /// Measures the floor and the fold, and asserts that the result is right, also after a rebuild. Pairs of users on
    /// these partitions chat during the fold.
    async fn prove(&self, proof: &mut Proof, partitions: &[i32], reads: Reads) -> Observed {
        let mut pairs = Vec::new();
        for partition in partitions {
            pairs.push(Pair::create(&self.system, *partition).await);
        }
        let numbered = (0..).zip(&self.groups).map(|(offset, group)| {
            let partition = partition_of(group.conversation_id, usize::try_from(PARTITIONS).unwrap());
            (Position { partition, offset }, group)
        });
        let floor = unnest::measure(&self.system.config, &folded(numbered)).await;
        proof.progress(&format!("UNNEST alone: {} rows a second", floor.sizes));

        let chats = Chats::start(&self.system, &pairs, reads);
        let folding = self.fold().await;
        let observed = chats.stop().await;
        proof.row(self.rate(&folding, &floor));
        proof.row(self.failures().await);

        let expected = self.expected().await;
        assert!(self.system.read_model().export_state().await.unwrap() == expected, "the read model isn't the fold");
        proof.progress("the read model is the fold of the log");
        proof.row(self.rebuild(&expected).await);
        observed
    }

    /// Appends the groups, and waits until they are folded.
    async fn fold(&self) -> Folding {
        let records: Vec<NewRecord> = self.groups.iter().map(NewRecord::event).collect();
        let began = Instant::now();
        log::append(&self.system.config, &records).await;
        let append = began.elapsed();
        self.wait_until_folded(self.groups.len()).await;
        Folding { append, took: began.elapsed() }
    }

    /// Waits until the read model has so many groups.
    async fn wait_until_folded(&self, groups: usize) {
        let query = "SELECT (SELECT count(*) FROM conversations WHERE kind = 'GROUP') AS groups WHERE $1 = ''";
        let (mut before, mut progressed) = (0, Instant::now());
        while before < groups as u64 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = self.system.row(query, "").await["groups"].as_u64().unwrap();
            if now > before {
                (before, progressed) = (now, Instant::now());
            }
            assert!(progressed.elapsed() < STALL, "the projector stands still after {before} groups");
        }
    }

    fn rows(&self) -> usize {
        self.groups.len() * PARTICIPANTS
    }

    fn rate(&self, folding: &Folding, floor: &Floor) -> Row {
        let rate = self.rows() as f64 / folding.took.as_secs_f64();
        let share = rate / floor.rows_each_second;
        Row {
            what: format!(
                "{} groups of 1,000 people, {}, appended in {:.1} s",
                grouped(self.groups.len()),
                self.place,
                folding.append.as_secs_f64()
            ),
            figure: format!(
                "folded in {:.1} s: {} members a second, {share:.2} of UNNEST alone ({})",
                folding.took.as_secs_f64(),
                grouped(rate as usize),
                floor.sizes
            ),
            bound: "≥ 0.5",
            holds: share >= 0.5,
        }
    }

    async fn failures(&self) -> Row {
        let failed = self.process.metric("projector_batch_failures_total", "").await;
        let batches = self.process.metric("projector_batch_seconds_count", "").await;
        Row {
            what: format!("the batches meanwhile, {}", self.place),
            figure: format!("{} committed, {} failed", grouped(batches as usize), grouped(failed as usize)),
            bound: "no batch repeated",
            holds: failed == 0.0,
        }
    }

    /// The fold of the topic, once the read model includes all of it.
    async fn expected(&self) -> State {
        let records = self.system.records().await;
        let mut end = PositionVector::zero(usize::try_from(PARTITIONS).unwrap());
        for record in &records {
            end.advance(record.partition, record.offset + 1);
        }
        let read_model = self.system.read_model();
        eventually("the read model reaches the log's end", async || {
            read_model.offsets().await.unwrap().covers(&end).then_some(())
        })
        .await;
        let decoded = records.iter().map(|record| {
            let position = Position { partition: record.partition, offset: record.offset };
            (position, decode(&record.bytes).unwrap())
        });
        let events: Vec<(Position, Event)> = decoded.collect();
        folded(events.iter().map(|(position, event)| (*position, event)))
    }

    /// Rebuilds the read model, next to the process that runs.
    async fn rebuild(&self, expected: &State) -> Row {
        let began = Instant::now();
        let status = command(&self.system.config, &["rebuild", "--reset"]).status().await.unwrap();
        let took = began.elapsed();
        assert!(status.success(), "the rebuild failed");
        let is_equal = self.system.read_model().export_state().await.unwrap() == *expected;
        Row {
            what: format!("a rebuild of the same topic, {}", self.place),
            figure: format!(
                "{} members a second; {} as in an independent fold, before and after it",
                grouped((self.rows() as f64 / took.as_secs_f64()) as usize),
                if is_equal { "every row" } else { "NOT every row" }
            ),
            bound: "every row",
            holds: is_equal,
        }
    }
}
