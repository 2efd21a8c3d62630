//! The connections under the sockets: how many may be open, how fast a client may send, and how the node closes one.
//!
//! The Socket.IO library can't close the connection of one socket. Its `disconnect` only leaves the namespace, after
//! which official clients don't reconnect by themselves, and it does nothing while the socket's buffer is full. Nor
//! does the library give up on a peer that reads nothing. This module therefore makes the upgrade to WebSocket itself,
//! over a [`Stream`](stream::Stream) that the node can cut. It must never close a connection without the client
//! noticing: a client that doesn't notice wouldn't sync.
//!
//! # How a slow socket is closed
//!
//! | When | What happens |
//! |---|---|
//! | overflow | A frame doesn't fit into the socket's buffer. [`crate::delivery::FrameSender`] drops the frame and calls [`Connections::close`]. |
//! | WebSocket | `close` cuts the connection's stream. Every read and write fails from then on, and the library ends the socket. |
//! | polling | `close` adds the socket's id to the closing ids. The route answers its next request with 400, and the library ends the socket when its pings stay unanswered. |
//! | reconnect | The client sees a lost connection, not a disconnect by the server. It reconnects by itself, and syncs. |
//! | end | The library drops the request that opened the connection, and the [`Connection`](connections::Connection) with it. Its drop forgets the socket's id. |
//!
//! An example: 128 frames wait for Alice's socket, and a `message:new` doesn't fit any more. The node drops it and cuts
//! her WebSocket. Her client reconnects a second later, gets a new `connection:ready`, and its sync returns that
//! message.
//!
//! A peer that reads nothing at all ends in the same way: the process's connection fails a write that makes no progress
//! for 10 s, and the stream cuts itself when a write fails.

#[cfg(test)]
mod conformance;
mod connections;
mod rate_limit;
mod router;
mod socket_io;
mod stream;
mod websocket_frames;

pub(crate) use connections::Connections;
pub(crate) use router::router;
pub(crate) use socket_io::{PATH, socket_io_builder};
