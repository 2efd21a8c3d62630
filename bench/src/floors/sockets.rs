//! axum and socketioxide alone: a socket's token is checked, and the socket joins the room that it names.

use std::time::Duration;

use axum::Router;
use serde_json::{Value, json};
use service::auth::Auth;
use socketioxide::SocketIo;
use socketioxide::extract::{SocketRef, TryData};
use socketioxide::layer::SocketIoLayer;

// The settings of Messages.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// How many frames may wait for a socket. Larger than that of Messages, because a room drops what doesn't fit, and the
/// generator waits for every frame.
const SOCKET_BUFFER: usize = 4_096;

/// Socket.IO as a layer of a router, and the handle that sends to rooms.
pub(super) fn layer(auth: Auth) -> (SocketIoLayer, SocketIo) {
    let (layer, io) = SocketIo::builder()
        .ping_interval(PING_INTERVAL)
        .ping_timeout(PING_TIMEOUT)
        .max_buffer_size(SOCKET_BUFFER)
        .build_layer();
    io.ns("/", async move |socket: SocketRef, TryData(handshake): TryData<Value>| {
        let handshake = handshake.unwrap_or_default();
        let claims = handshake["token"].as_str().and_then(|token| auth.authenticate(token).ok());
        let (Some(claims), Some(room)) = (claims, handshake["room"].as_str()) else {
            return drop(socket.disconnect());
        };
        socket.join(room.to_owned());
        let _ = socket.emit("connection:ready", &json!({"userId": claims.user}));
    });
    (layer, io)
}

/// The floor of sockets.
pub(super) fn router(auth: Auth) -> Router {
    let (layer, _) = layer(auth);
    Router::new().layer(layer)
}
