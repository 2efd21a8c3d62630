//! Keeps this node alive in Redis, and says how much it serves. Nothing may hold a heartbeat up: it has a task and a
//! connection of its own, because the other nodes mark the users of a node offline whose heartbeats stop.

use std::sync::Arc;
use std::time::Duration;

use cache::Cache;
use cache::keys::NODE_TTL;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::user_changes::GRACE;
use crate::rooms::Rooms;

/// How often this node sends a heartbeat, and looks for nodes whose heartbeats have stopped.
pub(super) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);

/// Sends this node's heartbeats.
pub(crate) struct Heartbeat {
    /// Nothing else may use its connection.
    pub(crate) cache: Cache,
    pub(crate) rooms: Arc<Rooms>,
    /// This node's id.
    pub(crate) node: Uuid,
}

impl Heartbeat {
    /// Runs until the shutdown. The node's users then have [`GRACE`] to come back on other nodes, before those mark
    /// them offline.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut interval = tokio::time::interval(HEARTBEAT_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(interval.tick()).await.is_some() {
            if let Err(error) = self.cache.presence_heartbeat(self.node, NODE_TTL, self.rooms.counts()).await {
                tracing::debug!(%error, "the presence heartbeat failed; retrying in two seconds");
            }
        }
        let _ = self.cache.presence_heartbeat(self.node, GRACE, self.rooms.counts()).await;
    }
}
