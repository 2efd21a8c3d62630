//! The facts that a command is decided from. The look-up tries this process, Redis, Postgres, the pending entities, and
//! last Postgres again, once the projector has passed the log's end.
//!
//! Only that last look-up may conclude that something doesn't exist. Facts may be old, never wrong: each of them is
//! immutable or only ever changes in one direction.
//!
//! All facts of a command are about one conversation. Of what a client demands, a command therefore waits only for that
//! conversation's partition. A command that creates a conversation needs no facts and waits for nothing.

use std::borrow::Cow;
use std::sync::Arc;

use cache::{Cache, Dependency, PendingEntity, View, ViewKey};
use domain::facts::{ConversationFacts, MessageFacts};
use domain::{ConversationId, MessageId, PositionVector, UserId};
use read_model::{ReadModel, Snapshot};
use read_path::{LogEnd, PositionWait, RequestCache, postgres_unavailable};
use service::problem::Problem;

use crate::limits::FailedLookups;
use crate::request::CommandRequest;

/// Looks facts up.
pub(crate) struct FactLookup {
    pub(crate) cache: Cache,
    pub(crate) read_model: ReadModel,
    pub(crate) wait: PositionWait,
    pub(crate) log_end: Arc<LogEnd>,
    pub(crate) failed_lookups: FailedLookups,
    pub(crate) partitions: usize,
}

/// The value of a snapshot, or that it doesn't exist. Only a snapshot that includes the end of the log can say so: after
/// the projector passed the end, somebody may have emptied the read model.
///
/// # Errors
/// 503 when the snapshot can't say so.
fn conclude<T>(end: &PositionVector, snapshot: Snapshot<Option<T>>) -> Result<Option<T>, Problem> {
    if snapshot.value.is_none() && !snapshot.offsets.covers(end) {
        return Err(Problem::projection_behind());
    }
    Ok(snapshot.value)
}

/// The cached view of a message's facts, with what it includes.
fn render_facts(snapshot: &Snapshot<Option<MessageFacts>>) -> Option<(Cow<'_, View>, &PositionVector)> {
    let body = serde_json::to_vec(snapshot.value.as_ref()?).ok()?;
    Some((Cow::Owned(View::new(body)), &snapshot.offsets))
}

impl FactLookup {
    /// Waits until the facts about the conversation that a command names include what its client demands.
    ///
    /// # Errors
    /// 503 when that takes too long.
    pub(crate) async fn wait_for_demand(&self, request: &CommandRequest) -> Result<(), Problem> {
        match request.command.conversation_id() {
            Some(conversation) => self.reach_demand(request, conversation).await.map(drop),
            None => Ok(()),
        }
    }

    /// Waits until the facts about a conversation include what the client demands, and returns that.
    async fn reach_demand(
        &self,
        request: &CommandRequest,
        conversation: ConversationId,
    ) -> Result<PositionVector, Problem> {
        let Some(demanded) = request.at_least.clone() else { return Ok(PositionVector::default()) };
        let demanded = demanded.restricted_to(self.partition_of(conversation));
        self.wait.reach(&demanded).await?;
        Ok(demanded)
    }

    /// The partition of a conversation's events.
    pub(crate) fn partition_of(&self, id: ConversationId) -> i32 {
        event_log::partition_of(id, self.partitions)
    }

    /// The facts about a conversation that the user is in; none if there is no such conversation. A conversation that
    /// the user is not in takes as long, and counts as much, as one that doesn't exist: nobody can tell the two apart.
    ///
    /// # Errors
    /// 503 when the facts can't be known now, 429 when the user has caused too many failed look-ups.
    pub(crate) async fn conversation(
        &self,
        id: ConversationId,
        user: &UserId,
        with_participants: bool,
    ) -> Result<Option<ConversationFacts>, Problem> {
        if let Ok(Some(participants)) = self.cache.participants(id).await
            && participants.contains(user)
        {
            let participants = if with_participants { participants.iter().cloned().collect() } else { Vec::new() };
            return Ok(Some(ConversationFacts { id, is_participant: true, participants }));
        }
        if let Some(facts) = self.load_conversation(id, user).await?.value {
            return Ok(Some(facts));
        }
        if let Some(PendingEntity::Conversation { participant_ids: participants, .. }) =
            self.request_cache().pending_entity(&Dependency::Conversation(id)).await
            && participants.contains(user)
        {
            return Ok(Some(ConversationFacts { id, is_participant: true, participants }));
        }
        self.look_past_log_end(user, Some(self.partition_of(id)), self.load_conversation(id, user)).await
    }

