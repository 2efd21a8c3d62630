//! Where each partition of the projection is.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use service::auth::AdminCaller;
use service::openapi::{ADMIN, AdminErrors, CommonHeaderParams};
use service::problem::Problem;
use service::response::DataResponse;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{AdminApi, postgres_problem};

/// What the system is doing.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SystemStatus {
    /// The name of the topic, which is the system of record.
    topic: String,
    /// Its id (KIP-516).
    topic_id: Uuid,
    /// Which generation of the read model is in use: each rebuild makes another one. Null before a projector first ran.
    #[schema(required)]
    generation: Option<i64>,
    /// How many projectors are at work.
    projectors: usize,
    /// How many dead letters are open: neither folded nor discarded.
    open_dead_letters: i64,
    /// Each partition of the topic.
    partitions: Vec<PartitionStatus>,
}

/// How far the projection of a partition is.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PartitionStatus {
    /// Its number.
    partition: i32,
    /// The offset after the last record of the log.
    end: i64,
    /// The offset up to which readers get records. It is smaller while another producer has a transaction open.
    readable: i64,
    /// The offset up to which the read model is folded.
    folded: i64,
    /// How many offsets are readable and not folded yet.
    lag: i64,
    /// Whether a projector works on it.
    is_projected: bool,
}

/// See where the projection is
#[utoipa::path(
    get,
    path = "/admin/api/status",
    operation_id = "status",
    tag = ADMIN,
    params(CommonHeaderParams),
    responses((status = 200, description = "The status.", body = DataResponse<SystemStatus>), AdminErrors)
)]
pub(crate) async fn show(
    State(api): State<AdminApi>,
    _: AdminCaller,
) -> Result<Json<DataResponse<SystemStatus>>, Problem> {
    let read_model = &api.0.read_model;
    // Before the log's ends: what is folded meanwhile must not look as if it were beyond them.
    let read = async {
        let offsets = read_model.offsets().await?;
        let (generation, leases) = (read_model.generation().await?, read_model.leases().await?);
        let partitions: Vec<i32> = (0..).zip(&offsets.0).map(|(partition, _)| partition).collect();
        let upkeep = read_model.upkeep(api.0.topic_id, &partitions).await?;
        Ok((offsets, generation, leases, upkeep.open_dead_letters))
    };
    let (folded, generation, leases, open_dead_letters) = read.await.map_err(|error| postgres_problem(&error))?;
    let (end, readable) = api.log_ends().await?;
    let partitions = (0..).zip(end.0.iter().zip(&readable.0)).map(|(partition, (end, readable))| {
        let folded = folded.next(partition);
        PartitionStatus {
            partition,
            end: *end,
            readable: *readable,
            folded,
            lag: (readable - folded).max(0),
            is_projected: !leases.unowned.contains(&partition) && leases.projectors > 0,
        }
    });
    let data = SystemStatus {
        topic: api.0.topic.clone(),
        topic_id: api.0.topic_id,
        generation,
        projectors: leases.projectors,
        open_dead_letters,
        partitions: partitions.collect(),
    };
    Ok(Json(DataResponse { data }))
}
