//! Whether Postgres responds, as far as the last reads saw. While it doesn't, a read that has an old view from Redis need
//! not wait for Postgres as well: one read a second finds out whether Postgres is back.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a failed read of Postgres counts.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Whether reads have lately failed because Postgres did not respond.
#[derive(Debug, Default)]
pub(crate) struct PostgresOutage {
    /// When a read last failed or last went to find out; none while Postgres responds.
    tried_at: Mutex<Option<Instant>>,
}

impl PostgresOutage {
    /// Records that Postgres did not respond.
    pub(crate) fn record(&self) {
        self.set(Some(Instant::now()));
    }

    /// Records that Postgres responded.
    pub(crate) fn end(&self) {
        self.set(None);
    }

    /// Whether reads needn't try Postgres. Sends one caller in each interval to find out.
    pub(crate) fn is_known(&self) -> bool {
        let mut tried_at = self.tried_at.lock().unwrap_or_else(PoisonError::into_inner);
        match *tried_at {
            Some(at) if at.elapsed() < RETRY_INTERVAL => true,
            Some(_) => {
                *tried_at = Some(Instant::now());
                false
            }
            None => false,
        }
    }

    fn set(&self, tried_at: Option<Instant>) {
        *self.tried_at.lock().unwrap_or_else(PoisonError::into_inner) = tried_at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_known_until_postgres_responds() {
        let outage = PostgresOutage::default();
        assert!(!outage.is_known());
        outage.record();
        assert!(outage.is_known() && outage.is_known());
        outage.end();
        assert!(!outage.is_known());
    }

    #[test]
    fn one_read_finds_out_whether_postgres_is_back() {
        let outage = PostgresOutage::default();
        outage.set(Instant::now().checked_sub(RETRY_INTERVAL));
        assert!(!outage.is_known(), "this read tries");
        assert!(outage.is_known(), "the others needn't");
    }
}
