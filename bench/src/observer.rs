//! Observes what a measured process costs: CPU times of everything that takes part, and the process's counters.

use std::net::SocketAddr;

use crate::counters;
use crate::options::Services;
use crate::proc::stat;
use crate::proc::usage::ServicePids;
use crate::server::Server;
use crate::totals::Totals;

/// Observes one process and the three services.
#[derive(Clone, Copy)]
pub(crate) struct Observer {
    services: ServicePids,
    pid: Option<u32>,
    address: SocketAddr,
}

impl Observer {
    pub(crate) fn new(services: &Services, server: &Server) -> Self {
        Self { services: ServicePids::find(services), pid: server.pid(), address: server.address }
    }

    /// The CPU times until now, in milliseconds.
    ///
    /// # Errors
    /// When the runtime is shutting down.
    pub(crate) async fn cpu_times(self) -> anyhow::Result<Totals> {
        Ok(tokio::task::spawn_blocking(move || self.services.cpu_times(self.pid)).await?)
    }

    /// The counters until now. Reading them costs the process CPU time.
    pub(crate) async fn counters(self) -> Totals {
        counters::read(self.address).await
    }

    /// The memory of the process that is in RAM, in MiB.
    pub(crate) fn resident_mib(self) -> Option<f64> {
        Some(stat::resident_kib(self.pid?)? / 1_024.0)
    }
}
