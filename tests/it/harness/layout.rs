//! The services of a system under test, in one of two layouts: all roles in one process, or one role per process.
//!
//! `MESSAGES_TEST_LAYOUT=apart` starts two processes of each role behind the nginx configuration that is shipped. These
//! "processes" share the test's operating system process, but each has its own address, connections and state. A test
//! of the contract must pass in both layouts.

use messages::process::{self, Process, Roles};
use service::config::Config;
use service::lifecycle;
use tokio::net::TcpSocket;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::nginx::Nginx;

/// The running services. They stop when the test ends, also when it panics.
pub(super) struct Services {
    processes: Vec<Process>,
    /// How many of the processes have the role `projector`.
    pub(super) projectors: usize,
    stop: DropGuard,
    /// The URL for clients.
    pub(super) url: String,
    _nginx: Option<Nginx>,
}

impl Services {
    /// Starts all roles, in the layout of this run.
    pub(super) async fn start(config: &Config) -> Self {
        match std::env::var("MESSAGES_TEST_LAYOUT").as_deref() {
            Ok("apart") => Self::start_apart(config).await,
            Ok("all") | Err(_) => Self::start_one(config, Roles::ALL).await,
            Ok(other) => panic!("MESSAGES_TEST_LAYOUT must be all or apart, not {other}"),
        }
    }

    /// Starts some roles in one process.
    pub(super) async fn start_one(config: &Config, roles: Roles) -> Self {
        let shutdown = CancellationToken::new();
        let process = process::start(config, roles, bound_socket(), shutdown.clone()).await.unwrap();
        let url = format!("http://{}", process.address());
        let projectors = usize::from(roles == Roles::ALL || roles == Roles::PROJECTOR);
        Self { processes: vec![process], projectors, stop: shutdown.drop_guard(), url, _nginx: None }
    }

    /// Starts two processes of each role, behind nginx.
    async fn start_apart(config: &Config) -> Self {
        let mut sockets = Vec::new();
        for roles in [Roles::COMMAND_API, Roles::QUERY_API, Roles::REALTIME, Roles::PROJECTOR] {
            for _ in 0..2 {
                sockets.push((roles, bound_socket()));
            }
        }
        let addresses_of = |roles| {
            let of_role = sockets.iter().filter(|(listed, _)| *listed == roles);
            let addresses: Vec<_> = of_role.map(|(_, socket)| socket.local_addr().unwrap()).collect();
            <[_; 2]>::try_from(addresses).unwrap()
        };
        let nginx = Nginx::start(
            addresses_of(Roles::COMMAND_API),
            addresses_of(Roles::QUERY_API),
            addresses_of(Roles::REALTIME),
        )
        .await;
        let mut config = config.clone();
        config.query_api_url = Some(nginx.internal_url.clone());
        let shutdown = CancellationToken::new();
        let starts = sockets.into_iter().map(|(roles, socket)| {
            let (config, shutdown) = (config.clone(), shutdown.clone());
            tokio::spawn(async move { process::start(&config, roles, socket, shutdown).await.unwrap() })
        });
        let mut processes = Vec::new();
        for start in starts.collect::<Vec<_>>() {
            processes.push(start.await.unwrap());
        }
        Self { processes, projectors: 2, stop: shutdown.drop_guard(), url: nginx.url.clone(), _nginx: Some(nginx) }
    }

    /// Whether every relay has passed a position.
    pub(super) fn relayed(&self, position: domain::Position) -> bool {
        self.processes.iter().filter_map(Process::relayed).all(|relayed| relayed.includes(position))
    }

    /// Shuts the processes down gracefully and waits until they have ended.
    pub(super) async fn stop(self) {
        drop(self.stop);
        for process in self.processes {
            process.finished().await.unwrap();
        }
    }
}

/// A socket on a free port, bound before the process starts: nginx needs the address first.
fn bound_socket() -> TcpSocket {
    lifecycle::bind(([127, 0, 0, 1], 0).into()).unwrap()
}
