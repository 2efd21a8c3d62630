//! The schedule of an open loop: each message has a due time, and is sent then, however long earlier messages take.

use std::time::{Duration, Instant};

/// Messages of these first seconds aren't measured: meanwhile connections open, and caches and code warm up.
const WARM_UP_SECONDS: u32 = 2;
/// The time between making a schedule and its first due time.
const LEAD_TIME: Duration = Duration::from_millis(100);

/// How long the last messages may take to arrive once all are sent.
pub(crate) const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(10);

/// The due time of each message, by its number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    start: Instant,
    /// Messages a second.
    rate: u32,
    /// The number of messages that aren't measured.
    warm_up: u64,
    /// The number of all messages.
    count: u64,
}

impl Schedule {
    /// A schedule that starts now: `rate` messages a second, for the warm-up and then for `seconds`.
    pub(crate) fn new(rate: u32, seconds: u32) -> Self {
        let (rate_wide, warm_up_seconds) = (u64::from(rate), u64::from(WARM_UP_SECONDS));
        Self {
            start: Instant::now() + LEAD_TIME,
            rate,
            warm_up: rate_wide * warm_up_seconds,
            count: rate_wide * (warm_up_seconds + u64::from(seconds)),
        }
    }

    /// The number of all messages, including the warm-up.
    pub(crate) fn count(self) -> u64 {
        self.count
    }

    fn due(self, number: u64) -> Instant {
        self.start + Duration::from_nanos(number * 1_000_000_000 / u64::from(self.rate))
    }

    /// The time since a message was due; none for a message of the warm-up.
    pub(crate) fn since_due(self, number: u64) -> Option<Duration> {
        (number >= self.warm_up).then(|| self.due(number).elapsed())
    }

    /// Calls `send` with each number when it is due. Blocks its thread: a thread's sleep ends 0.1 ms late, a runtime's
    /// 1 ms.
    pub(crate) fn run(self, mut send: impl FnMut(u64)) {
        for number in 0..self.count {
            let wait = self.due(number).saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                std::thread::sleep(wait);
            }
            send(number);
        }
    }
}
