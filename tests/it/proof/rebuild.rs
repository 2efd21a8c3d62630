//! Rebuilding a million events: next to Postgres, which takes the same rows into the same tables and does nothing else.

use std::time::{Duration, Instant};

use service::config::Config;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::ended::Ended;
use super::table::{Proof, Row, grouped, scaled};
use crate::harness::postgres::OwnPostgres;
use crate::harness::process::ServiceProcess;
use crate::harness::system::{System, config, unlimited};

/// How many messages `messages demo` sends for about a million records.
pub(super) const MESSAGES: usize = 563_000;
/// How many times smaller the small topic is.
const SMALLER: usize = 10;
const PARTITIONS: i32 = 12;
const TABLES: [&str; 5] = ["conversations", "members", "messages", "reactions", "applied_events"];
/// How often the large topic is rebuilt. The one of median time counts, and the median of the copies before and after
/// them.
const REPEATS: usize = 3;
/// How long people chat before and after the rows are replaced.
const CHAT_MARGIN: Duration = Duration::from_secs(2);

/// A step of a rebuild that its log names.
const LOG: &str = "reading the log";
const DIGESTS: &str = "computed digests of the rows in use";
const COPY: &str = "folding and copying";
const COMPARISON: &str = "comparing with the rows in use";
const CATCHING_UP: &str = "folding what has come meanwhile";

/// A topic with a community, and its read model in a Postgres of its own.
struct Site {
    postgres: OwnPostgres,
    config: Config,
    records: usize,
}

impl Site {
    async fn start(messages: usize) -> Self {
        let postgres = OwnPostgres::start().await;
        let mut config = config();
        unlimited(&mut config);
        config.database_url.clone_from(&postgres.url);
        config.kafka_partitions = PARTITIONS;
        let (messages, conversations) = (messages.to_string(), (messages / 100).to_string());
        let size = ["demo", "--yes", "--users", "1000", "--conversations", &conversations, "--messages", &messages];
        Ended::run(&config, &size).await;
        Ended::run(&config, &["rebuild", "--reset"]).await;
        let mut sql = PgConnection::connect(&postgres.url).await.unwrap();
        let records = format!("SELECT sum(next_offset)::bigint FROM {}.partitions", config.database_schema);
        let records: i64 = sqlx::query_scalar(AssertSqlSafe(records)).fetch_one(&mut sql).await.unwrap();
        Self { postgres, config, records: usize::try_from(records).unwrap() }
    }

    fn per_second(&self, took: Duration) -> f64 {
        self.records as f64 / took.as_secs_f64()
    }

    /// How long Postgres takes to copy the rows into the same tables, and to make the same indexes.
    async fn floor(&self) -> Duration {
        let mut sql = PgConnection::connect(&self.postgres.url).await.unwrap();
        let base = &self.config.database_schema;
        let from = format!("SELECT coalesce(rows_schema, '{base}') FROM {base}.projection");
        let from: String = sqlx::query_scalar(AssertSqlSafe(from)).fetch_one(&mut sql).await.unwrap();
        let run = async |sql: &mut PgConnection, statement: String| {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(sql).await.unwrap();
        };
        run(&mut sql, "CREATE SCHEMA floor; SET maintenance_work_mem = '256MB'".to_owned()).await;
        let files = self.postgres.folder();
        for table in TABLES {
            let file = files.join(table);
            let copy = format!("COPY {from}.{table} TO '{}' (FORMAT binary)", file.display());
            run(&mut sql, format!("{copy}; CREATE TABLE floor.{table} (LIKE {from}.{table})")).await;
        }
        let indexes = "SELECT indexdef FROM pg_indexes WHERE schemaname = $1 AND tablename = ANY($2)";
        let indexes: Vec<String> =
            sqlx::query_scalar(indexes).bind(&from).bind(&TABLES[..]).fetch_all(&mut sql).await.unwrap();
        let began = Instant::now();
        for table in TABLES {
            let file = files.join(table);
            run(&mut sql, format!("COPY floor.{table} FROM '{}' (FORMAT binary)", file.display())).await;
        }
        for index in indexes {
            run(&mut sql, index.replace(&format!(" ON {from}."), " ON floor.")).await;
        }
        run(&mut sql, format!("ANALYZE {}", TABLES.map(|table| format!("floor.{table}")).join(", "))).await;
        let took = began.elapsed();
        run(&mut sql, "DROP SCHEMA floor CASCADE".to_owned()).await;
        took
    }
}

