//! What each realtime node says about itself with its heartbeat, for operators. Nothing may be decided from it.

use domain::Timestamp;
use uuid::Uuid;

use crate::connection::{Cache, CacheError};

/// How many nodes are listed.
const NODES_MAX: isize = 200;

domain::limit_rows! {
    Redis, "realtime nodes that the admin API lists", Count NODES_MAX, "it lists those whose heartbeats are the latest", "memory, and pages that show them";
}

/// How much a realtime node serves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeCounts {
    /// How many sockets of users it has.
    pub sockets: usize,
    /// How many conversations have a participant with a socket there.
    pub rooms: usize,
}

/// A realtime node that is alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveNode {
    /// The id that it has had since its start.
    pub node: Uuid,
    /// What it said with its last heartbeat.
    pub counts: NodeCounts,
    /// When that was, by Redis' clock.
    pub seen_at: Timestamp,
}

impl LiveNode {
    /// Reads what a heartbeat wrote. None if another release wrote it in another form.
    fn parse(node: Uuid, text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let (sockets, rooms, seen_ms) = (parts.next()?, parts.next()?, parts.next()?);
        let counts = NodeCounts { sockets: sockets.parse().ok()?, rooms: rooms.parse().ok()? };
        let seen_at = Timestamp::from_millis(seen_ms.parse().ok()?).ok()?;
        Some(Self { node, counts, seen_at })
    }
}

impl Cache {
    /// Lists the realtime nodes that are alive, in the order of their ids.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn live_nodes(&self) -> Result<Vec<LiveNode>, CacheError> {
        let mut connection = self.connection("live_nodes");
        let mut read = redis::cmd("ZRANGE");
        read.arg(self.keys().nodes()).arg(-NODES_MAX).arg(-1);
        let ids: Vec<String> = read.query_async(&mut connection).await?;
        let mut nodes: Vec<Uuid> = ids.iter().filter_map(|id| id.parse().ok()).collect();
        if nodes.is_empty() {
            return Ok(Vec::new());
        }
        nodes.sort_unstable();
        let mut read = redis::pipe();
        for node in &nodes {
            read.cmd("GET").arg(self.keys().node_counts(*node));
        }
        let texts: Vec<Option<String>> = read.query_async(&mut connection).await?;
        Ok(nodes.into_iter().zip(texts).filter_map(|(node, text)| LiveNode::parse(node, &text?)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_release_wrote_hides_only_its_node() {
        let id = Uuid::from_u128(7);
        let node = LiveNode::parse(id, "12 345 1796000000000").unwrap();
        assert_eq!((node.node, node.counts), (id, NodeCounts { sockets: 12, rooms: 345 }));
        assert_eq!(node.seen_at.as_millis(), 1_796_000_000_000);
        for other in ["", "12 345", "{\"sockets\": 12}", "12 345 1e99"] {
            assert_eq!(LiveNode::parse(id, other), None, "{other}");
        }
    }
}
