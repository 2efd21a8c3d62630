//! The socket on which a process listens.

use std::io;

use tokio::net::{TcpListener, TcpSocket};

/// How many connections may wait for the process to accept them; the system may allow fewer (`net.core.somaxconn`).
const LISTEN_BACKLOG: u32 = 4_096;

domain::limit_rows! {
    Requests, "connections that wait for the process to accept them", Count LISTEN_BACKLOG, "the system refuses or delays further ones", "open files";
}

/// Listens on a socket that is bound already.
///
/// # Errors
/// When the system refuses it.
pub(super) fn listen(socket: TcpSocket) -> io::Result<TcpListener> {
    socket.listen(LISTEN_BACKLOG)
}
