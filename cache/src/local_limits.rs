//! Limits counted by this process alone: while Redis is down, and where a round trip would cost too much. The windows
//! take a bounded number of bytes.
//!
//! They are in two halves. A window that counts moves to the recent half. When that is full, it becomes the older half,
//! and the process forgets the older one. So a user who goes on sending stays limited, however many others send, and no
//! count ever looks at more than its own window.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::UserId;

use crate::admission::{Admission, Cost, Costs};

/// How many bytes of windows may be kept.
const MAX_BYTES: usize = 16 << 20;
/// About how many bytes a window costs besides the user id.
const WINDOW_BYTES: usize = 160;

domain::limit_rows! {
    Memory, "windows of each kind of limit that the process counts by itself", Bytes MAX_BYTES, "the process forgets the windows that have not counted lately", "memory";
}

/// Counts commands in this process, as [`crate::Cache::admit`] does in Redis.
#[derive(Debug, Default)]
pub struct LocalLimits {
    windows: Mutex<Windows>,
}

/// The name of a limit, and whom it counts.
type WindowKey = (&'static str, UserId);

#[derive(Debug, Default)]
struct Windows {
    recent: Half,
    older: Half,
}

#[derive(Debug, Default)]
struct Half {
    windows: HashMap<WindowKey, Window>,
    bytes: usize,
}

#[derive(Debug, Clone, Copy)]
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
        let mut state_of = |cost: &Cost, added: bool| {
            let Cost { limit, amount } = cost;
            let new = Window { start: now, length: limit.window, count: 0 };
            let window = windows.window((limit.name, user.clone()), new);
            if now.duration_since(window.start) >= window.length {
                *window = new;
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

impl Windows {
    /// A window, in the recent half; `new` if there is none.
    fn window(&mut self, key: WindowKey, new: Window) -> &mut Window {
        if !self.recent.windows.contains_key(&key) {
            let (entries, bytes) = (self.entries(), self.bytes());
            let window = self.older.remove(&key);
            if self.recent.bytes + bytes_of(&key) > MAX_BYTES / 2 {
                self.older = std::mem::take(&mut self.recent);
            }
            self.recent.bytes += bytes_of(&key);
            self.recent.windows.insert(key.clone(), window.unwrap_or(new));
            // By the difference: each kind of limit that a process counts by itself has its own windows.
            let entries = self.entries() as f64 - entries as f64;
            let bytes = self.bytes() as f64 - bytes as f64;
            metrics::gauge!("local_cache_entries", "cache" => "limits").increment(entries);
            metrics::gauge!("local_cache_bytes", "cache" => "limits").increment(bytes);
        }
        self.recent.windows.entry(key).or_insert(new)
    }

    fn entries(&self) -> usize {
        self.recent.windows.len() + self.older.windows.len()
    }

    fn bytes(&self) -> usize {
        self.recent.bytes + self.older.bytes
    }
}

impl Half {
    fn remove(&mut self, key: &WindowKey) -> Option<Window> {
        let window = self.windows.remove(key)?;
        self.bytes -= bytes_of(key);
        Some(window)
    }
}

fn bytes_of(key: &WindowKey) -> usize {
    key.1.as_str().len() + WINDOW_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Limit;

    #[test]
    fn windows_are_kept_within_the_bytes_and_a_user_who_goes_on_stays_limited() {
        let limits = LocalLimits::default();
        let costs = Costs::one(Limit { name: "messages", max: 10, window: Duration::from_secs(3_600) });
        let hog: UserId = "hog".parse().unwrap();
        for round in 0..200 {
            let is_admitted = matches!(limits.admit(&hog, &costs), Admission::Admitted(_));
            assert_eq!(is_admitted, round < 10, "round {round}");
            for other in 0..2_000 {
                let other: UserId = format!("user-{round}-{other}").parse().unwrap();
                assert!(matches!(limits.admit(&other, &costs), Admission::Admitted(_)));
            }
        }
        let windows = limits.windows.lock().unwrap();
        assert!(windows.bytes() <= MAX_BYTES, "{} bytes", windows.bytes());
        assert!(windows.entries() > 10_000, "{} windows fit", windows.entries());
        let halves = [&windows.recent, &windows.older];
        let bytes: usize = halves.iter().flat_map(|half| half.windows.keys()).map(bytes_of).sum();
        assert_eq!(windows.bytes(), bytes);
    }
}
