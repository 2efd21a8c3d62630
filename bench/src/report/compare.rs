//! A run next to an earlier one. Figures of a shared machine change from day to day by themselves; what they are as
//! times of the floor, and CPU times and counters, change only with the code.

use std::fmt::Write;

use super::figures::{Case, Report};
use super::number;

const LABEL_WIDTH: usize = 44;

/// The figures of Messages in both runs: each value, their ratio, and how many times the floor each was.
pub(crate) fn render(now: &Report, then: &Report) -> String {
    let mut text =
        format!("\nthen: {}, commit {}\nnow:  {}, commit {}\n", then.date, then.commit, now.date, now.commit);
    for case in &now.cases {
        let earlier = then.cases.iter().find(|it| (it.phase, &it.name) == (case.phase, &case.name));
        match earlier {
            Some(earlier) => text += &table(case, earlier),
            None => text += &format!("\n{}: the earlier run has no such case\n", case.title()),
        }
    }
    text
}

fn table(now: &Case, then: &Case) -> String {
    let mut text = format!(
        "\n{:<LABEL_WIDTH$}{:>10}{:>10}{:>10}{:>14}{:>13}\n",
        now.title(),
        "then",
        "now",
        "now/then",
        "floors then",
        "floors now"
    );
    for label in now.labels() {
        let value = |case: &Case| case.systems.first().and_then(|messages| messages.value(&label));
        let (before, after) = (value(then), value(now));
        let change = before.zip(after).filter(|(before, _)| *before != 0.0).map(|(before, after)| after / before);
        let _ = writeln!(
            text,
            "  {label:<width$}{:>10}{:>10}{:>10}{:>14}{:>13}",
            number::text_or_dash(before),
            number::text_or_dash(after),
            number::ratio(change),
            number::ratio(then.ratio(&label)),
            number::ratio(now.ratio(&label)),
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

    fn case(messages: f64, floor: f64) -> Case {
        let system = |name: &str, value: f64| System::new(name).figure("answered, p50", "ms", value);
        let systems = vec![system("Messages", messages), system("bare pipeline", floor)];
        Case { phase: Phase::Send, name: "1000/s".to_owned(), systems }
    }

    #[test]
    fn a_comparison_shows_both_values_their_ratio_and_both_ratios_to_the_floor() {
        let text = table(&case(3.0, 1.0), &case(2.0, 1.0));
        let row: Vec<&str> = text.lines().nth(2).unwrap().split_whitespace().collect();
        assert_eq!(row, ["answered,", "p50,", "ms", "2.00", "3.00", "1.50", "2.00", "3.00"]);
    }
}
