//! How many bytes wait for the sockets of this node.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bytes that wait for all sockets of a node. A frame that waits for many sockets counts once, because they share it.
#[derive(Default)]
pub(crate) struct QueueTotals(AtomicUsize);

impl QueueTotals {
    /// The bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Bytes that count against a node's total until this is dropped.
pub(super) struct CountedBytes {
    bytes: usize,
    totals: Arc<QueueTotals>,
}

impl CountedBytes {
    pub(super) fn new(bytes: usize, totals: &Arc<QueueTotals>) -> Self {
        totals.0.fetch_add(bytes, Ordering::Relaxed);
        metrics::gauge!("realtime_queued_bytes").increment(bytes as f64);
        metrics::gauge!("realtime_queued_frames").increment(1);
        Self { bytes, totals: totals.clone() }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes
    }
}

impl Drop for CountedBytes {
    fn drop(&mut self) {
        self.totals.0.fetch_sub(self.bytes, Ordering::Relaxed);
        metrics::gauge!("realtime_queued_bytes").decrement(self.bytes as f64);
        metrics::gauge!("realtime_queued_frames").decrement(1);
    }
}
