//! Requests as any client makes them, and answers with the questions that tests ask of them.

use reqwest::header::HeaderMap;
use serde_json::Value;

/// A request that is being put together.
pub(crate) struct Request(reqwest::RequestBuilder);

impl Request {
    pub(crate) fn new(client: &reqwest::Client, method: &str, url: &str) -> Self {
        Self(client.request(method.parse().unwrap(), url))
    }

    /// A header, of any bytes that HTTP lets through.
    pub(crate) fn header(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        Self(self.0.header(name, value.as_ref()))
    }

    pub(crate) fn key(self, key: &str) -> Self {
        self.header("Idempotency-Key", key)
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        Self(self.0.json(body))
    }

    /// A body as it is, called JSON.
    pub(crate) fn raw(self, body: impl Into<reqwest::Body>) -> Self {
        self.body(body).header("Content-Type", "application/json")
    }

    /// A body as it is, called nothing.
    pub(crate) fn body(self, body: impl Into<reqwest::Body>) -> Self {
        Self(self.0.body(body))
    }

    pub(crate) async fn send(self) -> Response {
        self.try_send().await.expect("no answer")
    }

    /// The answer; none where there is nobody to give one, or the connection ends before it has come.
    pub(crate) async fn try_send(self) -> Option<Response> {
        let response = self.0.send().await.ok()?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.ok()?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Some(Response { status, headers, body })
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Response {
    /// A header's value; empty where it isn't there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// The header `Messages-Position`.
    pub(crate) fn position(&self) -> &str {
        let position = self.header("Messages-Position");
        assert!(!position.is_empty(), "no Messages-Position: {self:?}");
        position
    }

    pub(crate) fn data(&self) -> &Value {
        &self.body["data"]
    }

    /// The data's id.
    pub(crate) fn id(&self) -> String {
        self.data()["id"].as_str().unwrap_or_else(|| panic!("no id: {self:?}")).to_owned()
    }

    /// The ids of a page's items, in order.
    pub(crate) fn ids(&self) -> Vec<&str> {
        let items = self.data().as_array().unwrap_or_else(|| panic!("no list: {self:?}"));
        items.iter().map(|item| item["id"].as_str().unwrap()).collect()
    }

    /// The cursor to the next page; none on the last.
    pub(crate) fn next_cursor(&self) -> Option<&str> {
        assert!(self.body["page"].is_object(), "no page: {self:?}");
        self.body["page"]["nextCursor"].as_str()
    }

    /// Asserts what the answer says about a limit: how many are allowed and left, and a time within the window.
    #[track_caller]
    pub(crate) fn assert_rate_limit(&self, most: u32, left: u32) {
        let limit = (self.header("ratelimit-limit"), self.header("ratelimit-remaining"));
        assert_eq!(limit, (most.to_string().as_str(), left.to_string().as_str()), "{self:?}");
        let reset: u32 = self.header("ratelimit-reset").parse().unwrap();
        assert!((1..=60).contains(&reset), "{self:?}");
    }

    /// The fields that are wrong, with their codes.
    pub(crate) fn field_errors(&self) -> Vec<(&str, &str)> {
        let errors = self.body["errors"].as_array().unwrap_or_else(|| panic!("no problem: {self:?}"));
        errors.iter().map(|error| (error["field"].as_str().unwrap(), error["code"].as_str().unwrap())).collect()
    }

    /// Asserts that this is a problem as RFC 9457 has it, of this status and code.
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
