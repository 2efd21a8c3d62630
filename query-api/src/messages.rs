//! Messages: a page of a conversation's, and one.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use cache::{Head, ViewKey};
use domain::view::MessageView;
use domain::{ConversationId, MessageId, UserId};
use http::{HeaderMap, Uri};
use read_model::{Listed, Snapshot};
use serde::Deserialize;
use service::auth::Caller;
use service::envelope::Whole;
use service::http::{Params, path_id};
use service::openapi::{CommonHeaders, NotModified, QUERIES, QueryErrors, QueryHeaders};
use service::problem::Problem;

use crate::QueryApi;
use crate::cursor::List;
use crate::paging::PageAsked;
use crate::reading::{self, Reading};

const DEFAULT_LIMIT: i64 = 20;

/// `GET /api/messages?conversationId=…`: newest first, the same page for each participant.
pub(crate) async fn page(
    api: &QueryApi,
    caller: UserId,
    conversation: ConversationId,
    params: &Params,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let asked = PageAsked::<i64>::read(List::Messages(conversation), params, DEFAULT_LIMIT)?;
    let mut reading = Reading::begin(api, caller, headers).await?;
    reading.require_participant(conversation, "conversationId").await?;
    let key = ViewKey::Messages { conversation, page: asked.key() };
    let values = async {
        let snapshot = api.0.parts.read_model.messages(conversation, asked.limit, asked.from).await?;
        let Listed { items, more } = snapshot.value;
        let next = items.last().filter(|_| more).and_then(|oldest| oldest.seq);
        Ok(Snapshot { value: Some(asked.envelope(items, next)), offsets: snapshot.offsets })
    };
    let found = reading.read(&key, Head::Conversation(conversation), values).await?;
    Ok(reading.answer("messages", found.ok_or_else(|| Problem::not_found("conversationId"))?, headers))
}

/// One message
#[utoipa::path(
    get,
    path = "/api/messages/{messageId}",
    operation_id = "message",
    tag = QUERIES,
    params(("messageId" = MessageId, Path, description = "Which message."), QueryHeaders, CommonHeaders),
    responses(
        (status = 200, description = "The message.", body = Whole<MessageView>),
        NotModified,
        QueryErrors,
    )
)]
pub(crate) async fn one(
    State(api): State<QueryApi>,
    Caller(caller): Caller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    const FIELD: &str = "messageId";
    let id: MessageId = path_id(FIELD, path)?;
    Params::read(&uri, &[])?;
    let mut reading = Reading::begin(&api, caller, &headers).await?;
    let values = async || {
        let snapshot = api.0.parts.read_model.message(id).await?;
        Ok(Snapshot { value: snapshot.value.map(|data| Whole { data }), offsets: snapshot.offsets })
    };
    let found = reading.read_one(&ViewKey::Message(id), Head::Message(id), values).await?;
    let found = found.ok_or_else(|| Problem::not_found(FIELD))?;
    // The view is the same for each participant. Whether the caller is one can only be asked now: the message
    // itself says where it is.
    let placed: Placed = reading::parse(&found)?;
    reading.require_participant(placed.data.conversation_id, FIELD).await?;
    Ok(reading.answer("message", found, &headers))
}

/// The part of a message's view that says where it is.
#[derive(Deserialize)]
struct Placed {
    data: Place,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    conversation_id: ConversationId,
}
