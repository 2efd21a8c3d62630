//! Queries for messages: a page of a conversation's messages, and one message.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use cache::{Dependency, ViewKey};
use domain::view::MessageView;
use domain::{ConversationId, MessageId};
use http::{HeaderMap, Uri};
use read_model::{Page, Snapshot};
use service::auth::Caller;
use service::http::{Params, path_id};
use service::openapi::{CommonHeaderParams, NotModified, QUERIES, QueryErrors, QueryHeaderParams, QueryLimitErrors};
use service::problem::Problem;
use service::response::DataResponse;

use crate::QueryApi;
use crate::absence::{demand_log_end, require_participant};
use crate::cursor::List;
use crate::page_request::PageRequest;
use crate::read_request::ReadRequest;
use crate::response::{LocatedMessage, RenderedView};

const DEFAULT_LIMIT: i64 = 20;

/// `GET /api/messages?conversationId=…`: newest first, the same page for every participant.
pub(crate) async fn page(
    read: &mut ReadRequest<'_>,
    conversation: ConversationId,
    params: &Params,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let request = PageRequest::<i64>::read(List::Messages(conversation), params, DEFAULT_LIMIT)?;
    read.read_demand(headers)?;
    read.demand_of(conversation).await?;
    require_participant(read, conversation, "conversationId").await?;
    let read_model = read.read_model();
    let values = async {
        let snapshot = read_model.messages(conversation, request.limit, request.from).await?;
        let Page { items, more } = snapshot.value;
        let next = items.last().filter(|_| more).and_then(|oldest| oldest.seq);
        Ok(Snapshot { value: Some(request.response(items, next)), offsets: snapshot.offsets })
    };
    let key = ViewKey::Messages { conversation, page_size: request.limit };
    let view = if request.is_first() {
        read.read(&key, Dependency::Conversation(conversation), values).await?
    } else {
        read.load(values).await?
    };
    Ok(read.respond("messages", view.ok_or_else(|| Problem::not_found("conversationId"))?, headers))
}

/// Read one message
#[utoipa::path(
    get,
    path = "/api/messages/{messageId}",
    operation_id = "message",
    tag = QUERIES,
    params(
        ("messageId" = MessageId, Path, description = "The message's id."),
        QueryHeaderParams,
        CommonHeaderParams
    ),
    responses(
        (status = 200, description = "The message.", body = DataResponse<MessageView>),
        NotModified,
        QueryErrors,
        QueryLimitErrors,
    )
)]
pub(crate) async fn one(
    State(api): State<QueryApi>,
    Caller(caller): Caller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let mut read = ReadRequest::begin(&api, caller);
    let result = read_one(&mut read, path, &uri, &headers).await;
    read.finish(result).await
}

async fn read_one(
    read: &mut ReadRequest<'_>,
    path: Result<Path<String>, PathRejection>,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    const FIELD: &str = "messageId";
    let id: MessageId = path_id(FIELD, path)?;
    Params::read(uri, &[])?;
    read.read_demand(headers)?;
    let mut view = find(read, id).await?;
    // The message may be on any partition. A message that the caller may not see looks like none.
    if view.is_none() && !read.demands_all() {
        read.demand_all().await?;
        view = find(read, id).await?;
    }
    if view.is_none() && demand_log_end(read, None).await? {
        view = find(read, id).await?;
    }
    Ok(read.respond("message", view.ok_or_else(|| Problem::not_found(FIELD))?, headers))
}

/// Finds a message that the caller may see, in a view that includes what the client demands of the message's partition.
async fn find(read: &mut ReadRequest<'_>, id: MessageId) -> Result<Option<RenderedView>, Problem> {
    let read_model = read.read_model();
    let values = async || {
        let snapshot = read_model.message(id).await?;
        Ok(Snapshot { value: snapshot.value.map(|data| DataResponse { data }), offsets: snapshot.offsets })
    };
    loop {
        let view = read.read_entity(&ViewKey::Message(id), Dependency::Message(id), values).await?;
        let Some(view) = view else { return Ok(None) };
        // The view is the same for every participant. Only now is it known which conversation the caller must be in.
        let located: LocatedMessage = view.parse()?;
        let conversation = located.data.conversation_id;
        if !read.is_participant(conversation).await? {
            return Ok(None);
        }
        read.demand_of(conversation).await?;
        // If not, the next round reads a view that does, because it demands it from the start.
        if read.is_satisfied_by(&view) {
            return Ok(Some(view));
        }
    }
}
