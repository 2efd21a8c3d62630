//! The executable as an admin starts it: a process of its own, that can be killed and has its own metrics.

use std::net::TcpListener;
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use service::config::Config;
use tokio::process::{Child, Command};

use super::system::{SECRET, TIMEOUT, eventually};

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_messages-under-test");

/// The ports that tests give to processes: from this on, so many.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 12_000;

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
        .env("DATABASE_URL", &config.database_url)
        .env("REDIS_URL", &config.redis_url)
        .env("DATABASE_SCHEMA", &config.database_schema)
        .env("REDIS_PREFIX", &config.redis_prefix)
        .env("LIMIT_MESSAGES", config.limits.limit_messages.to_string())
        .env("LIMIT_REACTIONS", config.limits.limit_reactions.to_string())
        .env("LIMIT_EDITS", config.limits.limit_edits.to_string())
        .env("LIMIT_DELETIONS", config.limits.limit_deletions.to_string())
        .env("LIMIT_CONVERSATIONS", config.limits.limit_conversations.to_string())
        .env("LIMIT_READ_MARKS", config.limits.limit_read_marks.to_string())
        .env("LOG", "warn,event_log::topic=error")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// A service that runs, ready for requests.
pub(crate) struct ServiceProcess {
    pub(crate) child: Child,
    pub(crate) url: String,
}

impl ServiceProcess {
    /// Starts a service (such as `all`) on a free port and waits until it is ready.
    pub(crate) async fn start(config: &Config, arguments: &[&str]) -> Self {
        Self::with(config, arguments, &[]).await
    }

    /// The same, with more in the environment.
    pub(crate) async fn with(config: &Config, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut running = Self::spawn(free_port(), config, arguments, environment);
        running.ready().await;
        running
    }

    /// Starts a service on this port.
    pub(crate) fn spawn(port: u16, config: &Config, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = command(config, arguments);
        command.envs(environment.iter().copied());
        Self::of(command, port)
    }

    /// Starts what listens on the port that it is told.
    pub(crate) fn of(mut command: Command, port: u16) -> Self {
        let child = command.env("PORT", port.to_string()).spawn().unwrap();
        Self { child, url: format!("http://127.0.0.1:{port}") }
    }

    /// The same as a shell does that gives its processes this many open files, unless they ask for more.
    pub(crate) async fn with_files(config: &Config, arguments: &[&str], files: u32) -> Self {
        let asked = command(config, arguments);
        let asked = asked.as_std();
        let limited = format!("ulimit -S -n {files} && exec \"$0\" \"$@\"");
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(limited).arg(asked.get_program()).args(asked.get_args());
        shell.envs(asked.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.stdin(Stdio::null()).kill_on_drop(true);
        let mut running = Self::of(shell, free_port());
        running.ready().await;
        running
    }

    /// Waits until it is ready.
    pub(crate) async fn ready(&mut self) {
        let ready = format!("{}/readyz", self.url);
        eventually("the process is ready", async || {
            assert!(self.child.try_wait().unwrap().is_none(), "the process ended instead of starting");
            reqwest::get(&ready).await.ok().filter(|answer| answer.status() == 200)
        })
        .await;
    }

    /// Tells the process to stop, and waits until it has: how long that took.
    pub(crate) async fn stop(mut self) -> Duration {
        let told = Instant::now();
        self.signal("-TERM").await;
        let ended = tokio::time::timeout(TIMEOUT, self.child.wait()).await.expect("it never stopped").unwrap();
        assert_eq!(ended.code(), Some(0), "it didn't end by itself");
        told.elapsed()
    }

    /// Stops the process where it is: whatever it is connected to notices nothing.
    pub(crate) async fn freeze(&self) {
        self.signal("-STOP").await;
    }

    /// Lets a frozen process go on, as if nothing had been.
    pub(crate) async fn thaw(&self) {
        self.signal("-CONT").await;
    }

    async fn signal(&self, signal: &str) {
        let process = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args([signal, &process]).status().await.unwrap().success());
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

/// A port on which nothing listens, and that nobody is given until somebody binds it: no other test, for each is given
/// once, and no connection, for systems take the ports of those from 32768 upwards.
pub(crate) fn free_port() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    // Where another run at the same time hardly begins.
    let first = u16::try_from(std::process::id() * 37 % u32::from(PORTS)).unwrap();
    loop {
        let given = GIVEN.fetch_add(1, Ordering::Relaxed);
        let port = FIRST_PORT + (first + given % PORTS) % PORTS;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
