//! The executable as a process of its own.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use domain::{Timestamp, UserId};
use service::auth::Auth;
use tokio::process::Command;
use uuid::Uuid;

use crate::Services;

/// How long it may take to be ready.
const READY: Duration = Duration::from_secs(60);
/// Beyond what anyone sends here.
const NO_LIMIT: &str = "1000000000";
/// The end of the year 9999, in Unix milliseconds.
const FOR_EVER: i64 = 253_402_300_799_000;

/// A process of `messages`; killed at the latest when this is dropped.
pub(crate) struct Child {
    process: tokio::process::Child,
    /// Where it serves.
    pub(crate) address: String,
    auth: Auth,
}

impl Child {
    /// Starts `messages ROLE` with a topic, schema and key prefix of this name.
    pub(crate) fn start(services: &Services, name: &str, role: &str) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?.with_file_name("messages");
        let secret = Uuid::new_v4().to_string();
        let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let process = Command::new(&program)
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
            .with_context(|| format!("{} can't be started; use `make bench`, which builds it", program.display()))?;
        Ok(Self { process, address: address.to_string(), auth: Auth::new(&secret) })
    }

    /// Waits until it can serve.
    pub(crate) async fn ready(&mut self) -> anyhow::Result<()> {
        let url = format!("http://{}/readyz", self.address);
        let ready = async {
            loop {
                self.check()?;
                if reqwest::get(&url).await.is_ok_and(|answer| answer.status().is_success()) {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(READY, ready).await.context("messages is not ready after 60 s")?
    }

    /// Whether it still runs.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        match self.process.try_wait()? {
            None => Ok(()),
            Some(status) => anyhow::bail!("messages ended early: {status}"),
        }
    }

    /// A token for a user.
    pub(crate) fn token(&self, user: &UserId) -> anyhow::Result<String> {
        Ok(self.auth.mint(user, Timestamp::from_millis(FOR_EVER)?)?)
    }

    /// Ends it, at once: what it has acknowledged is kept, and nothing else matters.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        Ok(self.process.kill().await?)
    }
}
