//! Publishes changes of presence: to the sockets of this node at once, and to the other nodes through Redis.

use std::sync::Arc;

use cache::presence::{PresenceChange, PresencePublication, PublicationBuilder};
use cache::{Cache, CacheError};
use domain::{ConversationId, PositionVector, UserId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::delivery::FrameSender;
use crate::rooms::{MembershipLookup, PRESENCE_PARTICIPANTS_MAX, Rooms};
use crate::server_events::{PRESENCE_UPDATE, Presence, PresenceStatus};

/// The most conversations whose participants learn of one user's change.
const MAX_CONVERSATIONS: usize = 2_000;

domain::limit_rows! {
    Sockets, "conversations whose participants learn of a user's presence", Count MAX_CONVERSATIONS, "those of the others don't learn of it", "the node's other sockets";
}

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
    /// Publishes changes to the participants of their conversations, on all nodes. One publication has many changes.
    pub(super) async fn publish(&self, changes: impl Iterator<Item = PresenceChange>) {
        let mut publication = PublicationBuilder::new(self.node);
        for mut change in changes {
            change.conversations.truncate(MAX_CONVERSATIONS);
            if let Some(full) = publication.add(change) {
                self.publish_to_all(full).await;
            }
        }
        if let Some(rest) = publication.take() {
            self.publish_to_all(rest).await;
        }
    }

    async fn publish_to_all(&self, publication: PresencePublication) {
        self.send_to_local_sockets(&publication).await;
        if let Err(error) = self.cache.publish_presence(&publication).await {
            let changes = publication.changes.len();
            tracing::debug!(%error, changes, "publishing presence failed; other nodes miss the changes");
        }
    }

    async fn send_to_local_sockets(&self, publication: &PresencePublication) {
        for change in &publication.changes {
            let status = PresenceStatus::of(change.online);
            let presence = Presence { user_id: change.user.clone(), status, last_seen_at: Some(change.seen) };
            let sockets = self.rooms.rooms_except(&change.conversations, &change.user);
            self.frames.send_to_all(&sockets, PRESENCE_UPDATE.name, &PRESENCE_UPDATE.encode(&presence), None);
            tokio::task::consume_budget().await;
        }
    }

    /// Marks users without a socket here offline on `node`, each with the time when they were last seen there. Publishes
    /// the change of those whom no other live node has online.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub(super) async fn mark_offline(&self, users: &[(UserId, Instant)], node: Uuid) -> Result<(), CacheError> {
        let seen_ago: Vec<_> = users.iter().map(|(user, seen)| (user.clone(), seen.elapsed())).collect();
        let offline_since = self.cache.mark_offline(&seen_ago, node).await?;
        let mut changes = Vec::new();
        for ((user, _), since) in seen_ago.into_iter().zip(offline_since) {
            let Some(seen) = since else { continue };
            let conversations = self.look_up_small_conversations(&user).await;
            changes.push(PresenceChange { user, online: false, seen, conversations });
        }
        self.publish(changes.into_iter()).await;
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
        let mut publications = self.cache.follow_presence();
        while let Some(Some(publication)) = shutdown.run_until_cancelled(publications.recv()).await {
            if publication.node != self.node {
                self.send_to_local_sockets(&publication).await;
            }
        }
    }
}
