//! What a command needs to know: from Redis, else from Postgres, else after waiting for the projector to pass
//! the end of the log as it was. Only then is something that isn't there really not there.

use std::time::Duration;

use cache::{Begun, Head, ViewKey};
use domain::facts::{ConversationFacts, MessageFacts};
use domain::{ConversationId, MessageId, PositionVector, UserId};
use read_model::{ReadModelError, Snapshot};
use service::problem::Problem;

use crate::{CommandApi, FACTS_WAIT};

/// How often Postgres is asked how far the projector is while Redis doesn't tell.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A 503: the projector was not there in time.
pub(crate) fn behind() -> Problem {
    Problem::unavailable("projection_behind", "the read model has not caught up yet; try again", 1)
}

pub(crate) fn postgres_down(error: &ReadModelError) -> Problem {
    tracing::warn!(%error, "Postgres can't be asked");
    Problem::unavailable("unavailable", "a service that this needs is out of reach; try again", 1)
}

/// What a snapshot has, or that there is no such thing: which only one that includes the log's end can say. The
/// projector may have passed it, and the read model have been emptied since.
///
/// # Errors
/// 503 when it can't be said.
fn there_by<T>(end: &PositionVector, snapshot: Snapshot<Option<T>>) -> Result<Option<T>, Problem> {
    if snapshot.value.is_none() && !snapshot.offsets.covers(end) { Err(behind()) } else { Ok(snapshot.value) }
}

impl CommandApi {
    /// Waits until the projector has passed all of `wanted`.
    ///
    /// # Errors
    /// 503 `projection_behind` when that isn't so in time.
    pub(crate) async fn at_least(&self, wanted: &PositionVector) -> Result<(), Problem> {
        let parts = &self.0.parts;
        let deadline = tokio::time::Instant::now() + FACTS_WAIT;
        loop {
            if parts.progress.reached(wanted, LOOK_EVERY).await {
                return Ok(());
            }
            // Redis may be what lags.
            let offsets = parts.read_model.offsets().await.map_err(|error| postgres_down(&error))?;
            if offsets.covers(wanted) {
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(behind());
            }
        }
    }

    /// Looks again for what was not found, when the projector has passed the end of the log as it is now: of one
    /// partition, or of all. That counts, unless it finds something.
    async fn look_past_log_end<T>(
        &self,
        user: &UserId,
        partition: Option<i32>,
        look: impl Future<Output = Result<Snapshot<Option<T>>, Problem>>,
    ) -> Result<Option<T>, Problem> {
        self.count_miss(user).await?;
        let mut end = self.0.barrier.log_end().await.ok_or_else(behind)?;
        if let Some(partition) = partition {
            for (index, next) in (0..).zip(&mut end.0) {
                if index != partition {
                    *next = 0;
                }
            }
        }
        self.at_least(&end).await?;
        let found = there_by(&end, look.await?)?;
        if found.is_some() {
            self.take_back_miss(user).await;
        }
        Ok(found)
    }

    /// What is known of a conversation that the user is in; none when there is none. Someone else's is looked for
    /// as long as one that isn't there, and counts as much: nobody can tell the two apart.
    ///
    /// # Errors
    /// 503 when it can't be known now, 429 when the user looked in vain too often.
    pub(crate) async fn conversation_facts(
        &self,
        id: ConversationId,
        user: &UserId,
        with_participants: bool,
    ) -> Result<Option<ConversationFacts>, Problem> {
        if let Ok(Some(participants)) = self.0.parts.cache.participants(id).await
            && participants.contains(user)
        {
            let participants = if with_participants { participants.iter().cloned().collect() } else { Vec::new() };
            return Ok(Some(ConversationFacts { id, is_participant: true, participants }));
        }
        if let Some(facts) = self.stored_conversation(id, user).await?.value {
            return Ok(Some(facts));
        }
        if let Ok(Some(begun)) = self.0.parts.cache.begun(&Head::Conversation(id)).await
            && let Begun::Conversation { participant_ids: participants, .. } = begun
            && participants.contains(user)
        {
            return Ok(Some(ConversationFacts { id, is_participant: true, participants }));
        }
        self.look_past_log_end(user, Some(self.partition_of(id)), self.stored_conversation(id, user)).await
    }

