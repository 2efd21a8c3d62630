//! One read for one user: at least as new as the client demands, from Redis where possible, else from Postgres.
//!
//! A client demands offsets of all partitions. A read waits only for the partitions that its response depends on: a
//! conversation, its messages and each of them depend on the conversation's partition, and lists and `sync` on all. So
//! a partition that the projector can't fold holds up only the reads of what is on it.
//!
//! What doesn't exist in an old snapshot is a 503, never a 404 (see `absence.rs`).
//!
//! A view from Redis counts only while it is known to be recent. Otherwise Postgres comes first, and the view is the
//! answer only if Postgres doesn't respond.
//!
//! A query counts against its user's limit in the first look-up of a view, or else by a call of its own.

use std::borrow::Cow;

use axum::response::Response;
use cache::{CurrentPartitions, Dependency, PendingEntity, View, ViewKey};
use domain::{ConversationId, Position, PositionVector, UserId};
use http::HeaderMap;
use read_model::{ReadModel, ReadModelError, Snapshot};
use read_path::{CachedView, MAX_WAIT, ReachedIn, RequestCache, postgres_unavailable};
use serde::Serialize;
use service::http::messages_position;
use service::problem::Problem;
use tokio::time::Instant;

use crate::QueryApi;
use crate::query_count::QueryCount;
use crate::response::{LocatedMessage, LookUp, RenderedView};

/// A read for one user.
pub(crate) struct ReadRequest<'a> {
    api: &'a QueryApi,
    user: UserId,
    /// What the client demands. Empty if it demands nothing.
    demanded: PositionVector,
    /// What the response must include: the demand, restricted to the partitions that the response depends on.
    at_least: PositionVector,
    /// The number of the last repair that the response includes.
    repairs: i64,
    /// How long the read waits for a pending entity.
    deadline: Instant,
    count: QueryCount<'a>,
    pub(crate) cache: RequestCache<'a>,
}

impl<'a> ReadRequest<'a> {
    /// Begins a query of a user.
    pub(crate) fn begin(api: &'a QueryApi, user: UserId) -> Self {
        // Until the process knows the generation, no projector changes the versions that a view would be stored with.
        let cache = Some(&api.0.parts.cache).filter(|cache| cache.generation() > 0);
        let cache = RequestCache::new(cache, || metrics::counter!("query_cache_failures_total").increment(1));
        let (demanded, at_least) = (PositionVector::default(), PositionVector::default());
        let deadline = Instant::now() + MAX_WAIT;
        let count = QueryCount::new(&api.0.limit, &api.0.local_limits);
        // Before anything is read.
        let repairs = api.0.parts.cache.last_repair();
        Self { api, user, demanded, at_least, repairs, deadline, count, cache }
    }

    /// Begins a read that no user has requested.
    pub(crate) fn begin_uncounted(api: &'a QueryApi, user: UserId) -> Self {
        let mut read = Self::begin(api, user);
        read.count.exempt();
        read
    }

    /// Reads what the client demands. The read demands nothing until [`Self::demand_of`] or [`Self::demand_all`].
    ///
    /// # Errors
    /// 400 for a position that can't be read.
    pub(crate) fn read_demand(&mut self, headers: &HeaderMap) -> Result<(), Problem> {
        if let Some(text) = messages_position(headers)? {
            self.demanded = self.api.0.parts.tokens.parse_at_least(text, &self.user)?;
        }
        Ok(())
    }

    /// Counts the query, unless it has been counted.
    ///
    /// # Errors
    /// 429 when the user is over the limit.
    pub(crate) async fn count(&mut self) -> Result<(), Problem> {
        if !self.count.is_due() {
            return Ok(());
        }
        let admission = self.cache.count(self.count.counter(&self.user)).await;
        self.count.record(&self.user, admission)
    }

    /// The response to the query, with what is left of its user's limit. Also counts a query that has failed before it
    /// read anything.
    pub(crate) async fn finish(mut self, result: Result<Response, Problem>) -> Response {
        let result = self.count().await.and(result);
        self.count.response(result)
    }

