//! A client without the official library, which sends over a WebSocket whatever a test wants.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::system::{System, TIMEOUT};

/// A WebSocket to the server, and nothing that answers by itself.
pub(crate) struct RawSocket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl RawSocket {
    /// Opens a connection; the query goes on after `EIO` and `transport`. None when it is refused.
    pub(crate) async fn open(url: &str, query: &str) -> Option<Self> {
        let address = url.replacen("http", "ws", 1);
        let url = format!("{address}/socket.io/?EIO=4&transport=websocket{query}");
        Some(Self(connect_async(url).await.ok()?.0))
    }

    /// Connects as a user and waits for `connection:ready`.
    pub(crate) async fn connect(system: &System, url: &str, user: &str) -> Self {
        let mut wire = Self::open(url, "").await.expect("refused");
        wire.send(&format!("40{}", json!({"token": system.token(user)}))).await;
        wire.until("42[\"connection:ready\"").await;
        wire
    }

    /// Sends a text; false when the connection has ended.
    pub(crate) async fn send(&mut self, text: &str) -> bool {
        self.0.send(Message::text(text)).await.is_ok()
    }

    /// Sends bytes that are no text; false when the connection has ended.
    pub(crate) async fn send_binary(&mut self, bytes: &'static [u8]) -> bool {
        self.0.send(Message::binary(bytes)).await.is_ok()
    }

    /// The first packet that begins so; pings before it are answered.
    pub(crate) async fn until(&mut self, beginning: &str) -> String {
        self.within(TIMEOUT, beginning).await.unwrap_or_else(|| panic!("{beginning} never came"))
    }

    /// The first packet that begins so, if it comes in this time.
    pub(crate) async fn within(&mut self, limit: Duration, beginning: &str) -> Option<String> {
        let found = tokio::time::timeout(limit, async {
            while let Some(Ok(message)) = self.0.next().await {
                let text = message.to_text().unwrap();
                if text.starts_with(beginning) {
                    return Some(text.to_owned());
                }
                if text == "2" {
                    self.send("3").await;
                }
            }
            None
        });
        found.await.ok().flatten()
    }

    /// Waits until the server closes the connection, at most so long; pings are answered. False when it doesn't.
    pub(crate) async fn closed_within(&mut self, limit: Duration) -> bool {
        let closed = tokio::time::timeout(limit, async {
            while let Some(Ok(message)) = self.0.next().await {
                if message.to_text().is_ok_and(|text| text == "2") {
                    self.send("3").await;
                }
            }
        });
        closed.await.is_ok()
    }
}
