//! What operators rely on: a process says what it lacks, stops without losing anything, shows its metrics, and explains
//! its command line.

use std::collections::BTreeSet;
use std::sync::Arc;

use messages::process::Roles;
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedSender;

use crate::harness::eventually;
use crate::harness::log::Record;
use crate::harness::process::{ServiceProcess, command, free_port};
use crate::harness::proxy::Proxy;
use crate::harness::sockets::SLACK;
use crate::harness::system::{SECRET, System, TIMEOUT, config};

/// How often a process queried Postgres for clients, and how many events it appended. The projector looks at its leases
/// all the time: those queries don't count.
#[derive(Debug, PartialEq)]
struct Work {
    queries: f64,
    events: f64,
}

impl Work {
    async fn of(running: &ServiceProcess) -> Self {
        let mut queries = 0.0;
        for operation in
            ["conversations", "memberships", "participants", "messages", "message", "conversation", "offsets"]
        {
            queries += running.metric("postgres_queries_total", &format!("operation=\"{operation}\"")).await;
        }
        Self { queries, events: running.metric("events_appended_total", "").await }
    }
}

/// A process that only this test uses, so its metrics count nothing else. Alice has sent bob a message.
struct MeasuredProcess {
    running: ServiceProcess,
    system: System,
    conversation: String,
}

