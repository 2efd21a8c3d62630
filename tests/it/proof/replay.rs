//! Exporting a million events to Parquet: next to the same command that reads and decodes them, and writes nothing.

use tempfile::tempdir;

use super::ended::Ended;
use super::rebuild::MESSAGES;
use super::table::{Proof, Row, grouped, scaled};
use crate::harness::system::config;
use crate::log_export::duckdb;

const PARTITIONS: i32 = 12;
/// How often each of the two runs, in turn. The one of median time counts.
const REPEATS: usize = 3;
/// Events that the demo doesn't have.
const NOTHING: [&str; 3] = ["replay", "--type", "TYPING_STOP"];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a release build and the whole machine: make proof"]
async fn an_export_to_parquet_takes_little_more_than_reading_the_log() {
    let mut proof = Proof::begin("replay");
    let mut config = config();
    config.kafka_partitions = PARTITIONS;
    let messages = scaled(MESSAGES);
    let (messages, conversations) = (messages.to_string(), (messages / 100).to_string());
    let size = ["demo", "--yes", "--users", "1000", "--conversations", &conversations, "--messages", &messages];
    Ended::run(&config, &size).await;
    proof.progress("the topic is filled");
    let (mut floors, mut exports, mut rows) = (Vec::new(), Vec::new(), 0);
    for _ in 0..REPEATS {
        floors.push(Ended::run(&config, &NOTHING).await.took);
        let folder = tempdir().unwrap();
        let options = ["replay", "--format", "parquet", "--folder", folder.path().to_str().unwrap()];
        exports.push(Ended::run(&config, &options).await);
        let count = duckdb(folder.path(), "SELECT count(*) AS count FROM records").await;
        rows = usize::try_from(count[0]["count"].as_u64().unwrap()).unwrap();
    }
    floors.sort_unstable();
    exports.sort_by_key(|export| export.took);
    let (floor, export) = (floors[REPEATS / 2], &exports[REPEATS / 2]);
    let rate = |took: std::time::Duration| grouped((rows as f64 / took.as_secs_f64()) as usize);
    proof.row(Row {
        what: format!("an export of {} records to Parquet, next to reading and decoding them", grouped(rows)),
        figure: format!("{} and {} records a second", rate(export.took), rate(floor)),
        bound: "half of reading and decoding",
        holds: export.took <= floor.mul_f64(2.0),
    });
    let peak = exports.iter().map(|export| export.peak_bytes).max().unwrap();
    proof.row(Row {
        what: "memory of the export".to_owned(),
        figure: format!("{} MiB", peak >> 20),
        bound: "300 MiB",
        holds: peak <= 300 << 20,
    });
    proof.end();
}
