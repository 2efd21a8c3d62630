//! A measured process: the release build of `messages`, or a floor, which is this program in another role. Both take
//! the same settings from the environment.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use domain::{Timestamp, UserId};
use service::auth::Auth;
use tokio::process::{Child, Command};
use uuid::Uuid;

use crate::load::http::{self, HttpConnection};
use crate::options::Services;

/// How long the process may take until it is ready.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// A limit that no benchmark reaches.
const NO_LIMIT: &str = "1000000000";
/// The end of the year 9999 in Unix milliseconds: the latest timestamp that exists.
const TOKEN_EXPIRY_MS: i64 = 253_402_300_799_000;

/// The names of the floors, as `bench floor NAME` takes them.
pub(crate) const PIPELINE: &str = "pipeline";
pub(crate) const READS: &str = "reads";
pub(crate) const SOCKETS: &str = "sockets";
pub(crate) const INSERT: &str = "insert";

/// What a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// `messages` with this command.
    Messages(&'static str),
    /// The floor with this name.
    Floor(&'static str),
}

/// As reports name it.
impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Messages(_) => "Messages",
            Self::Floor(PIPELINE) => "bare pipeline",
            Self::Floor(READS) => "axum + Redis",
            Self::Floor(SOCKETS) => "axum + socketioxide",
            Self::Floor(name) => name,
        })
    }
}

impl Program {
    /// A word for the names of what it uses.
    pub(crate) fn purpose(self) -> &'static str {
        match self {
            Self::Messages(_) => "messages",
            Self::Floor(name) => name,
        }
    }

    fn command(self) -> anyhow::Result<Command> {
        let bench = std::env::current_exe()?;
        let (program, arguments): (PathBuf, Vec<&str>) = match self {
            Self::Messages(command) => (bench.with_file_name("messages"), vec![command]),
            Self::Floor(name) => (bench, vec!["floor", name]),
        };
        anyhow::ensure!(program.exists(), "{} is missing; use `make bench`, which builds it", program.display());
        let mut command = Command::new(program);
        command.args(arguments);
        Ok(command)
    }
}

/// A running process. Dropping it kills the process.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    auth: Auth,
}

impl Server {
    /// Starts a process with `name` as its topic, schema and key prefix, and waits until it is ready.
    ///
    /// # Errors
    /// When the process ends or isn't ready in time.
    pub(crate) async fn start(program: Program, services: &Services, name: &str) -> anyhow::Result<Self> {
        let mut server = Self::spawn(program, services, name)?;
        let ready = async {
            loop {
                server.ensure_running()?;
                if is_ready(server.address).await {
                    return Ok(server);
                }
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        tokio::time::timeout(READY_TIMEOUT, ready).await.context("a process is not ready after 60 s")?
    }

    /// Starts a process and doesn't wait until it is ready.
    ///
    /// # Errors
    /// When its program can't be started.
    pub(crate) fn spawn(program: Program, services: &Services, name: &str) -> anyhow::Result<Self> {
        let secret = Uuid::new_v4().to_string();
        let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let mut command = configured(program, services, name)?;
        command.env("AUTH_JWT_SECRET", &secret).env("HOST", address.ip().to_string());
        let child = command.env("PORT", address.port().to_string()).spawn()?;
        Ok(Self { child, address, auth: Auth::new(&secret) })
    }

    /// Fails if the process has ended.
    pub(crate) fn ensure_running(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => anyhow::bail!("a measured process ended early: {status}"),
        }
    }

    /// The id of the process, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// A token for a user.
    pub(crate) fn token(&self, user: &UserId) -> anyhow::Result<String> {
        Ok(self.auth.mint(user, Timestamp::from_millis(TOKEN_EXPIRY_MS)?)?)
    }

    /// Kills the process: acknowledged events are on the log, and the benchmark needs nothing else.
    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// Creates the tables of the read model in the schema `name`.
///
/// # Errors
/// When `messages migrate` fails.
pub(crate) async fn migrate(services: &Services, name: &str) -> anyhow::Result<()> {
    let mut command = configured(Program::Messages("migrate"), services, name)?;
    let status = command.env("AUTH_JWT_SECRET", Uuid::new_v4().to_string()).status().await?;
    anyhow::ensure!(status.success(), "messages migrate failed: {status}");
    Ok(())
}

fn configured(program: Program, services: &Services, name: &str) -> anyhow::Result<Command> {
    let mut command = program.command()?;
    command
        .env("MESSAGES_ENV", "production")
        .env("KAFKA_BROKERS", &services.kafka_brokers)
        .env("KAFKA_TOPIC", name)
        .env_remove("KAFKA_TYPING_TOPIC")
        .env("DATABASE_URL", &services.database_url)
        .env("DATABASE_SCHEMA", name)
        .env("REDIS_URL", &services.redis_url)
        .env("REDIS_PREFIX", name)
        .env("LIMIT_MESSAGES", NO_LIMIT)
        .env("LIMIT_CONVERSATIONS", NO_LIMIT)
        .env("LIMIT_INVITATIONS", NO_LIMIT)
        .env("LIMIT_QUERIES", NO_LIMIT)
        .env("LOG", "error")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    Ok(command)
}

async fn is_ready(address: SocketAddr) -> bool {
    let Ok(mut connection) = HttpConnection::open(&address.to_string()).await else { return false };
    connection.send(&http::get("/readyz", "", "")).await.is_ok_and(|response| response.status == 200)
}
