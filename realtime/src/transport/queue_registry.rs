//! All queues of this node.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::send_queue::SendQueue;

/// From how many queues on the registry looks for those that have ended.
const FIRST_PRUNING: usize = 64;

/// The queues of a node's connections.
#[derive(Default)]
pub(super) struct QueueRegistry(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    queues: Vec<Weak<SendQueue>>,
    /// At how many entries the registry removes the queues that have ended: at most half of the entries are useless.
    prune_at: usize,
}

impl QueueRegistry {
    /// Adds a queue. The registry doesn't keep it alive.
    pub(super) fn add(&self, queue: &Arc<SendQueue>) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.queues.len() >= entries.prune_at {
            entries.queues.retain(|queue| queue.strong_count() > 0);
            entries.prune_at = FIRST_PRUNING.max(2 * entries.queues.len());
        }
        entries.queues.push(Arc::downgrade(queue));
    }

    /// The queues in which something waits, those first whose clients have taken nothing for the longest time. Clients
    /// that take what the node writes come last.
    pub(super) fn longest_waiting(&self) -> Vec<Arc<SendQueue>> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let queues: Vec<_> = entries.queues.iter().filter_map(Weak::upgrade).collect();
        drop(entries);
        let mut waiting: Vec<_> = queues.into_iter().filter_map(|queue| Some((queue.waiting()?, queue))).collect();
        waiting.sort_by_key(|(waiting, _)| (!waiting.is_blocked, waiting.since));
        waiting.into_iter().map(|(_, queue)| queue).collect()
    }
}
