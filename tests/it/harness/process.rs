//! The executable as an admin starts it: a process of its own, that can be killed and has its own metrics.

use std::net::TcpListener;
use std::process::Stdio;

use service::config::Config;
use tokio::process::{Child, Command};

use super::system::{SECRET, eventually};

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_messages-under-test");

/// `messages SUBCOMMAND…` under a test's configuration.
pub(crate) fn command(config: &Config, arguments: &[&str]) -> Command {
    let mut command = Command::new(EXECUTABLE);
    command
        .args(arguments)
        .env("MESSAGES_ENV", "production")
        .env("AUTH_JWT_SECRET", SECRET)
        .env("HOST", "127.0.0.1")
        .env("KAFKA_TOPIC", &config.kafka_topic)
        .env("KAFKA_PARTITIONS", config.kafka_partitions.to_string())
        .env("DATABASE_SCHEMA", &config.database_schema)
        .env("REDIS_PREFIX", &config.redis_prefix)
        .env("LOG", "warn,event_log::topic=error")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// A service that runs, ready for requests.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) url: String,
}

impl Running {
    /// Starts a service (such as `all`) on a free port and waits until it is ready.
    pub(crate) async fn start(config: &Config, arguments: &[&str]) -> Self {
        let port = free_port();
        let mut child = command(config, arguments).env("PORT", port.to_string()).spawn().unwrap();
        let url = format!("http://127.0.0.1:{port}");
        let ready = format!("{url}/readyz");
        eventually("the process is ready", async || {
            assert!(child.try_wait().unwrap().is_none(), "the process ended instead of starting");
            reqwest::get(&ready).await.ok().filter(|answer| answer.status() == 200)
        })
        .await;
        Self { child, url }
    }

    /// The sum of a metric over all its series whose labels contain `labels`.
    pub(crate) async fn metric(&self, name: &str, labels: &str) -> f64 {
        let text = reqwest::get(format!("{}/metrics", self.url)).await.unwrap().text().await.unwrap();
        let series = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with([' ', '{']) && rest.contains(labels))
        });
        series.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }
}

/// A port on which nothing listens.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
