//! Sends frames to sockets. If a socket misses a frame that its client needs, the node closes its connection, and the
//! client reconnects and syncs.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use socketioxide::extract::SocketRef;
use socketioxide::{SendError, SocketError};
use tokio::time::Instant;

use super::events::Frame;
use super::recipients::{Delivery, delivery_of};
use crate::rooms::{EventRef, FrameSequence, Rooms};
use crate::transport::Connections;

/// How long a frame of the tail waits for room in a socket's buffer.
const FULL_BUFFER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it looks for room.
const FULL_BUFFER_POLL: Duration = Duration::from_millis(10);

/// What became of a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Emitted {
    /// It is in the socket's buffer.
    Buffered,
    /// The socket's buffer is full.
    NoRoom,
    /// The socket is about to end, or the frame can't be serialized.
    Impossible,
}

/// Sends frames to the sockets of this node.
#[derive(Clone)]
pub(crate) struct FrameSender {
    rooms: Arc<Rooms>,
    connections: Connections,
}

impl FrameSender {
    /// Sends to the sockets in these rooms, and closes these connections.
    pub(crate) fn new(rooms: Arc<Rooms>, connections: Connections) -> Self {
        Self { rooms, connections }
    }

    /// Sends a frame of an event to its audience.
    pub(super) fn deliver(&self, event: EventRef, frame: Frame) {
        if let Some(delivery) = delivery_of(&self.rooms, event, frame) {
            self.send_delivery(&delivery);
        }
    }

    /// Sends a frame to its recipients.
    pub(super) fn send_delivery(&self, delivery: &Delivery<SocketRef>) {
        let Delivery { frame: Frame { name, payload, .. }, sockets, sequence } = delivery;
        self.send_to_all(sockets, name, payload, sequence.as_ref());
    }

    /// Sends one frame to many sockets.
    pub(crate) fn send_to_all(
        &self,
        sockets: &[SocketRef],
        name: &'static str,
        payload: &RawValue,
        sequence: Option<&FrameSequence>,
    ) {
        if sockets.is_empty() {
            return;
        }
        let sequence: Option<Box<RawValue>> = sequence.and_then(|it| to_raw_value(it).ok());
        let sent = sockets.iter().filter(|socket| match &sequence {
            Some(sequence) => self.send(socket, name, &(payload, sequence)),
            None => self.send(socket, name, &(payload,)),
        });
        metrics::counter!("realtime_frames_total", "event" => name).increment(sent.count() as u64);
    }

    /// Sends a frame to one socket; `arguments` is a tuple. Returns whether the socket's buffer took it.
    pub(crate) fn send(&self, socket: &SocketRef, name: &'static str, arguments: &impl Serialize) -> bool {
        match emit(socket, name, arguments) {
            Emitted::Buffered => true,
            Emitted::NoRoom => {
                self.drop_frame(socket, name);
                false
            }
            Emitted::Impossible => false,
        }
    }

    /// Sends a frame to one socket, and waits while the socket's buffer is full, at most [`FULL_BUFFER_TIMEOUT`].
    /// Returns whether the buffer took it.
    pub(super) async fn send_patiently(
        &self,
        socket: &SocketRef,
        name: &'static str,
        arguments: &impl Serialize,
    ) -> bool {
        let deadline = Instant::now() + FULL_BUFFER_TIMEOUT;
        loop {
            match emit(socket, name, arguments) {
                Emitted::Buffered => {
                    metrics::counter!("realtime_frames_total", "event" => name).increment(1);
                    return true;
                }
                Emitted::NoRoom if Instant::now() < deadline => tokio::time::sleep(FULL_BUFFER_POLL).await,
                Emitted::NoRoom => {
                    self.drop_frame(socket, name);
                    return false;
                }
                Emitted::Impossible => return false,
            }
        }
    }

    /// Drops a frame that a socket's buffer has no room for, and closes the socket's connection if its client needs it.
    fn drop_frame(&self, socket: &SocketRef, name: &'static str) {
        metrics::counter!("realtime_dropped_total").increment(1);
        if !is_ephemeral(name) && self.close(socket) {
            metrics::counter!("realtime_slow_sockets_total").increment(1);
            tracing::info!(
                socket = %socket.id,
                name,
                "a slow socket missed a frame; closing it to make its client reconnect and sync"
            );
        }
    }

    /// Closes a socket's connection in a way that makes its client reconnect. Returns false if it is closing already.
    pub(super) fn close(&self, socket: &SocketRef) -> bool {
        self.connections.close(socket)
    }
}

fn emit(socket: &SocketRef, name: &'static str, arguments: &impl Serialize) -> Emitted {
    match socket.emit(name, arguments) {
        Ok(()) => Emitted::Buffered,
        Err(SendError::Socket(SocketError::InternalChannelFull)) => Emitted::NoRoom,
        Err(SendError::Socket(SocketError::Closed)) => Emitted::Impossible,
        Err(error) => {
            tracing::error!(%error, name, "serializing a frame failed; the socket doesn't get it");
            Emitted::Impossible
        }
    }
}

/// Whether a client may miss a frame: typing and presence end or change by themselves.
fn is_ephemeral(name: &str) -> bool {
    matches!(name, "typing:start" | "typing:stop" | "presence:update")
}
