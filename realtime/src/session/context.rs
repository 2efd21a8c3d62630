//! What the handlers of all sockets share, and what belongs to one socket.

use std::sync::{Arc, Mutex, PoisonError};

use domain::{Timestamp, UserId};
use service::auth::Auth;
use service::token::PositionTokens;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::query_limit::QueryLimit;
use super::socket_limit::{SocketLimit, SocketPermit};
use crate::delivery::{FrameSender, RelayTail, TailDelivery};
use crate::presence::{PresenceQuery, UserChanges};
use crate::rooms::{MembershipLookup, Rooms};
use crate::transport::Connections;

/// How many sockets may look memberships up at once.
pub(crate) const CONCURRENT_JOINS: usize = 64;

domain::limit_rows! {
    Sockets, "sockets that look their rooms up at once, on a node", Count CONCURRENT_JOINS, "the others wait for their turn", "query-api and Redis";
}

/// What the handlers of all sockets share.
pub(crate) struct SessionContext {
    pub(crate) auth: Auth,
    pub(crate) tokens: PositionTokens,
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) memberships: Arc<MembershipLookup>,
    pub(crate) frames: FrameSender,
    pub(crate) connections: Connections,
    pub(crate) tail: Arc<RelayTail>,
    pub(crate) tail_delivery: TailDelivery,
    pub(crate) user_changes: Arc<UserChanges>,
    pub(crate) presence: PresenceQuery,
    pub(crate) socket_limit: SocketLimit,
    /// [`CONCURRENT_JOINS`] permits.
    pub(crate) joins: Semaphore,
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
}

/// An authenticated socket.
pub(super) struct Session {
    /// The socket's own id belongs to its connection: a socket that leaves and comes back over it has the same.
    pub(super) id: Uuid,
    pub(super) user: UserId,
    /// When the socket's token expires.
    pub(super) expires_at: Timestamp,
    /// Cancelled when the socket has ended.
    pub(super) ended: CancellationToken,
    /// The limit of the user's presence queries.
    pub(super) queries: Arc<QueryLimit>,
    /// Counts the socket against its user's limit, until the socket has ended.
    permit: Mutex<Option<SocketPermit>>,
}

impl Session {
    /// The session of a socket that has just authenticated.
    pub(super) fn new(user: UserId, expires_at: Timestamp, permit: SocketPermit) -> Arc<Self> {
        Arc::new(Self {
            id: Uuid::new_v4(),
            user,
            expires_at,
            ended: CancellationToken::new(),
            queries: permit.queries.clone(),
            permit: Mutex::new(Some(permit)),
        })
    }

    /// Takes the socket out of its user's sockets. A second call does nothing.
    pub(super) fn leave(&self, context: &SessionContext) {
        if context.rooms.leave(&self.user, self.id) {
            context.user_changes.user_left(&self.user);
        }
        self.permit.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
