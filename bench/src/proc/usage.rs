//! The CPU time of everything that a message passes: the measured process, Kafka, Postgres, Redis and the generator.

use super::listener;
use super::stat::{self, Stat};
use crate::options::Services;
use crate::totals::Totals;

/// The measured process: Messages, or a floor.
pub(crate) const PROCESS: &str = "CPU of the process";
/// The threads of the measured process, by their purpose.
pub(crate) const TOKIO: &str = "CPU of tokio's workers";
pub(crate) const LIBRDKAFKA: &str = "CPU of librdkafka's threads";
pub(crate) const OTHER_THREADS: &str = "CPU of other threads";
pub(crate) const KAFKA: &str = "CPU of Kafka";
/// With all backends.
pub(crate) const POSTGRES: &str = "CPU of Postgres";
pub(crate) const REDIS: &str = "CPU of Redis";
/// This process.
pub(crate) const GENERATOR: &str = "CPU of the generator";

/// All of these, in the order in which reports show them.
pub(crate) const CPU_TIMES: [&str; 8] = [PROCESS, TOKIO, LIBRDKAFKA, OTHER_THREADS, KAFKA, POSTGRES, REDIS, GENERATOR];

/// The three services, by the processes that listen on their ports. None for a service of another machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServicePids {
    kafka: Option<u32>,
    postgres: Option<u32>,
    redis: Option<u32>,
}

impl ServicePids {
    /// Finds the services that run on this machine.
    pub(crate) fn find(services: &Services) -> Self {
        Self {
            kafka: services.kafka_brokers.split(',').find_map(listener::of_address),
            postgres: listener::of_url(&services.database_url, 5_432),
            redis: listener::of_url(&services.redis_url, 6_379),
        }
    }

    /// The CPU times since the start of each process, in milliseconds. Blocks for a millisecond or two.
    pub(crate) fn cpu_times(self, process: Option<u32>) -> Totals {
        let own = |pid: Option<u32>| stat::of_process(pid?).map(|stat| stat.own_ms);
        let mut times = Totals::default();
        if let Some(pid) = process {
            let threads = stat::of_threads(pid);
            times.set(PROCESS, own(process));
            times.set(TOKIO, threads.tokio_ms);
            times.set(LIBRDKAFKA, threads.librdkafka_ms);
            times.set(OTHER_THREADS, threads.other_ms);
        }
        times.set(KAFKA, own(self.kafka));
        times.set(POSTGRES, self.postgres.and_then(with_children));
        times.set(REDIS, own(self.redis));
        times.set(GENERATOR, own(Some(std::process::id())));
        times
    }
}

/// The time of a process and all children that it has or had. Postgres works in a child for each connection.
fn with_children(pid: u32) -> Option<f64> {
    let Stat { own_ms, ended_children_ms, .. } = stat::of_process(pid)?;
    let children = stat::processes().into_iter().filter_map(stat::of_process).filter(|stat| stat.parent == pid);
    Some(own_ms + ended_children_ms + children.map(|child| child.own_ms).sum::<f64>())
}
