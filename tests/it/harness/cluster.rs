//! Two processes of each role behind nginx, which a test restarts one after the other, also as another release.

use std::net::SocketAddr;
use std::time::Duration;

use service::config::Config;

use super::nginx::Nginx;
use super::process::{Release, ServiceProcess, command_of, free_port};

/// How long nginx passes over a process that refused a connection; see `deploy/nginx.conf`.
const NGINX_FAIL_TIMEOUT: Duration = Duration::from_secs(1);
const ROLES: [&str; 4] = ["command-api", "query-api", "realtime", "projector"];

/// A system of two processes of each role behind nginx.
pub(crate) struct Cluster {
    pub(crate) config: Config,
    pub(crate) nginx: Nginx,
    /// The two processes of a role stand next to each other.
    members: Vec<Member>,
}

struct Member {
    port: u16,
    role: &'static str,
    process: ServiceProcess,
}

/// The first or the second process of each role.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Half {
    First,
    Second,
}

/// How long a process took to stop.
#[derive(Debug)]
pub(crate) struct Stop {
    /// For the message of a failure.
    #[expect(dead_code, reason = "printed with Debug")]
    role: &'static str,
    pub(crate) took: Duration,
}

impl Cluster {
    /// Starts all processes as this release.
    pub(crate) async fn start(config: &Config, release: Release) -> Self {
        let mut ports = [0; 2 * ROLES.len()];
        ports.fill_with(free_port);
        let at = |index: usize| [index, index + 1].map(|index| SocketAddr::from(([127, 0, 0, 1], ports[index])));
        let nginx = Nginx::start(at(0), at(2), at(4)).await;
        let config = Config { query_api_url: Some(nginx.internal_url.clone()), ..config.clone() };
        let mut members = Vec::new();
        for (index, port) in ports.into_iter().enumerate() {
            let role = ROLES[index / 2];
            members.push(Member { port, role, process: spawn(release, port, &config, role) });
        }
        for member in &mut members {
            member.process.ready().await;
        }
        Self { config, nginx, members }
    }

    /// Restarts one process after the other, as the documentation describes it.
    pub(crate) async fn restart_all(&mut self) -> Vec<Stop> {
        self.restart(0..self.members.len(), Release::Current).await
    }

    /// Restarts one process of each role as this release.
    pub(crate) async fn restart_half(&mut self, half: Half, release: Release) -> Vec<Stop> {
        self.restart((half as usize..self.members.len()).step_by(2), release).await
    }

    async fn restart(&mut self, indexes: impl Iterator<Item = usize>, release: Release) -> Vec<Stop> {
        let mut stops = Vec::new();
        for index in indexes {
            let Member { port, role, process } = self.members.remove(index);
            stops.push(Stop { role, took: process.stop().await });
            let mut process = spawn(release, port, &self.config, role);
            process.ready().await;
            self.members.insert(index, Member { port, role, process });
            tokio::time::sleep(NGINX_FAIL_TIMEOUT).await;
        }
        stops
    }

    /// The URLs of both processes of a role, past nginx.
    pub(crate) fn urls(&self, role: &str) -> [&str; 2] {
        let of_role = self.members.iter().filter(|member| member.role == role);
        let urls: Vec<&str> = of_role.map(|member| member.process.url.as_str()).collect();
        urls.try_into().unwrap()
    }
}

fn spawn(release: Release, port: u16, config: &Config, role: &str) -> ServiceProcess {
    let mut command = command_of(release, config, &[role]);
    if let Some(url) = &config.query_api_url {
        command.env("QUERY_API_URL", url);
    }
    ServiceProcess::of(command, port)
}
