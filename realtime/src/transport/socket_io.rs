//! The Socket.IO library's settings: its path, limits and timeouts.

use std::time::Duration;

use socketioxide::{ParserConfig, SocketIo, SocketIoBuilder};

/// The path at which clients connect.
pub(crate) const PATH: &str = "/socket.io/";
/// The largest message that a client may send, in bytes.
const MAX_MESSAGE_BYTES: usize = 64 << 10;
/// How many packets the library may hold for a socket. Of frames it holds only those of polling sockets, which
/// [`super::send_queue`] bounds in bytes.
const SOCKET_BUFFER: usize = 128;
/// How often the node pings each connection.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// How long a client may take to answer a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may stay open without an authenticated socket.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

domain::limit_rows! {
    Sockets, "a message of a client", Bytes MAX_MESSAGE_BYTES, "the server closes the connection", "memory";
    Sockets, "frames that wait for a slow socket", Count SOCKET_BUFFER, "the server closes the connection, and the client syncs", "memory";
    Sockets, "time for the answer to a ping", Time PING_TIMEOUT, "the server closes the connection", "open files";
    Sockets, "time from a connection to a handshake with a valid token", Time CONNECT_TIMEOUT, "the server closes the connection", "open files";
}

/// The Socket.IO library with the settings of this node.
pub(crate) fn socket_io_builder() -> SocketIoBuilder {
    SocketIo::builder()
        .max_payload(MAX_MESSAGE_BYTES as u64)
        .ws_max_message_size(MAX_MESSAGE_BYTES)
        .ws_max_frame_size(MAX_MESSAGE_BYTES)
        .max_buffer_size(SOCKET_BUFFER)
        .ping_interval(PING_INTERVAL)
        .ping_timeout(PING_TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        // Clients send no binary data.
        .with_parser(ParserConfig::common().max_incoming_binaries(0))
}
