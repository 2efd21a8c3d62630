//! The report as text: a table for each case, each figure of Messages next to its floors.

use std::fmt::Write;

use super::figures::{Case, Report};
use super::number;

/// The width of the figures' names, in characters.
const LABEL_WIDTH: usize = 44;
const COLUMN_WIDTH: usize = 21;

/// The tables of all cases, and the failures.
pub(crate) fn render(report: &Report) -> String {
    let machine = &report.machine;
    let mut text = format!(
        "{} · {} · {} cores, {} GiB, {}\n",
        report.date, machine.cpu, machine.cores, machine.memory_gib, machine.kernel
    );
    let _ = writeln!(text, "commit {}", report.commit);
    for case in &report.cases {
        text += &table(case);
    }
    text + &failures(report)
}

/// The failures, a line for each.
pub(crate) fn failures(report: &Report) -> String {
    report.failures.iter().map(|(failure, count)| format!("✗ {failure}: {}\n", number::text(*count as f64))).collect()
}

fn table(case: &Case) -> String {
    let names = case.systems.iter().map(|system| format!("{:>COLUMN_WIDTH$}", system.name));
    let mut text = format!("\n{:<LABEL_WIDTH$}{}{:>8}\n", case.title(), names.collect::<String>(), "ratio");
    for label in case.labels() {
        let values = case.systems.iter().map(|system| number::text_or_dash(system.value(&label)));
        let values = values.map(|value| format!("{value:>COLUMN_WIDTH$}")).collect::<String>();
        let _ = writeln!(
            text,
            "  {label:<width$}{values}{:>8}",
            number::ratio(case.ratio(&label)),
            width = LABEL_WIDTH - 2
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::figures::System;
    use super::*;
    use crate::options::Phase;

    #[test]
    fn each_figure_stands_next_to_its_floor_and_their_ratio() {
        let systems = vec![
            System::new("Messages").figure("answered, p50", "ms", 1.5).figure("round trips", "a message", 1.0),
            System::new("bare pipeline").figure("answered, p50", "ms", 0.5),
        ];
        let text = table(&Case { phase: Phase::Send, name: "1,000/s".to_owned(), systems });
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[1], ["send:", "1,000/s", "Messages", "bare", "pipeline", "ratio"]);
        assert_eq!(rows[2], ["answered,", "p50,", "ms", "1.50", "0.500", "3.00"]);
        assert_eq!(rows[3], ["round", "trips,", "a", "message", "1.00", "–", "–"]);
    }
}
