//! The limits in force.

use axum::Json;
use axum::extract::State;
use http::Uri;
use serde::Serialize;
use service::auth::AdminCaller;
use service::http::Params;
use service::openapi::{ADMIN, AdminErrors, CommonHeaderParams};
use service::problem::Problem;
use service::response::DataResponse;
use utoipa::ToSchema;

use crate::AdminApi;

/// How much of something is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitInForce {
    /// The part of the system that it is about, such as `Queries`.
    pub area: &'static str,
    /// What is limited.
    pub limit: &'static str,
    /// How much of it is allowed, as people write it: `4,000`, `64 KiB` or `10 s`.
    #[schema(example = "64 KiB")]
    pub value: String,
    /// What happens beyond it.
    pub beyond: &'static str,
    /// Who or what would suffer without it.
    pub protects: &'static str,
}

/// List the limits in force
///
/// All limits, with the values that the process that answers is configured with.
#[utoipa::path(
    get,
    path = "/admin/api/limits",
    operation_id = "limits",
    tag = ADMIN,
    params(CommonHeaderParams),
    responses((status = 200, description = "The limits.", body = DataResponse<Vec<LimitInForce>>), AdminErrors)
)]
pub(crate) async fn list(
    State(api): State<AdminApi>,
    _: AdminCaller,
    uri: Uri,
) -> Result<Json<DataResponse<Vec<LimitInForce>>>, Problem> {
    Params::read(&uri, &[])?;
    Ok(Json(DataResponse { data: api.0.limits.clone() }))
}
