//! A simulation of the core with a seed: clients, nodes, readers and projectors, each step in an order that the seed
//! decides, with crashes between any two steps, copies of records, two projectors on the same partitions, slow readers,
//! a Redis that fails or loses everything, and a partition that stands still.
//!
//! It drives the product's own decisions, batches, fold, cache and Lua scripts. Only Kafka, Postgres and Redis are
//! replaced, by models that pass the same scripted calls as the real ones (see the two modules `conformance`).
//!
//! A failure prints its seed and what happened. `MESSAGES_SEED=42 cargo test --test it simulation` runs that seed alone.

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

use tokio::task::LocalSet;

use self::bugs::Bug;
use self::redis_model::RedisModel;
use self::simulation::{Simulation, Violation};

/// How many seeds a run of the tests simulates.
const SEEDS: u64 = 200;
/// With how many seeds a planted bug must show.
const SEEDS_FOR_A_BUG: u64 = 300;

/// Simulates one seed.
async fn simulate(seed: u64, bug: Option<Bug>, redis: &RedisModel) -> Result<(), Violation> {
    let mut simulation = Simulation::new(seed, bug, redis, false);
    simulation.run().await?;
    simulation.finish().await
}

/// Simulates a seed again, and reports what happened.
async fn report(seed: u64, redis: &RedisModel) -> String {
    let mut simulation = Simulation::new(seed, None, redis, true);
    let mut found = simulation.run().await;
    if found.is_ok() {
        found = simulation.finish().await;
    }
    let trace = simulation.trace.take().unwrap_or_default();
    format!("{trace}\nMESSAGES_SEED={seed}: {}", found.err().unwrap_or_else(|| "not found again".to_owned()))
}

#[tokio::test]
async fn whatever_fails_the_system_keeps_its_promises() {
    let only: Option<u64> = std::env::var("MESSAGES_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seeds = only.map_or(0..SEEDS, |seed| seed..seed + 1);
    let simulations = async {
        let redis = RedisModel::start().await;
        for seed in seeds {
            if simulate(seed, None, &redis).await.is_err() {
                panic!("{}", report(seed, &redis).await);
            }
        }
    };
    LocalSet::new().run_until(simulations).await;
}

#[tokio::test]
async fn each_planted_bug_is_found() {
    let simulations = async {
        let redis = RedisModel::start().await;
        for bug in bugs::ALL {
            let mut found = None;
            for seed in 0..SEEDS_FOR_A_BUG {
                if let Err(violation) = simulate(seed, Some(bug), &redis).await {
                    found = Some((seed, violation));
                    break;
                }
            }
            let (seed, violation) = found.unwrap_or_else(|| panic!("no seed finds {bug:?}"));
            println!("{bug:?}: seed {seed}: {}", violation.lines().next().unwrap_or_default());
        }
    };
    LocalSet::new().run_until(simulations).await;
}
