//! Which conversations a user is in: for other services, and for what a list of conversations depends on.

use axum::extract::State;
use axum::response::Response;
use cache::{Head, ViewKey};
use domain::{ConversationId, UserId, limits};
use http::{HeaderMap, Uri};
use read_model::{Membership, Snapshot};
use serde::Deserialize;
use service::auth::ServiceCaller;
use service::envelope::Whole;
use service::http::Params;
use service::openapi::{CommonHeaders, NotModified, QueryErrors, QueryHeaders};
use service::problem::Problem;

use crate::QueryApi;
use crate::answer::Found;
use crate::reading::{self, Reading};

/// Which conversations a user is in
///
/// For realtime, with the token that services show one another. Never to be routed to the outside.
#[utoipa::path(
    get,
    path = "/internal/memberships",
    operation_id = "memberships",
    tag = "internal",
    params(("userId" = UserId, Query, description = "Whose."), QueryHeaders, CommonHeaders),
    responses(
        (status = 200, description = "All of them.", body = Whole<Vec<Membership>>),
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
    let mut reading = Reading::begin(&api, user, &headers).await?;
    let found = read(&api, &mut reading).await?;
    Ok(reading.answer("memberships", found, &headers))
}

async fn read(api: &QueryApi, reading: &mut Reading<'_>) -> Result<Found, Problem> {
    let user = reading.user().clone();
    let values = async {
        let snapshot = api.0.parts.read_model.memberships(&user).await?;
        Ok(Snapshot { value: Some(Whole { data: snapshot.value }), offsets: snapshot.offsets })
    };
    let found = reading.read(&ViewKey::Memberships(user.clone()), Head::User(user.clone()), values).await?;
    // There is always a list, if only an empty one.
    found.ok_or_else(Problem::internal)
}

/// The user's large conversations: their changes don't move the heads of all who are in them.
///
/// # Errors
/// As any read.
pub(crate) async fn large(api: &QueryApi, reading: &mut Reading<'_>) -> Result<Vec<ConversationId>, Problem> {
    large_in(&read(api, reading).await?)
}

/// The user's large conversations, where Redis knows them.
///
/// # Errors
/// As any read.
pub(crate) async fn large_in_cache(reading: &mut Reading<'_>) -> Result<Option<Vec<ConversationId>>, Problem> {
    let key = ViewKey::Memberships(reading.user().clone());
    reading.look_up(&key).await.as_ref().map(large_in).transpose()
}

fn large_in(found: &Found) -> Result<Vec<ConversationId>, Problem> {
    #[derive(Deserialize)]
    struct Memberships {
        data: Vec<Membership>,
    }
    let memberships: Memberships = reading::parse(found)?;
    let is_large = |membership: &Membership| {
        usize::try_from(membership.participant_count).is_ok_and(|count| count > limits::SMALL_CONVERSATION)
    };
    let mut large: Vec<ConversationId> =
        memberships.data.iter().filter(|it| is_large(it)).map(|membership| membership.conversation_id).collect();
    large.sort_unstable();
    Ok(large)
}
