//! Waiting at the start for services that aren't there yet: where all are started at once, nobody has to know in which
//! order.

use std::fmt::Display;
use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;

/// For how long they are waited for.
const LIMIT: Duration = Duration::from_secs(60);
/// After how long it is said that one waits.
const SOON: Duration = Duration::from_secs(2);
/// How long after a try in vain the next one comes.
const PAUSE: Duration = Duration::from_secs(1);

/// Tries until it works, is worth no other try, or has taken a minute.
///
/// # Errors
/// That of the last try.
pub(crate) async fn wait_for<T, E: Display, F: Future<Output = Result<T, E>>>(
    service: &str,
    attempt: impl Fn() -> F,
    is_worth_another: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let mut trying = pin!(attempt());
        let tried = match tokio::time::timeout(SOON, &mut trying).await {
            Ok(tried) => tried,
            Err(_) => {
                tracing::warn!("{service} doesn't answer; it is waited for");
                trying.await
            }
        };
        let error = match tried {
            Ok(there) => return Ok(there),
            Err(error) => error,
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || !is_worth_another(&error) {
            return Err(error);
        }
        tracing::warn!(%error, left_seconds = left.as_secs(), "{service} isn't there yet; trying again");
        tokio::time::sleep(PAUSE).await;
    }
}
