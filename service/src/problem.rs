//! Problems: errors as clients see them (RFC 9457).
//!
//! A problem tells the client what to do. It must never reveal an internal error: the code that meets one logs it.

use ::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::{FieldError, Rejection};
use serde::Serialize;
use utoipa::ToSchema;

/// The JSON of a problem.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Problem)]
pub struct ProblemBody<'a> {
    /// `code` as a URN.
    #[serde(rename = "type")]
    #[schema(example = "urn:messages:problem:required")]
    kind: String,
    /// The reason phrase of the HTTP status.
    #[schema(example = "Unprocessable Entity")]
    title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599, example = 422)]
    status: u16,
    /// What went wrong. Stable, for programs. If a request body has a single error, this is the code of that error.
    #[schema(example = "required")]
    code: &'static str,
    /// What went wrong and what to do. For people; the wording may change.
    #[schema(example = "the request body is invalid")]
    detail: &'a str,
    /// Each invalid field, parameter or header.
    errors: &'a [FieldError],
    /// The id of the request. The server's log lines about the request have it, too.
    #[schema(example = "0193a5c0-7d2e-7c3a-9b1f-2f6d1c0e8a47")]
    request_id: &'a str,
}

/// The detail of 503 `projection_behind`.
pub(crate) const PROJECTION_BEHIND: &str = "the read model has not caught up yet; try again";
/// The detail of 503 `unavailable`.
pub(crate) const DEPENDENCY_UNAVAILABLE: &str = "a service that this request needs is unavailable; try again";
/// The detail of 503 `append_refused`.
pub const APPEND_REFUSED: &str = "the command was not executed; try again";
/// The detail of 503 `append_unknown`.
pub const APPEND_UNKNOWN: &str = "the command may have been executed; try again with the same Idempotency-Key";
/// The detail of 409 `job_at_work`.
pub const JOB_AT_WORK: &str = "another rebuild or verification waits or runs; wait until it has ended, or cancel it";
/// The detail of 409 `wrong_status` for a dead letter.
pub const WRONG_STATUS: &str = "the dead letter's status doesn't allow that; nothing was changed";
/// The detail of 409 `too_large`.
const TOO_LARGE: &str = "this takes more of the log, or more rows, than a request may read; use `messages replay --fold` or `messages verify`";
/// The detail of 503 `busy`.
const BUSY: &str = "too many requests of this kind are under way; try again";

/// An error response: its status, code, detail, field errors and headers.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    errors: Vec<FieldError>,
    headers: Box<HeaderMap>,
}

