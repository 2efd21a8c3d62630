//! Answers to commands.

use axum::Json;
use axum::response::{IntoResponse, Response};
use cache::LimitState;
use domain::{Event, EventData, Position};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use service::envelope::Whole;
use service::problem::Problem;

const POSITION: HeaderName = HeaderName::from_static("messages-position");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// A command that was done, now or by an earlier request with its key.
pub(crate) struct Done {
    pub(crate) event: Event,
    /// From where on the effect is visible; none where nothing is on the log of record.
    pub(crate) position: Option<Position>,
    pub(crate) replayed: bool,
    pub(crate) limit: Option<LimitState>,
}

impl IntoResponse for Done {
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
            limit_headers(&mut headers, limit);
        }
        let status = if self.replayed { StatusCode::OK } else { status(&self.event.data) };
        (status, headers, Json(Whole { data: domain::answer::data(&self.event) })).into_response()
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

/// Puts a value that is known to be plain ASCII.
fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// `RateLimit-*`, in the form of the IETF's draft that is in use most widely: three headers, reset in seconds.
fn limit_headers(headers: &mut HeaderMap, limit: &LimitState) {
    put(headers, HeaderName::from_static("ratelimit-limit"), &limit.most.to_string());
    put(headers, HeaderName::from_static("ratelimit-remaining"), &limit.remaining.to_string());
    put(headers, HeaderName::from_static("ratelimit-reset"), &seconds(limit).to_string());
}

/// Whole seconds until the window ends, rounded up so that waiting them is enough.
fn seconds(limit: &LimitState) -> u64 {
    u64::try_from(limit.reset.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX)
}

/// A problem of a command that was counted.
pub(crate) fn counted(mut problem: Problem, limit: &LimitState) -> Problem {
    limit_headers(problem.headers_mut(), limit);
    problem
}

/// A 429.
pub(crate) fn limited(limit: &LimitState) -> Problem {
    let retry_after = seconds(limit).max(1);
    let detail = format!("at most {} of these in the window; try again in {retry_after} s", limit.most);
    counted(Problem::too_many_requests("rate_limited", detail, retry_after), limit)
}
