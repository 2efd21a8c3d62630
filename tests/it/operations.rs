//! What those who run the system rely on.

use std::sync::Arc;

use messages::process::Roles;
use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::eventually;
use crate::harness::log::Record;
use crate::harness::process::{ServiceProcess, command, free_port};
use crate::harness::sockets::SLACK;
use crate::harness::system::{SECRET, System, TIMEOUT, config};

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_list_touches_neither_postgres_nor_kafka() {
    let config = config();
    let running = ServiceProcess::start(&config, &["all"]).await;
    let system = System::attach(config, &running.url);
    let conversation = system.conversation("alice", &["bob"]).await;
    let sent = system.post("alice", json!({"conversationId": conversation, "content": "hi"})).await;
    let path = "/api/messages";
    system.wait_until_published(&sent).await;
    assert_eq!(system.get("bob", path).await.header("x-cache"), "miss");
    let before = touched(&running).await;
    for _ in 0..5 {
        let answer = system.get("bob", path).await;
        assert_eq!((answer.header("x-cache"), answer.status), ("hit", 200));
    }
    assert_eq!(touched(&running).await, before);
    assert!(running.metric("cache_lookups_total", "view=\"conversations\",outcome=\"hit\"").await >= 5.0);
}

/// How often queries asked Postgres, and how many events were appended. The projector looks at its leases all the
/// time: those are not counted.
async fn touched(running: &ServiceProcess) -> (f64, f64) {
    let mut queries = 0.0;
    for operation in ["conversations", "memberships", "participants", "messages", "message", "conversation", "offsets"]
    {
        queries += running.metric("postgres_queries_total", &format!("operation=\"{operation}\"")).await;
    }
    (queries, running.metric("events_appended_total", "").await)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_position_is_woken_and_asks_nobody() {
    let config = config();
    let running = ServiceProcess::start(&config, &["all"]).await;
    let system = System::attach(config, &running.url);
    let conversation = system.conversation("alice", &["bob"]).await;
    let asked = async || running.metric("postgres_queries_total", "operation=\"offsets\"").await;
    let before = asked().await;
    for number in 0..20 {
        let sent = system.post("alice", json!({"conversationId": conversation, "content": number.to_string()})).await;
        let seen = system.get_after(&sent, "bob", &format!("/api/messages/{}", sent.id())).await;
        assert_eq!(seen.status, 200, "{seen:?}");
    }
    // Now and then a wait is long enough for a look at whether Redis is what lags.
    let asked = asked().await - before;
    assert!(asked < 20.0, "Postgres was asked {asked} times in 20 waits");
}

#[tokio::test(flavor = "multi_thread")]
async fn production_refuses_to_start_without_a_secret() {
    let ended = command(&config(), &["all"]).env_remove("AUTH_JWT_SECRET").output().await.unwrap();
    assert!(!ended.status.success());
    assert!(String::from_utf8_lossy(&ended.stderr).contains("AUTH_JWT_SECRET is not set"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_says_that_it_runs_and_what_it_lacks() {
    let config = config();
    let nowhere = format!("postgres://messages@127.0.0.1:{}/messages", free_port());
    let port = free_port();
    let mut lacking = command(&config, &["query-api"]);
    let _child = lacking.env("PORT", port.to_string()).env("DATABASE_URL", nowhere).spawn().unwrap();
    let system = System::attach(config, &format!("http://127.0.0.1:{port}"));
    let healthz = format!("{}/healthz", system.url);
    eventually("it runs", async || reqwest::get(&healthz).await.ok().filter(|answer| answer.status() == 200)).await;
    let unready = system.request("GET", "/readyz").send().await;
    unready.assert_problem(503, "not_ready");
    assert_eq!(unready.field_errors(), [("postgres", "not_ready")]);
    // Without it, only what Redis has can be read.
    system.get("alice", "/api/messages").await.assert_problem(503, "unavailable");
    system.post("alice", json!({})).await.assert_problem(405, "method_not_allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_keeps_the_id_that_it_came_with() {
    let system = System::start().await;
    for (path, status) in
        [("/api/messages", 200), ("/api/messages/nonsense", 400), ("/healthz", 200), ("/nowhere", 404)]
    {
        let answer = system.ask("alice", "GET", path).header("X-Request-Id", "trace-me:42").send().await;
        assert_eq!((answer.status, answer.header("x-request-id")), (status, "trace-me:42"), "{path}");
        if status >= 400 {
            assert_eq!(answer.body["requestId"], "trace-me:42");
        }
        // One that is no plain text, or too long, isn't passed on; everyone else gets one of their own.
        let mut ids = std::collections::BTreeSet::new();
        for wrong in [Some("two words"), Some(&*"x".repeat(129)), None] {
            let request = system.ask("alice", "GET", path);
            let request = if let Some(wrong) = wrong { request.header("X-Request-Id", wrong) } else { request };
            let id = request.send().await.header("x-request-id").to_owned();
            assert!(id.parse::<uuid::Uuid>().is_ok(), "{id}");
            ids.insert(id);
        }
        assert_eq!(ids.len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_told_to_stop_finishes_what_it_began() {
    let config = config();
    let mut running = ServiceProcess::start(&config, &["all"]).await;
    let system = Arc::new(System::attach(config, &running.url));
    let conversation = system.conversation("alice", &["bob"]).await;
    // One that takes a second, and as many as can be that don't.
    let waiting = system.ask("alice", "GET", "/api/messages").header("Messages-Position", "0:1000000");
    let waiting = tokio::spawn(waiting.send());
    let (asked, bodies) = (system.clone(), json!({"conversationId": conversation, "content": "hi"}));
    let (acknowledged, mut counted) = tokio::sync::mpsc::unbounded_channel();
    let sending = tokio::spawn(async move {
        // Until nobody answers any more.
        while let Some(answer) = asked.ask("bob", "POST", "/api/messages").json(&bodies).try_send().await {
            assert!([201, 429].contains(&answer.status), "{answer:?}");
            if answer.status == 201 {
                acknowledged.send(answer.position().to_owned()).unwrap();
            }
        }
    });
    let first = counted.recv().await.unwrap();
    let pid = running.child.id().unwrap().to_string();
    assert!(tokio::process::Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    let ended = tokio::time::timeout(TIMEOUT, running.child.wait()).await.expect("it never stopped").unwrap();
    assert_eq!(ended.code(), Some(0));
    waiting.await.unwrap().assert_problem(503, "projection_behind");
    sending.await.unwrap();
    let mut positions = vec![first];
    while let Some(position) = counted.recv().await {
        positions.push(position);
    }
    let kept: Vec<String> = system.records_of(&conversation).await.iter().map(Record::position).collect();
    assert!(positions.iter().all(|position| kept.contains(position)), "{positions:?} of {kept:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn how_far_the_read_model_is_behind_shows() {
    let config = config();
    let running = ServiceProcess::start(&config, &["all"]).await;
    let system = System::attach(config.clone(), &running.url);
    let conversation = system.conversation("alice", &["bob"]).await;
    let sent = system.post("alice", json!({"conversationId": conversation, "content": "hi"})).await;
    system.wait_until_published(&sent).await;
    // Projecting stands still for as long as somebody else holds the table.
    let options: PgConnectOptions = config.database_url.parse().unwrap();
    let options = options.options([("search_path", &config.database_schema)]);
    let mut other = PgConnection::connect_with(&options).await.unwrap();
    sqlx::query("BEGIN").execute(&mut other).await.unwrap();
    sqlx::query("LOCK TABLE partitions").execute(&mut other).await.unwrap();
    for _ in 0..3 {
        system.message("alice", &conversation, "hi").await;
    }
    eventually("it is three behind", async || {
        let (events, seconds) = lag(&running).await;
        (events == 3.0 && seconds > 0.0).then_some(())
    })
    .await;
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    eventually("it has caught up", async || (lag(&running).await == (0.0, 0.0)).then_some(())).await;
    for (name, labels) in [
        ("http_requests_total", "route=\"/api/messages\""),
        ("http_request_duration_seconds_count", "method=\"POST\""),
        ("events_appended_total", "type=\"MESSAGE_SENT\""),
        ("append_duration_seconds_count", ""),
        ("projector_events_total", ""),
        ("projector_batch_seconds_count", ""),
        ("postgres_queries_total", "operation=\"commit\""),
        ("postgres_query_duration_seconds_count", "operation=\"commit\""),
    ] {
        assert!(running.metric(name, labels).await > 0.0, "{name}");
    }
}

async fn lag(running: &ServiceProcess) -> (f64, f64) {
    (running.metric("projector_lag_events", "").await, running.metric("projector_lag_seconds", "").await)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_explains_itself() {
    let config = config();
    let help = async |arguments: &[&str]| {
        let ended = command(&config, arguments).output().await.unwrap();
        assert!(ended.status.success(), "{ended:?}");
        String::from_utf8(ended.stdout).unwrap()
    };
    let whole = help(&["--help"]).await;
    let (kafka, postgres, redis, secret) = ("KAFKA_BROKERS", "DATABASE_URL", "REDIS_URL", "AUTH_JWT_SECRET");
    for (subcommand, uses) in [
        ("all", &[kafka, postgres, redis, secret][..]),
        ("command-api", &[kafka, postgres, redis, secret]),
        ("projector", &[kafka, postgres, redis, secret]),
        ("query-api", &[kafka, postgres, redis, secret]),
        ("realtime", &[kafka, redis, secret]),
        ("migrate", &[postgres]),
        ("topic", &[kafka]),
        ("doctor", &[kafka, postgres, redis, secret]),
        ("rebuild", &[kafka, postgres, redis]),
        ("token", &[secret]),
    ] {
        assert!(whole.contains(&format!("\n  {subcommand} ")), "{whole}");
        let text = help(&[subcommand, "--help"]).await;
        for variable in [kafka, postgres, redis, secret] {
            let explained = text.contains(&format!("[env: {variable}"));
            assert_eq!(explained, uses.contains(&variable), "{subcommand} and {variable}");
        }
        assert!(!text.contains(SECRET), "{subcommand} shows the secret");
    }
    let ended = command(&config, &["rebuild"]).output().await.unwrap();
    assert!(!ended.status.success() && String::from_utf8_lossy(&ended.stderr).contains("--reset"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_from_the_command_line_works_and_a_schema_can_be_migrated_again() {
    let config = config();
    for _ in 0..2 {
        let ended = command(&config, &["migrate"]).output().await.unwrap();
        assert!(ended.status.success(), "{ended:?}");
    }
    let system = System::with_roles(config.clone(), Roles::ALL).await;
    let ended = command(&config, &["token", "alice", "--hours", "1"]).output().await.unwrap();
    assert!(ended.status.success(), "{ended:?}");
    let bearer = format!("Bearer {}", String::from_utf8(ended.stdout).unwrap().trim());
    let answer = system.request("GET", "/api/messages").header("Authorization", &bearer).send().await;
    assert_eq!((answer.status, answer.data()), (200, &json!([])));
    let ended = command(&config, &["token", "two words"]).output().await.unwrap();
    assert!(!ended.status.success(), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_has_as_many_connections_as_its_system_lets_it_have() {
    let files = 256;
    let running = ServiceProcess::with_files(&config(), &["all"], files).await;
    let address = running.url.strip_prefix("http://").unwrap();
    let mut connections = Vec::new();
    for _ in 0..2 * files {
        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let answer = tokio::time::timeout(SLACK, connection.read_u8()).await;
        assert_eq!(answer.expect("it isn't accepted").unwrap(), b'H', "after {} connections", connections.len());
        connections.push(connection);
    }
}
