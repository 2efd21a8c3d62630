//! A bad network: a proxy between a client and a server that can stall, cut and refuse connections. It can also show
//! what the clients send.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

/// The state of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    Up,
    /// The proxy holds back everything that the server sends. Connections stay open.
    Stalled,
    /// The proxy closes the connections that were open at this number of cuts.
    Cut,
    /// The proxy closes every new connection, as if the server were gone.
    Down,
}

/// Gets everything that the client of one connection sends, in order, as it arrives.
pub(crate) type Observer = Box<dyn FnMut(&[u8]) + Send>;

/// A proxy in front of a server.
pub(crate) struct Proxy {
    /// The server's URL, with the address of the proxy.
    pub(crate) url: String,
    network: Arc<watch::Sender<(Network, u64)>>,
    /// Whether a connection has sent the text from which on the server's answers are held back.
    holding: Arc<AtomicBool>,
}

impl Proxy {
    /// Starts a proxy to the server at this URL, on a free port.
    pub(crate) async fn start(server: &str) -> Self {
        Self::at(0, server).await
    }

    /// Starts a proxy to the server at this URL, on this port.
    pub(crate) async fn at(port: u16, server: &str) -> Self {
        Self::observed(port, server, || Box::new(|_| {})).await
    }

    /// Starts a proxy to the server at this URL, on this port. Each connection gets an observer of its own.
    pub(crate) async fn observed(port: u16, server: &str, observer: impl Fn() -> Observer + Send + 'static) -> Self {
        Self::with(port, server, observer, None).await
    }

    /// Starts a proxy to the server at this URL. A connection on which the client has sent this text gets no more
    /// answers, but stays open.
    pub(crate) async fn holding_after(text: &'static str, server: &str) -> Self {
        Self::with(0, server, || Box::new(|_| {}), Some(text)).await
    }

    /// Whether a connection gets no more answers because of the text that its client sent.
    pub(crate) fn is_holding(&self) -> bool {
        self.holding.load(Ordering::SeqCst)
    }

    async fn with(
        port: u16,
        server: &str,
        observer: impl Fn() -> Observer + Send + 'static,
        hold_after: Option<&'static str>,
    ) -> Self {
        let authority = server.split("//").nth(1).unwrap().split('/').next().unwrap();
        let host = authority.rsplit('@').next().unwrap();
        let address = tokio::net::lookup_host(host).await.unwrap().find(SocketAddr::is_ipv4).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let url = server.replacen(host, &listener.local_addr().unwrap().to_string(), 1);
        let network = Arc::new(watch::channel((Network::Up, 0)).0);
        let (shared, holding) = (network.clone(), Arc::new(AtomicBool::new(false)));
        let any_holds = holding.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let held = Arc::new(AtomicBool::new(false));
                let (mut observer, any_holds, observed) = (observer(), any_holds.clone(), held.clone());
                let observer: Observer = Box::new(move |bytes| {
                    if hold_after.is_some_and(|text| String::from_utf8_lossy(bytes).contains(text)) {
                        observed.store(true, Ordering::SeqCst);
                        any_holds.store(true, Ordering::SeqCst);
                    }
                    observer(bytes);
                });
                tokio::spawn(forward(client, address, shared.subscribe(), observer, held));
            }
        });
        Self { url, network, holding }
    }

    /// Holds back everything that the server sends, until its buffers are full.
    pub(crate) fn stall(&self) {
        self.network.send_modify(|network| network.0 = Network::Stalled);
    }

    /// Lets everything through again.
    pub(crate) fn restore(&self) {
        self.network.send_modify(|network| network.0 = Network::Up);
    }

    /// Closes every connection and refuses new ones.
    pub(crate) fn down(&self) {
        self.network.send_modify(|network| *network = (Network::Down, network.1 + 1));
    }

    /// Closes every open connection and accepts new ones.
    pub(crate) fn cut(&self) {
        self.network.send_modify(|network| *network = (Network::Cut, network.1 + 1));
        self.restore();
    }
}

/// Connects with a small receive buffer: the server soon notices that a stalled client reads nothing.
async fn connect(server: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(16 << 10)?;
    socket.connect(server).await
}

async fn forward(
    client: TcpStream,
    server: SocketAddr,
    network: watch::Receiver<(Network, u64)>,
    mut observer: Observer,
    held: Arc<AtomicBool>,
) {
    if network.borrow().0 == Network::Down {
        return;
    }
    let Ok(server) = connect(server).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut cuts = network.clone();
    let cuts_before = cuts.borrow().1;
    let up = async {
        let mut bytes = vec![0; 64 << 10];
        loop {
            let count = from_client.read(&mut bytes).await.unwrap_or(0);
            observer(&bytes[..count]);
            if count == 0 || to_server.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    let mut down_network = network;
    let down = async {
        let mut bytes = vec![0; 4 << 10];
        loop {
            let open = down_network.wait_for(|(network, _)| *network == Network::Up).await.is_ok();
            let count = from_server.read(&mut bytes).await.unwrap_or(0);
            // The state may have changed while the server sent nothing.
            let open = open && down_network.wait_for(|(network, _)| *network == Network::Up).await.is_ok();
            if held.load(Ordering::SeqCst) {
                return std::future::pending().await;
            }
            if !open || count == 0 || to_client.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
        _ = cuts.wait_for(|(_, cuts)| *cuts > cuts_before) => {}
    }
}
