//! Whether something that a read didn't find certainly doesn't exist.
//!
//! The read model may be behind the log, so not finding something says little. For a minute, Redis knows what commands
//! have just created (`cache/src/pending.rs`), and a read finds it there. What is older is in the read model, if the
//! projector has folded an end of the log that is younger than that. Otherwise the read asks Kafka for the log's end, and
//! looks again once the projector has passed it. If that takes too long, the response is 503, never a wrong 404.

use std::time::Duration;

use domain::ConversationId;
use service::problem::Problem;

use crate::read_request::ReadRequest;

/// How old the end of the log may be that the projector has folded: a third of the time for which Redis knows what
/// commands have just created, because the clocks of processes differ, and an append takes its time.
const FOLDED_END_MAX_AGE: Duration = cache::keys::PENDING_TTL.checked_div(3).expect("3 isn't 0");

domain::limit_rows! {
    Queries, "age of the log's end that the projector has folded, for a 404", Time FOLDED_END_MAX_AGE, "the query waits for the present end", "readers, who would miss what exists";
}

/// Checks that the user is in a conversation.
///
/// # Errors
/// 404 naming the field when the user is not, or when there is no such conversation; 503 when that is unknown.
pub(crate) async fn require_participant(
    read: &mut ReadRequest<'_>,
    conversation: ConversationId,
    field: &'static str,
) -> Result<(), Problem> {
    let mut is_participant = read.is_participant(conversation).await?;
    if !is_participant && demand_log_end(read, Some(conversation)).await? {
        is_participant = read.is_participant(conversation).await?;
    }
    if is_participant { Ok(()) } else { Err(Problem::not_found(field)) }
}

/// Demands the present end of the log, unless what the read didn't find certainly doesn't exist. Of a conversation, its
/// partition counts; anything else may be on any partition. Returns whether the read must look again.
///
/// # Errors
/// 503 when the projector doesn't pass the end in time, or Kafka doesn't answer.
pub(crate) async fn demand_log_end(
    read: &mut ReadRequest<'_>,
    conversation: Option<ConversationId>,
) -> Result<bool, Problem> {
    let api = read.api();
    let partitions = api.0.parts.partitions;
    let partition = conversation.map(|conversation| event_log::partition_of(conversation, partitions));
    let current = read.cache.current_within(FOLDED_END_MAX_AGE).await.unwrap_or_default();
    if partition.map_or_else(|| current.are_all(partitions), |partition| current.contains(partition)) {
        return Ok(false);
    }
    let end = api.0.log_end.read().await.ok_or_else(Problem::projection_behind)?;
    read.demand(&match partition {
        Some(partition) => end.restricted_to(partition),
        None => end,
    })
    .await?;
    Ok(true)
}
