//! Answers `presence:get`: the presence of users with whom the caller shares a conversation. It must never reveal
//! anything about other users.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use cache::Cache;
use domain::UserId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service::clock;

use crate::delivery::RelayTail;
use crate::rooms::{MembershipLookup, Rooms};
use crate::server_events::{Presence, PresenceStatus};

/// The event that a client emits to query presence.
pub(crate) const PRESENCE_GET: &str = "presence:get";
/// The most users in a query.
const MAX_USERS: usize = 100;

domain::limit_rows! {
    Sockets, "users in a `presence:get`", Count MAX_USERS, "an acknowledgement with `invalid_user_ids`", "Redis";
}
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
    pub(crate) async fn respond(&self, caller: &UserId, payload: &Value) -> PresenceAcknowledgement {
        let Some(users) = parse_users(payload) else {
            let detail = format!("userIds must be an array of at most {MAX_USERS} user ids");
            return PresenceAcknowledgement::error("invalid_user_ids", &detail);
        };
        match tokio::time::timeout(QUERY_TIMEOUT, self.find(caller, users)).await {
            Ok(Some(presences)) => PresenceAcknowledgement::Presences(presences),
            _ => PresenceAcknowledgement::error("unavailable", "presence is unavailable; try again"),
        }
    }

    /// The presence of those users who share a conversation with the caller; none if that is unknown.
    async fn find(&self, caller: &UserId, users: Vec<UserId>) -> Option<Vec<Presence>> {
        let visible = self.acquaintances(caller, users).await?;
        let now = clock::now();
        let found = self.cache.presence_of(&visible).await.ok()?;
        let entry = |presence: cache::presence::Presence| {
            // Redis learns of a user's arrival a moment after this node does.
            let has_socket = self.rooms.has_socket(&presence.user);
            let last_seen = if has_socket { Some(now) } else { presence.last_seen };
            let status = PresenceStatus::of(has_socket || presence.online);
            Presence { user_id: presence.user, status, last_seen_at: last_seen }
        };
        Some(found.into_iter().map(entry).collect())
    }

    /// Those of these users who share a conversation with the caller, and the caller; none if that is unknown. Of users
    /// who aren't on this node, one query tells.
    async fn acquaintances(&self, caller: &UserId, users: Vec<UserId>) -> Option<Vec<UserId>> {
        let here: Vec<Option<bool>> = users
            .iter()
            .map(|user| if user == caller { Some(true) } else { self.rooms.are_acquainted(caller, user) })
            .collect();
        let elsewhere: Vec<&UserId> =
            users.iter().zip(&here).filter_map(|(user, known)| known.is_none().then_some(user)).collect();
        let mut acquainted = HashSet::new();
        if !elsewhere.is_empty() {
            // A shared conversation may be so new that this node has delivered it and the projector doesn't know it yet.
            // On a partition on which the projector lags, that can take long.
            self.memberships.wait_for(&self.tail.membership_demand().at_least, PROGRESS_TIMEOUT).await;
            acquainted = self.memberships.acquaintances(caller, &elsewhere).await.ok()?;
        }
        let is_visible = |user: &UserId, known: Option<bool>| known.unwrap_or_else(|| acquainted.contains(user));
        Some(users.into_iter().zip(here).filter_map(|(user, known)| is_visible(&user, known).then_some(user)).collect())
    }
}

/// A query.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PresenceRequest {
    /// The users to ask for. The acknowledgement has each once, without those with whom you share no conversation.
    #[schemars(extend("maxItems" = MAX_USERS))]
    user_ids: Vec<UserId>,
}

/// The acknowledgement of a query.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum PresenceAcknowledgement {
    /// The presence of the users with whom you share a conversation.
    Presences(Vec<Presence>),
    /// The query failed.
    Failed {
        /// Why the query failed.
        error: PresenceError,
    },
}

/// Why a query failed.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PresenceError {
    /// For programs: `invalid_user_ids`, `too_many_questions` or `unavailable`. Others may come.
    code: String,
    /// For people.
    detail: String,
}

impl PresenceAcknowledgement {
    /// The acknowledgement of a query that failed.
    pub(crate) fn error(code: &str, detail: &str) -> Self {
        Self::Failed { error: PresenceError { code: code.to_owned(), detail: detail.to_owned() } }
    }
}

/// The users in a query's payload, each once; none if the payload is invalid.
fn parse_users(payload: &Value) -> Option<Vec<UserId>> {
    // Without this check, serde would also accept an array with the fields in their order.
    payload.as_object()?;
    let PresenceRequest { user_ids } = PresenceRequest::deserialize(payload).ok()?;
    if user_ids.len() > MAX_USERS {
        return None;
    }
    let mut seen = HashSet::new();
    Some(user_ids.into_iter().filter(|user| seen.insert(user.clone())).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_list_of_at_most_a_hundred_user_ids_is_valid() {
        let users = |payload: &Value| parse_users(payload).map(|users| users.len());
        assert_eq!(users(&json!({"userIds": ["a", "b", "a"]})), Some(2));
        let many: Vec<String> = (0..=MAX_USERS).map(|number| number.to_string()).collect();
        for bad in [
            json!(null),
            json!({}),
            json!({"userIds": "a"}),
            json!({"userIds": [1]}),
            json!({"userIds": many}),
            json!([["a"]]),
        ] {
            assert_eq!(users(&bad), None, "{bad}");
        }
    }
}
