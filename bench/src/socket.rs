//! A receiver: as little of Socket.IO over a WebSocket as it takes to get frames.

use std::time::Duration;

use anyhow::Context;
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

/// How long it may take to get into one's rooms.
const READY: Duration = Duration::from_secs(10);

/// Engine.IO's packets that matter here, and Socket.IO's within its messages: protocol 4 of the one, 5 of the other.
const PING: &str = "2";
const PONG: &str = "3";
const CONNECT: &str = "40";
const EVENT: &str = "42";

/// A socket that is in its user's rooms.
pub(crate) struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    /// Connects as the token's user and waits for `connection:ready`.
    pub(crate) async fn connect(address: &str, token: &str) -> anyhow::Result<Self> {
        let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
        let (stream, _) = connect_async_with_config(url, None, true).await.context("a socket")?;
        let mut socket = Self(stream);
        let ready = async {
            socket.0.send(Message::text(format!("{CONNECT}{}", json!({"token": token})))).await?;
            while let Some(packet) = socket.next().await? {
                if is_event(&packet, "connection:ready") {
                    return Ok(());
                }
                let refused = packet.starts_with("44");
                anyhow::ensure!(!refused, "a socket was refused: {packet}");
            }
            anyhow::bail!("a socket was closed before it was ready")
        };
        tokio::time::timeout(READY, ready).await.context("a socket is not ready after 10 s")??;
        Ok(socket)
    }

    /// Gives every `message:new` to `got`, as text. Ends only when the socket does.
    ///
    /// # Errors
    /// When the connection breaks.
    pub(crate) async fn receive(mut self, got: impl Fn(&str)) -> anyhow::Result<()> {
        while let Some(packet) = self.next().await? {
            if is_event(&packet, "message:new") {
                got(&packet);
            }
        }
        Ok(())
    }

    /// The next packet that is no ping: those are answered. None at the end.
    async fn next(&mut self) -> anyhow::Result<Option<Utf8Bytes>> {
        while let Some(message) = self.0.next().await {
            match message? {
                Message::Text(packet) if packet == PING => self.0.send(Message::text(PONG)).await?,
                Message::Text(packet) => return Ok(Some(packet)),
                _ => {}
            }
        }
        Ok(None)
    }
}

fn is_event(packet: &str, name: &str) -> bool {
    let rest = packet.strip_prefix(EVENT).and_then(|rest| rest.strip_prefix("[\""));
    rest.and_then(|rest| rest.strip_prefix(name)).is_some_and(|rest| rest.starts_with('"'))
}
