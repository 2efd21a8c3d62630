//! The parts of the OpenAPI document that routes share: headers, and error responses with examples.
//!
//! An example is a real [`Problem`], rendered as clients get it. An error that a route can return must be in its
//! document.

mod params;

use std::collections::BTreeMap;

use ::http::StatusCode;
use domain::FieldError;
use serde_json::json;
use utoipa::IntoResponses;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use utoipa::openapi::{ContentBuilder, Header, OpenApi, PathItem, Ref, RefOr, Response, ResponseBuilder};

use crate::auth::{AuthError, InvalidToken};
use crate::json_body;
use crate::problem::{APPEND_REFUSED, APPEND_UNKNOWN, JOB_AT_WORK, Problem, WRONG_STATUS};
use crate::token::TokenError;

pub use params::{CommandHeaderParams, CommonHeaderParams, QueryHeaderParams};

/// The tag of commands.
pub const COMMANDS: &str = "commands";
/// The tag of queries.
pub const QUERIES: &str = "queries";
/// The tag of what only admins may do.
pub const ADMIN: &str = "admin";

/// The request id in examples.
const EXAMPLE_ID: &str = "0193a5c0-7d2e-7c3a-9b1f-2f6d1c0e8a47";

/// An error response that routes share. All examples have the same status.
struct ErrorResponse {
    description: &'static str,
    examples: Vec<Problem>,
}

fn bad_request() -> ErrorResponse {
    let id = format!("must be a UUID such as {EXAMPLE_ID}");
    let parameter = "is not a parameter of this route; its parameters are: conversationId, limit, cursor";
    let cursor = "must be the nextCursor of an earlier page of the same list";
    let key = "must be 1 to 128 visible ASCII characters without spaces";
    ErrorResponse {
        description: "The body is not JSON, or the path, a parameter, a header, a cursor or a token is invalid.",
        examples: vec![
            json_body::invalid_json("expected value at line 1 column 2"),
            Problem::invalid_parameter("messageId", "invalid_id", id),
            Problem::invalid_parameter("page", "unknown_parameter", parameter),
            Problem::invalid_parameter("limit", "invalid_limit", "must be a whole number from 1 to 100"),
            Problem::invalid_parameter("cursor", "invalid_cursor", cursor),
            Problem::invalid_header("Idempotency-Key", "invalid_header", key),
            TokenError::Foreign.into(),
        ],
    }
}

fn unauthorized() -> ErrorResponse {
    ErrorResponse {
        description: "The token is missing, expired or invalid.",
        examples: [AuthError::Missing, AuthError::Expired, InvalidToken::Signature.into()].map(Problem::from).to_vec(),
    }
}

fn cross_site() -> ErrorResponse {
    ErrorResponse {
        description: "The token is in a cookie, and the request doesn't come from a page that may use it.",
        examples: vec![AuthError::CrossSite.into()],
    }
}

fn not_author() -> ErrorResponse {
    ErrorResponse {
        description: "You can see the message, but only its author can change it. Or the token is in a cookie, and the \
                      request doesn't come from a page that may use it.",
        examples: vec![domain::Rejection::NotAuthor.into(), AuthError::CrossSite.into()],
    }
}

fn not_found() -> ErrorResponse {
    ErrorResponse {
        description: "Nothing has this id, or you are not allowed to see it. The API does not reveal which.",
        examples: vec![Problem::not_found("conversationId")],
    }
}

fn body_timeout() -> ErrorResponse {
    ErrorResponse { description: "The body did not arrive within 10 s.", examples: vec![json_body::timeout()] }
}

fn key_reused() -> ErrorResponse {
    let detail = "this key was used for another request in this conversation; use a new one";
    ErrorResponse {
        description: "You used the idempotency key for another request in this conversation.",
        examples: vec![Problem::conflict("idempotency_key_reused", detail)],
    }
}

fn body_too_large() -> ErrorResponse {
    ErrorResponse {
        description: "The body has more than 64 KiB, or the log takes no event as large as the command's.",
        examples: vec![json_body::too_large(), Problem::event_too_large()],
    }
}

fn not_json() -> ErrorResponse {
    ErrorResponse {
        description: "The body's content type is not that of JSON in UTF-8, or the body is compressed.",
        examples: vec![json_body::not_json()],
    }
}