    async fn load_conversation(
        &self,
        id: ConversationId,
        user: &UserId,
    ) -> Result<Snapshot<Option<ConversationFacts>>, Problem> {
        let loaded = self.request_cache().load_participants(&self.read_model, id).await;
        let snapshot = loaded.map_err(|error| postgres_unavailable(&error))?;
        let participants = snapshot.value.filter(|participants| participants.contains(user));
        let value = participants.map(|participants| ConversationFacts { id, is_participant: true, participants });
        Ok(Snapshot { value, offsets: snapshot.offsets })
    }

    /// The facts about the message that a command names; none if it names none, or none that exists.
    ///
    /// # Errors
    /// As [`Self::conversation`].
    pub(crate) async fn message_of(&self, request: &CommandRequest) -> Result<Option<MessageFacts>, Problem> {
        let Some(id) = request.command.message_id() else { return Ok(None) };
        // Sends look no message up: their future shouldn't have room for it.
        let demanded = Box::pin(self.demanded_message(id, request));
        let (folded, pending) = tokio::join!(demanded, self.cache.pending_changes(id));
        Ok(folded?.map(|facts| pending.unwrap_or_default().apply_to(facts)))
    }

    /// The facts about a message that are as new as the client demands.
    async fn demanded_message(&self, id: MessageId, request: &CommandRequest) -> Result<Option<MessageFacts>, Problem> {
        if let Some(conversation) = request.command.conversation_id() {
            let at_least = self.reach_demand(request, conversation).await?;
            return self.folded_message(id, request, &at_least).await;
        }
        // Only the message itself tells its conversation. Where a message is never changes.
        let found = self.folded_message(id, request, &PositionVector::default()).await?;
        let (Some(facts), Some(_)) = (&found, &request.at_least) else { return Ok(found) };
        let at_least = self.reach_demand(request, facts.conversation_id).await?;
        self.folded_message(id, request, &at_least).await
    }

    /// The facts about a message, where they come from a view at least as new as `at_least`.
    async fn folded_message(
        &self,
        id: MessageId,
        request: &CommandRequest,
        at_least: &PositionVector,
    ) -> Result<Option<MessageFacts>, Problem> {
        let conversation = request.command.conversation_id();
        let is_here = |facts: &MessageFacts| conversation.is_none_or(|id| id == facts.conversation_id);
        let load = async || {
            let Snapshot { value, offsets } = self.load_message(id).await?;
            Ok(Snapshot { value: value.filter(is_here), offsets })
        };
        if let Some((view, _)) = self.request_cache().view(&ViewKey::MessageFacts(id), at_least).await
            && let Some(facts) = serde_json::from_slice(view.body()).ok().filter(is_here)
        {
            return Ok(Some(facts));
        }
        if let Some(facts) = load().await?.value {
            return Ok(Some(facts));
        }
        // Nothing that is folded has happened to a message that isn't folded.
        if let Some(PendingEntity::Message { facts, .. }) =
            self.request_cache().pending_entity(&Dependency::Message(id)).await
            && is_here(&facts)
        {
            return Ok(Some(facts));
        }
        // A command that names no conversation doesn't say which partition to wait for.
        self.look_past_log_end(&request.caller, None, load()).await
    }

    async fn load_message(&self, id: MessageId) -> Result<Snapshot<Option<MessageFacts>>, Problem> {
        let load = async { self.read_model.message_facts(id).await.map_err(|error| postgres_unavailable(&error)) };
        let (key, dependency) = (ViewKey::MessageFacts(id), Dependency::Message(id));
        self.request_cache().load_and_fill(&key, dependency, load, render_facts).await
    }

    /// Repeats a look-up that found nothing, once the projector has passed the current end of the log, of one partition
    /// or of all. It counts against the user's limit unless it finds something.
    async fn look_past_log_end<T>(
        &self,
        user: &UserId,
        partition: Option<i32>,
        look_up: impl Future<Output = Result<Snapshot<Option<T>>, Problem>>,
    ) -> Result<Option<T>, Problem> {
        self.failed_lookups.count(user).await?;
        let mut end = self.log_end.read().await.ok_or_else(Problem::projection_behind)?;
        if let Some(partition) = partition {
            end = end.restricted_to(partition);
        }
        self.wait.reach(&end).await?;
        let found = conclude(&end, look_up.await?)?;
        if found.is_some() {
            self.failed_lookups.roll_back(user).await;
        }
        Ok(found)
    }

    fn request_cache(&self) -> RequestCache<'_> {
        RequestCache::new(Some(&self.cache), || {})
    }
}
