//! Processes that are started before the services that they need.

use std::process::Stdio;
use std::time::Duration;

use service::config::Config;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::ChildStderr;

use crate::harness::process::{ServiceProcess, command, free_port};
use crate::harness::proxy::Proxy;
use crate::harness::system::{System, TIMEOUT, config};

/// How long a process that waits may take to stop.
const STOPS_WITHIN: Duration = Duration::from_secs(3);

/// A process that is started, and what it logs.
struct Starting {
    process: ServiceProcess,
    lines: Lines<BufReader<ChildStderr>>,
}

impl Starting {
    /// One that waits for Kafka, with where that and Postgres will be.
    async fn without(config: &Config) -> (Self, Proxy, Proxy) {
        let broker = config.kafka_brokers.split(',').next().unwrap();
        let kafka = Proxy::start(&format!("kafka://{broker}")).await;
        let postgres = Proxy::start(&config.database_url).await;
        kafka.down();
        postgres.down();
        let mut command = command(config, &["all"]);
        command.env("KAFKA_BROKERS", kafka.url.trim_start_matches("kafka://")).env("DATABASE_URL", &postgres.url);
        command.stderr(Stdio::piped());
        let mut process = ServiceProcess::of(command, free_port());
        let lines = BufReader::new(process.child.stderr.take().unwrap()).lines();
        let mut starting = Self { process, lines };
        starting.waits_for("Kafka").await;
        (starting, kafka, postgres)
    }

    /// Waits until it says that it waits for a service.
    async fn waits_for(&mut self, service: &str) {
        let told = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                if line.contains(&format!("{service} doesn't answer"))
                    || line.contains(&format!("{service} isn't available"))
                {
                    return;
                }
            }
            panic!("it ended instead of waiting for {service}");
        };
        tokio::time::timeout(TIMEOUT, told).await.expect("it says nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_started_first_waits_for_kafka_and_postgres() {
    let config = config();
    let (mut starting, kafka, postgres) = Starting::without(&config).await;
    kafka.restore();
    starting.waits_for("Postgres").await;
    postgres.restore();
    let Starting { mut process, mut lines } = starting;
    // Whoever logs to where nobody reads would wait for ever.
    let drained = tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    process.ready().await;
    let system = System::attach(config, &process.url);
    let conversation = system.conversation("alice", &["bob"]).await;
    system.message("bob", &conversation, "hi").await;
    process.stop().await;
    drained.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_waits_can_be_stopped() {
    let (starting, _kafka, _postgres) = Starting::without(&config()).await;
    let took = starting.process.stop().await;
    assert!(took < STOPS_WITHIN, "{took:?}");
}
