//! Finds the frames of a WebSocket: in the bytes that a client sends, to count them for the rate limit, and in those that
//! the library sends. It never changes a byte.

/// Counts the WebSocket frames (RFC 6455, 5.2) in a byte stream.
#[derive(Debug, Default)]
pub(super) struct FrameCounter {
    /// The bytes of an incomplete header; at most 14.
    header: Vec<u8>,
    /// How many bytes of the current frame's payload have yet to arrive.
    payload_left: u64,
}

impl FrameCounter {
    /// The number of frames whose header ends in these bytes.
    pub(super) fn count(&mut self, mut bytes: &[u8]) -> u32 {
        let mut frames = 0;
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let skipped = usize::try_from(self.payload_left).unwrap_or(usize::MAX).min(bytes.len());
                self.payload_left -= skipped as u64;
                bytes = &bytes[skipped..];
                continue;
            }
            self.header.push(bytes[0]);
            bytes = &bytes[1..];
            if let Some(length) = payload_length(&self.header) {
                self.payload_left = length;
                self.header.clear();
                frames += 1;
            }
        }
        frames
    }
}

/// The opcode of the frame that closes a WebSocket.
pub(super) const CLOSE: u8 = 8;

/// A frame that a server sends.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ServerFrame<'a> {
    pub(super) opcode: u8,
    pub(super) payload: &'a [u8],
}

/// The frames in these bytes of a server; none if the last one is incomplete.
pub(super) fn server_frames(mut bytes: &[u8]) -> Option<Vec<ServerFrame<'_>>> {
    let mut frames = Vec::new();
    while let Some(first) = bytes.first() {
        let length = usize::try_from(payload_length(bytes)?).ok()?;
        let rest = bytes.get(2 + extended_bytes(*bytes.get(1)?)..)?;
        frames.push(ServerFrame { opcode: first & 0x0f, payload: rest.get(..length)? });
        bytes = &rest[length..];
    }
    Some(frames)
}

/// How many bytes of a header extend the length in its second byte.
fn extended_bytes(second: u8) -> usize {
    match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    }
}

/// The payload length in a frame's header, in bytes; none if the header is incomplete.
fn payload_length(header: &[u8]) -> Option<u64> {
    let second = *header.get(1)?;
    let extended = extended_bytes(second);
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    if header.len() < 2 + extended + mask {
        return None;
    }
    let length = header[2..2 + extended].iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
    Some(if extended == 0 { u64::from(second & 0x7f) } else { length })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_each_frame_wherever_the_bytes_are_split() {
        let frame = |length: &[u8], payload: usize| [&[0x81], length, &[0; 4], &vec![0xff; payload][..]].concat();
        let all = [
            frame(&[0x80], 0),
            frame(&[0x80 | 125], 125),
            frame(&[0x80 | 126, 1, 0], 256),
            frame(&[0x80 | 127, 0, 0, 0, 0, 0, 1, 0, 0], 1 << 16),
            vec![0x81, 3, 1, 2, 3],
            frame(&[0x80 | 1], 1),
        ];
        let bytes = all.concat();
        assert_eq!(FrameCounter::default().count(&bytes), 6);
        for size in [1, 2, 3, 7, 1_000] {
            let mut counter = FrameCounter::default();
            assert_eq!(bytes.chunks(size).map(|part| counter.count(part)).sum::<u32>(), 6, "chunks of {size} bytes");
        }
    }
}
