//! The HTTP responses to commands.

use axum::Json;
use axum::response::{IntoResponse, Response};
use cache::LimitState;
use domain::{Event, EventData, Position};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use read_path::rate_limit::put_limit;
pub(crate) use read_path::rate_limit::{counted, limited};
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
