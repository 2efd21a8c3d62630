//! Limits counted by this process alone, while Redis is down. From a number of windows on, each count first removes the
//! windows that have ended; it never removes a live one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use domain::UserId;

use crate::admission::{Admission, Limit};

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
    count: u32,
}

impl LocalLimits {
    /// Counts a command against its user's limit, unless the user has reached it.
    pub fn admit(&self, user: &UserId, limit: &Limit) -> Admission {
        let now = Instant::now();
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= WINDOWS {
            windows.retain(|_, window| now.duration_since(window.start) < limit.window);
        }
        let window = windows.entry((limit.name, user.clone())).or_insert(Window { start: now, count: 0 });
        if now.duration_since(window.start) >= limit.window {
            *window = Window { start: now, count: 0 };
        }
        let reset = limit.window.saturating_sub(now.duration_since(window.start));
        if window.count >= limit.max {
            return Admission::Limited(limit.state(window.count, reset));
        }
        window.count += 1;
        Admission::Admitted(limit.state(window.count, reset))
    }
}
