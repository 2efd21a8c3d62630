//! The conversations that a user is in: for realtime, and for what a list of conversations depends on.

use axum::extract::State;
use axum::response::Response;
use cache::{Dependency, ViewKey};
use domain::{ConversationId, UserId, limits};
use http::{HeaderMap, Uri};
use read_model::{Membership, Snapshot};
use serde::Deserialize;
use service::auth::ServiceCaller;
use service::http::Params;
use service::openapi::{CommonHeaderParams, NotModified, QueryErrors, QueryHeaderParams};
use service::problem::Problem;
use service::response::DataResponse;

use crate::QueryApi;
use crate::read_request::ReadRequest;
use crate::response::{LookUp, RenderedView};

/// List the conversations that a user is in
///
/// Realtime calls this route with the service token. A proxy must never route it from the outside.
#[utoipa::path(
    get,
    path = "/internal/memberships",
    operation_id = "memberships",
    tag = "internal",
    params(
        ("userId" = UserId, Query, description = "The user's id."),
        QueryHeaderParams,
        CommonHeaderParams
    ),
    responses(
        (status = 200, description = "All conversations of the user.", body = DataResponse<Vec<Membership>>),
        NotModified,
        QueryErrors,
    ),
    security(("service" = []))
)]
pub(crate) async fn of_user(
    State(api): State<QueryApi>,
    _: ServiceCaller,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    const FIELD: &str = "userId";
    let user: Option<UserId> = Params::read(&uri, &[FIELD])?.parse(FIELD)?;
    let user = user.ok_or_else(|| Problem::invalid_parameter(FIELD, "missing_parameter", "must be given"))?;
    let mut read = ReadRequest::begin_uncounted(&api, user);
    read.read_demand(&headers)?;
    read.demand_all().await?;
    let view = read_memberships(&mut read).await?;
    Ok(read.respond("memberships", view, &headers))
}

async fn read_memberships(read: &mut ReadRequest<'_>) -> Result<RenderedView, Problem> {
    let old = match read.look_up(&ViewKey::Memberships(read.user().clone())).await? {
        LookUp::Current(view) => return Ok(view),
        LookUp::Old(view) => Some(view),
        LookUp::Miss => None,
    };
    let loaded = load_memberships(read).await.map(Some);
    read.or_old(loaded, old)?.ok_or_else(Problem::internal)
}

async fn load_memberships(read: &mut ReadRequest<'_>) -> Result<RenderedView, Problem> {
    let (user, read_model) = (read.user().clone(), read.read_model());
    let values = async {
        let snapshot = read_model.memberships(&user).await?;
        Ok(Snapshot { value: Some(DataResponse { data: snapshot.value }), offsets: snapshot.offsets })
    };
    let (key, dependency) = (ViewKey::Memberships(user.clone()), Dependency::Memberships(user.clone()));
    let view = read.load_and_fill(&key, dependency, values).await?;
    // There is always a list, if only an empty one.
    view.ok_or_else(Problem::internal)
}

/// The user's large conversations. A change in one of them doesn't change the version of its participants' lists.
///
/// # Errors
/// As any read.
pub(crate) async fn large(read: &mut ReadRequest<'_>) -> Result<Vec<ConversationId>, Problem> {
    match cached_large(read).await? {
        Some(large) => Ok(large),
        None => large_in(&load_memberships(read).await?),
    }
}

/// The user's large conversations, if Redis knows them, however old they are: when Redis learns of another one, the
/// version on which the user's list depends changes.
///
/// # Errors
/// As any read.
pub(crate) async fn cached_large(read: &mut ReadRequest<'_>) -> Result<Option<Vec<ConversationId>>, Problem> {
    let key = ViewKey::Memberships(read.user().clone());
    match read.look_up(&key).await? {
        LookUp::Current(view) | LookUp::Old(view) => large_in(&view).map(Some),
        LookUp::Miss => Ok(None),
    }
}

fn large_in(view: &RenderedView) -> Result<Vec<ConversationId>, Problem> {
    #[derive(Deserialize)]
    struct Memberships {
        data: Vec<Membership>,
    }
    let memberships: Memberships = view.parse()?;
    let is_large = |membership: &Membership| {
        usize::try_from(membership.participant_count).is_ok_and(|count| count > limits::SMALL_CONVERSATION_MAX)
    };
    let mut large: Vec<ConversationId> =
        memberships.data.iter().filter(|it| is_large(it)).map(|membership| membership.conversation_id).collect();
    large.sort_unstable();
    Ok(large)
}
