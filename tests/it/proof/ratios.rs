//! This release next to the parent's, as `bench` measures both in turn. Only figures of one run are compared, so a
//! machine that is slow today is slow for both.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use super::table::{Proof, Row, scaled};
use crate::harness::process::Release;

/// How often each release is measured, in turn.
const ROUNDS: usize = 2;
/// How long `bench` measures each rate and each query, in seconds.
const SECONDS: usize = 20;
/// The load of the phase `send`, in messages a second.
const RATE: &str = "1000";

/// A figure of `bench`, by the names in its JSON.
struct Measure {
    phase: &'static str,
    /// A part of the case's name.
    case: &'static str,
    /// The figure's name and unit.
    figure: [&'static str; 2],
    what: &'static str,
    /// Whether the figure is divided by that of the floor which `bench` measures in turn with it.
    next_to_floor: bool,
    bound: Bound,
}

/// What this release must keep.
enum Bound {
    AtMost(f64, &'static str),
    AtLeast(f64, &'static str),
}

const MEASURES: [Measure; 3] = [
    Measure {
        phase: "send",
        case: "1000/s",
        figure: ["CPU of the process", "ms a message"],
        what: "CPU of the process at 1,000 messages a second, in ms a message",
        next_to_floor: false,
        bound: Bound::AtMost(0.55, "≤ 0.55"),
    },
    Measure {
        phase: "reads",
        case: "a page of messages",
        figure: ["answered", "requests/s"],
        what: "cached pages of messages a second, as a share of the floor's",
        next_to_floor: true,
        bound: Bound::AtLeast(0.3, "≥ 0.3"),
    },
    Measure {
        phase: "sockets",
        case: "come and go",
        figure: ["memory afterwards", "times before"],
        what: "memory after 4,000 sockets came and went, as a share of that before",
        next_to_floor: false,
        bound: Bound::AtMost(1.5, "≤ 1.5"),
    },
];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the executables of two commits and bench: make proof"]
async fn this_release_keeps_the_bounds_of_the_bench_next_to_its_parent() {
    let mut proof = Proof::begin("ratios");
    let (mut current, mut parent) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        for (release, reports) in [(Release::Parent, &mut parent), (Release::Current, &mut current)] {
            reports.push(bench(release).await);
            proof.progress(&format!("round {round}: measured the {release:?} release"));
        }
    }
    for measure in &MEASURES {
        let value = measure.mean_of(&current);
        let (bound, holds) = match measure.bound {
            Bound::AtMost(limit, text) => (text, value <= limit),
            Bound::AtLeast(limit, text) => (text, value >= limit),
        };
        proof.row(Row {
            what: format!("{}, {ROUNDS} rounds in turn with the parent", measure.what),
            figure: format!("{value:.2}; the parent {:.2}", measure.mean_of(&parent)),
            bound,
            holds,
        });
    }
    proof.end();
}

/// Measures a release, and returns the report that `bench` writes. It starts the executable next to itself.
async fn bench(release: Release) -> Value {
    let report = Path::new(env!("CARGO_TARGET_TMPDIR")).join("proof-ratios.json");
    let status = Command::new(Path::new(&release.executable()).with_file_name("bench"))
        .args(["--phases", "send,reads,sockets", "--rates", RATE, "--seconds", &scaled(SECONDS).to_string()])
        .arg("--json")
        .arg(&report)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await
        .expect("bench can't be started; `make proof` builds it");
    assert!(status.success(), "bench failed");
    serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap()
}

impl Measure {
    fn mean_of(&self, reports: &[Value]) -> f64 {
        reports.iter().map(|report| self.value(report)).sum::<f64>() / reports.len() as f64
    }

    fn value(&self, report: &Value) -> f64 {
        let cases = report["cases"].as_array().unwrap();
        let is_meant = |case: &&Value| {
            case["phase"] == self.phase && case["name"].as_str().is_some_and(|name| name.contains(self.case))
        };
        let case = cases.iter().find(is_meant).unwrap_or_else(|| panic!("no case of {}: {report}", self.phase));
        let figure_of = |system: &Value| {
            let figures = system["figures"].as_array().unwrap();
            let [name, unit] = self.figure;
            let figure = figures.iter().find(|figure| figure["name"] == name && figure["unit"] == unit);
            figure.and_then(|figure| figure["value"].as_f64()).unwrap_or_else(|| panic!("no {name}, {unit}: {case}"))
        };
        let value = figure_of(&case["systems"][0]);
        if self.next_to_floor { value / figure_of(&case["systems"][1]) } else { value }
    }
}
