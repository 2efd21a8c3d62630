//! How many packets a client may send over a connection.

use std::time::Duration;

use axum::body::Body;
use futures_util::StreamExt;
use tokio::time::Instant;

/// How soon after one packet the next may come in the long run: 50 a second.
const EVERY: Duration = Duration::from_millis(20);
/// How many may come at once, as when a client that was away sends what it kept.
const BURST: u32 = 200;
/// What separates packets in the body of a polling request (Engine.IO 4).
const SEPARATOR: u8 = 0x1e;

/// How fast the packets of one connection come. Pings and their answers count, too: a client sends one every few seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// When all packets that came would have come, had they been [`EVERY`] apart.
    due: Instant,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self { due: Instant::now() }
    }

    /// Counts packets that came now; false when that is too many.
    pub(crate) fn count(&mut self, packets: u32) -> bool {
        let now = Instant::now();
        // Beyond the burst more or less makes no difference.
        self.due = self.due.max(now) + EVERY * packets.min(2 * BURST);
        self.due <= now + EVERY * BURST
    }
}

/// Tells the frames of a WebSocket apart in the bytes that a client sends.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// What has come of a frame's header; at most 14 bytes (RFC 6455, 5.2).
    header: Vec<u8>,
    /// How much of a frame's payload has yet to come.
    payload: u64,
}

impl Frames {
    /// How many frames begin in these bytes; a header that isn't complete counts once it is.
    pub(crate) fn begun(&mut self, mut bytes: &[u8]) -> u32 {
        let mut begun = 0;
        while !bytes.is_empty() {
            if self.payload > 0 {
                let passed = usize::try_from(self.payload).unwrap_or(usize::MAX).min(bytes.len());
                self.payload -= passed as u64;
                bytes = &bytes[passed..];
                continue;
            }
            self.header.push(bytes[0]);
            bytes = &bytes[1..];
            if let Some(payload) = payload(&self.header) {
                self.payload = payload;
                self.header.clear();
                begun += 1;
            }
        }
        begun
    }
}

/// The length that a frame's header gives its payload, once the header is complete.
fn payload(header: &[u8]) -> Option<u64> {
    let second = *header.get(1)?;
    let extended = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    if header.len() < 2 + extended + mask {
        return None;
    }
    let length = header[2..2 + extended].iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
    Some(if extended == 0 { u64::from(second & 0x7f) } else { length })
}

/// More packets than a client may send.
#[derive(Debug, thiserror::Error)]
#[error("too many packets")]
struct TooMany;

/// The body of a polling request. It fails where `count` says that its packets are too many: those aren't looked at.
pub(crate) fn counted(body: Body, mut count: impl FnMut(u32) -> bool + Send + 'static) -> Body {
    // The first packet has no separator before it.
    let mut first = 1;
    Body::from_stream(body.into_data_stream().map(move |bytes| {
        let bytes = bytes?;
        let separators = bytes.iter().filter(|byte| **byte == SEPARATOR).count();
        let packets = u32::try_from(separators).unwrap_or(u32::MAX).saturating_add(std::mem::take(&mut first));
        if count(packets) { Ok(bytes) } else { Err(axum::Error::new(TooMany)) }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_taken_and_then_fifty_a_second() {
        let mut pace = Pace::new();
        assert!((0..BURST).all(|_| pace.count(1)));
        assert!(!pace.count(1), "one too many");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(pace.count(BURST), "who was quiet may send as much again, and no more");
        for _ in 0..1_000 {
            tokio::time::advance(EVERY).await;
            assert!(pace.count(1), "as fast as that, for as long as you like");
        }
        assert!(!pace.count(u32::MAX));
    }

    #[test]
    fn frames_are_told_apart_however_their_bytes_come() {
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
        assert_eq!(Frames::default().begun(&bytes), 6);
        for size in [1, 2, 3, 7, 1_000] {
            let mut frames = Frames::default();
            assert_eq!(bytes.chunks(size).map(|part| frames.begun(part)).sum::<u32>(), 6, "by {size}");
        }
    }
}