fn invalid_body() -> ErrorResponse {
    let invalid = |field, code, detail| Problem::invalid_body(vec![FieldError::new(field, code, detail)]);
    ErrorResponse {
        description: "The body is invalid; `errors` names every invalid field.",
        examples: vec![
            invalid("content", "required", "is required"),
            invalid("colour", "unknown_field", "is not a field of this request"),
            invalid("action", "unknown_action", "must be one of conversation, message, reaction, …"),
            invalid("emoji", "not_an_emoji", "must be one emoji of at most 64 bytes"),
            domain::Rejection::MessageDeleted.into(),
        ],
    }
}

fn rate_limited() -> ErrorResponse {
    let detail = "at most 30 of these are allowed in a window; try again in 42 s";
    ErrorResponse {
        description: "You are over a limit. Try again after `Retry-After` seconds.",
        examples: vec![Problem::too_many_requests("rate_limited", detail, 42)],
    }
}

fn internal() -> ErrorResponse {
    ErrorResponse {
        description: "An internal error. The server logs its cause with the request's id.",
        examples: vec![Problem::internal()],
    }
}

fn command_unavailable() -> ErrorResponse {
    ErrorResponse {
        description: "Try again with the same key. After `append_unknown` the command may have been executed. After \
                      any other code it was not executed.",
        examples: vec![
            Problem::append_refused(APPEND_REFUSED, 1),
            Problem::append_unknown(APPEND_UNKNOWN),
            Problem::projection_behind(),
            Problem::dependency_unavailable(),
        ],
    }
}

fn not_an_admin() -> ErrorResponse {
    ErrorResponse {
        description: "Your token's `roles` don't include `admin`.",
        examples: vec![AuthError::NotAnAdmin.into(), AuthError::CrossSite.into()],
    }
}

fn wrong_status() -> ErrorResponse {
    ErrorResponse {
        description: "What you want to change isn't in a state that allows it.",
        examples: vec![Problem::conflict("wrong_status", WRONG_STATUS), Problem::conflict("job_at_work", JOB_AT_WORK)],
    }
}

fn too_large() -> ErrorResponse {
    ErrorResponse {
        description: "The answer would take more of the log, or more rows, than a request may read.",
        examples: vec![Problem::too_large_for_request()],
    }
}

fn admin_unavailable() -> ErrorResponse {
    ErrorResponse {
        description: "A service doesn't answer, or another admin reads as much as the process allows. If you wanted to \
                      change something, look at the audit and at the state: it may have been changed.",
        examples: vec![Problem::dependency_unavailable(), Problem::busy(2)],
    }
}

fn query_unavailable() -> ErrorResponse {
    ErrorResponse {
        description: "Try again: the read model has not reached the position that you demand, or a service is \
                      unavailable or busy.",
        examples: vec![Problem::projection_behind(), Problem::dependency_unavailable(), Problem::busy(2)],
    }
}

/// The errors of every command.
pub struct CommandErrors;
/// The additional errors of a command with a body.
pub struct BodyErrors;
/// The additional errors of a command that only the author of a message may send.
pub struct AuthorErrors;
/// The errors of every query.
pub struct QueryErrors;
/// The additional error of a query that counts against its user's limit.
pub struct QueryLimitErrors;
/// The errors of every route for admins.
pub struct AdminErrors;
/// The additional errors of a route with which an admin changes something.
pub struct AdminActionErrors;
/// The additional error of a route for admins whose work grows with what it is about.
pub struct TooLargeError;
/// The response to a query when the client already has the newest data.
pub struct NotModified;

type Responses = BTreeMap<String, RefOr<Response>>;

impl IntoResponses for CommandErrors {
    fn responses() -> Responses {
        all([
            bad_request(),
            unauthorized(),
            cross_site(),
            not_found(),
            key_reused(),
            invalid_body(),
            rate_limited(),
            internal(),
            command_unavailable(),
        ])
    }
}

impl IntoResponses for BodyErrors {
    fn responses() -> Responses {
        all([body_timeout(), body_too_large(), not_json()])
    }
}

impl IntoResponses for AuthorErrors {
    fn responses() -> Responses {
        all([not_author()])
    }
}

impl IntoResponses for QueryErrors {
    fn responses() -> Responses {
        all([bad_request(), unauthorized(), not_found(), internal(), query_unavailable()])
    }
}

impl IntoResponses for QueryLimitErrors {
    fn responses() -> Responses {
        all([rate_limited()])
    }
}

impl IntoResponses for AdminErrors {
    fn responses() -> Responses {
        all([bad_request(), unauthorized(), not_an_admin(), not_found(), internal(), admin_unavailable()])
    }
}

impl IntoResponses for AdminActionErrors {
    fn responses() -> Responses {
        all([wrong_status(), rate_limited(), body_timeout(), body_too_large(), not_json(), invalid_body()])
    }
}