    /// Demands everything that the client demands, and waits for it.
    ///
    /// # Errors
    /// As [`Self::demand`].
    pub(crate) async fn demand_all(&mut self) -> Result<(), Problem> {
        let demanded = self.demanded.clone();
        self.demand(&demanded).await
    }

    /// Demands what the client demands of a conversation's partition, and waits for it.
    ///
    /// # Errors
    /// As [`Self::demand`].
    pub(crate) async fn demand_of(&mut self, conversation: ConversationId) -> Result<(), Problem> {
        if self.demanded == PositionVector::default() {
            return Ok(());
        }
        let partition = event_log::partition_of(conversation, self.api.0.parts.partitions);
        let demanded = self.demanded.clone().restricted_to(partition);
        self.demand(&demanded).await
    }

    /// Whether the response has to include everything that the client demands, of all partitions.
    pub(crate) fn demands_all(&self) -> bool {
        self.at_least.covers(&self.demanded)
    }

    /// Demands that the response includes these offsets as well, and waits for them.
    ///
    /// # Errors
    /// 503: `projection_behind` when that takes too long, `unavailable` when Postgres doesn't answer.
    pub(crate) async fn demand(&mut self, includes: &PositionVector) -> Result<(), Problem> {
        if self.at_least.covers(includes) {
            return Ok(());
        }
        self.at_least.merge(includes);
        if !self.api.0.parts.wait.is_reached(&self.at_least) {
            self.count().await?;
        }
        if self.api.0.parts.wait.reach(&self.at_least).await? == ReachedIn::Postgres {
            self.cache.give_up();
        }
        Ok(())
    }

    /// The read model's offsets in Postgres.
    ///
    /// # Errors
    /// 503 when Postgres doesn't answer, or is behind what the client demands; 429 when the user is over the limit.
    pub(crate) async fn offsets(&mut self) -> Result<PositionVector, Problem> {
        self.count().await?;
        let offsets = self.api.0.parts.read_model.offsets().await.map_err(|error| postgres_unavailable(&error))?;
        self.check_includes_demand(&offsets)?;
        Ok(offsets)
    }

    /// Checks that a snapshot includes what the client demands.
    ///
    /// # Errors
    /// 503 `projection_behind` when it doesn't.
    pub(crate) fn check_includes_demand(&self, offsets: &PositionVector) -> Result<(), Problem> {
        if offsets.covers(&self.at_least) { Ok(()) } else { Err(Problem::projection_behind()) }
    }

    /// The user who reads.
    pub(crate) fn user(&self) -> &UserId {
        &self.user
    }