    /// The partition of a conversation.
    pub(crate) fn partition_of(&self, id: ConversationId) -> i32 {
        event_log::partition_for(id.to_string().as_bytes(), self.0.parts.partitions)
    }

    async fn stored_conversation(
        &self,
        id: ConversationId,
        user: &UserId,
    ) -> Result<Snapshot<Option<ConversationFacts>>, Problem> {
        let parts = &self.0.parts;
        let snapshot = parts.read_model.participants(id).await.map_err(|error| postgres_down(&error))?;
        if let Some(participants) = &snapshot.value {
            // Only for speed: without it, the next command asks Postgres again.
            let _ = parts.cache.fill_participants(id, participants).await;
        }
        let mine = snapshot.value.filter(|participants| participants.contains(user));
        let value = mine.map(|participants| ConversationFacts { id, is_participant: true, participants });
        Ok(Snapshot { value, offsets: snapshot.offsets })
    }

    /// What is known of a message, in a conversation where one is named; none when there is none.
    ///
    /// # Errors
    /// As [`Self::conversation_facts`].
    pub(crate) async fn message_facts(
        &self,
        id: MessageId,
        within: Option<ConversationId>,
        user: &UserId,
        at_least: Option<&PositionVector>,
    ) -> Result<Option<MessageFacts>, Problem> {
        let (folded, lately) =
            tokio::join!(self.folded_message(id, within, user, at_least), self.0.parts.cache.lately(id));
        Ok(folded?.map(|facts| lately.unwrap_or_default().added_to(facts)))
    }

    async fn folded_message(
        &self,
        id: MessageId,
        within: Option<ConversationId>,
        user: &UserId,
        at_least: Option<&PositionVector>,
    ) -> Result<Option<MessageFacts>, Problem> {
        let here = |facts: &MessageFacts| within.is_none_or(|conversation| conversation == facts.conversation_id);
        let look = async || {
            let Snapshot { value, offsets } = self.stored_message(id).await?;
            Ok(Snapshot { value: value.filter(here), offsets })
        };
        let key = ViewKey::MessageFacts(id);
        if let Ok(found) = self.0.parts.cache.view(&key).await
            // Postgres may have told what Redis hasn't been told yet.
            && at_least.is_none_or(|wanted| found.progress.covers(wanted))
            && let Some(facts) = found.body.and_then(|body| serde_json::from_str(&body).ok()).filter(here)
        {
            return Ok(Some(facts));
        }
        if let Some(facts) = look().await?.value {
            return Ok(Some(facts));
        }
        // What isn't folded yet had nothing done to it that is.
        if let Ok(Some(Begun::Message { facts, .. })) = self.0.parts.cache.begun(&Head::Message(id)).await
            && here(&facts)
        {
            return Ok(Some(facts));
        }
        // Where no conversation is named, its partition isn't known either.
        self.look_past_log_end(user, None, look()).await
    }

    async fn stored_message(&self, id: MessageId) -> Result<Snapshot<Option<MessageFacts>>, Problem> {
        let parts = &self.0.parts;
        let stamps = parts.cache.stamps(&[Head::Message(id)]).await;
        let snapshot = parts.read_model.message_facts(id).await.map_err(|error| postgres_down(&error))?;
        if let (Some(facts), Ok(stamps)) = (&snapshot.value, stamps)
            && let Ok(body) = serde_json::to_string(facts)
        {
            let _ = parts.cache.fill(&ViewKey::MessageFacts(id), &stamps, &body, &snapshot.offsets).await;
        }
        Ok(snapshot)
    }
}
