//! An open loop: everything has a time at which it is due, and begins then, however long what came before takes.

use std::time::{Duration, Instant};

/// How long everything runs before it counts: connections are made, caches and code get warm.
const WARM_UP_SECONDS: u32 = 2;
/// How long after a pace is made its first is due.
const LEAD: Duration = Duration::from_millis(100);

/// When each of a number of things is due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    start: Instant,
    rate: u32,
    warm_up: u64,
    count: u64,
}

impl Pace {
    /// So many a second for so many seconds, after those that warm up. It begins at once.
    pub(crate) fn new(rate: u32, seconds: u32) -> Self {
        let (rate_wide, warm_up) = (u64::from(rate), u64::from(WARM_UP_SECONDS));
        Self {
            start: Instant::now() + LEAD,
            rate,
            warm_up: rate_wide * warm_up,
            count: rate_wide * (warm_up + u64::from(seconds)),
        }
    }

    /// How many there are, with those that warm up.
    pub(crate) fn count(self) -> u64 {
        self.count
    }

    fn due(self, number: u64) -> Instant {
        self.start + Duration::from_nanos(number * 1_000_000_000 / u64::from(self.rate))
    }

    /// How long ago this one was due; none for those that warm up.
    pub(crate) fn since_due(self, number: u64) -> Option<Duration> {
        (number >= self.warm_up).then(|| self.due(number).elapsed())
    }

    /// Begins each when it is due. It blocks its thread: a thread's sleep ends 0.1 ms late, a runtime's 1 ms.
    pub(crate) fn run(self, mut begin: impl FnMut(u64)) {
        for number in 0..self.count {
            let wait = self.due(number).saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                std::thread::sleep(wait);
            }
            begin(number);
        }
    }
}
