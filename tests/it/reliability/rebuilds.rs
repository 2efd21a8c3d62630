//! Rebuilds while people write and read: they are killed at each step, and so are the projectors and Postgres. The
//! independent checker finds no answer that is older than demanded, and no row that isn't what the topic says.

use serde_json::json;

use super::PROBE_TIMEOUT;
use super::services::Services;
use crate::harness::checker::{Crowd, Workload};
use crate::harness::cluster::Half;
use crate::harness::eventually;
use crate::rebuild::{Rebuilt, STEPS, generation, rebuild_until};

/// What is killed while a rebuild is at some step.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Rebuild,
    Projector,
    Postgres,
}

/// How often a rebuild is begun that may be over before something is killed.
const ATTEMPTS: usize = 10;

/// Kills something at a step of a rebuild. Returns whether the rebuild came to its end nevertheless, and the generation
/// before it.
async fn kill_at(step: &str, victim: Victim, services: &mut Services) -> (bool, i64) {
    let mut before = generation(&services.system).await;
    let mut rebuild = rebuild_until(&services.system, step).await;
    for attempt in 1.. {
        if rebuild.try_wait().unwrap().is_none() {
            break;
        }
        assert!(attempt < ATTEMPTS, "{step} is over before {victim:?} is killed");
        before = generation(&services.system).await;
        rebuild = rebuild_until(&services.system, step).await;
    }
    match victim {
        // It may end at this moment.
        Victim::Rebuild => drop(rebuild.kill().await),
        Victim::Projector => services.cluster.process("projector", Half::First).child.kill().await.unwrap(),
        Victim::Postgres => services.postgres.kill().await,
    }
    match victim {
        Victim::Rebuild => {}
        Victim::Projector => services.cluster.start_again("projector", Half::First),
        Victim::Postgres => services.postgres.resume().await,
    }
    (rebuild.wait().await.unwrap().success(), before)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the whole machine"]
async fn people_write_and_read_on_while_rebuilds_run_and_are_killed_at_each_step() {
    let crowd = Crowd { sockets: 12, libraries: 4, groups: 24 };
    let (seed, commands_per_second) = (3, 30);
    let mut services = Services::start(std::env::temp_dir()).await;
    let mut users = Workload::start(&services.system, seed, crowd).await;
    users.order(json!({"do": "start", "rate": commands_per_second})).await;
    for step in STEPS {
        for victim in [Victim::Rebuild, Victim::Projector, Victim::Postgres] {
            let (has_ended, before) = kill_at(step, victim, &mut services).await;
            let present =
                eventually("Postgres answers", async || services.system.read_model().generation().await.ok()).await;
            let present = present.expect("a projector has run");
            assert!(has_ended || present == before, "{step}, {victim:?}: {present} instead of {before}");
            println!("· {step}, {victim:?} killed: the rebuild {}", if has_ended { "succeeded" } else { "failed" });
        }
    }
    let mut before = generation(&services.system).await;
    for _ in 0..3 {
        let rebuilt = eventually("a rebuild succeeds", async || {
            Some(Rebuilt::run(&services.system, &[]).await).filter(Rebuilt::has_succeeded)
        });
        rebuilt.await;
        let present = generation(&services.system).await;
        assert!(present > before, "{present} after {before}");
        before = present;
    }
    users.ask(json!({"do": "stop"}), "stopped", PROBE_TIMEOUT).await;
    let (brokers, sql) = (services.kafka.direct.clone(), services.system.sql.clone());
    let verdict = users.check(&services.system, &brokers, &sql).await;
    assert_eq!(verdict.first, None, "{:?}; see {:?}", verdict.differences, users.folder);
    println!("{}", verdict.sizes);
    users.forget();
}
