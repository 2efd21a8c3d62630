//! nginx in front of stand-ins for processes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::http::{Request, Response};
use crate::harness::nginx::Nginx;
use crate::harness::process::free_port;

/// What an upstream does with a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// Answers with its own name, and with the request as the body.
    Echo,
    /// Reads the request and closes the connection.
    HangUp,
    /// Opens a WebSocket, and keeps it open until the client closes it.
    Upgrade,
}

/// A stand-in for a process behind nginx.
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    requests: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Upstream {
    pub(super) async fn start(name: &'static str, behaviour: Behaviour) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), name, behaviour).await
    }

    pub(super) async fn start_at(address: SocketAddr, name: &'static str, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::<AtomicUsize>::default();
        let counter = requests.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let counter = counter.clone();
                tokio::spawn(async move {
                    let _ = serve(client, name, behaviour, &counter).await;
                });
            }
        });
        Self { address, requests, task }
    }

    /// How many requests it received.
    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Stops listening.
    pub(super) fn stop(&self) {
        self.task.abort();
    }
}

async fn serve(mut client: TcpStream, name: &str, behaviour: Behaviour, requests: &AtomicUsize) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if client.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    requests.fetch_add(1, Ordering::Relaxed);
    if behaviour == Behaviour::Echo {
        let headers = format!("Connection: close\r\nName: {name}\r\nContent-Length: {}", head.len());
        client.write_all(format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\n").as_bytes()).await?;
        client.write_all(&head).await?;
    }
    if behaviour == Behaviour::Upgrade {
        let headers = "Connection: upgrade\r\nUpgrade: websocket";
        client.write_all(format!("HTTP/1.1 101 Switching Protocols\r\n{headers}\r\n\r\n").as_bytes()).await?;
        client.read_to_end(&mut Vec::new()).await?;
    }
    Ok(())
}

/// An address at which nothing listens.
pub(super) fn closed_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

/// nginx in front of upstreams.
pub(super) struct Site {
    pub(super) nginx: Nginx,
    pub(super) upstreams: Vec<Upstream>,
    pub(super) http: reqwest::Client,
}

impl Site {
    /// Starts with two upstreams of each role that echo requests: `command-1`, `command-2`, `query-1`, and so on.
    pub(super) async fn start() -> Self {
        let mut upstreams = Vec::new();
        for name in ["command-1", "command-2", "query-1", "query-2", "realtime-1", "realtime-2"] {
            upstreams.push(Upstream::start(name, Behaviour::Echo).await);
        }
        let pair = |first: usize| [upstreams[first].address, upstreams[first + 1].address];
        let nginx = Nginx::start(pair(0), pair(2), pair(4)).await;
        Self::of(nginx, upstreams)
    }

    pub(super) fn of(nginx: Nginx, upstreams: Vec<Upstream>) -> Self {
        Self { nginx, upstreams, http: reqwest::Client::new() }
    }

    pub(super) fn request(&self, method: &str, path: &str) -> Request {
        Request::new(&self.http, method, &format!("{}{path}", self.nginx.url))
    }

    /// The upstream that answers a `GET`.
    pub(super) async fn upstream_of(&self, path: &str) -> String {
        upstream_name(&self.request("GET", path).send().await)
    }
}

pub(super) fn upstream_name(answer: &Response) -> String {
    let name = answer.header("name");
    assert!(!name.is_empty(), "no upstream answered: {answer:?}");
    name.to_owned()
}