    /// The query API that reads.
    pub(crate) fn api(&self) -> &'a QueryApi {
        self.api
    }

    /// The read model, which has what Redis doesn't have.
    pub(crate) fn read_model(&self) -> &'a ReadModel {
        &self.api.0.parts.read_model
    }

    /// Looks up a view that includes what the client demands.
    ///
    /// # Errors
    /// 429 when the user is over the limit.
    pub(crate) async fn look_up(&mut self, key: &ViewKey) -> Result<LookUp, Problem> {
        let found = if self.count.is_due() {
            let counter = self.count.counter(&self.user);
            let counted = self.cache.count_and_view(key, counter, &self.at_least).await;
            let (admission, found) = counted.map(|it| (it.admission, it.found)).unzip();
            self.count.record(&self.user, admission)?;
            found.flatten()
        } else {
            self.cache.cached_view(key, &self.at_least).await
        };
        let Some(CachedView { view, includes, current }) = found else { return Ok(LookUp::Miss) };
        let view = RenderedView { view, includes, is_hit: true };
        if self.is_current(key, &view, &current)? {
            return Ok(LookUp::Current(view));
        }
        if self.api.0.postgres_outage.is_known() {
            metrics::counter!("query_old_views_total").increment(1);
            return Ok(LookUp::Current(view));
        }
        Ok(LookUp::Old(view))
    }

    /// Whether a view is known to be recent: its conversation's partition is current, or all partitions are, where it
    /// depends on all.
    fn is_current(&self, key: &ViewKey, view: &RenderedView, current: &CurrentPartitions) -> Result<bool, Problem> {
        let partitions = self.api.0.parts.partitions;
        let conversation = match key {
            ViewKey::Messages { conversation, .. } | ViewKey::Conversation { conversation, .. } => *conversation,
            ViewKey::Message(_) => view.parse::<LocatedMessage>()?.data.conversation_id,
            ViewKey::Conversations { .. } | ViewKey::Memberships(_) | ViewKey::MessageFacts(_) => {
                return Ok(current.are_all(partitions));
            }
        };
        Ok(current.contains(event_log::partition_of(conversation, partitions)))
    }

    /// Reads a view from Redis, else its values from Postgres, and stores the view. None when there are no values.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub(crate) async fn read<T: Serialize>(
        &mut self,
        key: &ViewKey,
        dependency: Dependency,
        values: impl Future<Output = Result<Snapshot<Option<T>>, ReadModelError>>,
    ) -> Result<Option<RenderedView>, Problem> {
        let old = match self.look_up(key).await? {
            LookUp::Current(view) => return Ok(Some(view)),
            LookUp::Old(view) => Some(view),
            LookUp::Miss => None,
        };
        let loaded = Box::pin(self.load_and_fill(key, dependency, values)).await;
        self.or_old(loaded, old)
    }

    /// Loads a view's values from Postgres, and stores the view.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub(crate) async fn load_and_fill<T: Serialize>(
        &mut self,
        key: &ViewKey,
        dependency: Dependency,
        values: impl Future<Output = Result<Snapshot<Option<T>>, ReadModelError>>,
    ) -> Result<Option<RenderedView>, Problem> {
        let load = load(&self.at_least, values);
        self.cache.load_and_fill(key, dependency, load, rendered).await
    }

    /// What was loaded; without Postgres, an old view from Redis. It claims only the position that it includes.
    ///
    /// # Errors
    /// When there is neither.
    pub(crate) fn or_old(
        &self,
        loaded: Result<Option<RenderedView>, Problem>,
        old: Option<RenderedView>,
    ) -> Result<Option<RenderedView>, Problem> {
        let outage = &self.api.0.postgres_outage;
        match (loaded, old) {
            (Err(problem), old) if problem.code() == "unavailable" => {
                outage.record();
                let old = old.ok_or(problem)?;
                metrics::counter!("query_old_views_total").increment(1);
                Ok(Some(old))
            }
            (loaded, _) => loaded.inspect(|_| outage.end()),
        }
    }

    /// Reads a conversation or message. If a command has just created it and the read model doesn't have it yet, waits
    /// for it: a client that was told of its new message needn't name the position to avoid a 404.
    ///
    /// # Errors
    /// As [`Self::load`]; 503 `projection_behind` when the pending entity isn't folded in time.
    pub(crate) async fn read_entity<T: Serialize, V>(
        &mut self,
        key: &ViewKey,
        dependency: Dependency,
        values: impl Fn() -> V,
    ) -> Result<Option<RenderedView>, Problem>
    where
        V: Future<Output = Result<Snapshot<Option<T>>, ReadModelError>>,
    {
        match self.read(key, dependency.clone(), values()).await? {
            None if Box::pin(self.await_pending(&dependency, &values)).await? => {
                self.read(key, dependency, values()).await
            }
            view => Ok(view),
        }
    }

    /// Waits until a pending entity that the user may see is folded; false if there is no such entity.
    ///
    /// # Errors
    /// 503 `projection_behind` when that takes too long.
    async fn await_pending<T, V>(&mut self, dependency: &Dependency, values: &impl Fn() -> V) -> Result<bool, Problem>
    where
        V: Future<Output = Result<Snapshot<Option<T>>, ReadModelError>>,
    {
        // Users who may not see it get their 404 at once.
        let partition = match self.cache.pending_entity(dependency).await {
            Some(PendingEntity::Conversation { partition, participant_ids, .. })
                if participant_ids.contains(&self.user) =>
            {
                partition
            }
            Some(PendingEntity::Message { partition, facts }) if self.is_participant(facts.conversation_id).await? => {
                partition
            }
            _ => return Ok(false),
        };
        let deadline = self.deadline;
        let folded = async {
            loop {
                let Snapshot { value, offsets } = values().await.map_err(|error| postgres_unavailable(&error))?;
                let next = offsets.next(partition);
                // Once Postgres has the entity, Redis must also know what that snapshot includes. Until then, the
                // entity is at a later offset.
                let offset = if value.is_some() { next - 1 } else { next };
                self.demand(&PositionVector::up_to(Position { partition, offset })).await?;
                if value.is_some() {
                    return Ok(true);
                }
            }
        };
        tokio::time::timeout_at(deadline, folded).await.unwrap_or_else(|_| Err(Problem::projection_behind()))
    }

    /// Loads values from Postgres. None when there are none.
    ///
    /// # Errors
    /// 503 when Postgres doesn't answer, or is behind what the client demands; 429 when the user is over the limit.
    pub(crate) async fn load<T: Serialize>(
        &mut self,
        values: impl Future<Output = Result<Snapshot<Option<T>>, ReadModelError>>,
    ) -> Result<Option<RenderedView>, Problem> {
        self.count().await?;
        load(&self.at_least, values).await
    }

    /// Whether a view includes what the response must include.
    pub(crate) fn is_satisfied_by(&self, view: &RenderedView) -> bool {
        view.includes.covers(&self.at_least)
    }

    /// Whether the user is in a conversation, as far as the read model and Redis know.
    ///
    /// # Errors
    /// 503 when that is unknown.
    pub(crate) async fn is_participant(&mut self, conversation: ConversationId) -> Result<bool, Problem> {
        if let Some(known) = self.cache.is_participant(conversation, &self.user).await {
            return Ok(known);
        }
        self.count().await?;
        let loaded = self.cache.load_participants(self.read_model(), conversation).await;
        let snapshot = loaded.map_err(|error| postgres_unavailable(&error))?;
        if let Some(participants) = snapshot.value {
            return Ok(participants.contains(&self.user));
        }
        // After a rebuild, Redis may know a position that the read model doesn't have yet.
        self.check_includes_demand(&snapshot.offsets)?;
        let pending = self.cache.pending_entity(&Dependency::Conversation(conversation)).await;
        Ok(matches!(pending, Some(PendingEntity::Conversation { participant_ids, .. })
            if participant_ids.contains(&self.user)))
    }

    /// The token of a response that includes every event below these offsets.
    pub(crate) fn token(&self, includes: &PositionVector) -> String {
        self.api.0.parts.tokens.issue(&self.user, includes, self.repairs)
    }

    /// Whether the response, and with it the token of one that has no changes, includes a repair.
    pub(crate) fn includes_repair(&self, number: i64) -> bool {
        self.repairs >= number
    }

    /// The HTTP response to the query with this name.
    pub(crate) fn respond(&self, query: &'static str, view: RenderedView, headers: &HeaderMap) -> Response {
        metrics::counter!("query_total", "query" => query, "cache" => view.cache_status()).increment(1);
        let token = self.token(&view.includes);
        view.into_response(&token, headers)
    }
}

async fn load<T: Serialize>(
    at_least: &PositionVector,
    values: impl Future<Output = Result<Snapshot<Option<T>>, ReadModelError>>,
) -> Result<Option<RenderedView>, Problem> {
    let snapshot = values.await.map_err(|error| postgres_unavailable(&error))?;
    if !snapshot.offsets.covers(at_least) {
        return Err(Problem::projection_behind());
    }
    snapshot.value.map(|value| RenderedView::render(&value, snapshot.offsets)).transpose()
}

/// What is stored of a view that was loaded.
fn rendered(view: &Option<RenderedView>) -> Option<(Cow<'_, View>, &PositionVector)> {
    view.as_ref().map(|rendered| (Cow::Borrowed(&rendered.view), &rendered.includes))
}
