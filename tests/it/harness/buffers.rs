//! How many buffers the statements of a connection read: pages of tables and indexes that Postgres finds in its cache
//! or fetches. Unlike times, they don't depend on the machine.
//!
//! Postgres' extension `auto_explain` sends the plan of each statement to the client, with what it read. A proxy reads
//! these notices.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// What makes Postgres explain every statement to the client.
const EXPLAIN: [&str; 6] = [
    "session_preload_libraries=auto_explain",
    "auto_explain.log_min_duration=0",
    "auto_explain.log_analyze=on",
    "auto_explain.log_buffers=on",
    "auto_explain.log_format=json",
    "auto_explain.log_level=notice",
];

/// A proxy in front of Postgres that counts the buffers.
pub(crate) struct BufferCount {
    /// The address of the proxy.
    pub(crate) url: String,
    buffers: Arc<AtomicI64>,
}

impl BufferCount {
    pub(crate) async fn of(server: &str) -> Self {
        let authority = server.split("//").nth(1).unwrap().split('/').next().unwrap();
        let host = authority.rsplit('@').next().unwrap();
        let address = tokio::net::lookup_host(host).await.unwrap().find(SocketAddr::is_ipv4).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let proxied = server.replacen(host, &listener.local_addr().unwrap().to_string(), 1);
        let settings: Vec<String> = EXPLAIN.map(|setting| format!("-c%20{}", setting.replace('=', "%3D"))).into();
        let url = format!("{proxied}?sslmode=disable&options={}", settings.join("%20"));
        let buffers = Arc::new(AtomicI64::new(0));
        let shared = buffers.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(address).await.unwrap();
                // Otherwise the system waits for 40 ms between some of the messages.
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                let ((mut from_client, to_client), (from_server, mut to_server)) =
                    (client.into_split(), server.into_split());
                tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
                tokio::spawn(relay_messages(from_server, to_client, shared.clone()));
            }
        });
        Self { url, buffers }
    }

    /// The buffers that statements have read since the last call.
    pub(crate) fn take(&self) -> i64 {
        self.buffers.swap(0, Ordering::SeqCst)
    }
}

/// Passes the server's messages on, and counts the buffers in the notices before the client gets them.
async fn relay_messages(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    buffers: Arc<AtomicI64>,
) -> std::io::Result<()> {
    loop {
        let mut head = [0; 5];
        server.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut body = vec![0; length - 4];
        server.read_exact(&mut body).await?;
        if head[0] == b'N' {
            buffers.fetch_add(explained_buffers(&body).unwrap_or(0), Ordering::SeqCst);
        }
        client.write_all(&[&head[..], &body].concat()).await?;
    }
}

/// The buffers that a notice of `auto_explain` names. The fields of a notice each begin with a letter, `M` for the text,
/// and end with a zero.
fn explained_buffers(notice: &[u8]) -> Option<i64> {
    let text = notice.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"M"))?;
    let json = text.iter().position(|byte| *byte == b'{').map(|start| &text[start..])?;
    let explained: Value = serde_json::from_slice(json).ok()?;
    let blocks = |name: &str| explained["Plan"][name].as_i64();
    Some(blocks("Shared Hit Blocks")? + blocks("Shared Read Blocks")?)
}
