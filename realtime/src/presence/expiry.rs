//! Expires other nodes whose heartbeats have stopped. A node must never expire itself: it is only slow, and its next
//! heartbeat restores it.

use std::sync::Arc;

use cache::Cache;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::heartbeat::HEARTBEAT_INTERVAL;
use super::publisher::PresencePublisher;

/// How many users of an expired node are taken from Redis at once.
const USERS_PER_PAGE: usize = 100;

/// Marks the users of expired nodes offline.
pub(crate) struct NodeExpiry {
    pub(crate) cache: Cache,
    pub(crate) publisher: Arc<PresencePublisher>,
    /// This node's id.
    pub(crate) node: Uuid,
    pub(crate) shutdown: CancellationToken,
}

impl NodeExpiry {
    /// Expires nodes until the shutdown. Several nodes may expire the same node at once: each publishes the same
    /// changes.
    pub(crate) async fn run(self) {
        let mut interval = tokio::time::interval(HEARTBEAT_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while self.shutdown.run_until_cancelled(interval.tick()).await.is_some() {
            for (node, expired_ago) in self.cache.expired_nodes().await.unwrap_or_default() {
                if node != self.node {
                    let now = Instant::now();
                    self.expire_node(node, now.checked_sub(expired_ago).unwrap_or(now)).await;
                }
            }
        }
    }

    /// Marks all users of a node offline, then removes the node. Without Redis it stops, and a later run goes on.
    async fn expire_node(&self, node: Uuid, expired_at: Instant) {
        loop {
            let Ok(users) = self.cache.sample_node_users(node, USERS_PER_PAGE).await else { return };
            if users.is_empty() {
                tracing::info!(%node, "realtime node expired; published its users' presence");
                let _ = self.cache.forget_node(node).await;
                return;
            }
            let users: Vec<_> = users.into_iter().map(|user| (user, expired_at)).collect();
            if self.publisher.mark_offline(&users, node).await.is_err() {
                return;
            }
        }
    }
}
