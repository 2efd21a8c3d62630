//! What the routes have in common in the OpenAPI document: headers, and the errors with an example of each.

use std::collections::BTreeMap;

use domain::FieldError;
use serde_json::json;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use utoipa::openapi::{ContentBuilder, Header, OpenApi, PathItem, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoParams, IntoResponses};

use crate::problem::{APPEND_REFUSED, APPEND_UNKNOWN, BUSY, DEPENDENCY_UNAVAILABLE, PROJECTION_BEHIND, Problem};

/// The headers that every request may have.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it describes what the functions of `params` and `http` read")]
pub struct CommonHeaderParams {
    /// An id of your own for the request: it comes back, and is in the server's log. Where it isn't 1 to 128 visible
    /// ASCII characters, the request gets another.
    #[param(rename = "X-Request-Id", required = false)]
    request_id: Option<String>,
    /// The trace that the request belongs to (W3C Trace Context).
    #[param(rename = "traceparent", required = false)]
    traceparent: Option<String>,
}

/// What a command may come with.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it describes what the functions of `params` read")]
pub struct CommandHeaderParams {
    /// Makes the command safe to retry: with the same key, conversation and user it has one effect, and the same answer.
    #[param(rename = "Idempotency-Key", required = false, min_length = 1, max_length = 128, pattern = "^[!-~]+$")]
    idempotency_key: Option<String>,
    /// Decide from facts at least this new: a position `P:O`, or the token of a query's answer.
    #[param(rename = "Messages-Position", required = false)]
    messages_position: Option<String>,
}

/// What a query may come with.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it describes what the functions of `params` read")]
pub struct QueryHeaderParams {
    /// Answer from at least here: the position `P:O` of a command's answer, or the token of a query's.
    #[param(rename = "Messages-Position", required = false)]
    messages_position: Option<String>,
    /// The `ETag` of an earlier answer: 304 when nothing changed.
    #[param(rename = "If-None-Match", required = false)]
    if_none_match: Option<String>,
}

/// An error that routes have in common.
struct Shared {
    status: &'static str,
    description: &'static str,
    /// Codes with the field and the detail of an example.
    examples: &'static [(&'static str, &'static str, &'static str)],
}

