//! A server for the official test suites of Engine.IO and Socket.IO, over the same connections as realtime. It runs
//! until you stop it.
//!
//! Both suites are in the repository `socketio/socket.io`, in `docs/engine.io-protocol/v4-test-suite` and
//! `docs/socket.io-protocol/v5-test-suite`. They expect port 3000, other timings, and a server that echoes everything.
//!
//! ```sh
//! cargo test -p realtime -- --ignored conformance &
//! cd v5-test-suite && npm install && npm test
//! ```
//!
//! The cases that fail do so because of the library: engineioxide sends its first ping at once instead of after the
//! interval (`heartbeat_job_v4` in its `socket.rs`), and the suites mistake it for the packet that they wait for. With
//! that line corrected, all cases of both suites pass. Two cases depend on the order of two requests, or on a
//! millisecond.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use engineioxide::config::EngineIoConfig;
use engineioxide::handler::EngineIoHandler;
use engineioxide::service::EngineIoService;
use engineioxide::{DisconnectReason, Str};
use serde_json::{Value, json};
use service::cors::CorsPolicy;
use socketioxide::ParserConfig;
use socketioxide::extract::{AckSender, SocketRef, TryData};
use socketioxide::service::SocketIoService;
use tokio_util::sync::CancellationToken;

use super::connections::Connections;
use super::router::{SocketService, router};
use super::socket_io::{PATH, socket_io_builder};
use super::stream::Stream;

// The port and the settings that the suites expect.
const PORT: u16 = 3_000;
const PING_INTERVAL: Duration = Duration::from_millis(300);
const PING_TIMEOUT: Duration = Duration::from_millis(200);
const MAX_PAYLOAD: u64 = 1_000_000;

type TwoBinaries = TryData<(Bytes, Bytes)>;
type ThreeValues = TryData<(Value, Value, Value)>;

/// Sends every message back.
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

impl SocketService for EngineIoService<Echo, Router> {
    async fn respond(&mut self, request: Request) -> axum::response::Response {
        let response: Result<_, std::convert::Infallible> = tower::Service::<Request>::call(self, request).await;
        response.unwrap().map(axum::body::Body::new)
    }

    fn serve_websocket(&mut self, stream: Stream, handshake: axum::http::Request<()>) {
        drop(tower::Service::call(self, (stream, handshake)));
    }
}

fn engine_io() -> EngineIoService<Echo, Router> {
    let config = EngineIoConfig::builder().ping_interval(PING_INTERVAL).ping_timeout(PING_TIMEOUT);
    EngineIoService::with_config_inner(Router::new(), Arc::new(Echo), config.max_payload(MAX_PAYLOAD).build())
}

fn socket_io() -> SocketIoService<Router> {
    let (service, io) = socket_io_builder()
        .ping_interval(PING_INTERVAL)
        .ping_timeout(PING_TIMEOUT)
        .connect_timeout(Duration::from_secs(1))
        .max_payload(MAX_PAYLOAD)
        // The suites send binary data.
        .with_parser(ParserConfig::common())
        .build_with_inner_svc(Router::new());
    let connected = async |socket: SocketRef, TryData(auth): TryData<Value>| {
        let _ = socket.emit("auth", &auth.ok().filter(|auth| !auth.is_null()).unwrap_or_else(|| json!({})));
        socket.on(
            "message",
            async |socket: SocketRef,
                   TryData(bytes): TwoBinaries,
                   TryData(three): ThreeValues,
                   TryData(one): TryData<Value>| {
                let _ = match (bytes, three, one) {
                    (Ok(bytes), ..) => socket.emit("message-back", &bytes),
                    (_, Ok(three), _) => socket.emit("message-back", &three),
                    (.., one) => socket.emit("message-back", &one.unwrap()),
                };
            },
        );
        socket.on(
            "message-with-ack",
            async |TryData(bytes): TwoBinaries, TryData(three): ThreeValues, ack: AckSender| {
                let _ = match bytes {
                    Ok(bytes) => ack.send(&bytes),
                    Err(_) => ack.send(&three.unwrap()),
                };
            },
        );
    };
    io.ns("/", connected);
    io.ns("/custom", connected);
    service
}

#[tokio::test]
#[ignore = "serves the test suites until you stop it"]
async fn conformance() {
    let connections = Connections::new();
    let shutdown = CancellationToken::new();
    let auth = service::auth::Auth::new("a secret for tests");
    let socket_io = router(PATH, socket_io(), connections.clone(), auth.clone(), shutdown.clone());
    let engine_io = router("/engine.io/", engine_io(), connections, auth, shutdown.clone());
    let document = utoipa::openapi::OpenApi::default();
    let router = service::http::with_middleware(socket_io.merge(engine_io), &document, CorsPolicy::default());
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", PORT)).await.unwrap();
    service::lifecycle::serve(listener, router, shutdown).await.unwrap();
}
