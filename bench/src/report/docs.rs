//! Writes `docs/performance.md` and its pictures.

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;

use super::figures::{Case, Report};
use super::svg::{Chart, Line};
use super::{number, svg, table};
use crate::options::Phase;
use crate::proc::usage;

const PAGE: &str = "docs/performance.md";
const LATENCY_PICTURE: &str = "pictures/performance-latency.svg";
const CPU_PICTURE: &str = "pictures/performance-cpu.svg";

/// The page, with the names of its parts in braces.
const TEMPLATE: &str = include_str!("performance_page.txt");

/// The places of the phases' tables in the page.
const SECTIONS: [(Phase, &str); 6] = [
    (Phase::Send, "{send}"),
    (Phase::Reads, "{reads}"),
    (Phase::Sockets, "{sockets}"),
    (Phase::Fanout, "{fanout}"),
    (Phase::Hot, "{hot}"),
    (Phase::Projector, "{projector}"),
];

/// Writes the page into the repository in the current folder.
///
/// # Errors
/// When this isn't the root of the repository, or the run lacks a phase.
pub(crate) fn write(report: &Report) -> anyhow::Result<()> {
    let folder = Path::new("docs");
    anyhow::ensure!(folder.is_dir(), "there is no folder docs: run it from the root of the repository");
    for (phase, _) in SECTIONS {
        anyhow::ensure!(report.cases.iter().any(|case| case.phase == phase), "{PAGE} needs the phase {phase:?}");
    }
    let pictures = [(LATENCY_PICTURE, latency_chart(report)), (CPU_PICTURE, cpu_chart(report))];
    for (name, chart) in pictures {
        std::fs::write(folder.join(name), svg::render(&chart)).with_context(|| name.to_owned())?;
    }
    std::fs::write(PAGE, page(report)).context(PAGE)
}

fn page(report: &Report) -> String {
    let machine = &report.machine;
    let facts = [
        ("{date}", report.date.clone()),
        ("{commit}", report.commit.clone()),
        ("{cpu}", machine.cpu.clone()),
        ("{cores}", machine.cores.to_string()),
        ("{memory}", machine.memory_gib.to_string()),
        ("{kernel}", machine.kernel.clone()),
        ("{seconds}", report.settings.seconds.to_string()),
        ("{conversations}", report.settings.conversations.to_string()),
        ("{failures}", failures(report)),
    ];
    let filled = facts.into_iter().fold(TEMPLATE.to_owned(), |page, (name, value)| page.replace(name, &value));
    SECTIONS.into_iter().fold(filled, |page, (phase, name)| {
        let cases: Vec<&Case> = report.cases.iter().filter(|case| case.phase == phase).collect();
        page.replace(name, tables(&cases).trim_end())
    })
}

fn failures(report: &Report) -> String {
    if report.failures.is_empty() {
        return "The run had no failures.".to_owned();
    }
    format!("The run had failures:\n\n```\n{}```", table::failures(report))
}

/// A table for cases with the same systems: a row for each figure, and in each case its value, the floor's and the
/// ratio. Other cases get a table of their own.
fn tables(cases: &[&Case]) -> String {
    let mut text = String::new();
    for group in cases.chunk_by(|one, other| one.labels() == other.labels() && names(one) == names(other)) {
        let _ = write!(text, "| |");
        for case in group {
            let _ = write!(text, " {}: {} | ratio |", case.name, names(case).join(" / "));
        }
        let _ = writeln!(text, "\n|---|{}", "---:|---:|".repeat(group.len()));
        for label in group.first().map(|case| case.labels()).unwrap_or_default() {
            let _ = write!(text, "| {label} |");
            for case in group {
                let values = case.systems.iter().map(|system| number::text_or_dash(system.value(&label)));
                let ratio = number::ratio(case.ratio(&label));
                let _ = write!(text, " {} | {ratio} |", values.collect::<Vec<_>>().join(" / "));
            }
            text.push('\n');
        }
        text.push('\n');
    }
    text
}

fn names(case: &Case) -> Vec<&str> {
    case.systems.iter().map(|system| system.name.as_str()).collect()
}

/// A line through the cases of `send`: the value that `figure` finds in one of their systems.
fn line(report: &Report, index: usize, label: &str, is_dashed: bool, figure: impl Fn(&Case) -> Option<f64>) -> Line {
    let cases = report.cases.iter().filter(|case| case.phase == Phase::Send);
    let points = cases.filter_map(|case| Some((case.name.strip_suffix("/s")?.parse().ok()?, figure(case)?)));
    let system = if index == 0 { "Messages" } else { "pipeline" };
    Line { name: format!("{system}, {label}"), is_ours: index == 0, is_dashed, points: points.collect() }
}

fn latency_chart(report: &Report) -> Chart {
    let lines = [(0, "p50"), (0, "p99"), (1, "p50"), (1, "p99")].map(|(index, quantile)| {
        line(report, index, quantile, quantile == "p99", |case| {
            case.systems.get(index)?.value(&format!("delivered, {quantile}, ms"))
        })
    });
    Chart {
        title: "From when a message is due to its frames".to_owned(),
        y_label: "ms".to_owned(),
        is_logarithmic: true,
        lines: lines.into(),
    }
}

fn cpu_chart(report: &Report) -> Chart {
    let services = [usage::PROCESS, usage::KAFKA, usage::POSTGRES, usage::REDIS];
    let lines = [(0, 1, "process"), (0, 4, "all"), (1, 1, "process"), (1, 4, "all")].map(|(index, count, label)| {
        line(report, index, label, count > 1, |case| {
            let system = case.systems.get(index)?;
            services.iter().take(count).map(|name| system.value(&format!("{name}, ms a message"))).sum()
        })
    });
    Chart {
        title: "CPU time of a message: the process, and with Kafka, Postgres and Redis".to_owned(),
        y_label: "ms".to_owned(),
        is_logarithmic: false,
        lines: lines.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::System;
    use super::*;

    fn case(name: &str, label: &str) -> Case {
        let system = |name: &str, value: f64| System::new(name).figure(label, "ms", value);
        let systems = vec![system("Messages", 3.0), system("bare pipeline", 2.0)];
        Case { phase: Phase::Send, name: name.to_owned(), systems }
    }

    #[test]
    fn cases_with_the_same_figures_share_a_table() {
        let [one, two, other] = [case("1000/s", "a"), case("2000/s", "a"), case("idle", "b")];
        let text = tables(&[&one, &two, &other]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "| | 1000/s: Messages / bare pipeline | ratio | 2000/s: Messages / bare pipeline | ratio |",
                "|---|---:|---:|---:|---:|",
                "| a, ms | 3.00 / 2.00 | 1.50 | 3.00 / 2.00 | 1.50 |",
                "",
                "| | idle: Messages / bare pipeline | ratio |",
                "|---|---:|---:|",
                "| b, ms | 3.00 / 2.00 | 1.50 |",
                "",
            ]
        );
    }

    #[test]
    fn the_template_has_a_place_for_each_phase() {
        for (phase, name) in SECTIONS {
            assert_eq!(TEMPLATE.matches(name).count(), 1, "{phase:?}");
        }
    }
}