const BAD_REQUEST: Shared = Shared {
    status: "400",
    description: "No JSON, or a path, parameter, cursor, token or header that is wrong.",
    examples: &[
        ("invalid_json", "", "the body is not JSON: expected value at line 1 column 2"),
        ("invalid_id", "messageId", "must be a UUID such as 0193a5c0-7d2e-7c3a-9b1f-2f6d1c0e8a47"),
        ("unknown_parameter", "page", "is not a parameter here; those are: conversationId, limit, cursor"),
        ("invalid_limit", "limit", "must be a whole number from 1 to 100"),
        ("invalid_cursor", "cursor", "must be the nextCursor of an earlier page of the same list"),
        ("invalid_header", "Idempotency-Key", "must be 1 to 128 visible ASCII characters without spaces"),
        ("foreign_token", "since", "this token was given to another user"),
    ],
};
const UNAUTHORIZED: Shared = Shared {
    status: "401",
    description: "No good token.",
    examples: &[
        ("missing_token", "", "a token is needed: Authorization: Bearer <JWT>"),
        ("expired_token", "", "the token has expired; get a new one"),
        ("invalid_token", "", "the token is not valid here"),
    ],
};
const NOT_AUTHOR: Shared = Shared {
    status: "403",
    description: "You see the message, but didn't write it.",
    examples: &[("not_author", "", "only its author can change a message")],
};
const NOT_FOUND: Shared = Shared {
    status: "404",
    description: "Not there, or not yours to see: the two look alike.",
    examples: &[("not_found", "conversationId", "there is nothing with this id that you can see")],
};
const TIMED_OUT: Shared = Shared {
    status: "408",
    description: "The body didn't come in 10 s.",
    examples: &[("request_timeout", "", "the body did not come in 10 s")],
};
const KEY_REUSED: Shared = Shared {
    status: "409",
    description: "The key was used for another request in this conversation.",
    examples: &[(
        "idempotency_key_reused",
        "",
        "this key was used for another request in this conversation; use a new one",
    )],
};
const TOO_LARGE: Shared = Shared {
    status: "413",
    description: "The body has more than 64 KiB.",
    examples: &[("body_too_large", "", "a body has at most 65536 bytes")],
};
const NOT_JSON: Shared = Shared {
    status: "415",
    description: "The body isn't JSON in UTF-8.",
    examples: &[("unsupported_media_type", "", "the body must be application/json in UTF-8")],
};
const INVALID: Shared = Shared {
    status: "422",
    description: "The body is wrong; every wrong field is named.",
    examples: &[
        ("required", "content", "is required"),
        ("unknown_field", "colour", "is not a field here"),
        ("unknown_action", "action", "must be one of conversation, message, reaction, …"),
        ("not_an_emoji", "emoji", "must be one emoji of at most 32 bytes"),
        ("message_deleted", "messageId", "the message is deleted"),
    ],
};
const LIMITED: Shared = Shared {
    status: "429",
    description: "Over a limit: try again after `Retry-After` seconds.",
    examples: &[("rate_limited", "", "at most 30 of these in the window; try again in 42 s")],
};
const INTERNAL: Shared = Shared {
    status: "500",
    description: "Our fault. What it was is in the log, under the request's id.",
    examples: &[("internal", "", "something went wrong here; it was logged")],
};
const COMMAND_UNAVAILABLE: Shared = Shared {
    status: "503",
    description: "Try again, with the same key: `append_refused` says that it was not done, `append_unknown` that it may \
                  have been, the others that it was not.",
    examples: &[
        ("append_refused", "", APPEND_REFUSED),
        ("append_unknown", "", APPEND_UNKNOWN),
        ("projection_behind", "", PROJECTION_BEHIND),
        ("unavailable", "", DEPENDENCY_UNAVAILABLE),
    ],
};
const QUERY_UNAVAILABLE: Shared = Shared {
    status: "503",
    description: "Try again: the read model hasn't reached what you demand, or something is out of reach or busy.",
    examples: &[
        ("projection_behind", "", PROJECTION_BEHIND),
        ("unavailable", "", DEPENDENCY_UNAVAILABLE),
        ("busy", "", BUSY),
    ],
};

/// The errors of every command.
pub struct CommandErrors;
/// The errors of a command with a body, besides those of every command.
pub struct BodyErrors;
/// The errors of a command that only the author of a message may give, besides those of every command.
pub struct AuthorErrors;
/// The errors of every query.
pub struct QueryErrors;
/// What a query answers to who has the newest already.
pub struct NotModified;

type Responses = BTreeMap<String, RefOr<Response>>;

impl IntoResponses for CommandErrors {
    fn responses() -> Responses {
        all(&[BAD_REQUEST, UNAUTHORIZED, NOT_FOUND, KEY_REUSED, INVALID, LIMITED, INTERNAL, COMMAND_UNAVAILABLE])
    }
}

impl IntoResponses for BodyErrors {
    fn responses() -> Responses {
        all(&[TIMED_OUT, TOO_LARGE, NOT_JSON])
    }
}

impl IntoResponses for AuthorErrors {
    fn responses() -> Responses {
        all(&[NOT_AUTHOR])
    }
}

impl IntoResponses for QueryErrors {
    fn responses() -> Responses {
        all(&[BAD_REQUEST, UNAUTHORIZED, NOT_FOUND, INTERNAL, QUERY_UNAVAILABLE])
    }
}

impl IntoResponses for NotModified {
    fn responses() -> Responses {
        let response = ResponseBuilder::new().description("What you have is the newest.");
        BTreeMap::from([("304".to_owned(), response.into())])
    }
}

fn all(errors: &[Shared]) -> Responses {
    errors.iter().map(|error| (error.status.to_owned(), error.response().into())).collect()
}

