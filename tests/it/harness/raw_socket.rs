//! A client without the official library, which sends arbitrary packets over a WebSocket.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async, connect_async};

use super::system::{System, TIMEOUT};

/// A WebSocket to the server. It answers pings only while the test waits for a packet.
pub(crate) struct RawSocket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl RawSocket {
    /// Opens a connection; `query` is appended to `EIO` and `transport`. `None` when the server refuses it.
    pub(crate) async fn open(url: &str, query: &str) -> Option<Self> {
        let address = url.replacen("http", "ws", 1);
        let url = format!("{address}/socket.io/?EIO=4&transport=websocket{query}");
        Some(Self(connect_async(url).await.ok()?.0))
    }

    /// Connects as a user and waits for `connection:ready`.
    pub(crate) async fn connect(system: &System, url: &str, user: &str) -> Self {
        Self::open(url, "").await.expect("the server refused the connection").authenticate(system, user).await
    }

    async fn authenticate(mut self, system: &System, user: &str) -> Self {
        self.send(&format!("40{}", json!({"token": system.token(user)}))).await;
        self.until("42[\"connection:ready\"").await;
        self
    }

    /// Like [`Self::connect`], over a connection for which the client's system holds little.
    pub(crate) async fn connect_with_small_buffer(system: &System, url: &str, user: &str) -> Self {
        let tcp = TcpSocket::new_v4().unwrap();
        tcp.set_recv_buffer_size(4 << 10).unwrap();
        let address = url.strip_prefix("http://").unwrap();
        let tcp = MaybeTlsStream::Plain(tcp.connect(address.parse().unwrap()).await.unwrap());
        let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
        let (stream, _) = client_async(url, tcp).await.expect("the server refused the connection");
        Self(stream).authenticate(system, user).await
    }

    /// Sends a text. False when the connection has ended.
    pub(crate) async fn send(&mut self, text: &str) -> bool {
        self.0.send(Message::text(text)).await.is_ok()
    }

    /// Sends binary data. False when the connection has ended.
    pub(crate) async fn send_binary(&mut self, bytes: &'static [u8]) -> bool {
        self.0.send(Message::binary(bytes)).await.is_ok()
    }

    /// Waits for the first packet with this prefix, and answers pings before it.
    pub(crate) async fn until(&mut self, prefix: &str) -> String {
        self.within(TIMEOUT, prefix).await.unwrap_or_else(|| panic!("{prefix} never came"))
    }

    /// Waits for the first packet with this prefix, at most this long.
    pub(crate) async fn within(&mut self, limit: Duration, prefix: &str) -> Option<String> {
        let found = tokio::time::timeout(limit, async {
            while let Some(Ok(message)) = self.0.next().await {
                let text = message.to_text().unwrap();
                if text.starts_with(prefix) {
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

    /// Waits until the server closes the connection, at most this long, and answers pings. False when it stays open.
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
