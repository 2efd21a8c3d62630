//! Limits counted by this process alone, while Redis is down. From a number of windows on, each count first removes the
//! windows that have ended; it never removes a live one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::UserId;

use crate::admission::{Admission, Cost, Costs};

/// How many windows are kept before those that have ended are removed.
const WINDOWS: usize = 100_000;

/// Counts commands in this process, as [`crate::Cache::admit`] does in Redis.
#[derive(Debug, Default)]
pub struct LocalLimits {
    windows: Mutex<HashMap<(&'static str, UserId), Window>>,
}

#[derive(Debug)]
struct Window {
    start: Instant,
    length: Duration,
    count: u32,
}

impl LocalLimits {
    /// Counts a command against its user's limits, unless the user would pass one of them. The state is that of the
    /// first limit, or of the one that the user would pass.
    pub fn admit(&self, user: &UserId, costs: &Costs) -> Admission {
        let now = Instant::now();
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= WINDOWS {
            windows.retain(|_, window| now.duration_since(window.start) < window.length);
        }
        let mut state_of = |cost: &Cost, added: bool| {
            let Cost { limit, amount } = cost;
            let new = || Window { start: now, length: limit.window, count: 0 };
            let window = windows.entry((limit.name, user.clone())).or_insert_with(new);
            if now.duration_since(window.start) >= window.length {
                *window = new();
            }
            let is_within = window.count.checked_add(*amount).is_some_and(|count| count <= limit.max);
            if added {
                window.count = window.count.saturating_add(*amount);
            }
            let reset = window.length.saturating_sub(now.duration_since(window.start));
            (is_within, limit.state(window.count, reset))
        };
        for cost in costs.iter() {
            if let (false, state) = state_of(cost, false) {
                return Admission::Limited(state);
            }
        }
        if let Some(other) = &costs.other {
            state_of(other, true);
        }
        Admission::Admitted(state_of(&costs.of_kind, true).1)
    }
}
