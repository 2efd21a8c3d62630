//! Runs batches against Postgres and Redis.
//!
//! Invalidation may lag behind a commit, but a stale view is never served as fresh: Redis serves a view only as fresh
//! as the published progress, and [`BatchRun`] publishes none before what it changes is invalidated.

use cache::CacheError;
use domain::{ConversationId, OffsetAdvance, Position};
use read_model::{CommitError, Projection, ReadModelError};
use service::trace;

use crate::folding::{BatchRun, PendingRecord, Reply, Request};
use crate::projector::Projector;

/// Why a run did not get to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// Postgres failed to commit.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// Postgres failed to read.
    #[error(transparent)]
    Postgres(#[from] ReadModelError),
    /// Redis failed.
    #[error(transparent)]
    Redis(#[from] CacheError),
}

impl RunError {
    /// The kind of failure, as a metric label.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Commit(CommitError::Fenced) => "fenced",
            Self::Commit(CommitError::Held(_)) => "held",
            Self::Commit(CommitError::ReadModel(error)) | Self::Postgres(error) => error.kind(),
            Self::Redis(_) => "redis",
        }
    }
}

/// Fulfils the requests of a run until it is done.
///
/// # Errors
/// When Postgres or Redis fails. [`BatchRun::is_committed`] tells how far the run came: after its commit, Redis stays
/// behind, which the next publication notices.
pub(crate) async fn execute(projector: &Projector, projection: Projection, run: &mut BatchRun) -> Result<(), RunError> {
    let (read_model, cache) = (&projector.read_model, &projector.cache);
    while let Some(request) = run.request() {
        let reply = match request {
            Request::Load(touched) => Reply::Loaded(read_model.load(&touched).await?),
            Request::Commit { state, changes, parked, advances } => {
                read_model.commit(state, changes, &parked, &advances, projection).await?;
                Reply::Committed
            }
            Request::MembersOfSmall(ids) => Reply::Members(read_model.members_of_small(ids).await?),
            Request::Publish(publication) => {
                let (dependencies, advances) = (&publication.dependencies, &publication.advances);
                Reply::Published(cache.publish_progress(projection.generation, dependencies, advances).await?)
            }
            Request::ListChanges(cursor) => Reply::Changed(read_model.changed_entities(cursor).await?),
        };
        let is_committed = matches!(reply, Reply::Committed);
        run.reply(reply);
        // Also if the publication fails: a later one repairs only what is published.
        if let Some(batch) = run.batch().filter(|_| is_committed) {
            projector.folded.add(cache, batch);
        }
    }
    Ok(())
}

/// Invalidates everything in a conversation that has an event at this position. Publishes no progress.
///
/// # Errors
/// When Postgres or Redis fails.
pub(crate) async fn invalidate_conversation(
    projector: &Projector,
    generation: i64,
    position: Position,
    conversation: ConversationId,
) -> Result<(), RunError> {
    let mut run = BatchRun::invalidate(position.partition, conversation);
    execute(projector, Projection { topic_id: projector.topic.id, generation }, &mut run).await?;
    Ok(projector.cache.forget_participants(conversation).await?)
}

/// Publishes progress again that is committed already, and repairs what Redis doesn't know.
///
/// # Errors
/// When Postgres or Redis fails.
pub(crate) async fn republish(
    projector: &Projector,
    projection: Projection,
    advances: Vec<OffsetAdvance>,
) -> Result<(), RunError> {
    execute(projector, projection, &mut BatchRun::republish(advances)).await
}

/// The span of folding a record, in the trace that its producer began.
pub(crate) fn fold_span(entry: &PendingRecord) -> Option<trace::Span> {
    let event_type = entry.event.as_ref().ok().map(|event| event.data.type_name());
    trace::record_span("fold", event_type, entry.traceparent.as_deref())
}
