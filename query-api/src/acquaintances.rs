//! The people with whom a user shares a conversation: for realtime, which shows the user their presence.

use axum::Json;
use axum::extract::State;
use domain::UserId;
use http::Uri;
use read_path::postgres_unavailable;
use service::auth::ServiceCaller;
use service::http::Params;
use service::problem::Problem;
use service::response::DataResponse;

use crate::QueryApi;

/// The most people in a question: as many as realtime may be asked about.
const MAX_PEOPLE: usize = 100;

/// `GET /internal/acquaintances?userId=…&among=…`: which of the people in the JSON array `among` share a conversation
/// with the user.
///
/// One statement, which caches nothing: a client may name anybody. Realtime calls this route with the service token. A
/// proxy must never route it from the outside.
pub(crate) async fn among(
    State(api): State<QueryApi>,
    _: ServiceCaller,
    uri: Uri,
) -> Result<Json<DataResponse<Vec<UserId>>>, Problem> {
    const USER: &str = "userId";
    const AMONG: &str = "among";
    let params = Params::read(&uri, &[USER, AMONG])?;
    let user: Option<UserId> = params.parse(USER)?;
    let user = user.ok_or_else(|| Problem::invalid_parameter(USER, "missing_parameter", "must be given"))?;
    let people: Option<Vec<UserId>> = params.get(AMONG).and_then(|people| serde_json::from_str(people).ok());
    let people = people.filter(|people| people.len() <= MAX_PEOPLE).ok_or_else(|| {
        let detail = format!("must be a JSON array of at most {MAX_PEOPLE} user ids");
        Problem::invalid_parameter(AMONG, "invalid_parameter", detail)
    })?;
    let data = api.0.parts.read_model.acquaintances(&user, &people).await;
    Ok(Json(DataResponse { data: data.map_err(|error| postgres_unavailable(&error))? }))
}
