//! The events that a socket may emit, and its end.

use std::future::ready;
use std::sync::Arc;

use serde_json::Value;
use socketioxide::extract::{SocketRef, State, TryData};
use socketioxide::socket::DisconnectReason;

use super::context::{Session, SessionContext};
use super::unsupported_operations::OPERATIONS;
use crate::presence::{PRESENCE_GET, PresenceAcknowledgement};
use crate::server_events::MESSAGE_REDIRECT;
use crate::transport::AckRequest;

/// Registers the handlers of an authenticated socket.
pub(super) fn register(socket: &SocketRef, session: &Arc<Session>) {
    on_disconnect(socket, session.clone());
    on_operations(socket);
    on_presence_get(socket, session.clone());
}

fn on_disconnect(socket: &SocketRef, session: Arc<Session>) {
    socket.on_disconnect(
        async move |socket: SocketRef, State(context): State<Arc<SessionContext>>, reason: DisconnectReason| {
            session.ended.cancel();
            session.leave(&context);
            context.connections.discard_frames(&socket);
            // For every other reason the connection has ended, too. A task waits, not this handler: the library removes
            // the socket only after the handler has returned.
            if matches!(reason, DisconnectReason::ClientNSDisconnect | DisconnectReason::ServerNSDisconnect) {
                let task = context.clone();
                context.tasks.spawn(async move {
                    task.shutdown.run_until_cancelled(task.connections.close_if_unused(socket)).await;
                });
            }
        },
    );
}

/// The frame is sent before the handler returns its future: the library spawns a task for each future, and a frame that such
/// a task sends could follow the response to a later event.
fn on_operations(socket: &SocketRef) {
    for operation in OPERATIONS {
        socket.on(
            operation.event,
            move |socket: SocketRef, State(context): State<Arc<SessionContext>>, TryData(payload): TryData<Value>| {
                let redirect = operation.redirect(&payload.unwrap_or_default());
                context.frames.send(&socket, &MESSAGE_REDIRECT, &redirect);
                ready(())
            },
        );
    }
}

fn on_presence_get(socket: &SocketRef, session: Arc<Session>) {
    socket.on(
        PRESENCE_GET,
        async move |socket: SocketRef,
                    State(context): State<Arc<SessionContext>>,
                    TryData(payload): TryData<Value>,
                    ack: AckRequest| {
            let response = match session.queries.begin() {
                Some(_permit) => context.presence.respond(&session.user, &payload.unwrap_or_default()).await,
                None => PresenceAcknowledgement::error("too_many_questions", "wait until earlier queries are answered"),
            };
            context.frames.acknowledge(&socket, ack, &response);
        },
    );
}