impl Problem {
    /// A problem with any status and code.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), errors: Vec::new(), headers: Box::default() }
    }

    /// 400: a header is invalid.
    pub fn invalid_header(name: &'static str, code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, format!("the header {name} is invalid"))
            .with_errors(vec![FieldError::new(name, code, detail)])
    }

    /// 400: a path or query parameter is invalid.
    pub fn invalid_parameter(name: &str, code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, format!("the parameter {name} is invalid"))
            .with_errors(vec![FieldError::new(name, code, detail)])
    }

    /// 422: fields of the body are invalid.
    pub fn invalid_body(errors: Vec<FieldError>) -> Self {
        // A client can react to a single error without reading the list.
        let code = match errors.as_slice() {
            [error] => error.code,
            _ => "invalid_body",
        };
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, "the request body is invalid").with_errors(errors)
    }

    /// 401: the token is missing, expired or invalid.
    pub fn unauthorized(code: &'static str, detail: &str) -> Self {
        // RFC 6750, section 3.1: the challenge for a request without a token has no error code.
        let challenge = match code {
            "missing_token" => "Bearer".to_owned(),
            _ => format!("Bearer error=\"invalid_token\", error_description=\"{code}\""),
        };
        Self::new(StatusCode::UNAUTHORIZED, code, detail).with_header(header::WWW_AUTHENTICATE, &challenge)
    }

    /// 404: nothing has this id, or the caller may not see it.
    pub fn not_found(field: &str) -> Self {
        let detail = "there is nothing with this id that you can see";
        Self::new(StatusCode::NOT_FOUND, "not_found", detail).with_errors(vec![FieldError::new(
            field,
            "not_found",
            detail,
        )])
    }

    /// 409: the request contradicts an earlier one.
    pub fn conflict(code: &'static str, detail: &str) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 429: the caller is over a limit. `retry_after` is in seconds.
    pub fn too_many_requests(code: &'static str, detail: impl Into<String>, retry_after: u64) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, code, detail)
            .with_header(header::RETRY_AFTER, &retry_after.to_string())
    }

    /// 503: the client should try again. `retry_after` is in seconds.
    pub fn unavailable(code: &'static str, detail: impl Into<String>, retry_after: u64) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
            .with_header(header::RETRY_AFTER, &retry_after.to_string())
    }

    /// 503 `projection_behind`: the read model has not reached what the request needs.
    pub fn projection_behind() -> Self {
        Self::unavailable("projection_behind", PROJECTION_BEHIND, 1)
    }

    /// 503 `unavailable`: a service that the request needs doesn't answer.
    pub fn dependency_unavailable() -> Self {
        Self::unavailable("unavailable", DEPENDENCY_UNAVAILABLE, 1)
    }

    /// 409 `too_large`: a request would have to read more of the log, or more rows, than one may.
    pub fn too_large_for_request() -> Self {
        Self::conflict("too_large", TOO_LARGE)
    }

    /// 503 `busy`: too many requests of this kind are under way. `retry_after` is in seconds.
    pub fn busy(retry_after: u64) -> Self {
        Self::unavailable("busy", BUSY, retry_after)
    }

    /// 503 `append_unknown`: Kafka may have the event, or not.
    pub fn append_unknown(detail: &str) -> Self {
        Self::unavailable("append_unknown", detail, 1)
    }

    /// 503 `append_refused`: Kafka certainly doesn't have the event. `retry_after` is in seconds.
    pub fn append_refused(detail: &str, retry_after: u64) -> Self {
        Self::unavailable("append_refused", detail, retry_after)
    }

    /// 413 `event_too_large`: the log doesn't take an event as large as this command's.
    pub fn event_too_large() -> Self {
        let detail = "the log takes no event as large as this command's; nothing was executed, and a retry won't help";
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "event_too_large", detail)
    }

    /// 500: a bug or corrupt data. The code that calls this logs the reason, with the request's id.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "an internal error occurred; the server logged it")
    }

    /// Adds the errors of fields, parameters or headers.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    /// Adds a header to the response.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// The additional headers of the response.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    /// The stable code, for programs.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The JSON, which includes the request's id.
    pub(crate) fn body<'a>(&'a self, request_id: &'a str) -> ProblemBody<'a> {
        ProblemBody {
            kind: format!("urn:messages:problem:{}", self.code),
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            code: self.code,
            detail: &self.detail,
            errors: &self.errors,
            request_id,
        }
    }

    /// The complete response, which includes the request's id.
    pub fn render(&self, request_id: &str) -> Response {
        // By default a cache may keep some errors, such as a 404. But a missing message may appear at any time.
        let headers = [(header::CONTENT_TYPE, "application/problem+json"), (header::CACHE_CONTROL, "no-store")];
        (self.status, (*self.headers).clone(), headers, axum::Json(self.body(request_id))).into_response()
    }
}

/// A response without a body. The middleware renders the problem, because it knows the request's id.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::NotFound(error) => {
                Self::new(StatusCode::NOT_FOUND, "not_found", error.detail.clone()).with_errors(vec![error])
            }
            Rejection::NotAuthor => {
                Self::new(StatusCode::FORBIDDEN, "not_author", "only the author of a message can change it")
            }
            Rejection::MessageDeleted => {
                let error = FieldError::new("messageId", "message_deleted", "the message is deleted");
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "message_deleted", "the message is deleted")
                    .with_errors(vec![error])
            }
            Rejection::Invalid(errors) => Self::invalid_body(errors),
        }
    }
}
