//! Runs the release build of `messages` as a process of its own.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use domain::{Timestamp, UserId};
use service::auth::Auth;
use tokio::process::{Child, Command};
use uuid::Uuid;

use crate::options::Services;

/// How long the process may take until it is ready.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// A limit that no benchmark reaches.
const NO_LIMIT: &str = "1000000000";
/// The end of the year 9999 in Unix milliseconds: the latest timestamp that exists.
const TOKEN_EXPIRY_MS: i64 = 253_402_300_799_000;

/// A process of `messages`. Dropping it kills the process.
pub(crate) struct MessagesProcess {
    child: Child,
    /// The host and port that it listens on.
    pub(crate) address: String,
    auth: Auth,
}

impl MessagesProcess {
    /// Starts `messages ROLE`, with `name` as its topic, schema and key prefix.
    pub(crate) fn start(services: &Services, name: &str, role: &str) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?.with_file_name("messages");
        let secret = Uuid::new_v4().to_string();
        let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let child = Command::new(&program)
            .arg(role)
            .env("MESSAGES_ENV", "production")
            .env("AUTH_JWT_SECRET", &secret)
            .env("HOST", address.ip().to_string())
            .env("PORT", address.port().to_string())
            .env("KAFKA_BROKERS", &services.kafka_brokers)
            .env("KAFKA_TOPIC", name)
            .env_remove("KAFKA_TYPING_TOPIC")
            .env("DATABASE_URL", &services.database_url)
            .env("DATABASE_SCHEMA", name)
            .env("REDIS_URL", &services.redis_url)
            .env("REDIS_PREFIX", name)
            .env("LIMIT_MESSAGES", NO_LIMIT)
            .env("LIMIT_CONVERSATIONS", NO_LIMIT)
            .env("LOG", "error")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("can't start {}; use `make bench`, which builds it", program.display()))?;
        Ok(Self { child, address: address.to_string(), auth: Auth::new(&secret) })
    }

    /// Waits until the process is ready.
    pub(crate) async fn ready(&mut self) -> anyhow::Result<()> {
        let url = format!("http://{}/readyz", self.address);
        let ready = async {
            loop {
                self.ensure_running()?;
                if reqwest::get(&url).await.is_ok_and(|response| response.status().is_success()) {
                    return Ok(());
                }
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        tokio::time::timeout(READY_TIMEOUT, ready).await.context("messages is not ready after 60 s")?
    }

    /// Fails if the process has ended.
    pub(crate) fn ensure_running(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => anyhow::bail!("messages ended early: {status}"),
        }
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
