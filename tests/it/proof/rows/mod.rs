//! Millions of rows: the projector folds a long log into what an independent fold of it gives, and a read of the result
//! costs what it costs after the first thousands of events.

mod expected;
mod history;
mod reads;
mod stored;

use std::time::{Duration, Instant};

use read_model::ReadModel;
use service::config::Config;

use self::expected::Expected;
use self::history::History;
use self::reads::{Cost, Reads};
use super::table::{Proof, Row, grouped, scaled};
use crate::harness::System;
use crate::harness::log::{self, NewRecord};
use crate::harness::process::ServiceProcess;
use crate::harness::system::config;

/// How many events there are when the reads are measured first.
const FEW_EVENTS: usize = 20_000;
const EVENTS: usize = 2_000_000;
/// How many events are in memory at a time.
const PIECE: usize = 20_000;
/// How long the projector may make no progress.
const STALL: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs millions of rows: make proof"]
async fn a_read_over_millions_of_rows_costs_what_it_costs_over_thousands() {
    let mut proof = Proof::begin("rows");
    let config = config();
    let mut site = Site { history: History::new(), appended: 0, config };
    site.fold(&proof).await;
    let since = reads::present_token(&site.config, site.history.hub()).await;

    site.append(&proof, FEW_EVENTS).await;
    site.fold(&proof).await;
    let before = Reads::measure(&site.config, &site.history, &since).await;
    site.append(&proof, scaled(EVENTS)).await;
    let folding = site.fold(&proof).await;

    let expected = Expected::read(&site.config).await;
    let system = System::attach(site.config.clone(), "");
    stored::assert_equal(&system, &expected).await;
    proof.progress("the read model is the fold of the log");
    proof.row(folding.row(&site, &expected));
    reads::assert_pages_complete(&site.config, &site.history, &expected).await;
    proof.progress("every page has what the fold has");
    let after = Reads::measure(&site.config, &site.history, &since).await;
    for (before, after) in before.0.iter().zip(&after.0) {
        proof.row(comparison(before, after));
    }
    stored::delete(&system).await;
    proof.end();
}

/// A topic that grows, and its read model.
struct Site {
    config: Config,
    history: History,
    appended: usize,
}

/// How a projector folded what had been appended.
struct Folding {
    events: usize,
    took: Duration,
    /// The largest resident memory of its process, in megabytes.
    peak_mb: usize,
}

impl Site {
    /// Appends the next events until the log has `total`.
    async fn append(&mut self, proof: &Proof, total: usize) {
        while self.appended < total {
            let events = self.history.next_events(PIECE.min(total - self.appended));
            let records: Vec<NewRecord> = events.iter().map(NewRecord::event).collect();
            log::append(&self.config, &records).await;
            self.appended += records.len();
            if self.appended.is_multiple_of(10 * PIECE) || self.appended == total {
                proof.progress(&format!("appended {} events", grouped(self.appended)));
            }
        }
    }

    /// Starts a projector, and stops it once it has folded the whole log.
    async fn fold(&self, proof: &Proof) -> Folding {
        let projector = ServiceProcess::start(&self.config, &["projector"]).await;
        let read_model = ReadModel::connect(&self.config.database_url, &self.config.database_schema, 1).unwrap();
        let folded = async || {
            let offsets = read_model.offsets().await.unwrap();
            usize::try_from(offsets.0.iter().sum::<i64>()).unwrap()
        };
        let (began, already) = (Instant::now(), folded().await);
        let (mut progress, mut progressed) = (already, Instant::now());
        while progress < self.appended {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let now = folded().await;
            if now / 200_000 > progress / 200_000 {
                proof.progress(&format!("folded {} events", grouped(now)));
            }
            if now > progress {
                (progress, progressed) = (now, Instant::now());
            }
            assert!(progressed.elapsed() < STALL, "the projector stands still after {progress} events");
        }
        let took = began.elapsed();
        let peak_mb = peak_memory_mb(&projector);
        projector.stop().await;
        Folding { events: self.appended - already, took, peak_mb }
    }
}

fn peak_memory_mb(process: &ServiceProcess) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.child.id().unwrap())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse::<usize>().unwrap() / 1_024
}

impl Folding {
    fn row(&self, site: &Site, expected: &Expected) -> Row {
        let long = &expected.conversations[&site.history.long_conversation()];
        let each_second = (self.events as f64 / self.took.as_secs_f64()) as usize;
        Row {
            what: format!(
                "one projector folds {} events: {} messages, {} of them in one conversation; a user with {} conversations",
                grouped(self.events),
                grouped(expected.messages.len()),
                grouped(usize::try_from(long.last_seq).unwrap()),
                grouped(site.history.conversation_count())
            ),
            figure: format!(
                "every row as in an independent fold; {} events a second; {} MB of memory at most",
                grouped(each_second),
                self.peak_mb
            ),
            bound: "every row",
            holds: true,
        }
    }
}

/// What a read costs after few events, next to what it costs after all of them.
fn comparison(before: &Cost, after: &Cost) -> Row {
    let time = after.median_ms / before.median_ms;
    let entries = after.entries / before.entries;
    Row {
        what: after.what.to_owned(),
        figure: format!(
            "{:.1} → {:.1} ms; {:.0} → {:.0} index entries; {} → {} operations; {} sequential scans",
            before.median_ms,
            after.median_ms,
            before.entries,
            after.entries,
            before.operations,
            after.operations,
            after.sequential_scans
        ),
        bound: "≤ 3 × the time, ≤ 2 × the entries, as many operations, no scan",
        holds: time <= 3.0 && entries <= 2.0 && after.operations <= before.operations && after.sequential_scans == 0,
    }
}
