//! The `traceparent` of a record (W3C Trace Context), so that a trace goes on from the request to what is made
//! of its event.

use http::HeaderMap;
use uuid::Uuid;

/// The request's trace with a span of its own; a new trace when the request has none.
pub(crate) fn traceparent(headers: &HeaderMap) -> String {
    let given = headers.get("traceparent").and_then(|value| value.to_str().ok()).and_then(trace_id);
    let trace = given.map_or_else(|| Uuid::new_v4().simple().to_string(), str::to_owned);
    let span = Uuid::new_v4().simple().to_string();
    format!("00-{trace}-{}-01", &span[..16])
}

/// The trace id of a well-formed `traceparent`.
fn trace_id(value: &str) -> Option<&str> {
    let parts: Vec<&str> = value.split('-').collect();
    let [version, trace, span, flags] = parts[..] else { return None };
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let real = |text: &str| text.bytes().any(|byte| byte != b'0');
    let well_formed = version == "00" && hex(trace, 32) && hex(span, 16) && hex(flags, 2);
    (well_formed && real(trace) && real(span)).then_some(trace)
}
