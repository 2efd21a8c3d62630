//! The bytes under a WebSocket: a stream that the node can cut, and that enforces the rate limit.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::rate_limit::RateLimit;
use super::websocket_frames::FrameCounter;

/// A stream that fails once its `cut` token is cancelled, or once its peer sends too many frames.
pub(crate) struct Stream {
    io: TokioIo<Upgraded>,
    cut: CancellationToken,
    // The reader and the writer are different tasks, and each has to be woken. So each has a future of its own.
    cut_reading: Pin<Box<WaitForCancellationFutureOwned>>,
    cut_writing: Pin<Box<WaitForCancellationFutureOwned>>,
    rate_limit: RateLimit,
    frames: FrameCounter,
    on_drop: Option<Box<dyn FnOnce() + Send>>,
}

impl Stream {
    /// Wraps an upgraded connection. The stream calls `on_drop` when it is dropped.
    pub(super) fn new(upgraded: Upgraded, cut: CancellationToken, on_drop: Option<Box<dyn FnOnce() + Send>>) -> Self {
        Self {
            io: TokioIo::new(upgraded),
            cut_reading: Box::pin(cut.clone().cancelled_owned()),
            cut_writing: Box::pin(cut.clone().cancelled_owned()),
            cut,
            rate_limit: RateLimit::new(),
            frames: FrameCounter::default(),
            on_drop,
        }
    }

    /// Runs a write operation, unless the stream is cut. A failed write cuts the stream.
    fn write<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TokioIo<Upgraded>>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.cut_writing.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(ErrorKind::ConnectionAborted.into()));
        }
        let written = write(Pin::new(&mut self.io), cx);
        if matches!(written, Poll::Ready(Err(_))) {
            // The reader has no other way to learn that the node can't answer the client any more.
            self.cut.cancel();
        }
        written
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
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
        self.write(cx, |io, cx| io.poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write(cx, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write(cx, AsyncWrite::poll_shutdown)
    }
}
