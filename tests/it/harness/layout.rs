//! The services of a system in this process, in one of two layouts: all in one, or as large systems run them.
//!
//! `MESSAGES_TEST_LAYOUT=apart` starts two processes of each role (as far as `messages` is concerned: each with its own
//! address, connections and state) behind the nginx that is shipped. What holds for clients holds in both.

use messages::process::{self, Process, Roles};
use service::config::Config;
use service::lifecycle;
use tokio::net::TcpSocket;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::nginx::Nginx;

/// Services that run. They stop when the test ends, however it ends.
pub(super) struct Services {
    processes: Vec<Process>,
    /// How many of them project.
    pub(super) projectors: usize,
    stop: DropGuard,
    /// Where clients ask.
    pub(super) url: String,
    _nginx: Option<Nginx>,
}

impl Services {
    /// All of them, in the layout of this run.
    pub(super) async fn all(config: &Config) -> Self {
        match std::env::var("MESSAGES_TEST_LAYOUT").as_deref() {
            Ok("apart") => Self::apart(config).await,
            Ok("all") | Err(_) => Self::one(config, Roles::ALL).await,
            Ok(other) => panic!("MESSAGES_TEST_LAYOUT is {other}, not all or apart"),
        }
    }

    /// Some of them in one process.
    pub(super) async fn one(config: &Config, roles: Roles) -> Self {
        let shutdown = CancellationToken::new();
        let process = process::start(config, roles, bound(), shutdown.clone()).await.unwrap();
        let url = format!("http://{}", process.address());
        let projectors = usize::from(roles == Roles::ALL || roles == Roles::PROJECTOR);
        Self { processes: vec![process], projectors, stop: shutdown.drop_guard(), url, _nginx: None }
    }

    /// Two of each, behind nginx.
    pub(super) async fn apart(config: &Config) -> Self {
        let mut sockets = Vec::new();
        for roles in [Roles::COMMAND_API, Roles::QUERY_API, Roles::REALTIME, Roles::PROJECTOR] {
            for _ in 0..2 {
                sockets.push((roles, bound()));
            }
        }
        let at = |roles| {
            let of_role = sockets.iter().filter(|(listed, _)| *listed == roles);
            let addresses: Vec<_> = of_role.map(|(_, socket)| socket.local_addr().unwrap()).collect();
            <[_; 2]>::try_from(addresses).unwrap()
        };
        let nginx = Nginx::start(at(Roles::COMMAND_API), at(Roles::QUERY_API), at(Roles::REALTIME)).await;
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

    /// Whether every relay among them has passed a position.
    pub(super) fn relayed(&self, position: domain::Position) -> bool {
        self.processes.iter().filter_map(Process::relayed).all(|relayed| relayed.includes(position))
    }

    /// Stops them in good order and waits for them.
    pub(super) async fn stop(self) {
        drop(self.stop);
        for process in self.processes {
            process.finished().await.unwrap();
        }
    }
}

fn bound() -> TcpSocket {
    lifecycle::bind(([127, 0, 0, 1], 0).into()).unwrap()
}
