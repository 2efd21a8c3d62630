//! Sends requests when they are due, over as many connections as it takes: a request never waits for the response to
//! another one.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpStream;
use tokio::runtime::Handle;

use super::http::{self, ResponseHead};
use crate::failures::Failures;

/// The most connections. Further requests wait in the generator, and their latency counts the wait.
const MAX_CONNECTIONS: usize = 1_024;
/// How many bytes a connection reads at a time.
const READ_BYTES: usize = 4 << 10;

/// The consumer of the responses: gets a request's number, the response and its body.
type OnResponse = Box<dyn Fn(u64, ResponseHead, &[u8]) + Send + Sync>;

/// A request with its number.
type NumberedRequest = (u64, Vec<u8>);

/// Connections to one server. Clones share them.
#[derive(Clone)]
pub(crate) struct OpenLoop(Arc<Shared>);

struct Shared {
    address: SocketAddr,
    runtime: Handle,
    connections: Mutex<Connections>,
    on_response: OnResponse,
    failures: Arc<Failures>,
}

#[derive(Default)]
struct Connections {
    open: usize,
    idle: Vec<Arc<Connection>>,
    /// Requests that no connection was free for.
    waiting: VecDeque<NumberedRequest>,
}

struct Connection {
    stream: TcpStream,
    /// The number of the request under way.
    in_flight: Mutex<Option<u64>>,
}

impl OpenLoop {
    /// Opens connections as they are needed, on the current runtime.
    pub(crate) fn new(address: SocketAddr, failures: Arc<Failures>, on_response: OnResponse) -> Self {
        let (runtime, connections) = (Handle::current(), Mutex::default());
        Self(Arc::new(Shared { address, runtime, connections, on_response, failures }))
    }

    /// Sends a request over a free connection, from any thread, and doesn't wait.
    pub(crate) fn send(&self, request: NumberedRequest) {
        let mut connections = self.0.lock();
        if let Some(connection) = connections.idle.pop() {
            drop(connections);
            return self.0.start(&connection, request);
        }
        connections.waiting.push_back(request);
        if connections.open < MAX_CONNECTIONS {
            connections.open += 1;
            drop(connections);
            let shared = self.0.clone();
            self.0.runtime.spawn(async move {
                if let Err(error) = shared.serve().await {
                    shared.failures.add(format!("a request failed: {error:#}"), 1);
                }
                shared.lock().open -= 1;
            });
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, connection: &Connection, (number, request): NumberedRequest) {
        *connection.in_flight.lock().unwrap_or_else(PoisonError::into_inner) = Some(number);
        // A request is much smaller than the socket's buffer, and nothing else is in it.
        match connection.stream.try_write(&request) {
            Ok(written) if written == request.len() => {}
            _ => self.failures.add("a connection that the server closed", 1),
        }
    }

    /// Serves one connection from its opening to its end.
    async fn serve(&self) -> anyhow::Result<()> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let connection = Arc::new(Connection { stream, in_flight: Mutex::default() });
        self.next(&connection);
        let ended = self.receive(&connection).await;
        self.lock().idle.retain(|idle| !Arc::ptr_eq(idle, &connection));
        let in_flight = *connection.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        anyhow::ensure!(in_flight.is_none(), "the server closed a connection before its response");
        ended
    }

    /// Receives responses until the server closes the connection.
    async fn receive(&self, connection: &Arc<Connection>) -> anyhow::Result<()> {
        let mut buffer = Vec::with_capacity(READ_BYTES);
        loop {
            connection.stream.readable().await?;
            buffer.reserve(READ_BYTES);
            match connection.stream.try_read_buf(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            }
            let Some(response) = http::parse(&buffer)? else { continue };
            let number = connection.in_flight.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(number) = number {
                let body = &buffer[response.head_bytes..response.head_bytes + response.body_bytes];
                (self.on_response)(number, response, body);
            }
            buffer.clear();
            self.next(connection);
        }
    }

    /// Starts a waiting request, or declares the connection free.
    fn next(&self, connection: &Arc<Connection>) {
        let mut connections = self.lock();
        match connections.waiting.pop_front() {
            Some(request) => {
                drop(connections);
                self.start(connection, request);
            }
            None => connections.idle.push(connection.clone()),
        }
    }
}
