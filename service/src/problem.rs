//! Problems: errors as clients see them (RFC 9457). What happened inside is logged where it happened, and
//! never shown.

use ::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::{FieldError, Rejection};
use serde::Serialize;
use utoipa::ToSchema;

/// A problem's JSON.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Problem)]
pub struct ProblemBody<'a> {
    /// The code as a URN.
    #[serde(rename = "type")]
    #[schema(example = "urn:messages:problem:required")]
    kind: String,
    /// The status in words.
    #[schema(example = "Unprocessable Entity")]
    title: &'static str,
    /// The status.
    #[schema(minimum = 400, maximum = 599, example = 422)]
    status: u16,
    /// Stable, for programs. With one error in `errors`, it is that one's.
    #[schema(example = "required")]
    code: &'static str,
    /// For people.
    #[schema(example = "the request's body is wrong")]
    detail: &'a str,
    /// What is wrong with which field, parameter or header.
    errors: &'a [FieldError],
    /// The request's id, which is also in the log.
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
/// The detail of 503 `busy`.
pub const BUSY: &str = "too many requests of this kind are under way; try again";

/// An error for a client.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    errors: Vec<FieldError>,
    headers: Box<HeaderMap>,
}

impl Problem {
    /// A problem of any kind.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), errors: Vec::new(), headers: Box::default() }
    }

    /// 400: a header that is wrong.
    pub fn invalid_header(name: &'static str, code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, format!("the header {name} is wrong"))
            .with_errors(vec![FieldError::new(name, code, detail)])
    }

    /// 400: a path or query parameter that is wrong.
    pub fn invalid_parameter(name: &str, code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, format!("the parameter {name} is wrong"))
            .with_errors(vec![FieldError::new(name, code, detail)])
    }

    /// 422: fields of the body that are wrong.
    pub fn invalid_body(errors: Vec<FieldError>) -> Self {
        // One error gives the problem its code, so that clients can tell the common ones at once.
        let code = match errors.as_slice() {
            [error] => error.code,
            _ => "invalid_body",
        };
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, "the request's body is wrong").with_errors(errors)
    }

    /// 401: no good token.
    pub fn unauthorized(code: &'static str, detail: &str) -> Self {
        // RFC 6750: who gave no token is told the scheme, and not that something is wrong with it.
        let challenge = match code {
            "missing_token" => "Bearer".to_owned(),
            _ => format!("Bearer error=\"invalid_token\", error_description=\"{code}\""),
        };
        Self::new(StatusCode::UNAUTHORIZED, code, detail).with_header(header::WWW_AUTHENTICATE, &challenge)
    }

    /// 404: not there, or not the caller's to see.
    pub fn not_found(field: &str) -> Self {
        let detail = "there is nothing with this id that you can see";
        Self::new(StatusCode::NOT_FOUND, "not_found", detail).with_errors(vec![FieldError::new(
            field,
            "not_found",
            detail,
        )])
    }

    /// 409.
    pub fn conflict(code: &'static str, detail: &str) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 429, with `Retry-After` in seconds.
    pub fn too_many_requests(code: &'static str, detail: impl Into<String>, retry_after: u64) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, code, detail)
            .with_header(header::RETRY_AFTER, &retry_after.to_string())
    }

    /// 503, with `Retry-After` in seconds.
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

    /// 503 `append_unknown`: Kafka may have the event, or not.
    pub fn append_unknown(detail: &str) -> Self {
        Self::unavailable("append_unknown", detail, 1)
    }

    /// 503 `append_refused`: Kafka certainly doesn't have the event. `retry_after` is in seconds.
    pub fn append_refused(detail: &str, retry_after: u64) -> Self {
        Self::unavailable("append_refused", detail, retry_after)
    }

    /// 500: our fault. What it was is in the log, under the request's id.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "something went wrong here; it was logged")
    }

    /// With what is wrong with which field.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    /// With a header on the answer.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// The headers of the answer.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The JSON, with the request's id in it.
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

    /// The answer, with the request's id in it.
    pub fn render(&self, request_id: &str) -> Response {
        // Some errors, such as 404, may be cached when nothing is said: what was missing may be there by now.
        let kind = [(header::CONTENT_TYPE, "application/problem+json"), (header::CACHE_CONTROL, "no-store")];
        (self.status, (*self.headers).clone(), kind, axum::Json(self.body(request_id))).into_response()
    }
}

/// The answer without a body: the outermost layer writes it, for it knows the request's id.
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
                Self::new(StatusCode::FORBIDDEN, "not_author", "only its author can change a message")
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
