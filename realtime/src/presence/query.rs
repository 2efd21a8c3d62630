//! Answers `presence:get`: the presence of users with whom the caller shares a conversation. It must never reveal
//! anything about other users.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use cache::Cache;
use domain::{ConversationId, PositionVector, UserId};
use serde_json::{Value, json};

use super::status::status;
use crate::clock;
use crate::delivery::RelayTail;
use crate::rooms::{MembershipLookup, Rooms};

/// The most users in a query.
const MAX_USERS: usize = 100;
/// How long a query waits for the projector to know of a conversation that was created a moment ago.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a query may take.
const QUERY_TIMEOUT: Duration = Duration::from_secs(3);

/// Answers queries.
pub(crate) struct PresenceQuery {
    pub(crate) cache: Cache,
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) memberships: Arc<MembershipLookup>,
    pub(crate) tail: Arc<RelayTail>,
}

impl PresenceQuery {
    /// The acknowledgement of `presence:get` with this payload.
    pub(crate) async fn respond(&self, caller: &UserId, payload: &Value) -> Value {
        let Some(users) = parse_users(payload) else {
            let detail = format!("userIds must be an array of at most {MAX_USERS} user ids");
            return error_response("invalid_user_ids", &detail);
        };
        match tokio::time::timeout(QUERY_TIMEOUT, self.find(caller, users)).await {
            Ok(Some(presences)) => presences,
            _ => error_response("unavailable", "presence is unavailable; try again"),
        }
    }

    /// The presence of those users who share a conversation with the caller; none if that is unknown.
    async fn find(&self, caller: &UserId, users: Vec<UserId>) -> Option<Value> {
        let conversations = self.rooms.conversations_of(caller)?;
        let mut visible = Vec::with_capacity(users.len());
        for user in &users {
            visible.push(user == caller || self.shares_any(&conversations, user).await?);
        }
        // A shared conversation may be so new that this node has delivered it and the projector doesn't know it yet. On
        // a partition on which the projector lags, that can take long.
        let recent = self.tail.membership_demand().at_least;
        if visible.contains(&false) && self.memberships.wait_for(&recent, PROGRESS_TIMEOUT).await {
            for (user, visible) in users.iter().zip(&mut visible).filter(|(_, visible)| !**visible) {
                *visible = self.shares_any(&conversations, user).await?;
            }
        }
        let visible: Vec<UserId> =
            users.into_iter().zip(visible).filter_map(|(user, visible)| visible.then_some(user)).collect();
        let now = clock::now();
        let found = self.cache.presence_of(&visible).await.ok()?;
        let entry = |presence: &cache::presence::Presence| {
            // Redis learns of a user's arrival a moment after this node does.
            let has_socket = self.rooms.has_socket(&presence.user);
            let last_seen = if has_socket { Some(now) } else { presence.last_seen };
            json!({
                "userId": presence.user, "status": status(has_socket || presence.online), "lastSeenAt": last_seen,
            })
        };
        Some(found.iter().map(entry).collect())
    }

    /// Whether a user is in one of these conversations, as far as the projector has come; none if that is unknown.
    async fn shares_any(&self, conversations: &HashSet<ConversationId>, user: &UserId) -> Option<bool> {
        if let Some(shares) = self.rooms.is_in_any(user, conversations) {
            return Some(shares);
        }
        let memberships = self.memberships.memberships_of(user, &PositionVector::default()).await.ok()?;
        Some(memberships.list.iter().any(|membership| conversations.contains(&membership.conversation_id)))
    }
}

/// The acknowledgement of a query that failed.
pub(crate) fn error_response(code: &str, detail: &str) -> Value {
    json!({"error": {"code": code, "detail": detail}})
}

/// The users in a query's payload, each once; none if the payload is invalid.
fn parse_users(payload: &Value) -> Option<Vec<UserId>> {
    let ids = payload["userIds"].as_array().filter(|ids| ids.len() <= MAX_USERS)?;
    let mut seen = HashSet::new();
    let users = ids.iter().map(|id| id.as_str()?.parse::<UserId>().ok()).collect::<Option<Vec<_>>>()?;
    Some(users.into_iter().filter(|user| seen.insert(user.clone())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_list_of_at_most_a_hundred_user_ids_is_valid() {
        let users = |payload: &Value| parse_users(payload).map(|users| users.len());
        assert_eq!(users(&json!({"userIds": ["a", "b", "a"]})), Some(2));
        let many: Vec<String> = (0..=MAX_USERS).map(|number| number.to_string()).collect();
        for bad in [json!(null), json!({}), json!({"userIds": "a"}), json!({"userIds": [1]}), json!({"userIds": many})]
        {
            assert_eq!(users(&bad), None, "{bad}");
        }
    }
}
