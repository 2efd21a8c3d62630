//! A bad network: a proxy between a client and a server that can stall and cut what goes through it.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

/// How the network behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weather {
    Fine,
    /// Nothing from the server gets through; connections stay.
    Stalled,
    /// All connections of this number of cuts or less are closed.
    Cut,
    /// As if nobody were there.
    Down,
}

/// A proxy in front of a server.
pub(crate) struct Proxy {
    /// The server's, but through the proxy.
    pub(crate) url: String,
    weather: Arc<watch::Sender<(Weather, u64)>>,
}

impl Proxy {
    /// Begins to pass on to the server at this URL.
    pub(crate) async fn start(server: &str) -> Self {
        Self::at(0, server).await
    }

    /// The same on this port.
    pub(crate) async fn at(port: u16, server: &str) -> Self {
        let authority = server.split("//").nth(1).unwrap().split('/').next().unwrap();
        let host = authority.rsplit('@').next().unwrap();
        let address = tokio::net::lookup_host(host).await.unwrap().find(SocketAddr::is_ipv4).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let url = server.replacen(host, &listener.local_addr().unwrap().to_string(), 1);
        let weather = Arc::new(watch::channel((Weather::Fine, 0)).0);
        let shared = weather.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, address, shared.subscribe()));
            }
        });
        Self { url, weather }
    }

    /// From now on nothing comes from the server: its buffers fill.
    pub(crate) fn stall(&self) {
        self.weather.send_modify(|weather| weather.0 = Weather::Stalled);
    }

    /// From now on all goes through again.
    pub(crate) fn restore(&self) {
        self.weather.send_modify(|weather| weather.0 = Weather::Fine);
    }

    /// From now on there are no connections.
    pub(crate) fn down(&self) {
        self.weather.send_modify(|weather| *weather = (Weather::Down, weather.1 + 1));
    }

    /// Ends every connection that is open now.
    pub(crate) fn cut(&self) {
        self.weather.send_modify(|weather| *weather = (Weather::Cut, weather.1 + 1));
        self.restore();
    }
}

/// With a small buffer of the proxy's own: what a stalled client doesn't take is felt by the server.
async fn connect(server: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(16 << 10)?;
    socket.connect(server).await
}

async fn pass(client: TcpStream, server: SocketAddr, weather: watch::Receiver<(Weather, u64)>) {
    if weather.borrow().0 == Weather::Down {
        return;
    }
    let Ok(server) = connect(server).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut cuts = weather.clone();
    let begun = cuts.borrow().1;
    let up = async { tokio::io::copy(&mut from_client, &mut to_server).await };
    let mut down_weather = weather;
    let down = async {
        let mut bytes = vec![0; 4 << 10];
        loop {
            let calm = down_weather.wait_for(|(weather, _)| *weather == Weather::Fine).await.is_ok();
            let count = from_server.read(&mut bytes).await.unwrap_or(0);
            // It may have changed while nothing came.
            let calm = calm && down_weather.wait_for(|(weather, _)| *weather == Weather::Fine).await.is_ok();
            if !calm || count == 0 || to_client.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = up => {}
        () = down => {}
        _ = cuts.wait_for(|(_, cuts)| *cuts > begun) => {}
    }
}
