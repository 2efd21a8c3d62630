//! A bad network: a proxy between a client and a server that can stall, cut and refuse connections, let them go dead,
//! delay what the server sends, and slow it down. It can also show what the clients send.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

/// The state of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    Up,
    /// The proxy passes on what the server sends, each piece of at most 4 KiB this much later than the one before.
    Delayed(Duration),
    /// The proxy passes on so many of the server's bytes a second.
    Slow(u32),
    /// The proxy holds back everything that the server sends. Connections stay open.
    Stalled,
    /// The proxy closes the connections that were open at this number of cuts.
    Cut,
    /// The proxy closes every new connection, as if the server were gone.
    Down,
}

impl Network {
    fn passes(self) -> bool {
        matches!(self, Self::Up | Self::Delayed(_) | Self::Slow(_))
    }

    /// How long a piece of this many bytes is on its way.
    fn delay(self, bytes: usize) -> Duration {
        match self {
            Self::Delayed(delay) => delay,
            Self::Slow(bytes_per_second) => Duration::from_secs_f64(bytes as f64 / f64::from(bytes_per_second)),
            _ => Duration::ZERO,
        }
    }
}

/// What the connections of a proxy follow.
#[derive(Debug, Clone, Copy)]
struct Conditions {
    network: Network,
    /// How many times all open connections were closed.
    cuts: u64,
    /// How many times all open connections went dead.
    deaths: u64,
}

/// Gets everything that the client of one connection sends, in order, as it arrives.
pub(crate) type Observer = Box<dyn FnMut(&[u8]) + Send>;

/// A proxy in front of a server.
pub(crate) struct Proxy {
    /// The server's URL, with the address of the proxy.
    pub(crate) url: String,
    network: Arc<watch::Sender<Conditions>>,
    /// Where new connections go.
    server: Arc<Mutex<SocketAddr>>,
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
        let (host, address) = (host_of(server), Arc::new(Mutex::new(address_of(server).await)));
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let url = server.replacen(host, &listener.local_addr().unwrap().to_string(), 1);
        let network = Arc::new(watch::channel(Conditions { network: Network::Up, cuts: 0, deaths: 0 }).0);
        let (shared, holding) = (network.clone(), Arc::new(AtomicBool::new(false)));
        let target = address.clone();
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
                let server = *target.lock().unwrap();
                tokio::spawn(forward(client, server, shared.subscribe(), observer, held));
            }
        });
        Self { url, network, server: address, holding }
    }

    /// Lets new connections go to the server at this URL, as when another one takes over an address. Open ones stay.
    pub(crate) async fn redirect(&self, server: &str) {
        let address = address_of(server).await;
        *self.server.lock().unwrap() = address;
    }

    /// Holds back everything that the server sends, until its buffers are full.
    pub(crate) fn stall(&self) {
        self.network.send_modify(|now| now.network = Network::Stalled);
    }

    /// Delays each piece of what the server sends.
    pub(crate) fn delay(&self, delay: Duration) {
        self.network.send_modify(|now| now.network = Network::Delayed(delay));
    }

    /// Passes on so many of the server's bytes a second.
    pub(crate) fn slow_down(&self, bytes_per_second: u32) {
        self.network.send_modify(|now| now.network = Network::Slow(bytes_per_second));
    }

    /// Lets every open connection go dead: it stays open, but whatever either side sends vanishes. New connections work.
    pub(crate) fn deaden(&self) {
        self.network.send_modify(|now| now.deaths += 1);
    }

    /// Lets everything through again.
    pub(crate) fn restore(&self) {
        self.network.send_modify(|now| now.network = Network::Up);
    }

    /// Closes every connection and refuses new ones.
    pub(crate) fn down(&self) {
        self.network.send_modify(|now| (now.network, now.cuts) = (Network::Down, now.cuts + 1));
    }

    /// Closes every open connection and accepts new ones.
    pub(crate) fn cut(&self) {
        self.network.send_modify(|now| (now.network, now.cuts) = (Network::Cut, now.cuts + 1));
        self.restore();
    }
}

/// The host and the port of a URL.
fn host_of(url: &str) -> &str {
    let authority = url.split("//").nth(1).unwrap().split('/').next().unwrap();
    authority.rsplit('@').next().unwrap()
}

async fn address_of(url: &str) -> SocketAddr {
    tokio::net::lookup_host(host_of(url)).await.unwrap().find(SocketAddr::is_ipv4).unwrap()
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
    network: watch::Receiver<Conditions>,
    mut observer: Observer,
    held: Arc<AtomicBool>,
) {
    let at_first = *network.borrow();
    if at_first.network == Network::Down {
        return;
    }
    let Ok(server) = connect(server).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut cuts = network.clone();
    let up_network = network.clone();
    let up = async {
        let mut bytes = vec![0; 64 << 10];
        loop {
            let count = from_client.read(&mut bytes).await.unwrap_or(0);
            if is_dead(&up_network, at_first) {
                return std::future::pending().await;
            }
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
            let open = down_network.wait_for(|now| now.network.passes()).await.is_ok();
            let count = from_server.read(&mut bytes).await.unwrap_or(0);
            let delay = down_network.borrow().network.delay(count);
            tokio::time::sleep(delay).await;
            // The state may have changed while the server sent nothing.
            let open = open && down_network.wait_for(|now| now.network.passes()).await.is_ok();
            if held.load(Ordering::SeqCst) || is_dead(&down_network, at_first) {
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
        _ = cuts.wait_for(|now| now.cuts > at_first.cuts) => {}
    }
}

/// Whether a connection from when these conditions held has gone dead. Neither side learns even that the other is gone.
fn is_dead(network: &watch::Receiver<Conditions>, at_first: Conditions) -> bool {
    network.borrow().deaths > at_first.deaths
}

/// Starts a server that sends back what it receives, and a proxy in front of it.
#[cfg(test)]
async fn proxied_echo() -> (Proxy, String) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = client.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    let proxy = Proxy::start(&format!("echo://{address}")).await;
    let address = proxy.url.replacen("echo://", "", 1);
    (proxy, address)
}

/// Sends a byte and waits for it. None if nothing comes back.
#[cfg(test)]
async fn echo(connection: &mut TcpStream, patience: Duration) -> Option<u8> {
    connection.write_all(b"x").await.unwrap();
    tokio::time::timeout(patience, connection.read_u8()).await.ok().map(|byte| byte.expect("the connection is open"))
}

#[tokio::test]
async fn a_dead_connection_stays_open_and_new_ones_work() {
    let (proxy, address) = proxied_echo().await;
    let mut old = TcpStream::connect(&address).await.unwrap();
    assert_eq!(echo(&mut old, Duration::from_secs(10)).await, Some(b'x'));
    proxy.deaden();
    assert_eq!(echo(&mut old, Duration::from_millis(200)).await, None);
    let mut new = TcpStream::connect(&address).await.unwrap();
    assert_eq!(echo(&mut new, Duration::from_secs(10)).await, Some(b'x'));
}

#[tokio::test]
async fn a_delayed_or_slow_network_passes_everything_later() {
    let (proxy, address) = proxied_echo().await;
    let mut connection = TcpStream::connect(&address).await.unwrap();
    for (slow_down, least) in [(true, 100), (false, 150)] {
        if slow_down {
            proxy.slow_down(10)
        } else {
            proxy.delay(Duration::from_millis(150))
        }
        let began = std::time::Instant::now();
        assert_eq!(echo(&mut connection, Duration::from_secs(10)).await, Some(b'x'));
        assert!(began.elapsed() >= Duration::from_millis(least));
    }
}
