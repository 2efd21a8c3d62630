//! Queries for conversations: a page of a user's conversations, and one conversation.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use cache::{Dependency, Versions, ViewKey};
use domain::view::ConversationView;
use domain::{ConversationId, Timestamp};
use http::{HeaderMap, Uri};
use read_model::{ConversationPage, Page, ReadModelError, Snapshot};
use serde::Serialize;
use service::auth::Caller;
use service::http::{Params, path_id};
use service::openapi::{CommonHeaderParams, NotModified, QUERIES, QueryErrors, QueryHeaderParams, QueryLimitErrors};
use service::problem::Problem;
use service::response::PageResponse;

use crate::QueryApi;
use crate::absence::demand_log_end;
use crate::cursor::List;
use crate::memberships;
use crate::page_request::PageRequest;
use crate::read_request::ReadRequest;
use crate::response::{LookUp, RenderedView};

const DEFAULT_LIMIT: i64 = 20;
const DEFAULT_PARTICIPANTS: i64 = 50;
/// The largest number of large conversations that a cached list may depend on: every look-up checks each of them.
const MAX_LARGE: usize = 1_000;

domain::limit_rows! {
    Queries, "large conversations on which a cached list depends", Count MAX_LARGE, "the list isn't cached", "whoever else uses Redis";
}

/// `GET /api/messages`: the caller's conversations, the most recently active first.
pub(crate) async fn page(
    read: &mut ReadRequest<'_>,
    params: &Params,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let (caller, read_model) = (read.user().clone(), read.read_model());
    let list = List::Conversations(&caller);
    let request = PageRequest::<(Timestamp, ConversationId)>::read(list, params, DEFAULT_LIMIT)?;
    read.read_demand(headers)?;
    read.demand_all().await?;
    let values = async {
        let snapshot = read_model.conversations(&caller, request.limit, request.from).await?;
        let Page { items, more } = snapshot.value;
        let next = items.last().filter(|_| more).map(|last| (last.updated_at, last.id));
        Ok(Snapshot { value: Some(request.response(items, next)), offsets: snapshot.offsets })
    };
    let view = if request.is_first() {
        read_first_page(read, request.limit, values).await?
    } else {
        read.load(values).await?
    };
    // There is always a list, if only an empty one.
    Ok(read.respond("conversations", view.ok_or_else(Problem::internal)?, headers))
}

async fn read_first_page<T: Serialize>(
    read: &mut ReadRequest<'_>,
    page_size: i64,
    values: impl Future<Output = Result<Snapshot<Option<T>>, ReadModelError>>,
) -> Result<Option<RenderedView>, Problem> {
    let key = ViewKey::Conversations { user: read.user().clone(), page_size };
    let old = match read.look_up(&key).await? {
        LookUp::Current(view) => return Ok(Some(view)),
        LookUp::Old(view) => Some(view),
        LookUp::Miss => None,
    };
    let loaded = Box::pin(load_first_page(read, &key, values)).await;
    read.or_old(loaded, old)
}

async fn load_first_page<T: Serialize>(
    read: &mut ReadRequest<'_>,
    key: &ViewKey,
    values: impl Future<Output = Result<Snapshot<Option<T>>, ReadModelError>>,
) -> Result<Option<RenderedView>, Problem> {
    let versions = list_versions(read).await?;
    let view = read.load(values).await?;
    if let (Some(versions), Some(view)) = (versions, &view) {
        read.cache.put_if_current(key, &versions, &view.view, &view.includes).await;
    }
    Ok(view)
}

/// The versions of what a user's list depends on: the list itself, the memberships, and the large conversations. None
/// if the list can't be cached.
async fn list_versions(read: &mut ReadRequest<'_>) -> Result<Option<Versions>, Problem> {
    if !read.cache.is_available() {
        return Ok(None);
    }
    let large = memberships::large(read).await?;
    if large.len() > MAX_LARGE {
        return Ok(None);
    }
    let mut dependencies = vec![Dependency::Memberships(read.user().clone()), Dependency::User(read.user().clone())];
    dependencies.extend(large.iter().copied().map(Dependency::Conversation));
    let versions = read.cache.versions(&dependencies).await;
    // A large conversation that was created meanwhile would be missing among the dependencies. Its creation changed the
    // version of the user's memberships. So if Redis still has the same memberships now, they were complete when the
    // versions were read.
    let unchanged = memberships::cached_large(read).await? == Some(large);
    Ok(versions.filter(|_| unchanged))
}

/// Read one conversation, with its participants in pages
#[utoipa::path(
    get,
    path = "/api/conversations/{id}",
    operation_id = "conversation",
    tag = QUERIES,
    params(
        ("id" = ConversationId, Path, description = "The conversation's id."),
        ("limit" = Option<i64>, Query, description = "The largest number of participants in a page. Default: 50.",
            minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of an earlier page."),
        QueryHeaderParams,
        CommonHeaderParams,
    ),
    responses(
        (status = 200, description = "The conversation.", body = PageResponse<ConversationView>),
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
    const FIELD: &str = "id";
    let id: ConversationId = path_id(FIELD, path)?;
    let params = Params::read(uri, &["limit", "cursor"])?;
    let request = PageRequest::<i32>::read(List::Participants(id), &params, DEFAULT_PARTICIPANTS)?;
    let limit = i32::try_from(request.limit).unwrap_or(i32::MAX);
    read.read_demand(headers)?;
    read.demand_of(id).await?;
    let (caller, read_model) = (read.user().clone(), read.read_model());
    let values = async || {
        let snapshot = read_model.conversation(id, &caller, limit, request.from.unwrap_or(0)).await?;
        let value = snapshot.value.map(|ConversationPage { view, next }| request.response(view, next));
        Ok(Snapshot { value, offsets: snapshot.offsets })
    };
    // The view belongs to one user. If Redis has it, the user is in the conversation, and stays in it.
    let key = ViewKey::Conversation { conversation: id, user: caller.clone(), page_size: request.limit };
    let find = async |read: &mut ReadRequest<'_>| {
        if request.is_first() {
            read.read_entity(&key, Dependency::Conversation(id), values).await
        } else {
            read.load(values()).await
        }
    };
    let mut view = find(read).await?;
    if view.is_none() && demand_log_end(read, Some(id)).await? {
        view = find(read).await?;
    }
    Ok(read.respond("conversation", view.ok_or_else(|| Problem::not_found(FIELD))?, headers))
}
