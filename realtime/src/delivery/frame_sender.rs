//! Sends frames to sockets. If a socket misses a frame that its client needs, the node closes its connection, and the
//! client reconnects and syncs.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use socketioxide::extract::SocketRef;
use socketioxide::{SendError, SocketError};

use super::events::{Audience, Frame};
use crate::rooms::{EventRef, FrameSequence, Rooms};
use crate::transport::Connections;

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
    pub(super) fn deliver(&self, event: EventRef, frame: &Frame) {
        let Frame { name, payload, audience } = frame;
        match audience {
            Audience::Room => {
                if let Some(room) = self.rooms.next_frame(event) {
                    self.send_to_all(&room.sockets, name, payload, Some(&room.sequence));
                }
            }
            Audience::RoomExcept(user) => {
                self.send_to_all(&self.rooms.room_except(event.conversation, user), name, payload, None);
            }
            Audience::Member(user) => {
                self.send_to_all(&self.rooms.member(event.conversation, user), name, payload, None);
            }
        }
    }

    /// Sends one frame to many sockets, and serializes its payload once.
    pub(crate) fn send_to_all(
        &self,
        sockets: &[SocketRef],
        name: &'static str,
        payload: &Value,
        sequence: Option<&FrameSequence>,
    ) {
        if sockets.is_empty() {
            return;
        }
        // Serialization can't fail: all keys are texts, all values plain.
        let Ok(payload) = to_raw_value(payload) else { return };
        let sequence: Option<Box<RawValue>> = sequence.and_then(|it| to_raw_value(it).ok());
        let sent = sockets.iter().filter(|socket| match &sequence {
            Some(sequence) => self.send(socket, name, &(&payload, sequence)),
            None => self.send(socket, name, &(&payload,)),
        });
        metrics::counter!("realtime_frames_total", "event" => name).increment(sent.count() as u64);
    }

    /// Sends a frame to one socket; `arguments` is a tuple. Returns whether the socket's buffer took it.
    pub(crate) fn send(&self, socket: &SocketRef, name: &'static str, arguments: &impl Serialize) -> bool {
        match socket.emit(name, arguments) {
            Ok(()) => true,
            Err(SendError::Socket(SocketError::InternalChannelFull)) => {
                metrics::counter!("realtime_dropped_total").increment(1);
                if !is_ephemeral(name) && self.connections.close(socket) {
                    metrics::counter!("realtime_slow_sockets_total").increment(1);
                    tracing::info!(
                        socket = %socket.id,
                        name,
                        "a slow socket missed a frame; closing it to make its client reconnect and sync"
                    );
                }
                false
            }
            // The socket is about to end.
            Err(SendError::Socket(SocketError::Closed)) => false,
            Err(error) => {
                tracing::error!(%error, name, "serializing a frame failed; the socket doesn't get it");
                false
            }
        }
    }
}

/// Whether a client may miss a frame: typing and presence end or change by themselves.
fn is_ephemeral(name: &str) -> bool {
    matches!(name, "typing:start" | "typing:stop" | "presence:update")
}
