//! Frames on their way to sockets. Whoever misses one that lasts is sent away, to come back and sync.

use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use socketioxide::extract::SocketRef;
use socketioxide::{SendError, SocketError};

use crate::Shared;
use crate::deliver::{Audience, Delivery};
use crate::rooms::{Origin, Sequence};

impl Shared {
    /// Sends a frame to its audience.
    pub(crate) fn deliver(&self, origin: Origin, delivery: &Delivery) {
        let Delivery { name, payload, audience } = delivery;
        match audience {
            Audience::Room => {
                if let Some((sockets, sequence)) = self.rooms.whole(origin) {
                    self.send_all(&sockets, name, payload, Some(&sequence));
                }
            }
            Audience::Others(but) => self.send_all(&self.rooms.others(origin.conversation, but), name, payload, None),
            Audience::Member(user) => self.send_all(&self.rooms.member(origin.conversation, user), name, payload, None),
        }
    }

    /// Sends one frame to many sockets, its payload written out once.
    pub(crate) fn send_all(
        &self,
        sockets: &[SocketRef],
        name: &'static str,
        payload: &Value,
        sequence: Option<&Sequence>,
    ) {
        if sockets.is_empty() {
            return;
        }
        // Text keys and plain values only: it can't fail.
        let Ok(payload) = to_raw_value(payload) else { return };
        let sequence: Option<Box<RawValue>> = sequence.and_then(|it| to_raw_value(it).ok());
        let sent = sockets.iter().filter(|socket| match &sequence {
            Some(sequence) => self.send(socket, name, &(&payload, sequence)),
            None => self.send(socket, name, &(&payload,)),
        });
        metrics::counter!("realtime_frames_total", "event" => name).increment(sent.count() as u64);
    }

    /// Sends a frame to one socket; `arguments` is a tuple. False when the socket doesn't get it.
    pub(crate) fn send(&self, socket: &SocketRef, name: &'static str, arguments: &impl Serialize) -> bool {
        match socket.emit(name, arguments) {
            Ok(()) => true,
            Err(SendError::Socket(SocketError::InternalChannelFull)) => {
                metrics::counter!("realtime_dropped_total").increment(1);
                if lasts(name) && self.transports.close(socket) {
                    metrics::counter!("realtime_slow_sockets_total").increment(1);
                    tracing::info!(socket = %socket.id, name, "too slow: it is closed, so that it comes back and syncs");
                }
                false
            }
            // It is going already.
            Err(SendError::Socket(SocketError::Closed)) => false,
            Err(error) => {
                tracing::error!(%error, name, "a frame could not be written");
                false
            }
        }
    }
}

/// Who misses typing or presence misses nothing that lasts.
fn lasts(name: &str) -> bool {
    !matches!(name, "typing:start" | "typing:stop" | "presence:update")
}
