//! Invalidating cached views after a commit, and publishing the progress that waiting readers wait for.
//!
//! Invalidation may lag behind a commit, but a stale view is never served as fresh: Redis serves a view only as fresh
//! as the published progress, and this module must never publish progress before it has invalidated what that progress
//! changes.

use cache::{Dependency, PublishOutcome};
use domain::state::Changes;
use domain::{ConversationId, OffsetAdvance};
use read_model::ReadModel;

use crate::projector::Projector;

/// How many changed conversations one query lists, when Redis is behind.
const CONVERSATIONS_PER_PAGE: i64 = 1_000;
/// How many dependencies one call of Redis invalidates, where a conversation may have any number of them.
const DEPENDENCIES_PER_CALL: usize = 1_000;

/// Invalidates what a commit changed, and publishes its progress. If Redis turns out to be behind on a partition,
/// invalidates everything that has changed there since the progress that Redis knows.
///
/// # Errors
/// When Redis or Postgres doesn't answer. Redis then stays behind, which the next publication notices.
pub(crate) async fn publish_progress(
    projector: &Projector,
    generation: i64,
    changes: &Changes,
    advances: &[OffsetAdvance],
) -> anyhow::Result<()> {
    let dependencies = changed_dependencies(&projector.read_model, changes).await?;
    let outcome = projector.cache.publish_progress(generation, &dependencies, advances).await?;
    if let PublishOutcome::Behind(behind) = outcome {
        for (partition, known) in behind {
            let Some(advance) = advances.iter().find(|advance| advance.partition == partition) else { continue };
            invalidate_since(projector, generation, OffsetAdvance { from: known, ..*advance }).await?;
        }
    }
    Ok(())
}

/// Invalidates everything in a conversation. Publishes no progress.
///
/// # Errors
/// When Redis or Postgres doesn't answer.
pub(crate) async fn invalidate_conversation(
    projector: &Projector,
    generation: i64,
    conversation: ConversationId,
) -> anyhow::Result<()> {
    let contents = projector.read_model.conversation_contents(conversation).await?;
    let mut dependencies = vec![Dependency::Conversation(conversation)];
    dependencies.extend(contents.messages.into_iter().map(Dependency::Message));
    dependencies.extend(contents.users.into_iter().map(Dependency::User));
    for chunk in dependencies.chunks(DEPENDENCIES_PER_CALL) {
        projector.cache.publish_progress(generation, chunk, &[]).await?;
    }
    Ok(())
}

/// The dependencies of cached views that a commit changed.
async fn changed_dependencies(read_model: &ReadModel, changes: &Changes) -> anyhow::Result<Vec<Dependency>> {
    let conversations: Vec<_> = changes.conversations.iter().copied().collect();
    let mut dependencies: Vec<Dependency> = conversations.iter().copied().map(Dependency::Conversation).collect();
    dependencies.extend(changes.messages.iter().map(|(_, message)| Dependency::Message(*message)));
    // A new conversation changes the lists of all its participants, also of a large one. A later change in a large
    // conversation doesn't: the lists depend on the conversation itself.
    dependencies.extend(changes.created.iter().flat_map(|(_, users)| users.iter().cloned().map(Dependency::User)));
    let members = read_model.members_of_small(&conversations).await?;
    dependencies.extend(members.into_iter().map(Dependency::User));
    dependencies.sort_unstable();
    dependencies.dedup();
    Ok(dependencies)
}

/// Invalidates everything that has changed on a partition from `missed.from` on, and then publishes the progress
/// `missed.to`.
///
/// # Errors
/// When Redis or Postgres doesn't answer.
async fn invalidate_since(projector: &Projector, generation: i64, missed: OffsetAdvance) -> anyhow::Result<()> {
    let OffsetAdvance { partition, from, to } = missed;
    tracing::info!(partition, from, to, "Redis is behind; invalidating everything that has changed since");
    let mut page_start = from;
    loop {
        let page = projector.read_model.entities_changed_since(partition, page_start, CONVERSATIONS_PER_PAGE).await?;
        let mut dependencies: Vec<Dependency> =
            page.conversations.iter().copied().map(Dependency::Conversation).collect();
        dependencies.extend(page.messages.iter().copied().map(Dependency::Message));
        dependencies.extend(page.users.iter().cloned().map(Dependency::User));
        let is_last = page.next.is_none();
        let advances = if is_last { vec![missed] } else { Vec::new() };
        projector.cache.publish_progress(generation, &dependencies, &advances).await?;
        match page.next {
            Some(next) => page_start = next,
            None => return Ok(()),
        }
    }
}
