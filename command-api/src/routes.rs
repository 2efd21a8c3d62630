//! The HTTP handlers. Each turns a request into a command and executes it; none decides anything.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use domain::response::{DeletedMessage, EditedMessage, TypingAccepted};
use domain::{Command, MessageId};
use http::{HeaderMap, Uri};
use service::http::{JsonBody, path_id};
use service::openapi::{AuthorErrors, BodyErrors, COMMANDS, CommandErrors, CommandHeaderParams, CommonHeaderParams};
use service::problem::Problem;
use service::response::DataResponse;
use service::trace::TraceContext;

use crate::CommandApi;
use crate::request::{CommandHeaders, CountedCaller};
use crate::schema::{CreatedResponse, EditMessage, OkResponse, PostAction};

/// Execute the command that `action` names
///
/// Send a message, create a conversation, add or remove a reaction, start or stop typing, or mark messages as read. A
/// 2xx response means that the event is stored permanently.
#[utoipa::path(
    post,
    path = "/api/messages",
    operation_id = "act",
    tag = COMMANDS,
    params(CommandHeaderParams, CommonHeaderParams),
    request_body(content((PostAction = "application/json"), (PostAction = "text/plain"))),
    responses(
        (
            status = 200,
            description = "The command was executed. With `Idempotent-Replayed: true`, an earlier request with the same \
                key executed it, and this repeats that request's response.",
            body = DataResponse<OkResponse>
        ),
        (
            status = 201,
            description = "The command created a message, a conversation or a reaction.",
            body = DataResponse<CreatedResponse>,
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
        (
            status = 202,
            description = "The other participants are told that you started or stopped typing.",
            body = DataResponse<TypingAccepted>
        ),
        CommandErrors,
        BodyErrors,
    )
)]
pub(crate) async fn post_action(
    State(api): State<CommandApi>,
    CountedCaller(caller): CountedCaller,
    trace: TraceContext,
    uri: Uri,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let headers = CommandHeaders::read(&api.tokens, &caller, &uri, &headers)?;
    let command = Command::from_post(&caller, body).map_err(Problem::invalid_body)?;
    let request = headers.request(caller, command, trace);
    let outcome = match &request.command {
        Command::TypingStart { conversation_id } => api.typing().start(&request, *conversation_id).await?,
        Command::TypingStop { conversation_id } => api.typing().stop(&request, *conversation_id).await?,
        _ => api.executor.execute(request).await?,
    };
    Ok(outcome.into_response())
}

/// Edit a message
///
/// Only its author may. The new content replaces the old one.
#[utoipa::path(
    patch,
    path = "/api/messages/{messageId}",
    operation_id = "editMessage",
    tag = COMMANDS,
    params(
        ("messageId" = MessageId, Path, description = "The message's id."),
        CommandHeaderParams,
        CommonHeaderParams
    ),
    request_body(content((EditMessage = "application/json"), (EditMessage = "text/plain"))),
    responses(
        (status = 200, description = "The message is edited.", body = DataResponse<EditedMessage>),
        CommandErrors,
        BodyErrors,
        AuthorErrors,
    )
)]
pub(crate) async fn edit_message(
    State(api): State<CommandApi>,
    CountedCaller(caller): CountedCaller,
    trace: TraceContext,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let message_id: MessageId = path_id("messageId", path)?;
    let headers = CommandHeaders::read(&api.tokens, &caller, &uri, &headers)?;
    let command = Command::from_patch(message_id, body).map_err(Problem::invalid_body)?;
    Ok(api.executor.execute(headers.request(caller, command, trace)).await?.into_response())
}

/// Delete a message
///
/// Only its author may. The message keeps its place, without content. Deleting it again is fine: the first `deletedAt`
/// stays.
#[utoipa::path(
    delete,
    path = "/api/messages/{messageId}",
    operation_id = "deleteMessage",
    tag = COMMANDS,
    params(
        ("messageId" = MessageId, Path, description = "The message's id."),
        CommandHeaderParams,
        CommonHeaderParams
    ),
    responses(
        (status = 200, description = "The message is deleted.", body = DataResponse<DeletedMessage>),
        CommandErrors,
        AuthorErrors,
    )
)]
pub(crate) async fn delete_message(
    State(api): State<CommandApi>,
    CountedCaller(caller): CountedCaller,
    trace: TraceContext,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let message_id: MessageId = path_id("messageId", path)?;
    let headers = CommandHeaders::read(&api.tokens, &caller, &uri, &headers)?;
    let request = headers.request(caller, Command::Delete { message_id }, trace);
    Ok(api.executor.execute(request).await?.into_response())
}
