//! The offsets of the last seconds, from which rates are made: how fast the log grows, and how fast it is folded.

use std::collections::VecDeque;
use std::time::Duration;

use domain::PositionVector;
use tokio::time::Instant;

/// Over how much time a rate is measured, once the process has observed for so long.
const RATE_WINDOW: Duration = Duration::from_secs(10);
/// How many observations of this time are remembered.
const REMEMBERED_MAX: usize = 32;

domain::limit_rows! {
    Memory, "observations of the last seconds from which the admin API makes rates", Count REMEMBERED_MAX, "rates are of a shorter time", "memory";
}

/// The offsets of each partition at a moment.
#[derive(Debug, Clone)]
struct OffsetsAt {
    at: Instant,
    end: PositionVector,
    folded: PositionVector,
}

/// How fast a partition moves, in offsets a second.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Rates {
    pub(crate) appended: f64,
    pub(crate) folded: f64,
}

/// The offsets of the last [`RATE_WINDOW`], and the youngest ones before it.
#[derive(Debug, Default)]
pub(crate) struct RecentOffsets(VecDeque<OffsetsAt>);

impl RecentOffsets {
    /// Adds what was observed at a moment. Returns the rates of each partition of `end` up to then; zero after the first
    /// observation.
    pub(crate) fn add(&mut self, at: Instant, end: &PositionVector, folded: &PositionVector) -> Vec<Rates> {
        while self.0.len() >= REMEMBERED_MAX || self.0.get(1).is_some_and(|second| at - second.at >= RATE_WINDOW) {
            self.0.pop_front();
        }
        let before = self.0.front().filter(|before| at > before.at);
        let rates = (0..).zip(&end.0).map(|(partition, end)| {
            before.map_or(Rates::default(), |before| {
                let seconds = (at - before.at).as_secs_f64();
                Rates {
                    appended: per_second(end - before.end.next(partition), seconds),
                    folded: per_second(folded.next(partition) - before.folded.next(partition), seconds),
                }
            })
        });
        let rates = rates.collect();
        self.0.push_back(OffsetsAt { at, end: end.clone(), folded: folded.clone() });
        rates
    }
}

/// With one decimal. Zero where a rebuild has moved the offsets back.
fn per_second(offsets: i64, seconds: f64) -> f64 {
    (offsets.max(0) as f64 / seconds * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_the_last_seconds_only() {
        let (start, mut recent) = (Instant::now(), RecentOffsets::default());
        let add = |recent: &mut RecentOffsets, seconds, end, folded| {
            let at = start + Duration::from_secs(seconds);
            recent.add(at, &PositionVector(vec![end]), &PositionVector(vec![folded]))[0]
        };
        assert_eq!(add(&mut recent, 0, 1_000, 1_000), Rates::default(), "nothing to compare with");
        assert_eq!(add(&mut recent, 4, 1_400, 1_100), Rates { appended: 100.0, folded: 25.0 });
        assert_eq!(add(&mut recent, 10, 1_400, 1_400), Rates { appended: 40.0, folded: 40.0 });
        assert_eq!(add(&mut recent, 14, 1_400, 1_400), Rates { appended: 0.0, folded: 30.0 });
        assert_eq!(add(&mut recent, 20, 1_410, 900), Rates { appended: 1.0, folded: 0.0 }, "a reset moves back");
        for second in 21..200 {
            add(&mut recent, second, 1_410, 1_410);
        }
        assert!(recent.0.len() <= 12, "{}", recent.0.len());
    }
}
