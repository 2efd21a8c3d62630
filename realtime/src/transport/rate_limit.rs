//! How many packets a client may send over one connection. A client that sends more loses the connection.

use std::time::Duration;

use axum::body::Body;
use futures_util::StreamExt;
use tokio::time::Instant;

/// The interval between two packets that a client may keep up permanently: 50 packets a second.
const PACKET_INTERVAL: Duration = Duration::from_millis(20);
/// How many packets may arrive at once, for example when a client that was offline sends what it kept.
const BURST: u32 = 200;
/// Separates the packets in the body of a polling request or its response (Engine.IO 4).
pub(super) const PACKET_SEPARATOR: u8 = 0x1e;

domain::limit_rows! {
    Sockets, "time between two packets of a client, in the long run", Time PACKET_INTERVAL, "the server closes the connection", "the node's other sockets";
    Sockets, "packets of a client at once", Count BURST, "the server closes the connection", "the node's other sockets";
}

/// The rate limit of one connection. It counts pings and their answers, too: a client sends one every few seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct RateLimit {
    /// When the last packet so far would have arrived if all packets were [`PACKET_INTERVAL`] apart.
    due: Instant,
}

impl RateLimit {
    /// A limit for a connection that has sent nothing yet.
    pub(super) fn new() -> Self {
        Self { due: Instant::now() }
    }

    /// Counts packets that arrive now. Returns false if they are too many.
    pub(super) fn admit(&mut self, packets: u32) -> bool {
        let now = Instant::now();
        // Everything beyond the burst has the same result. The bound keeps the multiplication small.
        self.due = self.due.max(now) + PACKET_INTERVAL * packets.min(2 * BURST);
        let admitted = self.due <= now + PACKET_INTERVAL * BURST;
        if !admitted {
            metrics::counter!("realtime_turned_away_total", "reason" => "packets").increment(1);
        }
        admitted
    }
}

/// A polling request has more packets than its client may send.
#[derive(Debug, thiserror::Error)]
#[error("too many packets")]
struct TooManyPackets;

/// The body of a polling request. It fails where `admit` refuses the packets, and the library doesn't read those.
pub(super) fn limit_packets(body: Body, mut admit: impl FnMut(u32) -> bool + Send + 'static) -> Body {
    // No separator precedes the first packet.
    let mut first = 1;
    Body::from_stream(body.into_data_stream().map(move |bytes| {
        let bytes = bytes?;
        let separators = bytes.iter().filter(|byte| **byte == PACKET_SEPARATOR).count();
        let packets = u32::try_from(separators).unwrap_or(u32::MAX).saturating_add(std::mem::take(&mut first));
        if admit(packets) { Ok(bytes) } else { Err(axum::Error::new(TooManyPackets)) }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn admits_a_burst_and_then_fifty_packets_a_second() {
        let mut limit = RateLimit::new();
        assert!((0..BURST).all(|_| limit.admit(1)));
        assert!(!limit.admit(1), "the burst is used up");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(limit.admit(BURST), "a quiet client may send a whole burst again, and no more");
        for _ in 0..1_000 {
            tokio::time::advance(PACKET_INTERVAL).await;
            assert!(limit.admit(1), "a client may keep this rate up permanently");
        }
        assert!(!limit.admit(u32::MAX));
    }
}
