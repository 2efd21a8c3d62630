//! The bytes under a WebSocket, where it can be cut, and held to its pace.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::pace::{Frames, Pace};
use crate::transport;

/// A stream that can be cut from outside, and that fails when its peer sends too many frames.
pub(crate) struct Stream {
    io: TokioIo<Upgraded>,
    cut: CancellationToken,
    // One each: reader and writer are different tasks, and each has to be woken.
    cut_reading: Pin<Box<WaitForCancellationFutureOwned>>,
    cut_writing: Pin<Box<WaitForCancellationFutureOwned>>,
    pace: Pace,
    frames: Frames,
    ended: Option<Box<dyn FnOnce() + Send>>,
}

impl Stream {
    /// `ended` is called when nobody has the stream any more.
    pub(crate) fn new(upgraded: Upgraded, cut: CancellationToken, ended: Option<Box<dyn FnOnce() + Send>>) -> Self {
        Self {
            io: TokioIo::new(upgraded),
            cut_reading: Box::pin(cut.clone().cancelled_owned()),
            cut_writing: Box::pin(cut.clone().cancelled_owned()),
            cut,
            pace: Pace::new(),
            frames: Frames::default(),
            ended,
        }
    }

    /// Something that writes, unless the stream is cut.
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
            // Whoever reads only learns from this that nothing can be answered any more.
            self.cut.cancel();
        }
        written
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(ended) = self.ended.take() {
            ended();
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
        let frames = self.frames.begun(&buf.filled()[before..]);
        if frames > 0 && !self.pace.count(frames) {
            transport::too_many_packets();
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
