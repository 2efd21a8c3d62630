//! Connections to Postgres that die without a sign: they stay open, but whatever either side sends vanishes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use read_model::{ReadModel, ReadModelError};
use service::config::Config;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::harness::postgres::OwnPostgres;
use crate::harness::proxy::Proxy;
use crate::harness::system::{TIMEOUT, config, defaults, unlimited};
use crate::harness::{System, eventually};
use crate::rebuild::{Rebuilt, generation, rebuild_until};
use crate::verify::with_history;

/// A configuration that reaches Postgres through a proxy.
async fn proxied() -> (Config, Proxy) {
    let mut config = config();
    let postgres = Proxy::start(&config.database_url).await;
    config.database_url.clone_from(&postgres.url);
    (config, postgres)
}

/// A read model of which nobody is using a connection, and which may have this many.
async fn idle_read_model(config: &Config, connections: u32) -> ReadModel {
    let read_model = ReadModel::connect(&config.database_url, &config.database_schema, connections).unwrap();
    read_model.migrate().await.unwrap();
    read_model
}

/// Sends messages to a conversation and reads each back, until it is told to stop. Returns the ids of those that the
/// system has accepted.
async fn write_and_read(system: Arc<System>, conversation: String, stop: Arc<AtomicBool>) -> Vec<String> {
    let mut accepted = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let sent = system.send("alice", &conversation, "under load").await;
        if sent.status == 201 {
            system.get("alice", &format!("/api/messages/{}", sent.id())).await;
            system.get("bob", &format!("/api/messages?conversationId={conversation}")).await;
            accepted.push(sent.id());
        }
    }
    accepted
}

