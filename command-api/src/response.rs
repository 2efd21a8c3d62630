//! The HTTP responses to commands.

use axum::Json;
use axum::response::{IntoResponse, Response};
use cache::LimitState;
use domain::{Event, EventData, Position};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use service::problem::Problem;
use service::response::DataResponse;

const POSITION: HeaderName = HeaderName::from_static("messages-position");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// A command that was executed, by this request or by an earlier one with its key.
pub(crate) struct CommandOutcome {
    pub(crate) event: Event,
    /// The position from which on the effect is visible; none if nothing is on the log of record.
    pub(crate) position: Option<Position>,
    pub(crate) replayed: bool,
    pub(crate) limit: Option<LimitState>,
}

impl IntoResponse for CommandOutcome {
    fn into_response(self) -> Response {
        let location = match &self.event.data {
            EventData::MessageSent(sent) => Some(format!("/api/messages/{}", sent.message_id)),
            EventData::ConversationCreated { .. } => Some(format!("/api/conversations/{}", self.event.conversation_id)),
            _ => None,
        };
        let mut headers = HeaderMap::new();
        if let Some(position) = &self.position {
            put(&mut headers, POSITION, &position.to_string());
        }
        if let Some(location) = location.filter(|_| !self.replayed) {
            put(&mut headers, header::LOCATION, &location);
        }
        if self.replayed {
            put(&mut headers, REPLAYED, "true");
        }
        if let Some(limit) = &self.limit {
            put_limit(&mut headers, limit);
        }
        let status = if self.replayed { StatusCode::OK } else { status(&self.event.data) };
        (status, headers, Json(DataResponse { data: domain::response::data(&self.event) })).into_response()
    }
}

fn status(data: &EventData) -> StatusCode {
    match data {
        EventData::ConversationCreated { .. } | EventData::MessageSent(_) | EventData::ReactionAdded { .. } => {
            StatusCode::CREATED
        }
        EventData::TypingStart {} | EventData::TypingStop {} => StatusCode::ACCEPTED,
        _ => StatusCode::OK,
    }
}

/// Puts a value of plain ASCII.
fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// `RateLimit-Limit`, `-Remaining` and `-Reset` (in seconds): the most widely used form of the IETF's draft.
fn put_limit(headers: &mut HeaderMap, limit: &LimitState) {
    put(headers, HeaderName::from_static("ratelimit-limit"), &limit.max.to_string());
    put(headers, HeaderName::from_static("ratelimit-remaining"), &limit.remaining.to_string());
    put(headers, HeaderName::from_static("ratelimit-reset"), &seconds(limit).to_string());
}

/// Whole seconds until the window ends, rounded up: a client that waits for them waits long enough.
fn seconds(limit: &LimitState) -> u64 {
    u64::try_from(limit.reset.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX)
}

/// The problem of a command that has been counted against a limit.
pub(crate) fn counted(mut problem: Problem, limit: &LimitState) -> Problem {
    put_limit(problem.headers_mut(), limit);
    problem
}

/// The 429 for a user who is over a limit.
pub(crate) fn limited(limit: &LimitState) -> Problem {
    let retry_after = seconds(limit).max(1);
    let detail = format!("at most {} of these are allowed in a window; try again in {retry_after} s", limit.max);
    counted(Problem::too_many_requests("rate_limited", detail, retry_after), limit)
}
