//! What waits for one connection, bounded in bytes.
//!
//! The library copies each frame for each socket, and its WebSocket keeps the memory of the largest one. So frames go
//! around it: the queue holds references to shared bytes, and writes them itself, between the frames that the library
//! writes (acknowledgements, pings). The queue must never let a frame overtake a packet that the library got earlier:
//! a client gets no event before the packet that connects it.
//!
//! A polling connection has no stream. The library has its frames, and the queue only counts them.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use socketioxide::socket::Sid;
use tokio::io::AsyncWrite;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::counted_bytes::{CountedBytes, QueueTotals};
use super::websocket_frames::{CLOSE, ServerFrame, server_frames};
use super::wire_frame::WireFrame;

/// How many bytes may wait for a client that doesn't take what the node writes.
const BLOCKED_BYTES: usize = 256 << 10;
/// How many bytes may wait for a client that does: the node itself may be slow for a moment.
const UNBLOCKED_BYTES: usize = 2 << 20;
/// How many bytes may wait for a polling client. It takes up to 64 KiB a request.
const POLLING_BYTES: usize = 1 << 20;
/// How many bytes may wait while the tail has more for the socket.
const TAIL_BYTES: usize = 64 << 10;
/// How many bytes of the library may wait before it has to.
const LIBRARY_BYTES: usize = 64 << 10;
/// How many frames a write takes at most.
const FRAMES_PER_WRITE: usize = 16;
/// From how many bytes on a write takes no further frame.
const BYTES_PER_WRITE: usize = 64 << 10;
/// After how many writes in a row other tasks get their turn.
const WRITES_PER_TURN: usize = 32;
/// How long the library may keep a packet that a later one has overtaken. It loses one that it has read ahead for a
/// polling request when the client upgrades.
const LIBRARY_TIMEOUT: Duration = Duration::from_secs(5);

domain::limit_rows! {
    Sockets, "what waits for a client that takes nothing", Bytes BLOCKED_BYTES, "its next frame is dropped, and its connection closed", "memory";
    Sockets, "what waits for a client that takes some of it", Bytes UNBLOCKED_BYTES, "its next frame is dropped, and its connection closed", "memory";
    Sockets, "what waits for a client that polls", Bytes POLLING_BYTES, "its next frame is dropped, and its connection closed", "memory";
}

/// A packet that the library has taken and not passed on.
struct LibraryPacket {
    counted: CountedBytes,
    taken_at: Instant,
}

struct QueueState {
    /// The frames that are being written, with how many bytes of the first are written.
    in_flight: VecDeque<Arc<WireFrame>>,
    written: usize,
    /// What to write next, in this order, whether the library wrote it or not.
    next: VecDeque<Arc<WireFrame>>,
    /// Frames that came after a packet that the library has not written yet.
    held: VecDeque<Arc<WireFrame>>,
    in_library: VecDeque<LibraryPacket>,
    /// How many bytes wait in all of these.
    bytes: usize,
    /// How many of them the library has written, and the client has not.
    library_bytes: usize,
    /// Since when the client has taken nothing, if something waits.
    since: Instant,
    /// Whether the connection takes no bytes now.
    is_blocked: bool,
    is_closed: bool,
    writer: Option<Waker>,
    library: Option<Waker>,
}

impl QueueState {
    /// Moves the next frames to those in flight.
    fn fill_in_flight(&mut self) {
        let mut bytes: usize = self.in_flight.iter().map(|frame| frame.len()).sum();
        while self.in_flight.len() < FRAMES_PER_WRITE
            && bytes < BYTES_PER_WRITE
            && let Some(next) = self.next.pop_front()
        {
            bytes += next.len();
            self.in_flight.push_back(next);
        }
    }

    /// Puts frames behind what the library has written, once it has written all that it got before them.
    fn release_held(&mut self) {
        if self.in_library.is_empty() {
            self.next.append(&mut self.held);
            wake(&mut self.writer);
        }
    }