#[tokio::test(flavor = "multi_thread")]
async fn after_all_connections_have_died_users_read_their_own_writes_again_and_nothing_is_lost() {
    let (mut config, postgres) = proxied().await;
    unlimited(&mut config);
    let system = Arc::new(System::with_config(config).await);
    let conversation = system.conversation("alice", &["bob"]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> =
        (0..8).map(|_| tokio::spawn(write_and_read(system.clone(), conversation.clone(), stop.clone()))).collect();
    eventually("reads succeed under load", async || {
        let sent = system.send("alice", &conversation, "before").await;
        let read = system.ask("bob", "GET", &format!("/api/messages/{}", sent.id()));
        (read.header("Messages-Position", sent.position()).send().await.status == 200).then_some(())
    })
    .await;

    postgres.deaden();
    eventually("a write can be read again", async || {
        let sent = system.send("alice", &conversation, "after").await;
        let read = system.ask("bob", "GET", &format!("/api/messages/{}", sent.id()));
        (read.header("Messages-Position", sent.position()).send().await.status == 200).then_some(())
    })
    .await;

    stop.store(true, Ordering::Relaxed);
    let last = system.send("alice", &conversation, "last").await;
    assert_eq!(last.status, 201, "{last:?}");
    for task in load {
        for id in task.await.unwrap() {
            let read = system.get_after(&last, "bob", &format!("/api/messages/{id}")).await;
            assert_eq!(read.status, 200, "{read:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_postgres_has_hung_for_longer_than_anybody_waits_everything_goes_on_once_it_answers() {
    let (config, postgres) = proxied().await;
    let system = System::with_config(config).await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let own = ReadModel::connect(&system.config.database_url, &system.config.database_schema, 1).unwrap();
    own.offsets().await.unwrap();

    postgres.stall();
    // On an open connection, and then on a new one.
    for _ in 0..2 {
        let hung = own.offsets().await;
        assert!(matches!(hung, Err(ReadModelError::Unreachable(_))), "{hung:?}");
    }
    let sent = system.send("alice", &conversation, "meanwhile").await;
    assert_eq!(sent.status, 201, "{sent:?}");
    postgres.restore();
    let path = format!("/api/messages/{}", sent.id());
    eventually("the write can be read", async || {
        let read = system.ask("bob", "GET", &path).header("Messages-Position", sent.position()).send().await;
        (read.status == 200).then_some(())
    })
    .await;
    own.offsets().await.unwrap();
}

#[tokio::test]
async fn one_dead_connection_uncovers_the_others_of_the_pool() {
    let (config, postgres) = proxied().await;
    let read_model = idle_read_model(&config, 4).await;
    let all = [read_model.offsets(), read_model.offsets(), read_model.offsets(), read_model.offsets()];
    for read in futures_util::future::join_all(all).await {
        read.unwrap();
    }

    postgres.deaden();
    let first = read_model.offsets().await;
    assert!(matches!(first, Err(ReadModelError::Unreachable(_))), "{first:?}");
    for _ in 0..4 {
        read_model.offsets().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_connection_is_noticed_before_a_server_that_doesnt_answer_because_a_new_connection_tells() {
    let ((dead_config, dead), (silent_config, silent)) = tokio::join!(proxied(), proxied());
    let (on_dead, on_silent) = tokio::join!(idle_read_model(&dead_config, 1), idle_read_model(&silent_config, 1));
    let (before, _) = tokio::join!(on_dead.offsets(), on_silent.offsets());
    before.unwrap();

    silent.stall();
    dead.deaden();
    tokio::select! {
        first = on_dead.offsets() => assert!(matches!(first, Err(ReadModelError::Unreachable(_))), "{first:?}"),
        other = on_silent.offsets() => panic!("the process waited as long for the dead connection: {other:?}"),
    }
    on_dead.offsets().await.unwrap();
}

#[tokio::test]
async fn a_statement_that_postgres_is_at_work_on_is_waited_for() {
    let config = config();
    let read_model = idle_read_model(&config, 1).await;
    read_model.offsets().await.unwrap();
    let mut lock = PgConnection::connect(&defaults().database_url).await.unwrap();
    let table = format!("BEGIN; LOCK TABLE {}.partitions", config.database_schema);
    sqlx::raw_sql(sqlx::AssertSqlSafe(table)).execute(&mut lock).await.unwrap();

    let waited = read_model.offsets().await;
    assert!(matches!(waited, Err(ReadModelError::TimedOut(_))), "{waited:?}");
}

#[tokio::test]
async fn an_abandoned_operation_on_a_dead_connection_doesnt_keep_its_place_in_the_pool() {
    let (config, postgres) = proxied().await;
    let read_model = idle_read_model(&config, 1).await;
    read_model.offsets().await.unwrap();

    postgres.deaden();
    let abandoned = tokio::time::timeout(Duration::from_millis(100), read_model.offsets()).await;
    assert!(abandoned.is_err(), "{abandoned:?}");
    eventually("the pool has a connection again", async || read_model.offsets().await.ok()).await;
}

#[tokio::test]
async fn an_abandoned_transaction_never_stays_open_for_the_next_operation() {
    let config = config();
    let read_model = idle_read_model(&config, 1).await;
    let topic = Uuid::new_v4();
    let user = "alice".parse().unwrap();
    for generation in 1..=20 {
        // Abandons it at another point each time: while it connects, begins, reads or commits.
        let patience = Duration::from_micros(200 * generation);
        let _ = tokio::time::timeout(patience, read_model.conversations(&user, 10, None)).await;
        let other = ReadModel::connect(&config.database_url, &config.database_schema, 1).unwrap();
        other.reset(topic, usize::try_from(generation).unwrap()).await.unwrap();
        let read = read_model.conversations(&user, 10, None).await.unwrap();
        assert_eq!(read.offsets.0.len(), usize::try_from(generation).unwrap());
    }
}

#[tokio::test]
async fn a_migration_whose_connection_dies_ends_and_frees_its_lock() {
    let (config, postgres) = proxied().await;
    let mut lock = PgConnection::connect(&defaults().database_url).await.unwrap();
    let schema = &config.database_schema;
    sqlx::query("SELECT pg_advisory_lock(hashtext($1))").bind(schema).execute(&mut lock).await.unwrap();
    let read_model = ReadModel::connect(&config.database_url, schema, 2).unwrap();
    let migration = tokio::spawn({
        let read_model = read_model.clone();
        async move { read_model.migrate().await }
    });
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                   AND objid = (hashtext($1)::bigint & 4294967295)::oid";
    eventually("the migration waits for its lock", async || {
        let count: i64 = sqlx::query_scalar(waiting).bind(schema).fetch_one(&mut lock).await.unwrap();
        (count > 0).then_some(())
    })
    .await;

    postgres.deaden();
    lock.close().await.unwrap();
    let failed = migration.await.unwrap();
    assert!(matches!(failed, Err(ReadModelError::Unreachable(_))), "{failed:?}");
    read_model.migrate().await.unwrap();
}

#[tokio::test]
async fn the_server_processes_of_dead_connections_are_terminated() {
    let server = OwnPostgres::start().await;
    let mut config = config();
    let proxy = Proxy::start(&server.url).await;
    config.database_url.clone_from(&proxy.url);
    let read_model = idle_read_model(&config, 4).await;
    let all = || futures_util::future::join_all([(); 4].map(|()| read_model.offsets()));
    all().await.into_iter().for_each(|read| drop(read.unwrap()));
    let mut sql = PgConnection::connect(&server.url).await.unwrap();
    let mut processes = async || -> BTreeSet<i32> {
        let pids = sqlx::query_scalar("SELECT pid FROM pg_stat_activity WHERE application_name = 'messages'");
        pids.fetch_all(&mut sql).await.unwrap().into_iter().collect()
    };
    let before = processes().await;
    assert_eq!(before.len(), 4);

    proxy.deaden();
    eventually("reads succeed again", async || all().await.into_iter().all(|read| read.is_ok()).then_some(())).await;

    eventually("they are gone", async || processes().await.is_disjoint(&before).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_whose_connections_die_at_any_step_ends_and_changes_nothing() {
    let (mut config, postgres) = proxied().await;
    unlimited(&mut config);
    let system = with_history(System::with_config(config).await).await;
    for step in ["folding and copying", "making indexes", "comparing with the rows in use"] {
        // Each step takes a while, so that it isn't over before the connections die.
        postgres.delay(Duration::from_millis(50));
        let mut rebuild = rebuild_until(&system, step).await;
        postgres.deaden();
        postgres.restore();
        let ended = tokio::time::timeout(TIMEOUT, rebuild.wait()).await;
        let ended = ended.unwrap_or_else(|_| panic!("{step}: the rebuild waits on a dead connection"));
        assert_eq!(ended.unwrap().code(), Some(1), "{step}");
        eventually("the processes have new connections", async || system.read_model().offsets().await.ok()).await;
        assert_eq!(generation(&system).await, 1, "{step}");
    }
    let rebuilt = eventually("a rebuild succeeds", async || {
        let rebuilt = Rebuilt::run(&system, &[]).await;
        rebuilt.has_succeeded().then_some(rebuilt)
    });
    rebuilt.await.assert_printed(0, "✓ generation");
}
