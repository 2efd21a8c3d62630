//! Processes that start before the services that they need: they log which service they wait for, and start or stop as
//! soon as they can.

use std::process::Stdio;
use std::time::Duration;

use service::config::Config;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::ChildStderr;

use crate::harness::process::{ServiceProcess, command, free_port};
use crate::harness::proxy::Proxy;
use crate::harness::system::{System, TIMEOUT, config};

/// How long a process that waits for a service may take to stop.
const STOPS_WITHIN: Duration = Duration::from_secs(3);

/// A process that was started without Kafka and Postgres.
struct StartingProcess {
    process: ServiceProcess,
    log_lines: Lines<BufReader<ChildStderr>>,
    kafka: Proxy,
    postgres: Proxy,
}

impl StartingProcess {
    /// Starts a process, and waits until it waits for Kafka.
    async fn start(config: &Config) -> Self {
        let broker = config.kafka_brokers.split(',').next().unwrap();
        let kafka = Proxy::start(&format!("kafka://{broker}")).await;
        let postgres = Proxy::start(&config.database_url).await;
        kafka.down();
        postgres.down();
        let mut command = command(config, &["all"]);
        command.env("KAFKA_BROKERS", kafka.url.trim_start_matches("kafka://")).env("DATABASE_URL", &postgres.url);
        command.stderr(Stdio::piped());
        let mut process = ServiceProcess::of(command, free_port());
        let log_lines = BufReader::new(process.child.stderr.take().unwrap()).lines();
        let mut starting = Self { process, log_lines, kafka, postgres };
        starting.waits_for("Kafka").await;
        starting
    }

    /// Waits until the process logs that it waits for this service.
    async fn waits_for(&mut self, service: &str) {
        let logged = async {
            while let Some(line) = self.log_lines.next_line().await.unwrap() {
                if line.contains(&format!("{service} doesn't answer"))
                    || line.contains(&format!("{service} isn't available"))
                {
                    return;
                }
            }
            panic!("the process ended instead of waiting for {service}");
        };
        let logged = tokio::time::timeout(TIMEOUT, logged).await;
        logged.unwrap_or_else(|_| panic!("the process never logged that it waits for {service}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_starts_first_waits_for_kafka_and_postgres() {
    let config = config();
    let mut starting = StartingProcess::start(&config).await;

    starting.kafka.restore();
    starting.waits_for("Postgres").await;
    starting.postgres.restore();
    let StartingProcess { mut process, mut log_lines, kafka: _kafka, postgres: _postgres } = starting;
    // A process whose log nobody reads stands still once the pipe is full.
    let drained = tokio::spawn(async move { while let Ok(Some(_)) = log_lines.next_line().await {} });
    process.ready().await;

    let system = System::attach(config, &process.url);
    let conversation = system.conversation("alice", &["bob"]).await;
    system.message("bob", &conversation, "hi").await;
    process.stop().await;
    drained.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_waits_for_a_service_can_be_stopped() {
    let starting = StartingProcess::start(&config()).await;
    let took = starting.process.stop().await;
    assert!(took < STOPS_WITHIN, "{took:?}");
}
