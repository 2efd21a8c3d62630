//! Publishes changes of presence: to the sockets of this node at once, and to the other nodes through Redis.

use std::sync::Arc;

use cache::presence::PresenceChange;
use cache::{Cache, CacheError};
use domain::{ConversationId, PositionVector, Timestamp, UserId};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::status::status;
use crate::delivery::{FrameSender, encode_payload};
use crate::rooms::{MembershipLookup, PRESENCE_PARTICIPANTS_MAX, Rooms};

/// The most conversations whose participants learn of one user's change.
const MAX_CONVERSATIONS: usize = 2_000;

/// Publishes changes in the name of this node.
pub(crate) struct PresencePublisher {
    pub(crate) cache: Cache,
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) frames: FrameSender,
    pub(crate) memberships: Arc<MembershipLookup>,
    /// This node's id.
    pub(crate) node: Uuid,
}

impl PresencePublisher {
    /// Publishes a user's change to the participants of these conversations, on all nodes.
    pub(super) async fn publish(
        &self,
        user: UserId,
        online: bool,
        seen: Timestamp,
        mut conversations: Vec<ConversationId>,
    ) {
        conversations.truncate(MAX_CONVERSATIONS);
        let change = PresenceChange { node: self.node, user, online, seen, conversations };
        self.send_to_local_sockets(&change);
        if let Err(error) = self.cache.publish_presence(&change).await {
            let user = &change.user;
            tracing::debug!(%error, %user, online, "publishing presence failed; other nodes miss the change");
        }
    }

    fn send_to_local_sockets(&self, change: &PresenceChange) {
        let payload = json!({"userId": change.user, "status": status(change.online), "lastSeenAt": change.seen});
        let payload = encode_payload(&payload);
        let sockets = self.rooms.rooms_except(&change.conversations, &change.user);
        self.frames.send_to_all(&sockets, "presence:update", &payload, None);
    }

    /// Marks a user without a socket here offline on `node`. If no other live node has the user online, publishes the
    /// change.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub(super) async fn mark_offline(&self, user: UserId, node: Uuid, seen: Timestamp) -> Result<(), CacheError> {
        if let Some(last_seen) = self.cache.mark_offline(&user, node, seen).await? {
            let conversations = self.look_up_small_conversations(&user).await;
            self.publish(user, false, last_seen, conversations).await;
        }
        Ok(())
    }

    /// The small conversations of a user who isn't in the rooms of this node; empty if the look-up fails.
    async fn look_up_small_conversations(&self, user: &UserId) -> Vec<ConversationId> {
        let found = self.memberships.memberships_of(user, &PositionVector::default()).await;
        let memberships = found.map(|memberships| memberships.list).unwrap_or_default();
        let small = memberships.into_iter().filter(|it| it.participant_count <= PRESENCE_PARTICIPANTS_MAX);
        small.map(|membership| membership.conversation_id).collect()
    }

    /// Sends the changes that other nodes publish to the sockets of this node, until the shutdown.
    pub(crate) async fn follow_other_nodes(self: Arc<Self>, shutdown: CancellationToken) {
        let mut changes = self.cache.follow_presence();
        while let Some(Some(change)) = shutdown.run_until_cancelled(changes.recv()).await {
            if change.node != self.node {
                self.send_to_local_sockets(&change);
            }
        }
    }
}
