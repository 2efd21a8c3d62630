//! Authenticates sockets, joins their users' rooms, and ends sockets whose token expires.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use service::auth::AuthError;
use service::clock;
use socketioxide::SocketIo;
use socketioxide::extract::{SocketRef, State, TryData};
use socketioxide::handler::ConnectHandler;

use super::context::{Session, SessionContext};
use super::socket_events;
use crate::delivery::TailReader;
use crate::rooms::UserMemberships;
use crate::server_events::{CONNECTION_READY, ConnectionReady};

/// How long a socket may take to join its rooms before the node closes it. Most of that time it waits for its turn:
/// when thousands come at once, closing their sockets would only make them come again.
const JOIN_TIMEOUT: Duration = Duration::from_secs(20);

domain::limit_rows! {
    Sockets, "wait of a socket for its rooms", Time JOIN_TIMEOUT, "the server closes the connection", "memory";
}
/// The pause before a failed look-up of memberships is repeated.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Registers the handlers of the namespace `/`.
pub(crate) fn register(io: &SocketIo) {
    io.ns("/", connected.with(authenticate));
}

/// Why the node refuses a socket. Its text is the message of the client's `connect_error`.
enum ConnectError {
    Auth(AuthError),
    /// The user has as many sockets as allowed.
    TooManySockets,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auth(error) => error.code(),
            Self::TooManySockets => "too_many_sockets",
        })
    }
}

async fn authenticate(
    socket: SocketRef,
    TryData(handshake): TryData<Value>,
    State(context): State<Arc<SessionContext>>,
) -> Result<(), ConnectError> {
    let handshake = handshake.unwrap_or_default();
    let claims = match &handshake["token"] {
        Value::String(token) => context.auth.authenticate(token),
        // Only a client without a token of its own relies on the cookie that the browser added.
        Value::Null => context.auth.authenticate_handshake(&socket.req_parts().headers),
        _ => Err(AuthError::Missing),
    }
    .map_err(ConnectError::Auth)?;
    let Some(permit) = context.socket_limit.acquire(&claims.user) else {
        metrics::counter!("realtime_turned_away_total", "reason" => "sockets").increment(1);
        return Err(ConnectError::TooManySockets);
    };
    let session = Session::new(claims.user, claims.expires_at, permit);
    socket.extensions.insert(session.clone());
    // Before the client learns that it is connected: the handlers are there for its first event, and for its end.
    socket_events::register(&socket, &session);
    context.connections.mark_authenticated(&socket);
    Ok(())
}

async fn connected(socket: SocketRef, State(context): State<Arc<SessionContext>>) {
    // `authenticate` has inserted it.
    let Some(session) = socket.extensions.get::<Arc<Session>>() else { return };
    let live = context.shutdown.run_until_cancelled(live(&context, &socket, &session));
    let _ = context.tasks.track_future(live).await;
    // The disconnect handler does the same, but it ran too early if the socket ended before it had entered.
    session.leave(&context);
}

/// A socket's life from its entry to its end.
async fn live(context: &SessionContext, socket: &SocketRef, session: &Session) {
    let user = &session.user;
    // Whoever is told of a later repair finds the socket in the rooms, and closes it.
    let repairs = context.memberships.last_repair();
    // From now on the user joins conversations as they are created, so no conversation falls between this and the join.
    let is_in_all_rooms = context.rooms.enter(user, session.id, socket);
    let join = tokio::time::timeout(JOIN_TIMEOUT, join(context, session, is_in_all_rooms));
    let Some(joined) = session.ended.run_until_cancelled(join).await else { return };
    let Ok(tail) = joined else {
        tracing::warn!(%user, "a socket did not join its rooms in time; closing it to make its client retry");
        context.connections.close(socket);
        return session.ended.cancelled().await;
    };
    context.user_changes.user_arrived(user);
    // The user is in all rooms, so the node delivers everything after these offsets.
    let position = context.tokens.issue(user, tail.start(), repairs);
    if !context.frames.send(socket, &CONNECTION_READY, &ConnectionReady { user_id: user, position }) {
        return;
    }
    let delivery = async {
        context.tail_delivery.deliver(tail, user, session.id, socket).await;
        session.ended.cancelled().await;
    };
    tokio::select! {
        () = tokio::time::sleep(clock::until(session.expires_at)) => {
            // A closed connection would make the client reconnect with the same token, so this only disconnects the
            // socket. If its buffer is full that fails, and closing the connection is better than to let the socket
            // stay.
            if socket.clone().disconnect().is_err() {
                context.connections.close(socket);
            }
        }
        () = delivery => {}
    }
}

/// Puts a user into the rooms of all conversations that the relay had passed when this was called. Returns the tail from
/// which the socket gets its frames until the relay delivers to it.
async fn join(context: &SessionContext, session: &Session, is_in_all_rooms: bool) -> TailReader {
    if is_in_all_rooms && let Some(tail) = context.tail.follow(session.id) {
        return tail;
    }
    let user = &session.user;
    let _waiting = JoiningGauge::increment();
    loop {
        // Each try takes a new permit, so a socket that waits for a slow look-up doesn't hold up the others.
        let permit = context.joins.acquire().await;
        // Read again for each try, because by then the projector may lag on a partition.
        let demand = context.tail.membership_demand();
        match context.memberships.memberships_of(user, &demand.at_least).await {
            Ok(UserMemberships { list, includes }) => {
                if let Some(followed) = context.tail.follow_after(session.id, &demand, &includes) {
                    let created = context.tail_delivery.created_with(user, &followed.creations).await;
                    context.rooms.join_all(user, session.id, &[list, created].concat());
                    return followed.reader;
                }
                tracing::info!(%user, "memberships were too old for the tail; looking them up again");
            }
            Err(error) => tracing::info!(%user, error, "looking up memberships failed; retrying"),
        }
        drop(permit);
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Counts a socket as joining until it is dropped.
struct JoiningGauge;

impl JoiningGauge {
    fn increment() -> Self {
        metrics::gauge!("realtime_sockets_joining").increment(1);
        Self
    }
}

impl Drop for JoiningGauge {
    fn drop(&mut self) {
        metrics::gauge!("realtime_sockets_joining").decrement(1);
    }
}
