//! The results of a run, as `--json` writes and `--compare` reads them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::counters;
use crate::latency::Latencies;
use crate::machine::Machine;
use crate::options::Phase;
use crate::proc::usage::CPU_TIMES;
use crate::totals::Totals;

/// The shares of all latencies that reports show.
const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)];

/// A complete run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// When the run began, in UTC.
    pub(crate) date: String,
    /// The version of the code.
    pub(crate) commit: String,
    pub(crate) settings: Settings,
    pub(crate) cases: Vec<Case>,
    pub(crate) failures: BTreeMap<String, u64>,
}

/// The options that change the figures.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) seconds: u32,
    pub(crate) conversations: u32,
    pub(crate) events: u32,
}

/// One measurement of Messages and its floors.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Case {
    pub(crate) phase: Phase,
    pub(crate) name: String,
    /// Messages first, then the floor that the ratio is to, then further floors.
    pub(crate) systems: Vec<System>,
}

/// The figures of Messages or of a floor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct System {
    pub(crate) name: String,
    pub(crate) figures: Vec<Figure>,
}

/// A measured value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) value: f64,
}

impl Figure {
    /// The name with the unit.
    pub(crate) fn label(&self) -> String {
        format!("{}, {}", self.name, self.unit)
    }
}

impl System {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), figures: Vec::new() }
    }

    /// Adds a figure, if it could be measured.
    pub(crate) fn figure(mut self, name: &str, unit: &str, value: impl Into<Option<f64>>) -> Self {
        if let Some(value) = value.into() {
            self.figures.push(Figure { name: name.to_owned(), unit: unit.to_owned(), value });
        }
        self
    }

    /// Adds the quantiles of latencies.
    pub(crate) fn latencies(self, name: &str, latencies: &Latencies) -> Self {
        QUANTILES.into_iter().fold(self, |system, (label, quantile)| {
            system.figure(&format!("{name}, {label}"), "ms", latencies.quantile_ms(quantile))
        })
    }

    /// Adds the CPU times and counters for each of `count` units, such as `a message`.
    pub(crate) fn costs(self, totals: &Totals, unit: &str, count: f64) -> Self {
        let each = |name: &str| totals.get(name).filter(|_| count > 0.0).map(|total| total / count);
        let system =
            CPU_TIMES.into_iter().fold(self, |system, name| system.figure(name, &format!("ms {unit}"), each(name)));
        counters::names().fold(system, |system, name| system.figure(name, unit, each(name)))
    }

    /// The value of the figure with this label.
    pub(crate) fn value(&self, label: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.label() == label).map(|figure| figure.value)
    }
}

impl Case {
    /// The phase and the name.
    pub(crate) fn title(&self) -> String {
        format!("{}: {}", format!("{:?}", self.phase).to_lowercase(), self.name)
    }

    /// The labels of all figures, each once, in their order.
    pub(crate) fn labels(&self) -> Vec<String> {
        let mut labels: Vec<String> = Vec::new();
        for label in self.systems.iter().flat_map(|system| &system.figures).map(Figure::label) {
            if !labels.contains(&label) {
                labels.push(label);
            }
        }
        labels
    }

    /// What Messages has of a figure, as a share of what its floor has.
    pub(crate) fn ratio(&self, label: &str) -> Option<f64> {
        let [messages, floor, ..] = self.systems.as_slice() else { return None };
        Some(messages.value(label)? / floor.value(label).filter(|value| *value != 0.0)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_for_each_unit_and_a_missing_one_is_left_out() {
        let mut totals = Totals::default();
        totals.set(crate::proc::usage::PROCESS, 500.0);
        totals.set(counters::ALLOCATIONS, 90_000.0);
        let system = System::new("Messages").costs(&totals, "a message", 1_000.0);
        assert_eq!(system.value("CPU of the process, ms a message"), Some(0.5));
        assert_eq!(system.value("allocations, a message"), Some(90.0));
        assert_eq!(system.figures.len(), 2);
        assert!(System::new("none").costs(&totals, "a message", 0.0).figures.is_empty());
    }

    #[test]
    fn a_ratio_needs_both_values() {
        let system = |name: &str, value: Option<f64>| System::new(name).figure("a", "ms", 1.0).figure("b", "ms", value);
        let case = Case {
            phase: Phase::Send,
            name: String::new(),
            systems: vec![system("Messages", Some(3.0)), system("floor", None), system("other", Some(2.0))],
        };
        assert_eq!(case.labels(), ["a, ms", "b, ms"]);
        assert_eq!((case.ratio("a, ms"), case.ratio("b, ms")), (Some(1.0), None));
    }
}
