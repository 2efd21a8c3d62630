//! Metrics of the operations on Postgres.

use tokio::time::Instant;

/// Counts an operation under its name, and records how long it took when it is dropped.
pub(crate) struct OperationTimer {
    operation: &'static str,
    started: Instant,
}

impl OperationTimer {
    /// Counts an operation that begins now.
    pub(crate) fn start(operation: &'static str) -> Self {
        metrics::counter!("postgres_queries_total", "operation" => operation).increment(1);
        Self { operation, started: Instant::now() }
    }
}

impl Drop for OperationTimer {
    fn drop(&mut self) {
        let elapsed = self.started.elapsed();
        metrics::histogram!("postgres_query_duration_seconds", "operation" => self.operation).record(elapsed);
    }
}
