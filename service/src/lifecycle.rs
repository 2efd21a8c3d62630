//! Serving, and stopping in good order.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::middleware;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;

use crate::connection::{Accepting, Requests, note};

/// How long requests that are under way may take once the process is told to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// How much the system holds for a client that doesn't read. By itself Linux lets it grow to megabytes: thousands of
/// slow sockets would take more memory than everything else.
const SEND_BUFFER_BYTES: usize = 128 << 10;

/// Fewer open files than this are told of.
const FEW_FILES: u64 = 16_384;

/// Lets this process have as many connections as the system allows it. Each is an open file, and of these most systems
/// give a process 1,024 unless it asks for more, for the sake of programs that use `select(2)`.
pub fn allow_connections() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(files) if files >= FEW_FILES => {}
        Ok(files) => {
            tracing::warn!(files, "few connections are possible: raise the hard limit of open files (ulimit -Hn)")
        }
        Err(error) => tracing::warn!(%error, "the limit of open files stays as it is: see ulimit -n"),
    }
}

/// A token that is cancelled when the process is told to stop: by SIGINT or SIGTERM.
pub fn shutdown_on_signal() -> CancellationToken {
    let shutdown = CancellationToken::new();
    let told = shutdown.clone();
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
        tracing::info!("stopping");
        told.cancel();
    });
    shutdown
}

/// Takes an address, without listening there yet: until the process serves, connections are refused, and whoever
/// balances them asks another.
///
/// # Errors
/// When the address can't be had.
pub fn bind(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Otherwise one that starts again waits until the connections of the one before are forgotten. But of all free ports
    // the same one might be given to two that don't listen yet.
    socket.set_reuseaddr(address.port() != 0)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Serves until the shutdown, then lets requests that are under way finish, at most 10 s. A connection is closed whose
/// first request hasn't come within 10 s, or the next within 75 s.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) -> std::io::Result<()> {
    let listener = Accepting::new(listener, |stream| {
        // Answers are small and wanted at once.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(stream).set_send_buffer_size(SEND_BUFFER_BYTES);
    });
    let router = router.layer(middleware::from_fn(note)).into_make_service_with_connect_info::<Requests>();
    let drained = shutdown.clone();
    let server = axum::serve(listener, router).with_graceful_shutdown(async move { drained.cancelled().await });
    let limit = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = server => served,
        () = limit => {
            tracing::warn!("stopped with requests under way");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use utoipa::openapi::OpenApi;

    use crate::http::{JsonBody, finish};

    /// Serves on a free port: the task that ends with it, and a client.
    async fn start(
        router: Router,
        shutdown: &CancellationToken,
    ) -> (tokio::task::JoinHandle<()>, tokio::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = shutdown.clone();
        let served =
            tokio::spawn(
                async move { serve(listener, finish(router, &OpenApi::default(), &[]), shutdown).await.unwrap() },
            );
        (served, tokio::net::TcpStream::connect(address).await.unwrap())
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_nobodys_until_somebody_listens() {
        let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        assert!(tokio::net::TcpStream::connect(address).await.is_err(), "whoever asks goes elsewhere at once");
        assert!(bind(address).and_then(|other| other.listen(1)).is_err(), "no other process can have it");
        let _listener = socket.listen(1).unwrap();
        assert!(tokio::net::TcpStream::connect(address).await.is_ok());
    }

    #[tokio::test]
    async fn a_request_under_way_is_answered_before_the_process_stops() {
        let shutdown = CancellationToken::new();
        let (told, stopped) = (shutdown.clone(), shutdown.clone());
        let slow = move || async move {
            told.cancel();
            tokio::time::sleep(Duration::from_millis(50)).await;
            "done"
        };
        let (served, mut client) = start(Router::new().route("/slow", get(slow)), &stopped).await;
        client.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("done"), "{answer}");
        served.await.unwrap();
    }

    #[tokio::test]
    async fn a_client_that_sends_too_much_can_read_why_it_is_refused() {
        let route = axum::routing::post(|_: JsonBody| async {});
        let (_served, mut client) = start(Router::new().route("/echo", route), &CancellationToken::new()).await;
        let body = vec![b' '; 1 << 20];
        let head = "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\n";
        client.write_all(format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes()).await.unwrap();
        client.write_all(&body).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("body_too_large"), "{answer}");
    }
}
