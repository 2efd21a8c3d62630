//! Named quantities that only grow, such as CPU times and counters, and what a span of time added to them.

use std::collections::BTreeMap;

/// Quantities by their names. One that can't be measured is missing.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Totals(BTreeMap<&'static str, f64>);

impl Totals {
    /// Sets a quantity, if it could be measured.
    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<Option<f64>>) {
        if let Some(value) = value.into() {
            self.0.insert(name, value);
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// Takes over the quantities of `other`.
    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// What was added since `earlier`, of the quantities that both have.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self(self.0.iter().filter_map(|(name, now)| Some((*name, now - earlier.get(name)?))).collect())
    }

    /// Adds what another span of time added.
    pub(crate) fn add(&mut self, other: &Self) {
        for (name, value) in &other.0 {
            *self.0.entry(*name).or_default() += value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_differences_of_what_both_looks_saw_and_add_up() {
        let look = |value: f64| {
            let mut totals = Totals::default();
            totals.set("seen", value);
            totals.set("never", None);
            totals
        };
        let mut earlier = look(2.0);
        let mut later = look(5.0);
        later.set("new", 7.0);
        let mut sum = later.since(&earlier);
        assert_eq!((sum.get("seen"), sum.get("new"), sum.get("never")), (Some(3.0), None, None));
        earlier.set("new", 1.0);
        sum.add(&later.since(&earlier));
        assert_eq!((sum.get("seen"), sum.get("new")), (Some(6.0), Some(6.0)));
    }
}
