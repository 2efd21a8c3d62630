//! Telling the caches what changed. It may be late, never wrong: what Redis wasn't told it doesn't claim.

use cache::{Announced, Cache, Head, Step};
use domain::ConversationId;
use domain::state::Changes;
use read_model::ReadModel;

/// How many changed conversations or messages are repaired at a time.
const REPAIR_PAGE: i64 = 1_000;
/// How many heads are moved at a time where there may be any number of them.
const HEADS: usize = 1_000;

/// Announces a commit; where Redis turns out to be behind, everything that changed since is announced again.
///
/// # Errors
/// When Redis or Postgres doesn't answer. Redis then stays behind, which the next announcement notices.
pub(crate) async fn announce(
    cache: &Cache,
    read_model: &ReadModel,
    generation: i64,
    changes: &Changes,
    steps: &[Step],
) -> anyhow::Result<()> {
    let heads = heads(read_model, changes).await?;
    if let Announced::Behind(behind) = cache.announce(generation, &heads, steps).await? {
        for (partition, known) in behind {
            let Some(step) = steps.iter().find(|step| step.partition == partition) else { continue };
            repair(cache, read_model, generation, Step { from: known, ..*step }).await?;
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
    let contents = read_model.contents(conversation).await?;
    let mut heads = vec![Head::Conversation(conversation)];
    heads.extend(contents.messages.into_iter().map(Head::Message));
    heads.extend(contents.users.into_iter().map(Head::User));
    for some in heads.chunks(HEADS) {
        cache.announce(generation, some, &[]).await?;
    }
    Ok(())
}

/// The heads that a commit moved.
async fn heads(read_model: &ReadModel, changes: &Changes) -> anyhow::Result<Vec<Head>> {
    let conversations: Vec<_> = changes.conversations.iter().copied().collect();
    let mut heads: Vec<Head> = conversations.iter().copied().map(Head::Conversation).collect();
    heads.extend(changes.messages.iter().map(|(_, message)| Head::Message(*message)));
    // A new conversation is news to all of its participants; a change in a large one is not, for their lists
    // depend on the conversation's own head.
    heads.extend(changes.created.iter().flat_map(|(_, users)| users.iter().cloned().map(Head::User)));
    let members = read_model.members_of(&conversations).await?;
    heads.extend(members.into_iter().map(Head::User));
    heads.sort_unstable();
    heads.dedup();
    Ok(heads)
}

/// Moves the heads of everything that changed on a partition from `step.from` on, and then announces it.
///
/// # Errors
/// As [`announce`].
async fn repair(cache: &Cache, read_model: &ReadModel, generation: i64, step: Step) -> anyhow::Result<()> {
    tracing::info!(partition = step.partition, from = step.from, to = step.to, "telling Redis what it missed");
    let mut from = step.from;
    loop {
        let page = read_model.heads_changed_since(step.partition, from, REPAIR_PAGE).await?;
        let mut heads: Vec<Head> = page.conversations.iter().copied().map(Head::Conversation).collect();
        heads.extend(page.messages.iter().copied().map(Head::Message));
        heads.extend(page.users.iter().cloned().map(Head::User));
        let last = page.next.is_none();
        let steps = if last { vec![step] } else { Vec::new() };
        cache.announce(generation, &heads, &steps).await?;
        match page.next {
            Some(next) => from = next,
            None => return Ok(()),
        }
    }
}
