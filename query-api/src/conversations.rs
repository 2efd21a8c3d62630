//! Conversations: a page of a user's, and one.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use cache::{Head, Stamps, ViewKey};
use domain::view::ConversationView;
use domain::{ConversationId, Timestamp, UserId};
use http::{HeaderMap, Uri};
use read_model::{ConversationPage, Listed, Snapshot};
use service::auth::Caller;
use service::envelope::Paged;
use service::http::{Params, path_id};
use service::openapi::{CommonHeaders, NotModified, QUERIES, QueryErrors, QueryHeaders};
use service::problem::Problem;

use crate::QueryApi;
use crate::cursor::List;
use crate::memberships;
use crate::paging::PageAsked;
use crate::reading::Reading;

const DEFAULT_LIMIT: i64 = 20;
const DEFAULT_PARTICIPANTS: i64 = 50;
/// The most large conversations on which a stored list may depend: each is looked at whenever it is read.
const MOST_LARGE: usize = 1_000;

/// `GET /api/messages`: the caller's conversations, the most recently active first.
pub(crate) async fn page(
    api: &QueryApi,
    caller: UserId,
    params: &Params,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let list = List::Conversations(&caller);
    let asked = PageAsked::<(Timestamp, ConversationId)>::read(list, params, DEFAULT_LIMIT)?;
    let mut reading = Reading::begin(api, caller.clone(), headers).await?;
    let key = ViewKey::Conversations { user: caller.clone(), page: asked.key() };
    let values = async {
        let snapshot = api.0.parts.read_model.conversations(&caller, asked.limit, asked.from).await?;
        let Listed { items, more } = snapshot.value;
        let next = items.last().filter(|_| more).map(|last| (last.updated_at, last.id));
        Ok(Snapshot { value: Some(asked.envelope(items, next)), offsets: snapshot.offsets })
    };
    if let Some(found) = reading.look_up(&key).await {
        return Ok(reading.answer("conversations", found, headers));
    }
    let stamps = list_stamps(api, &mut reading).await?;
    // There is always a list, if only an empty one.
    let found = reading.load(values).await?.ok_or_else(Problem::internal)?;
    if let Some(stamps) = stamps {
        reading.fill(&key, &stamps, &found).await;
    }
    Ok(reading.answer("conversations", found, headers))
}

/// The stamps of what the user's list depends on: their own head, and those of their large conversations. None
/// where the list can't be stored.
async fn list_stamps(api: &QueryApi, reading: &mut Reading<'_>) -> Result<Option<Stamps>, Problem> {
    if !reading.has_cache() {
        return Ok(None);
    }
    let large = memberships::large(api, reading).await?;
    if large.len() > MOST_LARGE {
        return Ok(None);
    }
    let mut heads = vec![Head::User(reading.user().clone())];
    heads.extend(large.iter().copied().map(Head::Conversation));
    let stamps = reading.stamps(&heads).await;
    // A large conversation that began in the meantime would be missing among the heads. Beginning it moved the
    // user's head, so that what Redis still has of the memberships now was whole when the stamps were taken.
    let unchanged = memberships::large_in_cache(reading).await? == Some(large);
    Ok(stamps.filter(|_| unchanged))
}

/// One conversation, with its participants in pages
#[utoipa::path(
    get,
    path = "/api/conversations/{id}",
    operation_id = "conversation",
    tag = QUERIES,
    params(
        ("id" = ConversationId, Path, description = "Which conversation."),
        ("limit" = Option<i64>, Query, description = "How many participants a page has at most; 50 where it isn't said.",
            minimum = 1, maximum = 100),
        ("cursor" = Option<String>, Query, description = "The `nextCursor` of an earlier page."),
        QueryHeaders,
        CommonHeaders,
    ),
    responses(
        (status = 200, description = "The conversation.", body = Paged<ConversationView>),
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
    const FIELD: &str = "id";
    let id: ConversationId = path_id(FIELD, path)?;
    let params = Params::read(&uri, &["limit", "cursor"])?;
    let asked = PageAsked::<i32>::read(List::Participants(id), &params, DEFAULT_PARTICIPANTS)?;
    let limit = i32::try_from(asked.limit).unwrap_or(i32::MAX);
    let mut reading = Reading::begin(&api, caller.clone(), &headers).await?;
    // The view is of one user: where Redis has it, they are in the conversation, and stay in it.
    let key = ViewKey::Conversation { conversation: id, user: caller.clone(), page: asked.key() };
    let values = async || {
        let snapshot = api.0.parts.read_model.conversation(id, &caller, limit, asked.from.unwrap_or(0)).await?;
        let value = snapshot.value.map(|ConversationPage { view, next }| asked.envelope(view, next));
        Ok(Snapshot { value, offsets: snapshot.offsets })
    };
    let found = reading.read_one(&key, Head::Conversation(id), values).await?;
    Ok(reading.answer("conversation", found.ok_or_else(|| Problem::not_found(FIELD))?, &headers))
}
