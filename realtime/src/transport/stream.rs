//! The bytes under a WebSocket: a stream that the node can cut, and that enforces the rate limit.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, ReadHalf, WriteHalf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::rate_limit::RateLimit;
use super::send_queue::SendQueue;
use super::websocket_frames::FrameCounter;

/// A stream that fails once its `cut` token is cancelled, or once its peer sends too many frames. What the library writes
/// goes to the connection's [`SendQueue`], which a task of the stream writes.
pub(crate) struct Stream {
    io: ReadHalf<TokioIo<Upgraded>>,
    queue: Arc<SendQueue>,
    // The reader and the writer are different tasks, and each has to be woken. So each has a future of its own.
    cut_reading: Pin<Box<WaitForCancellationFutureOwned>>,
    cut_writing: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Cancelled when the stream is dropped, which ends the task.
    dropped: CancellationToken,
    rate_limit: RateLimit,
    frames: FrameCounter,
    on_drop: Option<Box<dyn FnOnce() + Send>>,
}

impl Stream {
    /// Wraps an upgraded connection, and writes what is in its queue. The stream calls `on_drop` when it is dropped.
    pub(super) fn new(upgraded: Upgraded, queue: Arc<SendQueue>, on_drop: Option<Box<dyn FnOnce() + Send>>) -> Self {
        let (io, writer) = tokio::io::split(TokioIo::new(upgraded));
        let dropped = queue.cut.child_token();
        tokio::spawn(write_queued(queue.clone(), writer, dropped.clone()));
        Self {
            io,
            cut_reading: Box::pin(queue.cut.clone().cancelled_owned()),
            cut_writing: Box::pin(queue.cut.clone().cancelled_owned()),
            queue,
            dropped,
            rate_limit: RateLimit::new(),
            frames: FrameCounter::default(),
            on_drop,
        }
    }

    fn check_cut(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.cut_writing.as_mut().poll(cx).is_ready() { Err(ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

/// Writes what is in a queue, until the stream is dropped or cut. A failed write cuts the stream: its reader has no other
/// way to learn that the node can't answer the client any more.
async fn write_queued(queue: Arc<SendQueue>, mut io: WriteHalf<TokioIo<Upgraded>>, dropped: CancellationToken) {
    let writing = std::future::poll_fn(|cx| queue.poll_write_queued(Pin::new(&mut io), cx));
    if dropped.run_until_cancelled(writing).await.is_some() {
        queue.close();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.dropped.cancel();
        if let Some(on_drop) = self.on_drop.take() {
            on_drop();
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.cut_reading.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(ErrorKind::ConnectionAborted.into()));
        }
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let frames = self.frames.count(&buf.filled()[before..]);
        if frames > 0 && !self.rate_limit.admit(frames) {
            return Poll::Ready(Err(ErrorKind::ConnectionAborted.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check_cut(cx)?;
        let accepted = self.queue.accept(cx, bytes);
        if matches!(accepted, Poll::Ready(Err(_))) {
            // The library would go on without the packet.
            self.queue.close();
        }
        accepted
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_cut(cx)?;
        self.queue.poll_library_flushed(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}
