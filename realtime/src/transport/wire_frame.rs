//! Encoded frames: a frame is encoded once, and all sockets that get it share its bytes.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use super::counted_bytes::{CountedBytes, QueueTotals};

/// The first byte of a WebSocket message that consists of one text frame (RFC 6455, 5.2).
const WHOLE_TEXT: u8 = 0x81;
/// Begins the text of an event (Engine.IO `message`, Socket.IO `EVENT`).
const EVENT: &str = "42";
/// Begins the text of an acknowledgement.
const ACKNOWLEDGEMENT: &str = "43";

/// A frame as bytes of a WebSocket. It counts against the node's total until the last socket has it.
pub(crate) struct WireFrame {
    /// The event's name, or `ack`; none if the library wrote the frame.
    event: Option<&'static str>,
    bytes: Box<[u8]>,
    /// Where the text begins, after the WebSocket's header.
    text: usize,
    #[expect(dead_code, reason = "counts until it is dropped")]
    counted: CountedBytes,
}

impl WireFrame {
    /// Encodes an event; `arguments` is a tuple.
    ///
    /// # Errors
    /// When the arguments can't be serialized.
    pub(super) fn event(
        name: &'static str,
        arguments: &impl Serialize,
        totals: &Arc<QueueTotals>,
    ) -> Result<Arc<Self>, serde_json::Error> {
        let arguments = serde_json::to_string(arguments)?;
        // A tuple is an array, whose brackets enclose the name, too.
        let rest = arguments.get(1..).unwrap_or_default();
        Ok(Self::text(name, &[EVENT, "[\"", name, "\",", rest], totals))
    }

    /// Encodes the acknowledgement of the event to which the client gave this id.
    pub(super) fn acknowledgement(id: i64, value: &RawValue, totals: &Arc<QueueTotals>) -> Arc<Self> {
        Self::text("ack", &[ACKNOWLEDGEMENT, &id.to_string(), "[", value.get(), "]"], totals)
    }

    fn text(event: &'static str, parts: &[&str], totals: &Arc<QueueTotals>) -> Arc<Self> {
        let header = text_header(parts.iter().map(|part| part.len()).sum());
        let text = header.len();
        let bytes = [header, parts.concat().into_bytes()].concat();
        Self::counted(Some(event), bytes, text, totals)
    }

    /// What the library writes to a WebSocket.
    pub(super) fn of_library(bytes: &[u8], totals: &Arc<QueueTotals>) -> Arc<Self> {
        Self::counted(None, bytes.to_vec(), 0, totals)
    }

    fn counted(event: Option<&'static str>, bytes: Vec<u8>, text: usize, totals: &Arc<QueueTotals>) -> Arc<Self> {
        let counted = CountedBytes::new(bytes.len(), totals);
        Arc::new(Self { event, bytes: bytes.into(), text, counted })
    }

    /// Whether the library wrote the frame.
    pub(super) fn is_of_library(&self) -> bool {
        self.event.is_none()
    }

    /// The event's name and arguments, to send them without a WebSocket; none for a frame of the library.
    pub(super) fn to_event(&self) -> Option<(&'static str, Vec<&RawValue>)> {
        let elements = self.bytes.get(self.text + EVENT.len()..)?;
        let mut arguments: Vec<&RawValue> = serde_json::from_slice(elements).ok()?;
        arguments.remove(0);
        Some((self.event?, arguments))
    }

    /// The number of bytes.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

impl AsRef<[u8]> for WireFrame {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The header of a text frame from a server, which masks nothing.
fn text_header(length: usize) -> Vec<u8> {
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ ..126), _) => vec![WHOLE_TEXT, short],
        (_, Ok(medium)) => [&[WHOLE_TEXT, 126][..], &medium.to_be_bytes()].concat(),
        _ => [&[WHOLE_TEXT, 127][..], &(length as u64).to_be_bytes()].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::websocket_frames::{ServerFrame, server_frames};
    use super::*;

    #[test]
    fn an_event_of_any_length_is_one_text_frame() {
        for length in [0, 90, 125, 126, 200, 1 << 16, 100_000] {
            let text = "x".repeat(length);
            let frame = WireFrame::event("message:new", &(&text, 7), &Arc::default()).unwrap();
            let expected = format!("42[\"message:new\",\"{text}\",7]");
            let frames = server_frames(frame.as_ref().as_ref()).unwrap();
            assert_eq!(frames, [ServerFrame { opcode: 1, payload: expected.as_bytes() }]);
            let (name, arguments) = frame.to_event().unwrap();
            assert_eq!((name, arguments[1].get(), arguments.len()), ("message:new", "7", 2));
        }
    }
}
