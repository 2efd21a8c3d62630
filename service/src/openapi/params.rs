//! The request headers that routes share.

use utoipa::IntoParams;

/// The request headers of every route.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it describes what `http` and `trace` read")]
pub struct CommonHeaderParams {
    /// An id of your choice for the request, of 1 to 128 visible ASCII characters. The response and the server's log
    /// include it. If it is missing or invalid, the server chooses one.
    #[param(rename = "X-Request-Id", required = false)]
    request_id: Option<String>,
    /// The trace to which the request belongs (W3C Trace Context).
    #[param(rename = "traceparent", required = false)]
    traceparent: Option<String>,
}

/// The request headers of a command.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it describes what the functions of `params` read")]
pub struct CommandHeaderParams {
    /// Makes the command safe to retry: however often you send the same request with the same key in a conversation, it
    /// has one effect and gets the same response.
    #[param(rename = "Idempotency-Key", required = false, min_length = 1, max_length = 128, pattern = "^[!-~]+$")]
    idempotency_key: Option<String>,
    /// Execute the command on data that is at least this recent: a position `P:O`, or the token of a query's response.
    #[param(rename = "Messages-Position", required = false)]
    messages_position: Option<String>,
}

/// The request headers of a query.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it describes what the functions of `params` read")]
pub struct QueryHeaderParams {
    /// Answer from data that is at least this recent: the position `P:O` of a command's response, or the token of a
    /// query's response.
    #[param(rename = "Messages-Position", required = false)]
    messages_position: Option<String>,
    /// The `ETag` of an earlier response. If nothing has changed since, the response is 304.
    #[param(rename = "If-None-Match", required = false)]
    if_none_match: Option<String>,
}