    /// Removes bytes that the connection has taken.
    fn advance(&mut self, count: usize) {
        self.written += count;
        self.is_blocked = false;
        self.since = Instant::now();
        while let Some(first) = self.in_flight.pop_front_if(|first| first.len() <= self.written) {
            self.written -= first.len();
            self.bytes -= first.len();
            if first.is_of_library() {
                self.library_bytes -= first.len();
            }
        }
        if self.library_bytes == 0 {
            wake(&mut self.library);
        }
    }

    /// Whether so many bytes fit, if at most `limit` may wait. An empty queue takes any frame.
    fn room_for(&self, bytes: usize, limit: usize) -> Sent {
        if self.is_closed {
            Sent::Ended
        } else if self.bytes > 0 && self.bytes + bytes > limit {
            Sent::NoRoom
        } else {
            Sent::Queued
        }
    }

    fn add(&mut self, bytes: usize) {
        if self.bytes == 0 {
            self.since = Instant::now();
        }
        self.bytes += bytes;
    }

    /// The library has passed a packet on.
    fn packet_left_library(&mut self) {
        if let Some(packet) = self.in_library.pop_front() {
            self.bytes -= packet.counted.len();
        }
    }

    /// Drops the frames whose writing has not begun.
    fn discard_frames(&mut self) {
        self.next.extend(self.held.drain(..));
        self.next.retain(|frame| {
            frame.is_of_library() || {
                self.bytes -= frame.len();
                false
            }
        });
    }

    fn close(&mut self) {
        self.is_closed = true;
        self.in_flight = VecDeque::new();
        self.next = VecDeque::new();
        self.held = VecDeque::new();
        self.in_library = VecDeque::new();
        (self.bytes, self.library_bytes, self.written) = (0, 0, 0);
        wake(&mut self.writer);
        wake(&mut self.library);
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// How long a client has taken nothing of what waits for it.
pub(super) struct Waiting {
    pub(super) is_blocked: bool,
    pub(super) since: Instant,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It waits for the socket's client.
    Queued,
    /// As much as allowed waits for the client already.
    NoRoom,
    /// The socket is about to end.
    Ended,
}

/// Whether a frame is a part of the tail, which waits for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// The frame comes now, or the client misses it.
    Live,
    /// The frame can wait.
    Tail,
}

/// The queue of one connection.
pub(super) struct SendQueue {
    /// The id of the connection's sockets; known once a socket has authenticated.
    pub(super) socket: OnceLock<Sid>,
    /// Cuts the connection's stream.
    pub(super) cut: CancellationToken,
    totals: Arc<QueueTotals>,
    state: Mutex<QueueState>,
}

impl SendQueue {
    /// An empty queue of a connection whose stream `cut` cuts.
    pub(super) fn new(totals: &Arc<QueueTotals>, cut: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            socket: OnceLock::new(),
            cut,
            totals: totals.clone(),
            state: Mutex::new(QueueState {
                in_flight: VecDeque::new(),
                written: 0,
                next: VecDeque::new(),
                held: VecDeque::new(),
                in_library: VecDeque::new(),
                bytes: 0,
                library_bytes: 0,
                since: Instant::now(),
                is_blocked: false,
                is_closed: false,
                writer: None,
                library: None,
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a frame for the connection's stream.
    pub(super) fn push(&self, frame: &Arc<WireFrame>, urgency: Urgency) -> Sent {
        let mut state = self.lock();
        let limit = match urgency {
            Urgency::Tail => TAIL_BYTES,
            Urgency::Live if state.is_blocked => BLOCKED_BYTES,
            Urgency::Live => UNBLOCKED_BYTES,
        };
        let room = state.room_for(frame.len(), limit);
        if room != Sent::Queued {
            return room;
        }
        state.add(frame.len());
        state.held.push_back(frame.clone());
        state.release_held();
        Sent::Queued
    }

    /// Counts a packet that goes to the library next: one that connects a socket, or any packet for a polling client.
    pub(super) fn enter_library(&self, bytes: usize) -> Sent {
        let mut state = self.lock();
        let room = state.room_for(bytes, POLLING_BYTES);
        if room != Sent::Queued {
            return room;
        }
        state.add(bytes);
        let counted = CountedBytes::new(bytes, &self.totals);
        state.in_library.push_back(LibraryPacket { counted, taken_at: Instant::now() });
        Sent::Queued
    }

    /// The library has not taken the packet that was counted last.
    pub(super) fn library_refused(&self) {
        let mut state = self.lock();
        if let Some(packet) = state.in_library.pop_back() {
            state.bytes -= packet.counted.len();
        }
        state.release_held();
    }

    /// Counts what a polling request takes out of the library.
    pub(super) fn polled<'a>(&self, packets: impl Iterator<Item = &'a [u8]>) {
        let mut state = self.lock();
        for _ in packets.filter(|packet| is_counted(packet)) {
            state.packet_left_library();
        }
        state.since = Instant::now();
        state.release_held();
    }

    /// Drops the frames of a socket that has left, except one that is being written.
    pub(super) fn discard_frames(&self) {
        self.lock().discard_frames();
    }

    /// Drops everything and cuts the stream.
    pub(super) fn close(&self) {
        self.lock().close();
        self.cut.cancel();
    }

    /// Since when the client has taken nothing; none if nothing waits for it.
    pub(super) fn waiting(&self) -> Option<Waiting> {
        let state = self.lock();
        let is_blocked = state.is_blocked || !state.in_library.is_empty();
        (state.bytes > 0).then_some(Waiting { is_blocked, since: state.since })
    }

    /// Takes what the library writes: one or several whole WebSocket frames.
    pub(super) fn accept(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.lock();
        if state.is_closed {
            return Poll::Ready(Err(ErrorKind::ConnectionAborted.into()));
        }
        if state.library_bytes > LIBRARY_BYTES {
            state.library = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let Some(written) = server_frames(bytes) else {
            return Poll::Ready(Err(io::Error::new(ErrorKind::InvalidData, "the library wrote a part of a frame")));
        };
        for ServerFrame { opcode, payload } in written {
            if opcode == CLOSE {
                // Nothing may follow.
                state.discard_frames();
            } else if is_counted(payload) {
                state.packet_left_library();
            } else if state.in_library.front().is_some_and(|first| first.taken_at.elapsed() > LIBRARY_TIMEOUT) {
                return Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "the library lost a packet")));
            }
        }
        state.add(bytes.len());
        state.library_bytes += bytes.len();
        state.next.push_back(WireFrame::of_library(bytes, &self.totals));
        state.release_held();
        wake(&mut state.writer);
        Poll::Ready(Ok(bytes.len()))
    }

