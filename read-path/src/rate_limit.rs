//! The headers and the problem of a limit, the same for commands and queries.

use cache::LimitState;
use http::{HeaderMap, HeaderName, HeaderValue};
use service::problem::Problem;

/// Puts `RateLimit-Limit`, `-Remaining` and `-Reset` (in seconds): the most widely used form of the IETF's draft.
pub fn put_limit(headers: &mut HeaderMap, limit: &LimitState) {
    headers.insert(HeaderName::from_static("ratelimit-limit"), HeaderValue::from(limit.max));
    headers.insert(HeaderName::from_static("ratelimit-remaining"), HeaderValue::from(limit.remaining));
    headers.insert(HeaderName::from_static("ratelimit-reset"), HeaderValue::from(seconds(limit)));
}

/// Whole seconds until the window ends, rounded up: a client that waits for them waits long enough.
fn seconds(limit: &LimitState) -> u64 {
    u64::try_from(limit.reset.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX)
}

/// The problem of a request that has been counted against a limit.
#[must_use]
pub fn counted(mut problem: Problem, limit: &LimitState) -> Problem {
    put_limit(problem.headers_mut(), limit);
    problem
}

/// The 429 for a user who is over a limit.
pub fn limited(limit: &LimitState) -> Problem {
    let retry_after = seconds(limit).max(1);
    let detail = format!("at most {} of these are allowed in a window; try again in {retry_after} s", limit.max);
    counted(Problem::too_many_requests("rate_limited", detail, retry_after), limit)
}
