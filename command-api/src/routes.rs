//! The handlers: what came over HTTP becomes a command with what it came with.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use domain::{Command, IdempotencyKey, MessageId, PositionVector, UserId};
use http::{HeaderMap, Uri};
use service::auth::Caller;
use service::http::{JsonBody, Params, idempotency_key, messages_position, path_id};
use service::problem::Problem;

use crate::{CommandApi, trace};

/// What every command comes with.
pub(crate) struct Asked {
    pub(crate) caller: UserId,
    pub(crate) command: Command,
    pub(crate) key: Option<IdempotencyKey>,
    /// Facts have to be at least this new.
    pub(crate) at_least: Option<PositionVector>,
    pub(crate) traceparent: String,
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

    fn ask(self, caller: UserId, command: Command, headers: &HeaderMap) -> Asked {
        let traceparent = trace::traceparent(headers);
        Asked { caller, command, key: self.key, at_least: self.at_least, traceparent }
    }
}

/// `POST /api/messages`
pub(crate) async fn act(
    State(api): State<CommandApi>,
    Caller(caller): Caller,
    uri: Uri,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let given = Given::read(&api, &caller, &uri, &headers)?;
    let command = Command::from_post(&caller, body).map_err(Problem::invalid_body)?;
    let asked = given.ask(caller, command, &headers);
    match &asked.command {
        Command::TypingStart { conversation_id } => api.typing(&asked, *conversation_id, true).await,
        Command::TypingStop { conversation_id } => api.typing(&asked, *conversation_id, false).await,
        _ => Ok(api.execute(asked).await?.into_response()),
    }
}

/// `PATCH /api/messages/{message_id}`
pub(crate) async fn edit(
    State(api): State<CommandApi>,
    Caller(caller): Caller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let message_id: MessageId = path_id("messageId", path)?;
    let given = Given::read(&api, &caller, &uri, &headers)?;
    let command = Command::from_patch(message_id, body).map_err(Problem::invalid_body)?;
    Ok(api.execute(given.ask(caller, command, &headers)).await?.into_response())
}

/// `DELETE /api/messages/{message_id}`
pub(crate) async fn delete(
    State(api): State<CommandApi>,
    Caller(caller): Caller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let message_id: MessageId = path_id("messageId", path)?;
    let given = Given::read(&api, &caller, &uri, &headers)?;
    let asked = given.ask(caller, Command::Delete { message_id }, &headers);
    Ok(api.execute(asked).await?.into_response())
}