impl Shared {
    fn response(&self) -> Response {
        let examples = self.examples.iter().map(|(code, field, detail)| {
            (*code, ExampleBuilder::new().value(Some(self.example(code, field, detail))).build())
        });
        let content =
            ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).examples_from_iter(examples).build();
        ResponseBuilder::new().description(self.description).content("application/problem+json", content).build()
    }

    fn example(&self, code: &'static str, field: &str, detail: &str) -> serde_json::Value {
        let status = self.status.parse().unwrap_or_default();
        let errors = if field.is_empty() { Vec::new() } else { vec![FieldError::new(field, code, detail)] };
        json!(Problem::new(status, code, detail).with_errors(errors).body("0193a5c0-7d2e-7c3a-9b1f-2f6d1c0e8a47"))
    }
}

/// The tag of commands.
pub const COMMANDS: &str = "commands";
/// The tag of queries.
pub const QUERIES: &str = "queries";

/// Adds to the document the headers that answers have by what they answer.
pub fn complete(document: &mut OpenApi) {
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        let tag = operation.tags.as_ref().and_then(|tags| tags.first()).cloned().unwrap_or_default();
        for (status, response) in &mut operation.responses.responses {
            let RefOr::T(response) = response else { continue };
            for (name, header) in headers(&tag, status) {
                response.headers.insert(name.to_owned(), header.into());
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.patch, &mut item.delete].into_iter().filter_map(Option::as_mut)
}

fn headers(tag: &str, status: &str) -> Vec<(&'static str, Header)> {
    let mut headers = vec![("X-Request-Id", text("The request's id: yours, if you sent one. The log has it, too."))];
    match (tag, status) {
        (COMMANDS, "200" | "201") => {
            headers.push(("Messages-Position", text("From where on the effect is visible: `P:O`.")));
            headers.extend(limits());
            headers.push(match status {
                "200" => ("Idempotent-Replayed", text("`true` where an earlier request with the same key did it.")),
                _ => ("Location", text("Where a message or a conversation can be read.")),
            });
        }
        (QUERIES, "200" | "304") => headers.extend([
            ("Messages-Position", text("A token: everything that the answer includes.")),
            ("ETag", text("Changes with the body; for `If-None-Match`.")),
            ("X-Cache", text("`hit` where Redis had it, else `miss`.")),
        ]),
        (_, "401") => headers.push(("WWW-Authenticate", text("The scheme, and what is wrong with the token."))),
        (_, "429") => {
            headers.push(("Retry-After", whole_number("After how many seconds to try again.")));
            headers.extend(limits());
        }
        (_, "503") => headers.push(("Retry-After", whole_number("After how many seconds to try again."))),
        _ => {}
    }
    headers
}

/// How much of a limit is left.
fn limits() -> [(&'static str, Header); 3] {
    [
        ("RateLimit-Limit", whole_number("How many are allowed in a window.")),
        ("RateLimit-Remaining", whole_number("How many are left in this one.")),
        ("RateLimit-Reset", whole_number("In how many seconds it ends.")),
    ]
}

fn text(description: &str) -> Header {
    HeaderBuilder::new().schema(Some(Object::with_type(Type::String))).description(Some(description)).build()
}

fn whole_number(description: &str) -> Header {
    let schema = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).build();
    HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
}

/// The methods of each path of a document, as the header `Allow` has them.
pub fn methods(document: &OpenApi) -> impl Iterator<Item = (&str, String)> {
    document.paths.paths.iter().map(|(path, item)| {
        let all = [
            (item.get.is_some(), "GET,HEAD"),
            (item.post.is_some(), "POST"),
            (item.patch.is_some(), "PATCH"),
            (item.delete.is_some(), "DELETE"),
        ];
        let methods: Vec<_> = all.into_iter().filter_map(|(is, name)| is.then_some(name)).collect();
        (path.as_str(), methods.join(","))
    })
}
