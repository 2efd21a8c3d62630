//! A plain HTTP client: requests with the API's headers, and responses with the assertions that tests make on them.

use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::Value;

/// How long a client waits for a response. A server takes at most 20 s.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// A builder of a request.
pub(crate) struct Request(reqwest::RequestBuilder);

impl Request {
    pub(crate) fn new(client: &reqwest::Client, method: &str, url: &str) -> Self {
        Self(client.request(method.parse().unwrap(), url).timeout(RESPONSE_TIMEOUT))
    }

    /// Adds a header. The value may be any bytes that HTTP allows.
    pub(crate) fn header(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        Self(self.0.header(name, value.as_ref()))
    }

    /// Adds an idempotency key.
    pub(crate) fn key(self, key: &str) -> Self {
        self.header("Idempotency-Key", key)
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        Self(self.0.json(body))
    }

    /// Sets the exact bytes of the body, declared as JSON.
    pub(crate) fn raw(self, body: impl Into<reqwest::Body>) -> Self {
        self.body(body).header("Content-Type", "application/json")
    }

    /// Sets the exact bytes of the body, without a `Content-Type`.
    pub(crate) fn body(self, body: impl Into<reqwest::Body>) -> Self {
        Self(self.0.body(body))
    }

    pub(crate) async fn send(self) -> Response {
        self.try_send().await.expect("the server didn't respond")
    }

    /// Sends the request. `None` when the server refuses the connection, or closes it before the response is complete,
    /// or when the response isn't complete after [`RESPONSE_TIMEOUT`].
    pub(crate) async fn try_send(self) -> Option<Response> {
        let response = self.0.send().await.ok()?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.ok()?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Some(Response { status, headers, body })
    }
}

/// A response. The body is JSON where it parses as JSON, and a string otherwise.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Response {
    /// A header's value, or an empty string.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// The header `Messages-Position`. Panics when it is missing.
    pub(crate) fn position(&self) -> &str {
        let position = self.header("Messages-Position");
        assert!(!position.is_empty(), "no Messages-Position: {self:?}");
        position
    }

    pub(crate) fn data(&self) -> &Value {
        &self.body["data"]
    }

    /// The id of the entity in `data`.
    pub(crate) fn id(&self) -> String {
        self.data()["id"].as_str().unwrap_or_else(|| panic!("no id: {self:?}")).to_owned()
    }

    /// The ids of a page's items, in the order of the page.
    pub(crate) fn ids(&self) -> Vec<&str> {
        let items = self.data().as_array().unwrap_or_else(|| panic!("no list: {self:?}"));
        items.iter().map(|item| item["id"].as_str().unwrap()).collect()
    }

    /// The cursor of the next page, or `None` on the last page.
    pub(crate) fn next_cursor(&self) -> Option<&str> {
        assert!(self.body["page"].is_object(), "no page: {self:?}");
        self.body["page"]["nextCursor"].as_str()
    }

    /// Asserts the rate limit headers: how many commands are allowed and remain, and a reset within the window.
    #[track_caller]
    pub(crate) fn assert_rate_limit(&self, max: u32, remaining: u32) {
        let limit = (self.header("ratelimit-limit"), self.header("ratelimit-remaining"));
        assert_eq!(limit, (max.to_string().as_str(), remaining.to_string().as_str()), "{self:?}");
        let reset: u32 = self.header("ratelimit-reset").parse().unwrap();
        assert!((1..=60).contains(&reset), "{self:?}");
    }

    /// The invalid fields of the request, each with its error code.
    pub(crate) fn field_errors(&self) -> Vec<(&str, &str)> {
        let errors = self.body["errors"].as_array().unwrap_or_else(|| panic!("no list of errors: {self:?}"));
        errors.iter().map(|error| (error["field"].as_str().unwrap(), error["code"].as_str().unwrap())).collect()
    }

    /// Asserts that the server refused the request because of exactly one field, with the field's code as the
    /// problem's.
    #[track_caller]
    pub(crate) fn assert_field_refused(&self, status: u16, field: &str, code: &str) {
        self.assert_problem(status, code);
        assert_eq!(self.field_errors(), [(field, code)], "{self:?}");
    }

    /// Asserts that the command counted against no rate limit.
    #[track_caller]
    pub(crate) fn assert_not_counted(&self) {
        assert_eq!(self.header("ratelimit-limit"), "", "the command counts against a rate limit: {self:?}");
    }

    /// Asserts that this is a complete problem document (RFC 9457) with this status and code.
    #[track_caller]
    pub(crate) fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.body["code"].as_str()), (status, Some(code)), "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.body["status"], status);
        for field in ["type", "title", "detail", "requestId"] {
            assert!(self.body[field].as_str().is_some_and(|text| !text.is_empty()), "no {field}: {self:?}");
        }
        assert!(self.body["errors"].is_array());
        assert_eq!(self.body["requestId"], self.header("x-request-id"));
    }
}
