//! Waits at startup for services that don't answer yet. All processes can be started at once, in any order.

use std::fmt::Display;
use std::pin::pin;
use std::time::Duration;

use backon::{ConstantBuilder, Retryable};
use tokio::time::Instant;

/// How long a process waits for a service. The last attempt may begin as late as this.
const WAIT_LIMIT: Duration = Duration::from_secs(60);

domain::limit_rows! {
    Services, "wait for Kafka, and of a projector for Postgres, when a process starts", Time WAIT_LIMIT, "the process exits with code 1", "operators, who see it";
}
/// An attempt that takes longer than this is logged, and continues.
const SLOW_ATTEMPT: Duration = Duration::from_secs(2);
/// The pause between two attempts.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Repeats an attempt until it succeeds, fails with an error that isn't worth a retry, or a minute has passed.
///
/// # Errors
/// The error of the last attempt.
pub(super) async fn wait_for<T, E: Display, F: Future<Output = Result<T, E>>>(
    service: &str,
    attempt: impl Fn() -> F,
    is_worth_retrying: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let deadline = Instant::now() + WAIT_LIMIT;
    (|| log_if_slow(service, attempt()))
        .retry(ConstantBuilder::default().with_delay(RETRY_INTERVAL).without_max_times())
        .when(|error| Instant::now() < deadline && is_worth_retrying(error))
        .notify(|error, _| {
            let left_seconds = deadline.saturating_duration_since(Instant::now()).as_secs();
            tracing::warn!(%error, left_seconds, "{service} isn't available yet; retrying every second");
        })
        .await
}

async fn log_if_slow<F: Future>(service: &str, attempt: F) -> F::Output {
    let mut attempt = pin!(attempt);
    match tokio::time::timeout(SLOW_ATTEMPT, &mut attempt).await {
        Ok(result) => result,
        Err(_) => {
            tracing::warn!("{service} doesn't answer yet; waiting for it");
            attempt.await
        }
    }
}
