//! Sends frames to sockets. If a socket misses a frame that its client needs, the node closes its connection, and the
//! client reconnects and syncs.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use socketioxide::extract::SocketRef;
use tokio::time::Instant;

use super::events::Frame;
use super::recipients::{Delivery, delivery_of};
use crate::rooms::{EventRef, FrameSequence, Rooms};
use crate::server_events::{PRESENCE_UPDATE, ServerEvent, TYPING_START, TYPING_STOP, encode_payload};
use crate::transport::{AckRequest, Connections, Sent, Urgency, WireFrame};

/// How long a frame of the tail waits for room in a socket's queue.
const FULL_QUEUE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it looks for room.
const FULL_QUEUE_POLL: Duration = Duration::from_millis(10);

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
        let frame = match sequence {
            Some(sequence) => self.encode(name, &(payload, sequence)),
            None => self.encode(name, &(payload,)),
        };
        let Some(frame) = frame else { return };
        let sent = sockets.iter().filter(|socket| self.send_frame(socket, name, &frame));
        metrics::counter!("realtime_frames_total", "event" => name).increment(sent.count() as u64);
        self.connections.make_room();
    }

    /// Sends an event to one socket. Returns whether the socket's queue took it.
    pub(crate) fn send<P: Serialize>(&self, socket: &SocketRef, event: &ServerEvent<P>, payload: &P) -> bool {
        let frame = self.encode(event.name, &(payload,));
        let sent = frame.is_some_and(|frame| self.send_frame(socket, event.name, &frame));
        self.connections.make_room();
        sent
    }

    fn send_frame(&self, socket: &SocketRef, name: &'static str, frame: &Arc<WireFrame>) -> bool {
        let sent = self.connections.send(socket, frame, Urgency::Live);
        if sent == Sent::NoRoom {
            self.drop_frame(socket, name);
        }
        sent == Sent::Queued
    }

    /// Acknowledges a client's event.
    pub(crate) fn acknowledge(&self, socket: &SocketRef, request: AckRequest, response: &impl Serialize) {
        if self.connections.acknowledge(socket, request, &encode_payload(response)) == Sent::NoRoom {
            self.drop_frame(socket, "ack");
        }
        self.connections.make_room();
    }

    fn encode(&self, name: &'static str, arguments: &impl Serialize) -> Option<Arc<WireFrame>> {
        let encoded = self.connections.encode(name, arguments);
        if let Err(error) = &encoded {
            tracing::error!(%error, name, "serializing a frame failed; its sockets don't get it");
        }
        encoded.ok()
    }

    /// Sends a frame of the tail to one socket, and waits while the socket's queue is full, at most
    /// [`FULL_QUEUE_TIMEOUT`]. Returns whether the queue took it.
    pub(super) async fn send_patiently(
        &self,
        socket: &SocketRef,
        name: &'static str,
        arguments: &impl Serialize,
    ) -> bool {
        let Some(frame) = self.encode(name, arguments) else { return false };
        let deadline = Instant::now() + FULL_QUEUE_TIMEOUT;
        loop {
            self.connections.make_room();
            match self.connections.send(socket, &frame, Urgency::Tail) {
                Sent::Queued => {
                    metrics::counter!("realtime_frames_total", "event" => name).increment(1);
                    return true;
                }
                Sent::NoRoom if Instant::now() < deadline => tokio::time::sleep(FULL_QUEUE_POLL).await,
                Sent::NoRoom => {
                    self.drop_frame(socket, name);
                    return false;
                }
                Sent::Ended => return false,
            }
        }
    }

    /// Drops a frame for which a socket's queue has no room, and closes the socket's connection if its client needs it.
    fn drop_frame(&self, socket: &SocketRef, name: &'static str) {
        metrics::counter!("realtime_dropped_total").increment(1);
        if !is_ephemeral(name) && self.close(socket) {
            metrics::counter!("realtime_slow_sockets_total", "reason" => "socket").increment(1);
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

/// Whether a client may miss a frame: typing and presence end or change by themselves.
fn is_ephemeral(name: &str) -> bool {
    [TYPING_START.name, TYPING_STOP.name, PRESENCE_UPDATE.name].contains(&name)
}
