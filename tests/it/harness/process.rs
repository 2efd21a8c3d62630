//! The executable, started as an operator starts it: a process of its own, with its own metrics, that a test can kill.

use std::net::TcpListener;
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use service::config::Config;
use tokio::process::{Child, Command};

use super::system::{SECRET, TIMEOUT, eventually};

/// A release of the executable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Release {
    /// The one under test: `MESSAGES_EXECUTABLE`, or what cargo built together with the tests.
    Current,
    /// The one that the release under test follows: `MESSAGES_PARENT_EXECUTABLE`, which only `make proof` sets.
    Parent,
    /// This one with a fault in its fold: `MESSAGES_PLANTED_EXECUTABLE`, which only `make proof` sets. A deleted message
    /// keeps its content.
    Planted,
}

impl Release {
    /// The path of the executable.
    pub(crate) fn executable(self) -> String {
        match self {
            Self::Current => std::env::var("MESSAGES_EXECUTABLE")
                .unwrap_or_else(|_| env!("CARGO_BIN_EXE_messages-under-test").to_owned()),
            Self::Parent => std::env::var("MESSAGES_PARENT_EXECUTABLE")
                .expect("MESSAGES_PARENT_EXECUTABLE is not set; `make proof` builds the parent release and sets it"),
            Self::Planted => std::env::var("MESSAGES_PLANTED_EXECUTABLE")
                .expect("MESSAGES_PLANTED_EXECUTABLE is not set; `make proof` builds one with a fault and sets it"),
        }
    }
}

/// The first of the ports that tests assign to processes.
const FIRST_PORT: u16 = 20_000;
/// How many ports tests may assign. The last is below 32768, where Linux takes the ports of outgoing connections from.
const PORT_COUNT: u16 = 12_000;

/// Prepares `messages SUBCOMMAND…` with a test's configuration in its environment.
pub(crate) fn command(config: &Config, arguments: &[&str]) -> Command {
    command_of(Release::Current, config, arguments)
}

