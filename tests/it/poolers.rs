//! A pooler of connections between the services and Postgres: one that keeps sessions works, and the services refuse any
//! other.

use std::process::Stdio;

use sqlx::{Connection, PgConnection};

use crate::doctor::run;
use crate::harness::System;
use crate::harness::pgbouncer::PgBouncer;
use crate::harness::postgres::OwnPostgres;
use crate::harness::process::{ServiceProcess, command, free_port};
use crate::harness::system::{TIMEOUT, config};

/// The schemas of a database that have tables.
async fn schemas_with_tables(url: &str) -> Vec<String> {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let query =
        "SELECT DISTINCT schemaname FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')";
    sqlx::query_scalar(query).fetch_all(&mut connection).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_pgbouncer_with_sessions_everything_works_and_is_in_the_configured_schema() {
    let postgres = OwnPostgres::start().await;
    let bouncer = PgBouncer::start(&postgres.url, "session").await;
    let mut config = config();
    config.database_url.clone_from(&bouncer.url);
    let all = ServiceProcess::start(&config, &["all"]).await;
    let system = System::attach(config, &all.url);
    let conversation = system.conversation("alice", &["bob"]).await;
    let sent = system.send("alice", &conversation, "hi").await;
    let read = system.get_after(&sent, "bob", &format!("/api/messages/{}", sent.id())).await;
    assert_eq!(read.status, 200, "{read:?}");

    assert_eq!(schemas_with_tables(&postgres.url).await, [system.config.database_schema.as_str()]);
    let doctor = run(&system.config, &["doctor"]).await;
    assert!(doctor.succeeded && doctor.printed.contains("✓ the schema "), "{}", doctor.printed);
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_pgbouncer_without_sessions_nothing_starts_and_nothing_is_created() {
    let postgres = OwnPostgres::start().await;
    for pool_mode in ["transaction", "statement"] {
        let bouncer = PgBouncer::start(&postgres.url, pool_mode).await;
        let mut config = config();
        config.database_url.clone_from(&bouncer.url);
        for arguments in [["all"], ["projector"], ["command-api"], ["query-api"], ["migrate"], ["doctor"]] {
            let mut process = command(&config, &arguments);
            process.env("PORT", free_port().to_string()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let ended = tokio::time::timeout(TIMEOUT, process.output()).await;
            let ended = ended.unwrap_or_else(|_| panic!("{arguments:?} started")).unwrap();
            assert_eq!(ended.status.code(), Some(1), "{arguments:?}");
            let printed = String::from_utf8(ended.stdout).unwrap() + &String::from_utf8_lossy(&ended.stderr);
            assert!(printed.contains("pool_mode = session"), "{arguments:?} with pool_mode {pool_mode}: {printed}");
        }
    }
    assert_eq!(schemas_with_tables(&postgres.url).await, [""; 0]);
}