/// The longest time from an acknowledgement until its message could be read, while a rebuild replaces the rows.
async fn longest_wait_for_a_read(site: &Site) -> (Duration, usize) {
    let process = ServiceProcess::start(&site.config, &["all"]).await;
    let system = System::attach(site.config.clone(), &process.url);
    system.wait_until_projecting().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let (mut longest, mut sent) = (Duration::ZERO, 0);
    let rebuilding = async {
        tokio::time::sleep(CHAT_MARGIN).await;
        Ended::run(&site.config, &["rebuild"]).await;
        tokio::time::sleep(CHAT_MARGIN).await;
    };
    let mut rebuilding = Box::pin(rebuilding);
    let mut over = false;
    while !over {
        let message = system.send("alice", &conversation, "hi").await;
        assert_eq!(message.status, 201, "{message:?}");
        let acknowledged = Instant::now();
        let read = system.ask("bob", "GET", &format!("/api/messages/{}", message.id()));
        let reading = async { read.header("Messages-Position", message.position()).send().await };
        let mut reading = Box::pin(reading);
        let read = loop {
            tokio::select! {
                read = &mut reading => break read,
                () = &mut rebuilding, if !over => over = true,
            }
        };
        assert_eq!(read.status, 200, "{read:?}");
        longest = longest.max(acknowledged.elapsed());
        sent += 1;
    }
    (longest, sent)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a release build and the whole machine: make proof"]
async fn a_rebuild_takes_little_more_than_copying_the_rows() {
    let mut proof = Proof::begin("rebuild");
    let small = Site::start(scaled(MESSAGES / SMALLER)).await;
    let small_rebuild = Ended::run(&small.config, &["rebuild"]).await;
    let (longest, sent) = longest_wait_for_a_read(&small).await;
    let small_rate = small.per_second(small_rebuild.took);
    drop(small.postgres);
    proof.progress("the small one is done");
    let site = Site::start(scaled(MESSAGES)).await;
    proof.progress("the large one is folded");
    // Files and disks make each of them faster or slower now and then.
    let (mut floors, mut rebuilds) = (vec![site.floor().await], Vec::new());
    for _ in 0..REPEATS {
        rebuilds.push(Ended::run(&site.config, &["rebuild"]).await);
        floors.push(site.floor().await);
    }
    floors.sort_unstable();
    rebuilds.sort_by_key(|rebuild| rebuild.took);
    let (floor, rebuild) = (floors[floors.len() / 2], &rebuilds[REPEATS / 2]);
    let verify = Ended::run(&site.config, &["verify"]).await;
    let (rate, floor_rate) = (site.per_second(rebuild.took), site.per_second(floor));
    let records = grouped(site.records);
    let row = |what: String, figure: String, bound, holds| Row { what, figure, bound, holds };
    proof.row(row(
        format!("a rebuild of {records} records without traffic, next to COPY of the same rows with the same indexes"),
        format!("{} and {} records a second", grouped(rate as usize), grouped(floor_rate as usize)),
        "half of COPY",
        rate >= 0.5 * floor_rate,
    ));
    proof.row(row(
        format!("the same of {} records", grouped(small.records)),
        format!("{} records a second", grouped(small_rate as usize)),
        "the larger one at least 85 % of it",
        rate >= 0.85 * small_rate,
    ));
    proof.row(row(
        "memory of the rebuild".to_owned(),
        format!("{} MiB", rebuild.peak_bytes >> 20),
        "512 MiB",
        rebuild.peak_bytes <= 512 << 20,
    ));
    // Postgres computes the digests of the rows in use while the log is read.
    let digests = (rebuild.seconds_between(LOG, DIGESTS) - rebuild.seconds_between(LOG, COPY)).max(0.0);
    let compared = digests + rebuild.seconds_between(COMPARISON, CATCHING_UP);
    proof.row(row(
        "comparing the rows with those in use".to_owned(),
        format!("{compared:.1} s of {:.1} s", rebuild.took.as_secs_f64()),
        "a fifth of the rebuild",
        compared <= rebuild.took.as_secs_f64() / 5.0,
    ));
    proof.row(row(
        "`messages verify` afterwards".to_owned(),
        format!("{:.1} s", verify.took.as_secs_f64()),
        "1.5 times the rebuild",
        verify.took <= rebuild.took.mul_f64(1.5),
    ));
    proof.row(row(
        format!("a rebuild while somebody sends {sent} messages and another reads each at once"),
        format!("no read failed; the longest took {} ms", longest.as_millis()),
        "250 ms",
        longest <= Duration::from_millis(250),
    ));
    proof.end();
}
