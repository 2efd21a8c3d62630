//! Telling the caches what changed. It may be late, never wrong: what Redis wasn't told it doesn't claim.

use cache::{Cache, Dependency, PublishOutcome};
use domain::state::Changes;
use domain::{ConversationId, OffsetAdvance};
use read_model::ReadModel;

/// How many changed conversations or messages are repaired at a time.
const REPAIR_PAGE: i64 = 1_000;
/// How many dependencies are moved at a time where there may be any number of them.
const DEPENDENCIES: usize = 1_000;

/// Announces a commit; where Redis turns out to be behind, everything that changed since is announced again.
///
/// # Errors
/// When Redis or Postgres doesn't answer. Redis then stays behind, which the next announcement notices.
pub(crate) async fn announce(
    cache: &Cache,
    read_model: &ReadModel,
    generation: i64,
    changes: &Changes,
    advances: &[OffsetAdvance],
) -> anyhow::Result<()> {
    let dependencies = dependencies(read_model, changes).await?;
    if let PublishOutcome::Behind(behind) = cache.publish_progress(generation, &dependencies, advances).await? {
        for (partition, known) in behind {
            let Some(step) = advances.iter().find(|step| step.partition == partition) else { continue };
            repair(cache, read_model, generation, OffsetAdvance { from: known, ..*step }).await?;
        }
    }
    Ok(())
}

/// Announces that everything in a conversation may be different from before.
///
/// # Errors
/// As [`announce`].
pub(crate) async fn announce_all(
    cache: &Cache,
    read_model: &ReadModel,
    generation: i64,
    conversation: ConversationId,
) -> anyhow::Result<()> {
    let conversation_contents = read_model.conversation_contents(conversation).await?;
    let mut dependencies = vec![Dependency::Conversation(conversation)];
    dependencies.extend(conversation_contents.messages.into_iter().map(Dependency::Message));
    dependencies.extend(conversation_contents.users.into_iter().map(Dependency::User));
    for some in dependencies.chunks(DEPENDENCIES) {
        cache.publish_progress(generation, some, &[]).await?;
    }
    Ok(())
}

/// The dependencies that a commit moved.
async fn dependencies(read_model: &ReadModel, changes: &Changes) -> anyhow::Result<Vec<Dependency>> {
    let conversations: Vec<_> = changes.conversations.iter().copied().collect();
    let mut dependencies: Vec<Dependency> = conversations.iter().copied().map(Dependency::Conversation).collect();
    dependencies.extend(changes.messages.iter().map(|(_, message)| Dependency::Message(*message)));
    // A new conversation is news to all of its participants; a change in a large one is not, for their lists
    // depend on the conversation's own head.
    dependencies.extend(changes.created.iter().flat_map(|(_, users)| users.iter().cloned().map(Dependency::User)));
    let members = read_model.members_of_small(&conversations).await?;
    dependencies.extend(members.into_iter().map(Dependency::User));
    dependencies.sort_unstable();
    dependencies.dedup();
    Ok(dependencies)
}

/// Moves the dependencies of everything that changed on a partition from `step.from` on, and then announces it.
///
/// # Errors
/// As [`announce`].
async fn repair(cache: &Cache, read_model: &ReadModel, generation: i64, step: OffsetAdvance) -> anyhow::Result<()> {
    tracing::info!(partition = step.partition, from = step.from, to = step.to, "telling Redis what it missed");
    let mut from = step.from;
    loop {
        let page = read_model.entities_changed_since(step.partition, from, REPAIR_PAGE).await?;
        let mut dependencies: Vec<Dependency> =
            page.conversations.iter().copied().map(Dependency::Conversation).collect();
        dependencies.extend(page.messages.iter().copied().map(Dependency::Message));
        dependencies.extend(page.users.iter().cloned().map(Dependency::User));
        let last = page.next.is_none();
        let advances = if last { vec![step] } else { Vec::new() };
        cache.publish_progress(generation, &dependencies, &advances).await?;
        match page.next {
            Some(next) => from = next,
            None => return Ok(()),
        }
    }
}
