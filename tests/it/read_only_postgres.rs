//! Postgres answers, but takes no writes: an operator made it read-only, or it has become a standby.

use read_model::{ReadModel, ReadModelError};
use serde_json::Value;
use sqlx::{Connection, PgConnection};

use crate::doctor::run;
use crate::harness::http::Response;
use crate::harness::postgres::OwnPostgres;
use crate::harness::process::ServiceProcess;
use crate::harness::system::config;
use crate::harness::{System, eventually};

/// A projector, and a process with all services, with a Postgres of their own.
struct ReadOnly {
    postgres: OwnPostgres,
    projector: ServiceProcess,
    _all: ServiceProcess,
    system: System,
    conversation: String,
}

impl ReadOnly {
    async fn start() -> Self {
        let postgres = OwnPostgres::start().await;
        let mut config = config();
        config.database_url.clone_from(&postgres.url);
        let all = ServiceProcess::start(&config, &["all"]).await;
        let projector = ServiceProcess::start(&config, &["projector"]).await;
        let system = System::attach(config, &all.url);
        system.wait_until_projecting().await;
        let conversation = system.conversation("alice", &["bob"]).await;
        let read_only = Self { postgres, projector, _all: all, system, conversation };
        let sent = read_only.send().await;
        read_only.wait_until_readable(&sent).await;
        read_only
    }

    async fn send(&self) -> Response {
        let sent = self.system.send("alice", &self.conversation, "hello").await;
        assert_eq!(sent.status, 201, "{sent:?}");
        sent
    }

    /// Waits until reads after a command include what it did.
    async fn wait_until_readable(&self, sent: &Response) {
        let path = format!("/api/messages/{}", sent.id());
        eventually("the message can be read", async || {
            let read = self.system.ask("bob", "GET", &path).header("Messages-Position", sent.position());
            (read.send().await.status == 200).then_some(())
        })
        .await;
    }

    /// Waits until both processes say that Postgres takes no writes: the projector is not ready, and the process with
    /// all services is degraded.
    async fn wait_until_reported(&self) {
        eventually("the projector is not ready", async || {
            let (status, body) = readyz(&self.projector.url).await;
            (status == 503 && names_writes(&body["errors"])).then_some(())
        })
        .await;
        eventually("the process with all services is degraded", async || {
            let (status, body) = readyz(&self.system.url).await;
            (status == 200 && names_writes(&body["degraded"])).then_some(())
        })
        .await;
        let doctor = run(&self.system.config, &["doctor"]).await;
        assert!(!doctor.succeeded && doctor.printed.contains("✗ Postgres takes no writes"), "{}", doctor.printed);
    }

    /// Waits until neither process says so any more.
    async fn wait_until_over(&self) {
        eventually("the projector is ready", async || (readyz(&self.projector.url).await.0 == 200).then_some(())).await;
        eventually("the process with all services isn't degraded", async || {
            let (status, body) = readyz(&self.system.url).await;
            (status == 200 && body["degraded"] == Value::Array(Vec::new())).then_some(())
        })
        .await;
    }
}

async fn readyz(url: &str) -> (u16, Value) {
    let response = reqwest::get(format!("{url}/readyz")).await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

/// Whether a list of failed checks says that Postgres is read-only.
fn names_writes(failures: &Value) -> bool {
    failures.as_array().unwrap().iter().any(|failure| {
        failure["field"] == "postgres-writes" && failure["detail"].as_str().unwrap().contains("Postgres is read-only")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_postgres_is_reported_and_the_projector_goes_on_after_it() {
    let read_only = ReadOnly::start().await;
    read_only.postgres.set_read_only(true).await;
    let sent = read_only.send().await;
    read_only.wait_until_reported().await;

    read_only.postgres.set_read_only(false).await;
    read_only.wait_until_readable(&sent).await;
    read_only.wait_until_over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_serves_what_is_folded_and_the_projector_goes_on_after_its_promotion() {
    let mut read_only = ReadOnly::start().await;
    read_only.postgres.demote().await;
    let sent = read_only.send().await;
    read_only.wait_until_reported().await;
    let path = format!("/api/messages?conversationId={}", read_only.conversation);
    let old = read_only.system.get("bob", &path).await;
    assert_eq!((old.status, old.data().as_array().unwrap().len()), (200, 1), "{old:?}");

    read_only.postgres.promote().await;
    read_only.wait_until_readable(&sent).await;
    read_only.wait_until_over().await;
}

#[tokio::test]
async fn a_refused_write_closes_the_connections_because_new_ones_may_lead_to_a_new_primary() {
    let postgres = OwnPostgres::start().await;
    let read_model = ReadModel::connect(&postgres.url, "messages", 2).unwrap();
    read_model.migrate().await.unwrap();
    let (one, other) = tokio::join!(read_model.offsets(), read_model.offsets());
    one.unwrap();
    other.unwrap();
    let mut observer = PgConnection::connect(&postgres.url).await.unwrap();
    let mut connections = async || {
        let query = sqlx::query_scalar("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'messages'");
        let count: i64 = query.fetch_one(&mut observer).await.unwrap();
        count
    };
    // The server process of the migration may still be ending.
    eventually("two connections are open", async || (connections().await == 2).then_some(())).await;

    postgres.set_read_only(true).await;
    let refused = read_model.check_writable().await;
    assert!(matches!(refused, Err(ReadModelError::ReadOnly(_))), "{refused:?}");
    read_model.offsets().await.unwrap();
    eventually("only the new connection is open", async || (connections().await == 1).then_some(())).await;
    postgres.set_read_only(false).await;
    read_model.check_writable().await.unwrap();
}