impl MeasuredProcess {
    async fn start() -> Self {
        let config = config();
        let running = ServiceProcess::start(&config, &["all"]).await;
        let system = System::attach(config, &running.url);
        let conversation = system.conversation("alice", &["bob"]).await;
        let sent = system.post("alice", json!({"conversationId": conversation, "content": "hi"})).await;
        system.wait_until_published(&sent).await;
        Self { running, system, conversation }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_list_touches_neither_postgres_nor_kafka() {
    let MeasuredProcess { running, system, .. } = MeasuredProcess::start().await;
    assert_eq!(system.get("bob", "/api/messages").await.header("x-cache"), "miss");

    let before = Work::of(&running).await;
    for _ in 0..5 {
        let list = system.get("bob", "/api/messages").await;
        assert_eq!((list.header("x-cache"), list.status), ("hit", 200));
    }

    assert_eq!(Work::of(&running).await, before);
    assert!(running.metric("cache_lookups_total", "view=\"conversations\",outcome=\"hit\"").await >= 5.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_position_does_not_poll_postgres() {
    let config = config();
    let running = ServiceProcess::start(&config, &["all"]).await;
    let system = System::attach(config, &running.url);
    let conversation = system.conversation("alice", &["bob"]).await;
    let offset_queries = async || running.metric("postgres_queries_total", "operation=\"offsets\"").await;

    let before = offset_queries().await;
    for number in 0..20 {
        let sent = system.post("alice", json!({"conversationId": conversation, "content": number.to_string()})).await;
        let read = system.get_after(&sent, "bob", &format!("/api/messages/{}", sent.id())).await;
        assert_eq!(read.status, 200, "{read:?}");
    }

    // A long wait may ask Postgres whether only Redis lags.
    let queries = offset_queries().await - before;
    assert!(queries < 20.0, "20 waits asked Postgres {queries} times");
}

#[tokio::test(flavor = "multi_thread")]
async fn production_refuses_to_start_without_a_secret() {
    let output = command(&config(), &["all"]).env_remove("AUTH_JWT_SECRET").output().await.unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("AUTH_JWT_SECRET is not set"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_postgres_is_alive_but_not_ready_and_says_why() {
    let config = config();
    let unreachable = format!("postgres://messages@127.0.0.1:{}/messages", free_port());
    let port = free_port();
    let mut query_api = command(&config, &["query-api"]);
    let _child = query_api.env("PORT", port.to_string()).env("DATABASE_URL", unreachable).spawn().unwrap();
    let system = System::attach(config, &format!("http://127.0.0.1:{port}"));

    let healthz = format!("{}/healthz", system.url);
    eventually("the process is alive", async || {
        reqwest::get(&healthz).await.ok().filter(|answer| answer.status() == 200)
    })
    .await;

    let not_ready = system.request("GET", "/readyz").send().await;
    not_ready.assert_problem(503, "not_ready");
    assert_eq!(not_ready.field_errors(), [("postgres", "gone")]);
    // Only cached answers can be read.
    system.get("alice", "/api/messages").await.assert_problem(503, "unavailable");
    system.post("alice", json!({})).await.assert_problem(405, "method_not_allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_waits_for_a_position_says_when_postgres_does_not_answer() {
    let mut config = config();
    let postgres = Proxy::start(&config.database_url).await;
    config.database_url.clone_from(&postgres.url);
    let system = System::with_config(config).await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let created = system.post("alice", json!({"action": "conversation", "participantIds": ["bob"]})).await;
    let (partition, _) = created.position().split_once(':').unwrap();
    let too_late = format!("{partition}:1000000");
    let message = json!({"conversationId": conversation, "content": "too early"});
    let send_too_early = async || {
        let request = system.ask("alice", "POST", "/api/messages").json(&message);
        request.header("Messages-Position", &too_late).send().await
    };

    send_too_early().await.assert_problem(503, "projection_behind");
    postgres.stall();
    send_too_early().await.assert_problem(503, "unavailable");
    postgres.restore();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_keeps_its_id_and_a_request_without_a_valid_id_gets_one() {
    let system = System::start().await;
    for (path, status) in
        [("/api/messages", 200), ("/api/messages/nonsense", 400), ("/healthz", 200), ("/nowhere", 404)]
    {
        let answer = system.ask("alice", "GET", path).header("X-Request-Id", "trace-me:42").send().await;
        assert_eq!((answer.status, answer.header("x-request-id")), (status, "trace-me:42"), "{path}");
        if status >= 400 {
            assert_eq!(answer.body["requestId"], "trace-me:42");
        }

        let too_long = "x".repeat(129);
        let requests = [
            system.ask("alice", "GET", path).header("X-Request-Id", "two words"),
            system.ask("alice", "GET", path).header("X-Request-Id", &too_long),
            system.ask("alice", "GET", path),
        ];
        let mut generated_ids = BTreeSet::new();
        for request in requests {
            let id = request.send().await.header("x-request-id").to_owned();
            assert!(id.parse::<uuid::Uuid>().is_ok(), "{id}");
            generated_ids.insert(id);
        }
        assert_eq!(generated_ids.len(), 3);
    }
}

/// Sends messages as fast as possible until no process answers, and passes on the position of each acknowledged one.
async fn send_until_stopped(system: Arc<System>, message: Value, acknowledged: UnboundedSender<String>) {
    while let Some(answer) = system.ask("bob", "POST", "/api/messages").json(&message).try_send().await {
        assert!([201, 429].contains(&answer.status), "{answer:?}");
        if answer.status == 201 {
            acknowledged.send(answer.position().to_owned()).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_told_to_stop_finishes_its_requests() {
    let config = config();
    let mut running = ServiceProcess::start(&config, &["all"]).await;
    let system = Arc::new(System::attach(config, &running.url));
    let conversation = system.conversation("alice", &["bob"]).await;
    // A query that waits for a second, while bob sends messages.
    let query = system.ask("alice", "GET", "/api/messages").header("Messages-Position", "0:1000000");
    let query = tokio::spawn(query.send());
    let message = json!({"conversationId": conversation, "content": "hi"});
    let (acknowledged, mut positions) = tokio::sync::mpsc::unbounded_channel();
    let sending = tokio::spawn(send_until_stopped(system.clone(), message, acknowledged));
    let first_position = positions.recv().await.unwrap();

    let pid = running.child.id().unwrap().to_string();
    assert!(tokio::process::Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());

    let exit = tokio::time::timeout(TIMEOUT, running.child.wait()).await.expect("the process doesn't stop").unwrap();
    assert_eq!(exit.code(), Some(0));
    query.await.unwrap().assert_problem(503, "projection_behind");
    sending.await.unwrap();
    let mut all_positions = vec![first_position];
    while let Some(position) = positions.recv().await {
        all_positions.push(position);
    }
    let on_the_log: Vec<String> = system.records_of(&conversation).await.iter().map(Record::position).collect();
    let kept = all_positions.iter().all(|position| on_the_log.contains(position));
    assert!(kept, "{all_positions:?} of {on_the_log:?}");
}

/// Stops the projector until the connection ends or rolls back: it holds the table of the offsets.
async fn lock_offsets(config: &service::config::Config) -> PgConnection {
    let options: PgConnectOptions = config.database_url.parse().unwrap();
    let options = options.options([("search_path", &config.database_schema)]);
    let mut connection = PgConnection::connect_with(&options).await.unwrap();
    sqlx::query("BEGIN").execute(&mut connection).await.unwrap();
    sqlx::query("LOCK TABLE partitions").execute(&mut connection).await.unwrap();
    connection
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_show_how_far_the_projector_lags() {
    let MeasuredProcess { running, system, conversation } = MeasuredProcess::start().await;
    let lag_events = async || running.metric("projector_lag_events", "").await;
    let lag_seconds = async || running.metric("projector_lag_seconds", "").await;

    let mut lock = lock_offsets(&system.config).await;
    for _ in 0..3 {
        system.message("alice", &conversation, "hi").await;
    }
    eventually("the projector is three events behind", async || {
        (lag_events().await == 3.0 && lag_seconds().await > 0.0).then_some(())
    })
    .await;

    sqlx::query("ROLLBACK").execute(&mut lock).await.unwrap();
    eventually("the projector has caught up", async || {
        (lag_events().await == 0.0 && lag_seconds().await == 0.0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_count_requests_events_batches_and_queries() {
    let MeasuredProcess { running, .. } = MeasuredProcess::start().await;
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

const KAFKA: &str = "KAFKA_BROKERS";
const POSTGRES: &str = "DATABASE_URL";
const REDIS: &str = "REDIS_URL";
const SIGNING: &str = "AUTH_JWT_SECRET";

/// A subcommand and the variables that its help must explain, of these four.
struct Subcommand {
    name: &'static str,
    explains: &'static [&'static str],
}

const SUBCOMMANDS: [Subcommand; 13] = [
    Subcommand { name: "all", explains: &[KAFKA, POSTGRES, REDIS, SIGNING] },
    Subcommand { name: "command-api", explains: &[KAFKA, POSTGRES, REDIS, SIGNING] },
    Subcommand { name: "projector", explains: &[KAFKA, POSTGRES, REDIS, SIGNING] },
    Subcommand { name: "query-api", explains: &[KAFKA, POSTGRES, REDIS, SIGNING] },
    Subcommand { name: "realtime", explains: &[KAFKA, REDIS, SIGNING] },
    Subcommand { name: "migrate", explains: &[POSTGRES] },
    Subcommand { name: "topic", explains: &[KAFKA] },
    Subcommand { name: "doctor", explains: &[KAFKA, POSTGRES, REDIS, SIGNING] },
    Subcommand { name: "demo", explains: &[KAFKA, POSTGRES] },
    Subcommand { name: "rebuild", explains: &[KAFKA, POSTGRES, REDIS] },
    Subcommand { name: "replay", explains: &[KAFKA, SIGNING] },
    Subcommand { name: "verify", explains: &[KAFKA, POSTGRES, REDIS] },
    Subcommand { name: "token", explains: &[SIGNING] },
];

#[tokio::test(flavor = "multi_thread")]
async fn the_help_explains_each_subcommand_and_the_variables_that_it_reads() {
    let config = config();
    let help = async |arguments: &[&str]| {
        let output = command(&config, arguments).output().await.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let overview = help(&["--help"]).await;
    for Subcommand { name, explains } in SUBCOMMANDS {
        assert!(overview.contains(&format!("\n  {name} ")), "{overview}");
        let text = help(&[name, "--help"]).await;
        for variable in [KAFKA, POSTGRES, REDIS, SIGNING] {
            let explained = text.contains(&format!("[env: {variable}"));
            assert_eq!(explained, explains.contains(&variable), "{name} and {variable}");
        }
        assert!(!text.contains(SECRET), "{name} shows the secret");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_can_be_migrated_again() {
    let config = config();
    for _ in 0..2 {
        let output = command(&config, &["migrate"]).output().await.unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let system = System::with_roles(config, Roles::ALL).await;
    let list = system.get("alice", "/api/messages").await;
    assert_eq!((list.status, list.data()), (200, &json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_from_the_command_line_signs_a_user_in() {
    let config = config();
    let system = System::with_roles(config.clone(), Roles::ALL).await;
    let output = command(&config, &["token", "alice", "--hours", "1"]).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let token = String::from_utf8(output.stdout).unwrap();
    let list = system.get_with(token.trim(), "/api/messages").await;
    assert_eq!((list.status, list.data()), (200, &json!([])));

    let for_an_invalid_user = command(&config, &["token", "two words"]).output().await.unwrap();
    assert!(!for_an_invalid_user.status.success(), "{for_an_invalid_user:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_accepts_more_connections_than_its_initial_open_file_limit() {
    let open_files = 256;
    let running = ServiceProcess::with_files(&config(), &["all"], open_files).await;
    let address = running.url.strip_prefix("http://").unwrap();
    let mut connections = Vec::new();
    for _ in 0..2 * open_files {
        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let first_byte = tokio::time::timeout(SLACK, connection.read_u8()).await;
        let count = connections.len();
        assert_eq!(first_byte.expect("the process doesn't answer").unwrap(), b'H', "after {count} connections");
        connections.push(connection);
    }
}
