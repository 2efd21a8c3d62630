//! The schedule of an open loop: each message has a due time, and is sent then, however long earlier messages take.

use std::ops::Range;
use std::time::{Duration, Instant};

/// Messages of these first seconds aren't measured: meanwhile connections open, and caches and code warm up.
pub(crate) const WARM_UP: Duration = Duration::from_secs(2);
/// The time between making a schedule and its first due time.
const LEAD_TIME: Duration = Duration::from_millis(100);

/// The due time of each message, by its number.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    start: Instant,
    /// Messages a second.
    rate: u32,
    /// All messages. A later schedule of the same population has later numbers.
    numbers: Range<u64>,
    /// The first message that is measured.
    measured_from: u64,
}

impl Schedule {
    /// A schedule that starts now: `rate` messages a second, for the warm-up and then for `seconds`.
    pub(crate) fn new(rate: u32, seconds: f64, first_number: u64) -> Self {
        let messages = |seconds: f64| (f64::from(rate) * seconds).ceil() as u64;
        let measured_from = first_number + messages(WARM_UP.as_secs_f64());
        let numbers = first_number..measured_from + messages(seconds);
        Self { start: Instant::now() + LEAD_TIME, rate, numbers, measured_from }
    }

    /// The numbers of all messages, including the warm-up.
    pub(crate) fn numbers(&self) -> Range<u64> {
        self.numbers.clone()
    }

    fn due(&self, number: u64) -> Instant {
        let index = number - self.numbers.start;
        self.start + Duration::from_nanos(index * 1_000_000_000 / u64::from(self.rate))
    }

    /// When the first measured message is due.
    pub(crate) fn measured_from(&self) -> Instant {
        self.due(self.measured_from)
    }

    /// When all messages are due.
    pub(crate) fn end(&self) -> Instant {
        self.due(self.numbers.end)
    }

    /// The time since a message was due; none for a message of the warm-up or of another schedule.
    pub(crate) fn since_due(&self, number: u64) -> Option<Duration> {
        (self.measured_from..self.numbers.end).contains(&number).then(|| self.due(number).elapsed())
    }

    /// Calls `send` with each number when it is due. Blocks its thread: a thread's sleep ends 0.1 ms late, a runtime's
    /// 1 ms.
    pub(crate) fn run(&self, mut send: impl FnMut(u64)) {
        for number in self.numbers() {
            let wait = self.due(number).saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                std::thread::sleep(wait);
            }
            send(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_due_at_equal_intervals_after_the_warm_up() {
        let schedule = Schedule::new(500, 1.5, 10_000);
        assert_eq!(schedule.numbers(), 10_000..11_750);
        assert_eq!(schedule.due(10_001) - schedule.due(10_000), Duration::from_millis(2));
        assert_eq!(schedule.measured_from() - schedule.due(10_000), WARM_UP);
        assert_eq!(schedule.end() - schedule.measured_from(), Duration::from_millis(1_500));
    }

    #[test]
    fn a_latency_counts_from_the_due_time_of_a_measured_message_only() {
        let mut schedule = Schedule::new(1_000, 1.0, 5);
        schedule.start -= Duration::from_secs(60);
        assert!(schedule.since_due(5 + 2_000).unwrap() >= Duration::from_secs(57));
        assert_eq!([4, 5, 5 + 1_999, 5 + 3_000].map(|number| schedule.since_due(number)), [None; 4]);
    }

    #[test]
    fn a_late_message_is_sent_at_once_and_none_is_left_out() {
        let mut schedule = Schedule::new(10_000, 0.01, 0);
        schedule.start -= Duration::from_secs(60);
        let mut sent = Vec::new();
        schedule.run(|number| sent.push(number));
        assert_eq!(sent, schedule.numbers().collect::<Vec<_>>());
    }
}
