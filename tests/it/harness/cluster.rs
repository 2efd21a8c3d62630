//! Two processes of each role behind nginx, which a test restarts one after the other, also as another release, kills or
//! freezes.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use service::config::Config;

use super::nginx::Nginx;
use super::process::{Release, ServiceProcess, command_of, free_port};

/// How long nginx passes over a process that refused a connection; see `deploy/nginx.conf`.
const NGINX_FAIL_TIMEOUT: Duration = Duration::from_secs(1);
pub(crate) const ROLES: [&str; 4] = ["command-api", "query-api", "realtime", "projector"];

/// A system of two processes of each role behind nginx.
pub(crate) struct Cluster {
    pub(crate) config: Config,
    pub(crate) nginx: Nginx,
    /// The two processes of a role stand next to each other.
    members: Vec<Member>,
    /// Where the processes write their logs; with those of the test, if there is none.
    logs: Option<PathBuf>,
}

struct Member {
    port: u16,
    role: &'static str,
    process: ServiceProcess,
}

/// The first or the second process of each role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
        Self::logging(config, release, None).await
    }

    /// Like [`Self::start`]. Each process adds its log to a file of its own in a folder.
    pub(crate) async fn logging(config: &Config, release: Release, logs: Option<PathBuf>) -> Self {
        let mut ports = [0; 2 * ROLES.len()];
        ports.fill_with(free_port);
        let at = |index: usize| [index, index + 1].map(|index| SocketAddr::from(([127, 0, 0, 1], ports[index])));
        let nginx = Nginx::start(at(0), at(2), at(4)).await;
        let config = Config { query_api_url: Some(nginx.internal_url.clone()), ..config.clone() };
        let mut cluster = Self { config, nginx, members: Vec::new(), logs };
        for (index, port) in ports.into_iter().enumerate() {
            let role = ROLES[index / 2];
            let process = cluster.spawn(release, port, role);
            cluster.members.push(Member { port, role, process });
        }
        for member in &mut cluster.members {
            member.process.ready().await;
        }
        cluster
    }

    /// One of the two processes of a role.
    pub(crate) fn process(&mut self, role: &str, half: Half) -> &mut ServiceProcess {
        let mut of_role = self.members.iter_mut().filter(|member| member.role == role);
        &mut of_role.nth(half as usize).expect("each role has two processes").process
    }

    /// Starts a killed process of a role again, and doesn't wait until it is ready.
    pub(crate) fn start_again(&mut self, role: &str, half: Half) {
        let of_role = |member: &Member| member.role == role;
        let index = self.members.iter().position(of_role).expect("there is such a role") + half as usize;
        let Member { port, role, .. } = self.members[index];
        self.members[index].process = self.spawn(Release::Current, port, role);
    }

    /// The name and the URL of each process, past nginx.
    pub(crate) fn processes(&self) -> Vec<(String, String)> {
        let numbered = self.members.iter().enumerate();
        numbered.map(|(index, it)| (format!("{}-{}", it.role, index % 2 + 1), it.process.url.clone())).collect()
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
            let mut process = self.spawn(release, port, role);
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

    fn spawn(&self, release: Release, port: u16, role: &str) -> ServiceProcess {
        let mut command = command_of(release, &self.config, &[role]);
        if let Some(url) = &self.config.query_api_url {
            command.env("QUERY_API_URL", url);
        }
        if let Some(folder) = &self.logs {
            let log =
                File::options().create(true).append(true).open(folder.join(format!("{role}-{port}.log"))).unwrap();
            command.stdout(log.try_clone().unwrap()).stderr(log);
        }
        ServiceProcess::of(command, port)
    }
}
