//! Serves the official test suites of Engine.IO and Socket.IO, over the same connections as realtime, until stopped.
//!
//! Both lie in the repository `socketio/socket.io`, in `docs/engine.io-protocol/v4-test-suite` and
//! `docs/socket.io-protocol/v5-test-suite`. They expect port 3000, other timings, and a server that says everything back.
//!
//! ```sh
//! cargo test -p realtime -- --ignored suites &
//! cd v5-test-suite && npm install && npm test
//! ```
//!
//! What fails, fails because of the library: engineioxide sends its first ping at once rather than after the interval
//! (`heartbeat_job_v4` in its `socket.rs`), and the suites take it for the answer that they wait for. With that one line
//! mended all cases of both pass; two of them depend on which of two requests comes first, or on a millisecond.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Request;
use engineioxide::config::EngineIoConfig;
use engineioxide::handler::EngineIoHandler;
use engineioxide::service::EngineIoService;
use engineioxide::{DisconnectReason, Str};
use serde_json::{Value, json};
use socketioxide::ParserConfig;
use socketioxide::extract::{AckSender, SocketRef, TryData};

use super::*;
use crate::stream::Stream;
use crate::transport::{Library, Transports};

/// What the suites expect.
const PORT: u16 = 3_000;
const INTERVAL: Duration = Duration::from_millis(300);
const TIMEOUT: Duration = Duration::from_millis(200);
const BYTES: u64 = 1_000_000;

type Two = TryData<(Bytes, Bytes)>;
type Three = TryData<(Value, Value, Value)>;

/// Says every message back.
#[derive(Debug)]
struct Echo;

impl EngineIoHandler for Echo {
    type Data = ();

    fn on_connect(self: Arc<Self>, _: Arc<engineioxide::Socket<()>>) {}

    fn on_disconnect(&self, _: Arc<engineioxide::Socket<()>>, _: DisconnectReason) {}

    fn on_message(self: &Arc<Self>, message: Str, socket: Arc<engineioxide::Socket<()>>) {
        let _ = socket.emit(message);
    }

    fn on_binary(self: &Arc<Self>, message: Bytes, socket: Arc<engineioxide::Socket<()>>) {
        let _ = socket.emit_binary(message);
    }
}

impl Library for EngineIoService<Echo, Router> {
    async fn answer(&mut self, request: Request) -> axum::response::Response {
        let answered: Result<_, std::convert::Infallible> = tower::Service::<Request>::call(self, request).await;
        answered.unwrap().map(axum::body::Body::new)
    }

    fn take(&mut self, stream: Stream, opening: axum::http::Request<()>) {
        drop(tower::Service::call(self, (stream, opening)));
    }
}

fn engine_io() -> EngineIoService<Echo, Router> {
    let config = EngineIoConfig::builder().ping_interval(INTERVAL).ping_timeout(TIMEOUT).max_payload(BYTES).build();
    EngineIoService::with_config_inner(Router::new(), Arc::new(Echo), config)
}

fn socket_io() -> SocketIoService<Router> {
    let (service, io) = library()
        .ping_interval(INTERVAL)
        .ping_timeout(TIMEOUT)
        .connect_timeout(Duration::from_secs(1))
        .max_payload(BYTES)
        // The suites send bytes.
        .with_parser(ParserConfig::common())
        .build_with_inner_svc(Router::new());
    let connected = async |socket: SocketRef, TryData(auth): TryData<Value>| {
        let _ = socket.emit("auth", &auth.ok().filter(|auth| !auth.is_null()).unwrap_or_else(|| json!({})));
        socket.on(
            "message",
            async |socket: SocketRef, TryData(bytes): Two, TryData(three): Three, TryData(one): TryData<Value>| {
                let _ = match (bytes, three, one) {
                    (Ok(bytes), ..) => socket.emit("message-back", &bytes),
                    (_, Ok(three), _) => socket.emit("message-back", &three),
                    (.., one) => socket.emit("message-back", &one.unwrap()),
                };
            },
        );
        socket.on("message-with-ack", async |TryData(bytes): Two, TryData(three): Three, ack: AckSender| {
            let _ = match bytes {
                Ok(bytes) => ack.send(&bytes),
                Err(_) => ack.send(&three.unwrap()),
            };
        });
    };
    io.ns("/", connected);
    io.ns("/custom", connected);
    service
}

#[tokio::test]
#[ignore = "serves the suites until it is stopped"]
async fn suites() {
    let (transports, shutdown) = (Transports::new(), CancellationToken::new());
    let router = transport::router(PATH, socket_io(), transports.clone(), shutdown.clone()).merge(transport::router(
        "/engine.io/",
        engine_io(),
        transports,
        shutdown.clone(),
    ));
    let router = service::http::with_middleware(router, &utoipa::openapi::OpenApi::default(), &[]);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", PORT)).await.unwrap();
    service::lifecycle::serve(listener, router, shutdown).await.unwrap();
}