impl IntoResponses for TooLargeError {
    fn responses() -> Responses {
        all([too_large()])
    }
}

impl IntoResponses for NotModified {
    fn responses() -> Responses {
        let response = ResponseBuilder::new().description("Nothing has changed since the response with this `ETag`.");
        BTreeMap::from([("304".to_owned(), response.into())])
    }
}

fn all<const N: usize>(errors: [ErrorResponse; N]) -> Responses {
    errors.iter().map(|error| (error.status().as_str().to_owned(), error.response().into())).collect()
}

impl ErrorResponse {
    fn status(&self) -> StatusCode {
        self.examples.first().map_or(StatusCode::INTERNAL_SERVER_ERROR, Problem::status)
    }

    fn response(&self) -> Response {
        let examples = self.examples.iter().map(|problem| {
            let example = ExampleBuilder::new().value(Some(json!(problem.body(EXAMPLE_ID))));
            (problem.code(), example.build())
        });
        let content =
            ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).examples_from_iter(examples).build();
        ResponseBuilder::new().description(self.description).content("application/problem+json", content).build()
    }
}

/// Describes the headers of all responses in the document. They depend on the route's tag and on the status.
pub fn add_response_headers(document: &mut OpenApi) {
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        let tag = operation.tags.as_ref().and_then(|tags| tags.first()).cloned().unwrap_or_default();
        for (status, response) in &mut operation.responses.responses {
            let RefOr::T(response) = response else { continue };
            for (name, header) in response_headers(&tag, status) {
                response.headers.insert(name.to_owned(), header.into());
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.patch, &mut item.delete].into_iter().filter_map(Option::as_mut)
}

fn response_headers(tag: &str, status: &str) -> Vec<(&'static str, Header)> {
    let mut headers = vec![(
        "X-Request-Id",
        text("The id of the request: yours, if you sent a valid one. The server's log includes it."),
    )];
    match (tag, status) {
        (COMMANDS, "200" | "201") => {
            headers.push((
                "Messages-Position",
                text("The position `P:O` of the command's event. Send it with a query to see the effect."),
            ));
            headers.extend(rate_limit_headers());
            headers.push(match status {
                "200" => {
                    ("Idempotent-Replayed", text("`true` if an earlier request with the same key had the effect."))
                }
                _ => ("Location", text("The path of the new message or conversation.")),
            });
        }
        (QUERIES, "200" | "304") => headers.extend([
            ("Messages-Position", text("A token for everything that the response includes.")),
            ("ETag", text("Changes with the body. Send it as `If-None-Match`.")),
            ("X-Cache", text("`hit` if the response came from Redis, else `miss`.")),
        ]),
        (_, "401") => headers.push(("WWW-Authenticate", text("The scheme, and the error of the token."))),
        (_, "429") => {
            headers.push(("Retry-After", whole_number("Try again after this many seconds.")));
            headers.extend(rate_limit_headers());
        }
        (_, "503") => headers.push(("Retry-After", whole_number("Try again after this many seconds."))),
        _ => {}
    }
    // Every query counts that a known user sends.
    if tag == QUERIES && matches!(status, "200" | "304" | "400" | "404" | "503") {
        headers.extend(rate_limit_headers());
    }
    headers
}

fn rate_limit_headers() -> [(&'static str, Header); 3] {
    [
        ("RateLimit-Limit", whole_number("How many requests of this kind you may send in a window.")),
        ("RateLimit-Remaining", whole_number("How many of them are left in the current window.")),
        ("RateLimit-Reset", whole_number("In how many seconds the current window ends.")),
    ]
}

fn text(description: &str) -> Header {
    HeaderBuilder::new().schema(Some(Object::with_type(Type::String))).description(Some(description)).build()
}

fn whole_number(description: &str) -> Header {
    let schema = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).build();
    HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
}

/// The paths of a document with their methods, in the form of the header `Allow`.
pub(crate) fn allowed_methods(document: &OpenApi) -> impl Iterator<Item = (&str, String)> {
    document.paths.paths.iter().map(|(path, item)| {
        let methods = [
            (item.get.is_some(), "GET,HEAD"),
            (item.post.is_some(), "POST"),
            (item.patch.is_some(), "PATCH"),
            (item.delete.is_some(), "DELETE"),
        ];
        let methods: Vec<_> = methods.into_iter().filter_map(|(exists, name)| exists.then_some(name)).collect();
        (path.as_str(), methods.join(","))
    })
}