/// Like [`command`], with the executable of this release.
pub(crate) fn command_of(release: Release, config: &Config, arguments: &[&str]) -> Command {
    let mut command = Command::new(release.executable());
    command
        .args(arguments)
        .env("MESSAGES_ENV", "production")
        .env("AUTH_JWT_SECRET", SECRET)
        .env("HOST", "127.0.0.1")
        .env("KAFKA_BROKERS", &config.kafka_brokers)
        .env("KAFKA_TOPIC", &config.kafka_topic)
        .env("KAFKA_PARTITIONS", config.kafka_partitions.to_string())
        .env("DATABASE_URL", &config.database_url)
        .env("REDIS_URL", &config.redis_url)
        .env("DATABASE_SCHEMA", &config.database_schema)
        .env("REDIS_PREFIX", &config.redis_prefix)
        .env("LIMIT_MESSAGES", config.limits.limit_messages.to_string())
        .env("LIMIT_REACTIONS", config.limits.limit_reactions.to_string())
        .env("LIMIT_EDITS", config.limits.limit_edits.to_string())
        .env("LIMIT_DELETIONS", config.limits.limit_deletions.to_string())
        .env("LIMIT_CONVERSATIONS", config.limits.limit_conversations.to_string())
        .env("LIMIT_INVITATIONS", config.limits.limit_invitations.to_string())
        .env("LIMIT_TYPING", config.limits.limit_typing.to_string())
        .env("LIMIT_READ_MARKS", config.limits.limit_read_marks.to_string())
        .env("LIMIT_QUERIES", config.limits.limit_queries.to_string())
        .envs(config.redis_cache_url.iter().map(|url| ("REDIS_CACHE_URL", url)))
        .env("LOG", "warn,event_log::topic=error")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// A running service process.
pub(crate) struct ServiceProcess {
    pub(crate) child: Child,
    pub(crate) url: String,
}

impl ServiceProcess {
    /// Starts a service (such as `all`) on a free port and waits until it is ready.
    pub(crate) async fn start(config: &Config, arguments: &[&str]) -> Self {
        Self::with(config, arguments, &[]).await
    }

    /// Like [`Self::start`], with additional environment variables.
    pub(crate) async fn with(config: &Config, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut running = Self::spawn(free_port(), config, arguments, environment);
        running.ready().await;
        running
    }

    /// Starts a service on this port, and doesn't wait until it is ready.
    pub(crate) fn spawn(port: u16, config: &Config, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = command(config, arguments);
        command.envs(environment.iter().copied());
        Self::of(command, port)
    }

    /// Starts any command that listens on the port in its variable `PORT`, and doesn't wait until it is ready.
    pub(crate) fn of(mut command: Command, port: u16) -> Self {
        let child = command.env("PORT", port.to_string()).spawn().unwrap();
        Self { child, url: format!("http://127.0.0.1:{port}") }
    }

    /// Like [`Self::start`], from a shell whose soft limit of open files is `files`. The process may raise it.
    pub(crate) async fn with_files(config: &Config, arguments: &[&str], files: u32) -> Self {
        let direct = command(config, arguments);
        let direct = direct.as_std();
        let limited = format!("ulimit -S -n {files} && exec \"$0\" \"$@\"");
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(limited).arg(direct.get_program()).args(direct.get_args());
        shell.envs(direct.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.stdin(Stdio::null()).kill_on_drop(true);
        let mut running = Self::of(shell, free_port());
        running.ready().await;
        running
    }

    /// Waits until `/readyz` reports that the process is ready.
    pub(crate) async fn ready(&mut self) {
        let ready = format!("{}/readyz", self.url);
        eventually("the process is ready", async || {
            assert!(self.child.try_wait().unwrap().is_none(), "the process ended before it was ready");
            reqwest::get(&ready).await.ok().filter(|answer| answer.status() == 200)
        })
        .await;
    }

    /// Sends SIGTERM and waits until the process has ended with code 0. Returns how long that took.
    pub(crate) async fn stop(mut self) -> Duration {
        let signalled = Instant::now();
        self.signal("-TERM").await;
        let ended = tokio::time::timeout(TIMEOUT, self.child.wait())
            .await
            .expect("the process didn't end after SIGTERM")
            .unwrap();
        assert_eq!(ended.code(), Some(0), "the process didn't shut down gracefully");
        signalled.elapsed()
    }

    /// Freezes the process (SIGSTOP): its connections stay open, and nothing answers on them.
    pub(crate) async fn freeze(&self) {
        self.signal("-STOP").await;
    }

    /// Continues a frozen process (SIGCONT).
    pub(crate) async fn thaw(&self) {
        self.signal("-CONT").await;
    }

    async fn signal(&self, signal: &str) {
        let process = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args([signal, &process]).status().await.unwrap().success());
    }

    /// Sums a metric over all its series whose labels contain `labels`.
    pub(crate) async fn metric(&self, name: &str, labels: &str) -> f64 {
        let text = reqwest::get(format!("{}/metrics", self.url)).await.unwrap().text().await.unwrap();
        let series = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with([' ', '{']) && rest.contains(labels))
        });
        series.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }
}

/// A port on which nothing listens. Nothing else takes it before the caller binds it: this function returns each port
/// once, and outgoing connections have ports from 32768 upwards.
pub(crate) fn free_port() -> u16 {
    static ASSIGNED: AtomicU16 = AtomicU16::new(0);
    // A concurrent test run has another process id, so it starts at another port.
    let first = u16::try_from(std::process::id() * 37 % u32::from(PORT_COUNT)).unwrap();
    loop {
        let index = ASSIGNED.fetch_add(1, Ordering::Relaxed);
        let port = FIRST_PORT + (first + index % PORT_COUNT) % PORT_COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
