//! The life of a process: it binds an address, serves until it gets a signal, and finishes the requests in progress.
//!
//! A stopping process must never drop a request that it can still answer within [`DRAIN_TIMEOUT`].

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;

use crate::connection::{ConnectionListener, with_request_tracking};

/// How long requests in progress may take once the process stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

domain::limit_rows! {
    Services, "requests in progress when the process stops", Time DRAIN_TIMEOUT, "the process ends without them", "the restart";
}

/// Below this limit of open files, the process logs a warning.
const FEW_FILES: u64 = 16_384;

/// Raises the limit of open files as far as the system allows.
///
/// Each connection is an open file. Most systems allow a process 1,024 unless it asks for more, for the sake of
/// programs that use `select(2)`.
pub fn raise_open_file_limit() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(files) if files >= FEW_FILES => {}
        Ok(files) => {
            tracing::warn!(files, "the hard limit of open files allows few connections; raise it (see ulimit -Hn)")
        }
        Err(error) => {
            tracing::warn!(%error, "raising the limit of open files failed; it stays as it is (see ulimit -n)")
        }
    }
}

/// A token that is cancelled when the process gets SIGINT or SIGTERM.
pub fn shutdown_on_signal() -> CancellationToken {
    let shutdown = CancellationToken::new();
    let on_signal = shutdown.clone();
    tokio::spawn(async move {
        let interrupt = tokio::signal::ctrl_c();
        let terminate = async {
            match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
                Ok(mut signal) => signal.recv().await,
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt => {}
            _ = terminate => {}
        }
        tracing::info!("received a signal; stopping");
        on_signal.cancel();
    });
    shutdown
}

/// Reserves an address without listening on it. Until the process listens, the system refuses connections, and a load
/// balancer tries another process.
///
/// # Errors
/// When the address isn't available.
pub fn bind(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted process can bind while the system still remembers connections of its predecessor. Not for port 0:
    // then the system could pick the same free port for two sockets that don't listen yet.
    socket.set_reuseaddr(address.port() != 0)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Serves until the shutdown, then gives requests in progress at most 10 s to finish.
///
/// Closes a connection whose client is too slow: the head of its first request must arrive within 10 s, each further
/// one within 75 s, and the client must take some bytes of a response every 10 s.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) -> std::io::Result<()> {
    let draining = shutdown.clone();
    let server = axum::serve(ConnectionListener(listener), with_request_tracking(router))
        .with_graceful_shutdown(async move { draining.cancelled().await });
    let drain_timeout = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN_TIMEOUT).await;
    };
    tokio::select! {
        served = server => served,
        () = drain_timeout => {
            tracing::warn!("requests didn't finish in time; dropping them and stopping");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::task::JoinHandle;
    use utoipa::openapi::OpenApi;

    use super::*;
    use crate::cors::CorsPolicy;
    use crate::http::with_middleware;

    /// Serves on a free port. Returns the serving task and a client.
    async fn start(router: Router, shutdown: &CancellationToken) -> (JoinHandle<()>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = shutdown.clone();
        let router = with_middleware(router, &OpenApi::default(), CorsPolicy::default());
        let server = tokio::spawn(async move { serve(listener, router, shutdown).await.unwrap() });
        (server, TcpStream::connect(address).await.unwrap())
    }

    #[tokio::test]
    async fn a_bound_address_refuses_connections_until_the_process_listens() {
        let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        assert!(TcpStream::connect(address).await.is_err(), "a client can connect too early");
        assert!(bind(address).and_then(|other| other.listen(1)).is_err(), "another process can bind the address");
        let _listener = socket.listen(1).unwrap();
        assert!(TcpStream::connect(address).await.is_ok());
    }

    #[tokio::test]
    async fn a_stopping_process_finishes_the_requests_in_progress() {
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let slow = move || async move {
            stop.cancel();
            tokio::time::sleep(Duration::from_millis(50)).await;
            "done"
        };
        let (server, mut client) = start(Router::new().route("/slow", get(slow)), &shutdown).await;
        client.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut response = String::new();
        client.read_to_string(&mut response).await.unwrap();
        assert!(response.ends_with("done"), "{response}");
        server.await.unwrap();
    }
}
