//! A Socket.IO client over a WebSocket, with just enough of the protocol to receive frames.

use std::time::Duration;

use anyhow::Context;
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

/// How long a socket may take until it is in its user's rooms.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// The buffers of a socket, in bytes: a few frames fit in, and ten thousand sockets still fit into memory.
const BUFFER_BYTES: usize = 4 << 10;

/// The packets that matter here: of Engine.IO (protocol 4), and of Socket.IO (protocol 5) inside its messages.
const PING: &str = "2";
const PONG: &str = "3";
const CONNECT: &str = "40";
const EVENT: &str = "42";
const CONNECT_ERROR: &str = "44";

/// A socket in its user's rooms.
pub(crate) struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    /// Connects as the token's user and waits for `connection:ready`. A floor has no memberships: it adds the socket to
    /// `room`, which Messages ignores.
    pub(crate) async fn connect(address: &str, token: &str, room: &str) -> anyhow::Result<Self> {
        let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
        let config = WebSocketConfig::default().read_buffer_size(BUFFER_BYTES).write_buffer_size(0);
        let (stream, _) = connect_async_with_config(url, Some(config), true).await.context("opening a socket")?;
        let mut socket = Self(stream);
        let ready = async {
            let handshake = json!({"token": token, "room": room});
            socket.0.send(Message::text(format!("{CONNECT}{handshake}"))).await?;
            while let Some(packet) = socket.next().await? {
                if is_event(&packet, "connection:ready") {
                    return Ok(());
                }
                anyhow::ensure!(!packet.starts_with(CONNECT_ERROR), "the server refused a socket: {packet}");
            }
            anyhow::bail!("the server closed a socket before it was ready")
        };
        tokio::time::timeout(READY_TIMEOUT, ready).await.context("a socket is not ready after 30 s")??;
        Ok(socket)
    }

    /// Calls `on_message` with the text of each `message:new`. Returns only when the connection closes.
    ///
    /// # Errors
    /// When the connection breaks.
    pub(crate) async fn receive(mut self, on_message: impl Fn(&str)) -> anyhow::Result<()> {
        while let Some(packet) = self.next().await? {
            if is_event(&packet, "message:new") {
                on_message(&packet);
            }
        }
        Ok(())
    }

    /// The next packet; none at the end. Answers pings itself.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_recognized_by_its_whole_name() {
        assert!(is_event(r#"42["message:new",{}]"#, "message:new"));
        for other in [r#"42["message:newer",{}]"#, r#"42["presence:update",{}]"#, "2", r#"40{"sid":"a"}"#] {
            assert!(!is_event(other, "message:new"), "{other}");
        }
    }
}
