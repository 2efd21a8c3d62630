//! What a command needs to know: from Redis, else from Postgres, else after waiting for the projector to pass
//! the end of the log as it was. Only then is something that isn't there really not there.

use std::time::Duration;

use cache::{Head, ViewKey};
use domain::facts::{ConversationFacts, MessageFacts};
use domain::{ConversationId, MessageId, PositionVector, UserId};
use read_model::{ReadModelError, Snapshot};
use service::problem::Problem;

use crate::{CommandApi, FACTS_WAIT};

/// How often Postgres is asked how far the projector is while Redis doesn't tell.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A 503: the projector was not there in time.
fn behind() -> Problem {
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

    /// Waits until the projector has passed the end of the log as it is now: of one partition, or of all. Gives
    /// that end: what isn't in the read model isn't there only if the read model includes it.
    async fn passed_log_end(&self, user: &UserId, partition: Option<i32>) -> Result<PositionVector, Problem> {
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
        Ok(end)
    }

    /// What is known of a conversation; none when there is none.
    ///
    /// # Errors
    /// 503 when it can't be known now, 429 when the user looked in vain too often.
    pub(crate) async fn conversation_facts(
        &self,
        id: ConversationId,
        user: &UserId,
        with_participants: bool,
    ) -> Result<Option<ConversationFacts>, Problem> {
        let cache = &self.0.parts.cache;
        if with_participants {
            if let Ok(Some(participants)) = cache.participants(id).await {
                let is_participant = participants.contains(user);
                return Ok(Some(ConversationFacts { id, is_participant, participants }));
            }
        } else if let Ok(Some(is_participant)) = cache.is_participant(id, user).await {
            return Ok(Some(ConversationFacts { id, is_participant, participants: Vec::new() }));
        }
        let mut participants = self.stored_participants(id).await?.value;
        if participants.is_none() {
            let partition = event_log::partition_for(id.to_string().as_bytes(), self.0.parts.partitions);
            let end = self.passed_log_end(user, Some(partition)).await?;
            participants = there_by(&end, self.stored_participants(id).await?)?;
        }
        Ok(participants.map(|participants| ConversationFacts {
            id,
            is_participant: participants.contains(user),
            participants,
        }))
    }

    async fn stored_participants(&self, id: ConversationId) -> Result<Snapshot<Option<Vec<UserId>>>, Problem> {
        let parts = &self.0.parts;
        let snapshot = parts.read_model.participants(id).await.map_err(|error| postgres_down(&error))?;
        if let Some(participants) = &snapshot.value {
            // Only for speed: without it, the next command asks Postgres again.
            let _ = parts.cache.fill_participants(id, participants).await;
        }
        Ok(snapshot)
    }

    /// What is known of a message; none when there is none.
    ///
    /// # Errors
    /// As [`Self::conversation_facts`].
    pub(crate) async fn message_facts(
        &self,
        id: MessageId,
        user: &UserId,
        at_least: Option<&PositionVector>,
    ) -> Result<Option<MessageFacts>, Problem> {
        let key = ViewKey::MessageFacts(id);
        if let Ok(found) = self.0.parts.cache.view(&key).await
            // Postgres may have told what Redis hasn't been told yet.
            && at_least.is_none_or(|wanted| found.progress.covers(wanted))
            && let Some(facts) = found.body.and_then(|body| serde_json::from_str(&body).ok())
        {
            return Ok(Some(facts));
        }
        if let Some(facts) = self.stored_message(id).await?.value {
            return Ok(Some(facts));
        }
        // Its conversation isn't known, so neither is its partition.
        let end = self.passed_log_end(user, None).await?;
        there_by(&end, self.stored_message(id).await?)
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
