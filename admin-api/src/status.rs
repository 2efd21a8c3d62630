//! What the system is doing: where each partition of the projection is, and which generations of the read model exist.

use axum::Json;
use axum::extract::State;
use cache::{LiveNode, NodeCounts};
use domain::Timestamp;
use http::Uri;
use read_model::{GenerationState, GenerationStatus};
use serde::Serialize;
use service::auth::AdminCaller;
use service::health::{CheckReport, HealthReport, ReadinessStatus};
use service::http::Params;
use service::openapi::{ADMIN, AdminErrors, CommonHeaderParams};
use service::problem::Problem;
use service::response::DataResponse;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::AdminApi;
use crate::observation::PartitionStatus;

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
    /// How many offsets of all partitions are readable and not folded yet.
    lag: i64,
    /// How many seconds ago the log took the oldest record that is readable and not folded yet; 0 if all are folded.
    lag_seconds: f64,
    /// Each partition of the topic.
    partitions: Vec<PartitionStatus>,
    /// The generations of the read model, the newest first.
    generations: Vec<GenerationState>,
    /// The realtime nodes that are alive. Empty while Redis doesn't answer.
    nodes: Vec<NodeStatus>,
    /// The process that answers. Others may be in another state.
    process: ProcessStatus,
}

/// The state of the process that answers.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProcessStatus {
    /// The services that it runs.
    #[schema(example = json!(["query-api"]))]
    roles: Vec<&'static str>,
    /// When it began to serve.
    started_at: Timestamp,
    /// Whether it can do its work.
    status: ReadinessStatus,
    /// Each check of what it depends on, with its state and since when.
    checks: Vec<CheckReport>,
}

/// A realtime node, by what it said with its last heartbeat.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeStatus {
    /// The id that it has had since its start.
    node: Uuid,
    /// How many sockets of users it has.
    sockets: usize,
    /// How many conversations have a participant with a socket there.
    rooms: usize,
    /// When it said so. A node sends a heartbeat every 2 s, and is gone 8 s after the last one.
    seen_at: Timestamp,
}

impl From<&LiveNode> for NodeStatus {
    fn from(live: &LiveNode) -> Self {
        let LiveNode { node, counts: NodeCounts { sockets, rooms }, seen_at } = *live;
        Self { node, sockets, rooms, seen_at }
    }
}

/// See what the system is doing
///
/// All admins share an answer: it is up to 500 ms old.
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
    uri: Uri,
) -> Result<Json<DataResponse<SystemStatus>>, Problem> {
    Params::read(&uri, &[])?;
    let observed = api.0.observer.observe().await?;
    let HealthReport { status, checks } = api.0.health.report().await;
    let live = observed.generations.iter().find(|it| it.status == GenerationStatus::Live);
    let data = SystemStatus {
        topic: api.0.topic.clone(),
        topic_id: api.0.topic_id,
        generation: live.map(|it| it.generation),
        projectors: observed.projectors,
        open_dead_letters: observed.open_dead_letters,
        lag: observed.lag(),
        lag_seconds: observed.lag_seconds(),
        partitions: observed.partitions.clone(),
        generations: observed.generations.clone(),
        nodes: observed.nodes.iter().map(Into::into).collect(),
        process: ProcessStatus { roles: api.0.roles.clone(), started_at: api.0.started_at, status, checks },
    };
    Ok(Json(DataResponse { data }))
}
