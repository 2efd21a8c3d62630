//! A socket's life: token, rooms, `connection:ready`, goodbye.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use domain::{Timestamp, UserId};
use serde_json::{Value, json};
use service::auth::AuthError;
use socketioxide::SocketIo;
use socketioxide::extract::{AckSender, SocketRef, State, TryData};
use socketioxide::handler::ConnectHandler;
use socketioxide::socket::DisconnectReason;
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::seats::Seat;
use crate::{Shared, presence, redirect};

/// How long a socket may take to get into its rooms before it is sent away to try again. Mostly it waits for its turn:
/// when thousands come at once, sending them away would only make them come again.
const JOIN_TIMEOUT: Duration = Duration::from_secs(20);
/// The pause between two tries.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// How many questions about presence one socket may have open.
const QUESTIONS: usize = 4;

/// Lets sockets in.
pub(crate) fn serve(io: &SocketIo) {
    io.ns("/", connected.with(authenticate));
}

/// Now, as the core writes it.
pub(crate) fn now() -> Timestamp {
    let now = Timestamp::from_date_time(OffsetDateTime::from(SystemTime::now()));
    // No clock is beyond the year 9999.
    now.or_else(|_| Timestamp::from_millis(0)).unwrap_or_else(|_| unreachable!("1970 is a year"))
}

/// Why a socket isn't let in: the message of the client's `connect_error`.
enum Refused {
    Auth(AuthError),
    /// The user has as many as one may have.
    TooManySockets,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auth(error) => error.code(),
            Self::TooManySockets => "too_many_sockets",
        })
    }
}

/// What is known of a socket that was let in.
struct Session {
    /// The socket's own id is its connection's: one that leaves and comes back over it has the same.
    id: Uuid,
    user: UserId,
    expires_at: Timestamp,
    /// Cancelled when the socket has gone.
    gone: CancellationToken,
    questions: Semaphore,
    /// Its place among its user's sockets, until it has gone.
    seat: Mutex<Option<Seat>>,
}

async fn authenticate(
    socket: SocketRef,
    TryData(handshake): TryData<Value>,
    State(shared): State<Arc<Shared>>,
) -> Result<(), Refused> {
    let handshake = handshake.unwrap_or_default();
    let token = handshake["token"].as_str().ok_or(Refused::Auth(AuthError::Missing))?;
    let claims = shared.auth.authenticate(token).map_err(Refused::Auth)?;
    let Some(seat) = shared.seats.take(&claims.user) else {
        metrics::counter!("realtime_turned_away_total", "reason" => "sockets").increment(1);
        return Err(Refused::TooManySockets);
    };
    let session = Arc::new(Session {
        id: Uuid::new_v4(),
        user: claims.user,
        expires_at: claims.expires_at,
        gone: CancellationToken::new(),
        questions: Semaphore::new(QUESTIONS),
        seat: Mutex::new(Some(seat)),
    });
    socket.extensions.insert(session.clone());
    // Before the client hears that it is connected: what it then emits finds its handler, and its end is noticed.
    on_events(&socket, &session);
    shared.transports.let_in(&socket);
    Ok(())
}

async fn connected(socket: SocketRef, State(shared): State<Arc<Shared>>) {
    // `authenticate` put it there.
    let Some(session) = socket.extensions.get::<Arc<Session>>() else { return };
    let life = shared.shutdown.run_until_cancelled(live(&shared, &socket, &session));
    let _ = shared.tasks.track_future(life).await;
    // Also noticed by its handler, but not when the socket ended before it had entered.
    depart(&shared, &session);
}

/// From the entry to the end.
async fn live(shared: &Shared, socket: &SocketRef, session: &Session) {
    let user = &session.user;
    // From here on the user joins conversations as they are created, so that none falls between.
    let complete = shared.rooms.enter(user, session.id, socket);
    if !complete {
        let joining = tokio::time::timeout(JOIN_TIMEOUT, join(shared, session));
        let Some(joined) = session.gone.run_until_cancelled(joining).await else { return };
        if joined.is_err() {
            tracing::warn!(%user, "a socket could not join its rooms in time and is sent away");
            shared.transports.close(socket);
            return session.gone.cancelled().await;
        }
    }
    shared.presence.arrived(user);
    // Taken now: everything from here on is delivered, for the rooms are joined.
    let position = shared.tokens.issue(user, &shared.processed());
    if !shared.send(socket, "connection:ready", &(json!({"userId": user, "position": position}),)) {
        return;
    }
    let left = session.expires_at.as_millis().saturating_sub(now().as_millis());
    let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
    tokio::select! {
        () = tokio::time::sleep(left) => {
            // Not just the connection: it would come back with the same token. But rather that than stay.
            if socket.clone().disconnect().is_err() {
                shared.transports.close(socket);
            }
        }
        () = session.gone.cancelled() => {}
    }
}

/// Puts a user into the rooms of all conversations that existed when this was called.
async fn join(shared: &Shared, session: &Session) {
    let user = &session.user;
    let _joining = Joining::enter();
    let at_least = shared.processed();
    let memberships = loop {
        // Acquired anew for each try, so that those who wait for a slow answer let others by.
        let permit = shared.joining.acquire().await;
        match shared.memberships.of(user, &at_least).await {
            Ok(memberships) => break memberships,
            Err(error) => tracing::info!(%user, error, "memberships are out of reach; trying again"),
        }
        drop(permit);
        tokio::time::sleep(RETRY_AFTER).await;
    };
    shared.rooms.join_all(user, session.id, &memberships);
}

/// A socket that waits to be let into its rooms.
struct Joining;

impl Joining {
    fn enter() -> Self {
        metrics::gauge!("realtime_sockets_joining").increment(1);
        Self
    }
}

impl Drop for Joining {
    fn drop(&mut self) {
        metrics::gauge!("realtime_sockets_joining").decrement(1);
    }
}

/// Takes a socket out; a second time does nothing.
fn depart(shared: &Shared, session: &Session) {
    if shared.rooms.leave(&session.user, session.id) {
        shared.presence.left(&session.user, now());
    }
    session.seat.lock().unwrap_or_else(PoisonError::into_inner).take();
}

fn on_events(socket: &SocketRef, session: &Arc<Session>) {
    let ended = session.clone();
    socket.on_disconnect(
        async move |socket: SocketRef, State(shared): State<Arc<Shared>>, reason: DisconnectReason| {
            ended.gone.cancel();
            depart(&shared, &ended);
            // Otherwise its connection has ended. Not waited for here: until this is done the socket isn't really gone.
            if matches!(reason, DisconnectReason::ClientNSDisconnect | DisconnectReason::ServerNSDisconnect) {
                let staying = shared.clone();
                shared.tasks.spawn(async move {
                    staying.shutdown.run_until_cancelled(staying.transports.left(socket)).await;
                });
            }
        },
    );
    for operation in redirect::OPERATIONS {
        socket.on(
            operation.event,
            async move |socket: SocketRef, State(shared): State<Arc<Shared>>, TryData(body): TryData<Value>| {
                let answer = operation.redirect(&body.unwrap_or_default());
                shared.send(&socket, "message:redirect_to_api", &(answer,));
            },
        );
    }
    let asking = session.clone();
    socket.on(
        "presence:get",
        async move |State(shared): State<Arc<Shared>>, TryData(asked): TryData<Value>, ack: AckSender| {
            let answer = match asking.questions.try_acquire() {
                Ok(_permit) => presence::get(&shared, &asking.user, &asked.unwrap_or_default()).await,
                Err(_) => presence::error("too_many_questions", "wait for the answers to those before"),
            };
            let _ = ack.send(&answer);
        },
    );
}
