//! The handlers: what came over HTTP becomes a command with what it came with.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use domain::answer::{Deleted, Edited, Typing};
use domain::{Command, IdempotencyKey, MessageId, PositionVector, UserId};
use http::{HeaderMap, Uri};
use service::auth::Caller;
use service::envelope::Whole;
use service::http::{JsonBody, Params, idempotency_key, messages_position, path_id};
use service::openapi::{AuthorErrors, BodyErrors, COMMANDS, CommandErrors, CommandHeaders, CommonHeaders};
use service::problem::Problem;
use service::trace::Place;

use crate::CommandApi;
use crate::schema::{Act, Done, EditMessage, Made};

/// What every command comes with.
pub(crate) struct Asked {
    pub(crate) caller: UserId,
    pub(crate) command: Command,
    pub(crate) key: Option<IdempotencyKey>,
    /// Facts have to be at least this new.
    pub(crate) at_least: Option<PositionVector>,
    /// Where in a trace it belongs.
    pub(crate) place: Place,
}

struct Given {
    key: Option<IdempotencyKey>,
    at_least: Option<PositionVector>,
}

impl Given {
    fn read(api: &CommandApi, caller: &UserId, uri: &Uri, headers: &HeaderMap) -> Result<Self, Problem> {
        // Commands have none; one that is passed over might have been meant for something.
        Params::read(uri, &[])?;
        let key = idempotency_key(headers)?;
        let at_least = match messages_position(headers)? {
            Some(text) => Some(api.0.parts.tokens.parse_at_least(text, caller)?),
            None => None,
        };
        Ok(Self { key, at_least })
    }

    fn ask(self, caller: UserId, command: Command, place: Place) -> Asked {
        Asked { caller, command, key: self.key, at_least: self.at_least, place }
    }
}

/// Does what `action` says
///
/// Sends a message, begins a conversation, reacts, takes a reaction back, says that one types or has read. A 2xx means
/// that it is kept.
#[utoipa::path(
    post,
    path = "/api/messages",
    operation_id = "act",
    tag = COMMANDS,
    params(CommandHeaders, CommonHeaders),
    request_body = Act,
    responses(
        (status = 200, description = "Done; or done by an earlier request with the same key, then with what that was answered.", body = Whole<Done>),
        (
            status = 201,
            description = "A message, a conversation or a reaction was made.",
            body = Whole<Made>,
            links(
                ("conversation" = (operation_id = "conversation", parameters(("id" = "$response.body#/data/id")))),
                ("messages" = (operation_id = "list", parameters(("conversationId" = "$response.body#/data/id")))),
                (
                    "firstMessage" = (
                        operation_id = "act",
                        request_body = json!({"conversationId": "$response.body#/data/id", "content": "hi @bob"})
                    )
                ),
                ("message" = (operation_id = "message", parameters(("messageId" = "$response.body#/data/id")))),
                ("edit" = (operation_id = "editMessage", parameters(("messageId" = "$response.body#/data/id")))),
                ("delete" = (operation_id = "deleteMessage", parameters(("messageId" = "$response.body#/data/id")))),
            )
        ),
        (status = 202, description = "Others are told that you type, or have stopped.", body = Whole<Typing>),
        CommandErrors,
        BodyErrors,
    )
)]
pub(crate) async fn act(
    State(api): State<CommandApi>,
    Caller(caller): Caller,
    place: Place,
    uri: Uri,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let given = Given::read(&api, &caller, &uri, &headers)?;
    let command = Command::from_post(&caller, body).map_err(Problem::invalid_body)?;
    let asked = given.ask(caller, command, place);
    match &asked.command {
        Command::TypingStart { conversation_id } => api.typing(&asked, *conversation_id, true).await,
        Command::TypingStop { conversation_id } => api.typing(&asked, *conversation_id, false).await,
        _ => Ok(api.execute(asked).await?.into_response()),
    }
}

/// Gives your message another content
#[utoipa::path(
    patch,
    path = "/api/messages/{messageId}",
    operation_id = "editMessage",
    tag = COMMANDS,
    params(("messageId" = MessageId, Path, description = "Which message."), CommandHeaders, CommonHeaders),
    request_body = EditMessage,
    responses(
        (status = 200, description = "Edited.", body = Whole<Edited>),
        CommandErrors,
        BodyErrors,
        AuthorErrors,
    )
)]
pub(crate) async fn edit(
    State(api): State<CommandApi>,
    Caller(caller): Caller,
    place: Place,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let message_id: MessageId = path_id("messageId", path)?;
    let given = Given::read(&api, &caller, &uri, &headers)?;
    let command = Command::from_patch(message_id, body).map_err(Problem::invalid_body)?;
    Ok(api.execute(given.ask(caller, command, place)).await?.into_response())
}

/// Deletes your message
///
/// It keeps its place, without content. Deleting again is fine: the first `deletedAt` stays.
#[utoipa::path(
    delete,
    path = "/api/messages/{messageId}",
    operation_id = "deleteMessage",
    tag = COMMANDS,
    params(("messageId" = MessageId, Path, description = "Which message."), CommandHeaders, CommonHeaders),
    responses(
        (status = 200, description = "Deleted.", body = Whole<Deleted>),
        CommandErrors,
        AuthorErrors,
    )
)]
pub(crate) async fn delete(
    State(api): State<CommandApi>,
    Caller(caller): Caller,
    place: Place,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let message_id: MessageId = path_id("messageId", path)?;
    let given = Given::read(&api, &caller, &uri, &headers)?;
    let asked = given.ask(caller, Command::Delete { message_id }, place);
    Ok(api.execute(asked).await?.into_response())
}
