//! Processes that are started before the services that they need.

use std::process::Stdio;
use std::time::Duration;

use service::config::Config;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::ChildStderr;

use crate::harness::process::{Running, command, free_port};
use crate::harness::proxy::Proxy;
use crate::harness::system::{PATIENCE, System, config};

/// How long a process that waits may take to stop.
const STOPS_WITHIN: Duration = Duration::from_secs(3);

/// A process that is started, and what it logs.
struct Starting {
    process: Running,
    lines: Lines<BufReader<ChildStderr>>,
}

impl Starting {
    fn new(config: &Config, kafka: &Proxy, postgres: &Proxy) -> Self {
        let port = free_port();
        let mut command = command(config, &["all"]);
        command.env("KAFKA_BROKERS", kafka.url.trim_start_matches("kafka://")).env("DATABASE_URL", &postgres.url);
        let mut child = command.env("PORT", port.to_string()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { process: Running { child, url: format!("http://127.0.0.1:{port}") }, lines }
    }

    /// Waits until it says that it waits for a service.
    async fn waits_for(&mut self, service: &str) {
        let told = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                if line.contains(&format!("{service} doesn't answer"))
                    || line.contains(&format!("{service} isn't there"))
                {
                    return;
                }
            }
            panic!("it ended instead of waiting for {service}");
        };
        tokio::time::timeout(PATIENCE, told).await.expect("it says nothing");
    }
}

/// Where Kafka and Postgres will be.
async fn absent(config: &Config) -> (Proxy, Proxy) {
    let broker = config.kafka_brokers.split(',').next().unwrap();
    let (kafka, postgres) =
        (Proxy::start(&format!("kafka://{broker}")).await, Proxy::start(&config.database_url).await);
    kafka.down();
    postgres.down();
    (kafka, postgres)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_started_first_waits_for_kafka_and_postgres() {
    let config = config();
    let (kafka, postgres) = absent(&config).await;
    let mut starting = Starting::new(&config, &kafka, &postgres);
    starting.waits_for("Kafka").await;
    kafka.calm();
    starting.waits_for("Postgres").await;
    postgres.calm();
    let Starting { mut process, lines } = starting;
    // Whoever logs to where nobody reads would wait for ever.
    let drained = tokio::spawn(async move {
        let mut lines = lines;
        while let Ok(Some(_)) = lines.next_line().await {}
    });
    process.ready().await;
    let system = System::beside(config, &process.url);
    let conversation = system.conversation("alice", &["bob"]).await;
    system.message("bob", &conversation, "hi").await;
    process.stop().await;
    drained.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_waits_can_be_stopped() {
    let config = config();
    let (kafka, postgres) = absent(&config).await;
    let mut starting = Starting::new(&config, &kafka, &postgres);
    starting.waits_for("Kafka").await;
    let took = starting.process.stop().await;
    assert!(took < STOPS_WITHIN, "{took:?}");
}