    /// Waits until the client has what the library has written.
    pub(super) fn poll_library_flushed(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        if state.is_closed {
            return Poll::Ready(Err(ErrorKind::ConnectionAborted.into()));
        }
        if state.library_bytes == 0 {
            return Poll::Ready(Ok(()));
        }
        state.library = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Writes what waits, for ever. Ends when the queue is closed, or a write fails.
    pub(super) fn poll_write_queued<W: AsyncWrite>(
        &self,
        mut io: Pin<&mut W>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        for _ in 0..WRITES_PER_TURN {
            let mut state = self.lock();
            state.fill_in_flight();
            if state.is_closed {
                return Poll::Ready(Ok(()));
            }
            if state.in_flight.is_empty() {
                state.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let (batch, written): (Vec<_>, _) = (state.in_flight.iter().cloned().collect(), state.written);
            drop(state);
            let mut slices: Vec<IoSlice<'_>> = batch.iter().map(|frame| IoSlice::new((**frame).as_ref())).collect();
            IoSlice::advance_slices(&mut slices.as_mut_slice(), written);
            let count = match io.as_mut().poll_write_vectored(cx, &slices) {
                Poll::Pending => {
                    self.lock().is_blocked = true;
                    return Poll::Pending;
                }
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                Poll::Ready(result) => result?,
            };
            let mut state = self.lock();
            if !state.is_closed {
                state.advance(count);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Whether the queue counts such a packet of the library: those that connect a socket, and those that this node's code
/// sends, which are events and acknowledgements.
fn is_counted(packet: &[u8]) -> bool {
    matches!(packet, [b'4', b'0' | b'2' | b'3', ..])
}
