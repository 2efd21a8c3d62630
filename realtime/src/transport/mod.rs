//! The connections under the sockets: how many may be open, how fast a client may send, and how the node closes one.
//!
//! The Socket.IO library can't close the connection of one socket. Its `disconnect` only leaves the namespace, after
//! which official clients don't reconnect by themselves, and it does nothing while the socket's buffer is full. Nor
//! does the library give up on a peer that reads nothing. This module therefore makes the upgrade to WebSocket itself,
//! over a [`Stream`](stream::Stream) that the node can cut. It must never close a connection without the client
//! noticing: a client that doesn't notice wouldn't sync.
//!
//! # What waits for a socket
//!
//! A frame is encoded once, as bytes of a WebSocket that all its sockets share ([`wire_frame`]). Each connection has a
//! [`send_queue`] of references to such frames, and writes them itself: the library would copy each frame twice for each
//! socket, and its buffers keep the size of the largest one. Ten thousand sockets of one conversation that take nothing
//! hold a few frames together. Those of polling connections wait in the library, a copy for each.
//!
//! | What is bounded | Beyond it |
//! |---|---|
//! | what waits for a client that takes nothing, 256 KiB; for one that does, 2 MiB; for one that polls, 1 MiB | its next frame is dropped, and its connection closed |
//! | what waits for all sockets of the node, 64 MiB ([`counted_bytes`]) | those connections are closed that have taken nothing for the longest time |
//!
//! # How a slow socket is closed
//!
//! | When | What happens |
//! |---|---|
//! | overflow | A frame doesn't fit into the socket's queue. [`crate::delivery::FrameSender`] drops the frame and calls [`Connections::close`]. Or too much waits on the node, and [`Connections::make_room`] closes the socket. |
//! | memory | What waits for the socket is dropped at once. |
//! | WebSocket | The connection's stream is cut. Every read and write fails from then on, and the library ends the socket. |
//! | polling | The socket's id joins the closing ids, and its session ends. The route answers its next request with 400. |
//! | reconnect | The client sees a lost connection, not a disconnect by the server. It reconnects by itself, and syncs. |
//! | end | The library drops the request that opened the connection, and the [`Connection`](connections::Connection) with it. Its drop forgets the socket's id. |
//!
//! An example: 256 KiB wait for Alice's socket, and a `message:new` doesn't fit any more. The node drops it and cuts
//! her WebSocket. Her client reconnects a second later, gets a new `connection:ready`, and its sync returns that
//! message.
//!
//! A peer that reads nothing at all ends in the same way: the process's connection fails a write that makes no progress
//! for 10 s, and the stream cuts itself when a write fails.

mod acknowledgement;
#[cfg(test)]
mod conformance;
mod connections;
mod counted_bytes;
mod queue_registry;
#[cfg(test)]
mod queue_tests;
mod rate_limit;
mod router;
mod send_queue;
mod socket_io;
mod stream;
mod websocket_frames;
mod wire_frame;

pub(crate) use acknowledgement::AckRequest;
pub(crate) use connections::{Connections, LIMIT_ROWS as CONNECTION_LIMITS};
pub(crate) use rate_limit::LIMIT_ROWS as PACKET_LIMITS;
pub(crate) use router::router;
pub(crate) use send_queue::{LIMIT_ROWS as QUEUE_LIMITS, Sent, Urgency};
pub(crate) use socket_io::{LIMIT_ROWS as SOCKET_IO_LIMITS, PATH, socket_io_builder};
pub(crate) use wire_frame::WireFrame;
