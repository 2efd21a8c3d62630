//! A simulation of the core with a seed: clients, nodes, readers and projectors, each step in an order that the seed
//! decides, with crashes between any two steps, copies of records, two projectors on the same partitions, slow readers,
//! a Redis that fails or loses everything, and a partition that stands still.
//!
//! It drives the product's own decisions, batches, fold, cache and Lua scripts. Only Kafka, Postgres and Redis are
//! replaced, by models that pass the same scripted calls as the real ones (see the two modules `conformance`).
//!
//! A failure prints its seed and what happened. `MESSAGES_SEED=42` runs that seed alone.

mod bugs;
mod clients;
mod end;
mod expected;
mod log;
mod postgres_model;
mod projectors;
mod readers;
mod redis_model;
#[expect(clippy::module_inception, reason = "the simulation itself, next to what it is made of")]
mod simulation;
mod views;

use std::ops::Range;
use std::thread;

use futures_util::FutureExt;

use self::bugs::Bug;
use self::redis_model::RedisModel;
use self::simulation::{Simulation, Violation};

/// How many seeds a run of the tests simulates.
const SEEDS: u64 = 2_000;
/// How many seeds are enough for each fault to happen, and for a planted bug to show.
const FEW_SEEDS: u64 = 100;

/// What happens in simulations. If no seed meets it, the simulation has become too harmless.
const EVENTS: [&str; 17] = [
    "its node dies",
    "is acknowledged",
    "dies",
    "commits",
    "commits unheard",
    "can't commit",
    "is fenced off",
    "publishes",
    "can't publish",
    "lists changes",
    "hit true",
    "hit false",
    "Postgres is behind",
    "Redis loses everything",
    "Redis is down",
    "Redis loses a reply",
    "stands still",
];

/// Simulates one seed. Returns what happened, if it is traced, and the result.
fn simulate(
    seed: u64,
    bug: Option<Bug>,
    redis: &RedisModel,
    is_traced: bool,
) -> (Option<String>, Result<(), Violation>) {
    let mut simulation = Simulation::new(seed, bug, redis, is_traced);
    let run = async {
        simulation.run().await?;
        simulation.finish().await
    };
    let result = run.now_or_never().expect("a simulation waits for nothing");
    (simulation.trace, result)
}

/// Simulates some seeds on all cores. Returns the first that finds a violation.
fn first_violation(seeds: &Range<u64>) -> Option<u64> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let search = |first: usize| {
        let redis = RedisModel::new();
        seeds.clone().skip(first).step_by(threads).find(|seed| simulate(*seed, None, &redis, false).1.is_err())
    };
    thread::scope(|scope| {
        let searches: Vec<_> = (0..threads).map(|first| scope.spawn(move || search(first))).collect();
        searches.into_iter().filter_map(|search| search.join().unwrap()).min()
    })
}

#[test]
fn whatever_fails_the_system_keeps_its_promises() {
    let only: Option<u64> = std::env::var("MESSAGES_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seeds = only.map_or(0..SEEDS, |seed| seed..seed + 1);
    if let Some(seed) = first_violation(&seeds) {
        let (trace, result) = simulate(seed, None, &RedisModel::new(), true);
        panic!("{}MESSAGES_SEED={seed}: {}", trace.unwrap_or_default(), result.unwrap_err());
    }
}

#[test]
fn the_seeds_meet_every_fault() {
    let redis = RedisModel::new();
    let traces: Vec<String> = (0..FEW_SEEDS).filter_map(|seed| simulate(seed, None, &redis, true).0).collect();
    let unmet: Vec<&str> =
        EVENTS.into_iter().filter(|event| !traces.iter().any(|trace| trace.contains(event))).collect();
    assert_eq!(unmet, [""; 0]);
}

#[test]
fn a_seed_repeats_everything() {
    let redis = RedisModel::new();
    for seed in 0..20 {
        let (first, second) = (simulate(seed, None, &redis, true), simulate(seed, None, &redis, true));
        assert_eq!(first, second, "seed {seed}");
    }
}

#[test]
fn each_planted_bug_is_found() {
    let redis = RedisModel::new();
    let mut unfound = Vec::new();
    for bug in bugs::ALL {
        let found = (0..FEW_SEEDS).find_map(|seed| Some((seed, simulate(seed, Some(bug), &redis, false).1.err()?)));
        match found {
            Some((seed, violation)) => {
                println!("{bug:?}: seed {seed}: {}", violation.lines().next().unwrap_or_default());
            }
            None => unfound.push(bug),
        }
    }
    assert_eq!(unfound, [], "not found within {FEW_SEEDS} seeds");
}
