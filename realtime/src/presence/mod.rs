//! Presence: which users are online, published to the users who share a small conversation with them.
//!
//! A user is online while they have a socket on any node. `lastSeenAt` is when the user's last socket ended; for an
//! online user, it is when they last came to a node, or left one; null if no node has ever seen them. Presence is a
//! hint for people: it may lag or be lost, and must never decide who may read or write.
//!
//! # The timeline of a user
//!
//! | When | What happens |
//! |---|---|
//! | arrive | The user's socket is in its rooms. The [`PresenceRecorder`] task marks the user online in Redis. If no other node had them online, it publishes the change. |
//! | leave | The user's last socket on this node ends. The user has [`GRACE`](user_changes::GRACE) to come back. |
//! | offline | After the grace, the task marks the user offline in Redis. If no other live node has them online, it publishes the change. |
//!
//! [`PresencePublisher`] publishes a change to the sockets of this node at once, and to the other nodes through Redis.
//! One task handles all changes of this node's users in order, so an old "offline" never follows a newer "online". It
//! takes what has changed since its last round, and publishes each user's last state; one publication has many changes.
//!
//! # The timeline of a node
//!
//! | When | What happens |
//! |---|---|
//! | heartbeat | Every 2 s the [`Heartbeat`] task extends the node's life in Redis to [`NODE_TTL`](cache::keys::NODE_TTL), and says how many sockets and rooms it has. It uses a connection of its own, so nothing holds it up. |
//! | check | Every 2 s the recorder learns how many online users Redis has for the node, and restores those that Redis lost. |
//! | shutdown | The last heartbeat shortens the node's life to the grace: its users can reconnect to another node until then. |
//! | expiry | Once that time has passed, the other nodes expire the node ([`NodeExpiry`]): they mark its users offline and publish each change. Several nodes may do so at once, and publish the same. |
//!
//! An example: node A has Alice online, and is killed. Her client reconnects to node B within a second, and B marks her
//! online. Redis has her online on both nodes now, so nothing changes and nobody gets a frame. Eight seconds after its
//! last heartbeat, A is expired: B marks Alice offline on A, and she stays online on B. Bob, who was on A and doesn't
//! come back, is on no other node, so B publishes `presence:update` with `offline`.
//!
//! Only Redis' clock counts: the scripts take the time from it, and a node says how long ago something happened. A node
//! whose own clock is wrong neither expires others nor is expired.
//!
//! Without Redis each node decides on its own, and knows only its own users.

mod expiry;
mod heartbeat;
mod publisher;
mod query;
mod recorder;
mod user_changes;

pub(crate) use expiry::NodeExpiry;
pub(crate) use heartbeat::Heartbeat;
pub(crate) use publisher::{LIMIT_ROWS as PUBLICATION_LIMITS, PresencePublisher};
pub(crate) use query::{
    LIMIT_ROWS as QUERY_LIMITS, PRESENCE_GET, PresenceAcknowledgement, PresenceQuery, PresenceRequest,
};
pub(crate) use recorder::PresenceRecorder;
pub(crate) use user_changes::UserChanges;
