//! One read: as new as was demanded, from Redis where it can be, else from Postgres.

use std::time::Duration;

use axum::response::Response;
use cache::{Begun, Cache, CacheError, Head, Stamps, ViewKey};
use domain::{ConversationId, Position, PositionVector, UserId};
use http::HeaderMap;
use read_model::{ReadModelError, Snapshot};
use serde::{Deserialize, Serialize};
use service::http::messages_position;
use service::problem::Problem;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::QueryApi;
use crate::answer::Found;

/// How long to wait for a demanded position.
const WAIT: Duration = Duration::from_secs(1);
/// How long to wait for one's turn to do what is costly.
const TURN: Duration = Duration::from_secs(5);
/// When Postgres is first asked how far the projector is; each pause after that is twice as long.
const FIRST_LOOK: Duration = Duration::from_millis(100);

/// A read on behalf of one user.
pub(crate) struct Reading<'a> {
    api: &'a QueryApi,
    user: UserId,
    /// What the answer has to include.
    at_least: PositionVector,
    /// Until when what was begun lately is waited for.
    until: Instant,
    /// None where it can't be used, and after its first failure: a read waits for a Redis that is down once.
    cache: Option<&'a Cache>,
}

impl<'a> Reading<'a> {
    /// Begins a read, when the position that the request demands has been passed.
    ///
    /// # Errors
    /// 400 for a demand that is none, 503 `projection_behind` when it isn't met in time.
    pub(crate) async fn begin(api: &'a QueryApi, user: UserId, headers: &HeaderMap) -> Result<Self, Problem> {
        let parts = &api.0.parts;
        // Until the generation is known, nobody moves the heads under which a view would be stored.
        let cache = Some(&parts.cache).filter(|cache| cache.generation() > 0);
        let (at_least, until) = (PositionVector::default(), Instant::now() + WAIT);
        let mut reading = Self { api, user, at_least, until, cache };
        if let Some(text) = messages_position(headers)? {
            let demanded = parts.tokens.parse_at_least(text, &reading.user)?;
            reading.demand(&demanded).await?;
        }
        Ok(reading)
    }

    /// Demands that the answer includes these offsets as well, and waits for them.
    ///
    /// # Errors
    /// 503 `projection_behind` when that takes too long.
    pub(crate) async fn demand(&mut self, includes: &PositionVector) -> Result<(), Problem> {
        self.at_least.0.resize(includes.0.len().max(self.at_least.0.len()), 0);
        for (partition, next) in (0..).zip(&includes.0) {
            self.at_least.advance(partition, *next);
        }
        self.wait().await
    }

    /// A permit to do what is costly, when it is this read's turn.
    ///
    /// # Errors
    /// 503 `busy` when that takes too long.
    pub(crate) async fn admitted<'p>(&self, turns: &'p Semaphore) -> Result<SemaphorePermit<'p>, Problem> {
        let turn = tokio::time::timeout(TURN, turns.acquire()).await;
        turn.ok().and_then(Result::ok).ok_or_else(|| {
            metrics::counter!("query_turned_away_total").increment(1);
            Problem::unavailable("busy", "too many ask for this at once; try again", 2)
        })
    }

    /// Up to where the read model is, in Postgres.
    ///
    /// # Errors
    /// 503 when Postgres doesn't answer, or lags behind the demand.
    pub(crate) async fn offsets(&self) -> Result<PositionVector, Problem> {
        let offsets = self.api.0.parts.read_model.offsets().await.map_err(|error| unavailable(&error))?;
        self.includes_demand(&offsets)?;
        Ok(offsets)
    }

    /// That what was read includes what is demanded.
    ///
    /// # Errors
    /// 503 `projection_behind` when it doesn't: what isn't there yet isn't a 404.
    pub(crate) fn includes_demand(&self, offsets: &PositionVector) -> Result<(), Problem> {
        if offsets.covers(&self.at_least) { Ok(()) } else { Err(behind()) }
    }

    async fn wait(&mut self) -> Result<(), Problem> {
        tokio::select! {
            biased;
            reached = self.api.0.parts.progress.reached(&self.at_least, WAIT) => {
                if reached { Ok(()) } else { Err(behind()) }
            }
            () = self.passed_in_postgres() => {
                self.cache = None;
                Ok(())
            }
        }
    }

    /// Ends when Postgres has what is demanded and Redis hasn't said so: then Redis is what lags.
    async fn passed_in_postgres(&self) {
        let mut pause = FIRST_LOOK;
        loop {
            tokio::time::sleep(pause).await;
            match self.api.0.parts.read_model.offsets().await {
                Ok(offsets) if offsets.covers(&self.at_least) => return,
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "Postgres can't say how far the projector is"),
            }
            pause *= 2;
        }
    }

    /// Who asks.
    pub(crate) fn user(&self) -> &UserId {
        &self.user
    }

    /// Whether Redis can be used, as far as this read knows.
    pub(crate) fn has_cache(&self) -> bool {
        self.cache.is_some()
    }

    /// A view from Redis, else its values from Postgres, which are then stored. None when there are no values.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub(crate) async fn read<T: Serialize>(
        &mut self,
        key: &ViewKey,
        head: Head,
        values: impl Future<Output = Result<Snapshot<Option<T>>, ReadModelError>>,
    ) -> Result<Option<Found>, Problem> {
        if let Some(found) = self.look_up(key).await {
            return Ok(Some(found));
        }
        let stamps = self.stamps(&[head]).await;
        let found = self.load(values).await?;
        if let (Some(found), Some(stamps)) = (&found, stamps) {
            self.fill(key, &stamps, found).await;
        }
        Ok(found)
    }

    /// A view, if Redis has it and it is new enough.
    pub(crate) async fn look_up(&mut self, key: &ViewKey) -> Option<Found> {
        let lookup = self.cache?.view(key).await;
        let lookup = self.answered(lookup)?;
        if !lookup.progress.covers(&self.at_least) {
            return None;
        }
        Some(Found { body: lookup.body?, includes: lookup.progress, hit: true })
    }

    /// The same for a conversation or message. What was begun lately and isn't there yet is waited for: who was told that
    /// it is done doesn't have to name its position not to be told that it isn't there.
    ///
    /// # Errors
    /// As [`Self::load`]; 503 `projection_behind` when it isn't there in time.
    pub(crate) async fn read_one<T: Serialize, V>(
        &mut self,
        key: &ViewKey,
        head: Head,
        values: impl Fn() -> V,
    ) -> Result<Option<Found>, Problem>
    where
        V: Future<Output = Result<Snapshot<Option<T>>, ReadModelError>>,
    {
        match self.read(key, head.clone(), values()).await? {
            None if self.comes(&head, &values).await? => self.read(key, head, values()).await,
            found => Ok(found),
        }
    }

    /// Waits for what was begun lately where the user is; false when it wasn't.
    ///
    /// # Errors
    /// 503 `projection_behind` when that takes too long.
    async fn comes<T, V>(&mut self, what: &Head, values: &impl Fn() -> V) -> Result<bool, Problem>
    where
        V: Future<Output = Result<Snapshot<Option<T>>, ReadModelError>>,
    {
        // Others aren't made to wait for what they then aren't told.
        let partition = match self.begun(what).await {
            Some(Begun::Conversation { partition, participant_ids, .. }) if participant_ids.contains(&self.user) => {
                partition
            }
            Some(Begun::Message { partition, facts }) if self.is_participant(facts.conversation_id).await? => partition,
            _ => return Ok(false),
        };
        let until = self.until;
        let there = async {
            loop {
                let Snapshot { value, offsets } = values().await.map_err(|error| unavailable(&error))?;
                let next = offsets.next(partition);
                // Once it is there, up to what was read: Redis is to know that, too. Else it is later.
                let offset = if value.is_some() { next - 1 } else { next };
                self.demand(&PositionVector::up_to(Position { partition, offset })).await?;
                if value.is_some() {
                    return Ok(true);
                }
            }
        };
        tokio::time::timeout_at(until, there).await.unwrap_or_else(|_| Err(behind()))
    }

    async fn begun(&mut self, what: &Head) -> Option<Begun> {
        let begun = self.cache?.begun(what).await;
        self.answered(begun).flatten()
    }

    /// The stamps of what a view depends on. Take them before its values are read.
    pub(crate) async fn stamps(&mut self, heads: &[Head]) -> Option<Stamps> {
        let stamps = self.cache?.stamps(heads).await;
        self.answered(stamps)
    }

    /// Values from Postgres. None when there are none.
    ///
    /// # Errors
    /// 503 when Postgres doesn't answer, or lags behind the demand: what it doesn't have yet isn't a 404.
    pub(crate) async fn load<T: Serialize>(
        &self,
        values: impl Future<Output = Result<Snapshot<Option<T>>, ReadModelError>>,
    ) -> Result<Option<Found>, Problem> {
        let snapshot = values.await.map_err(|error| unavailable(&error))?;
        self.includes_demand(&snapshot.offsets)?;
        snapshot.value.map(|value| found(&value, snapshot.offsets)).transpose()
    }

    /// Stores what was read, for the next who asks.
    pub(crate) async fn fill(&mut self, key: &ViewKey, stamps: &Stamps, found: &Found) {
        let Some(cache) = self.cache else { return };
        let filled = cache.fill(key, stamps, &found.body, &found.includes).await;
        self.answered(filled);
    }

    /// That the user is in a conversation.
    ///
    /// # Errors
    /// 404 naming the field when they aren't, or when there is no such conversation; 503 when it can't be told.
    pub(crate) async fn require_participant(
        &mut self,
        conversation: ConversationId,
        field: &'static str,
    ) -> Result<(), Problem> {
        if self.is_participant(conversation).await? { Ok(()) } else { Err(Problem::not_found(field)) }
    }

    async fn is_participant(&mut self, conversation: ConversationId) -> Result<bool, Problem> {
        match self.known_participant(conversation).await {
            Some(known) => Ok(known),
            None => self.stored_participant(conversation).await,
        }
    }

    async fn known_participant(&mut self, conversation: ConversationId) -> Option<bool> {
        let known = self.cache?.is_participant(conversation, &self.user).await;
        self.answered(known).flatten()
    }

    async fn stored_participant(&mut self, conversation: ConversationId) -> Result<bool, Problem> {
        let read_model = &self.api.0.parts.read_model;
        let snapshot = read_model.participants(conversation).await.map_err(|error| unavailable(&error))?;
        let Some(participants) = snapshot.value else {
            // Redis may remember a position that the read model, made anew, doesn't have yet.
            self.includes_demand(&snapshot.offsets)?;
            let begun = self.begun(&Head::Conversation(conversation)).await;
            return Ok(matches!(begun, Some(Begun::Conversation { participant_ids, .. })
                if participant_ids.contains(&self.user)));
        };
        if let Some(cache) = self.cache {
            let filled = cache.fill_participants(conversation, &participants).await;
            self.answered(filled);
        }
        Ok(participants.contains(&self.user))
    }

    /// The HTTP answer to the query of this name.
    pub(crate) fn answer(&self, query: &'static str, found: Found, headers: &HeaderMap) -> Response {
        metrics::counter!("query_total", "query" => query, "cache" => found.cache()).increment(1);
        let token = self.api.0.parts.tokens.issue(&self.user, &found.includes);
        found.answer(&token, headers)
    }

    /// What Redis answered. Its first failure sets it aside for the rest of the read.
    fn answered<T>(&mut self, answer: Result<T, CacheError>) -> Option<T> {
        answer
            .inspect_err(|error| {
                // Logged quietly: while Redis is down, every read comes by here.
                tracing::debug!(%error, "reading without Redis");
                metrics::counter!("query_cache_failures_total").increment(1);
                self.cache = None;
            })
            .ok()
    }
}

/// What was read, as it is answered.
///
/// # Errors
/// 500 when it can't be written as JSON.
pub(crate) fn found(value: &impl Serialize, includes: PositionVector) -> Result<Found, Problem> {
    let body = serde_json::to_string(value).map_err(|error| broken(&error))?;
    Ok(Found { body, includes, hit: false })
}

/// The part of a body that is of interest here.
///
/// # Errors
/// 500 when it isn't there.
pub(crate) fn parse<'a, T: Deserialize<'a>>(found: &'a Found) -> Result<T, Problem> {
    serde_json::from_str(&found.body).map_err(|error| broken(&error))
}

fn broken(error: &serde_json::Error) -> Problem {
    tracing::error!(%error, "an answer isn't the JSON that it should be");
    Problem::internal()
}

fn behind() -> Problem {
    Problem::unavailable("projection_behind", "the read model has not caught up yet; try again", 1)
}

pub(crate) fn unavailable(error: &ReadModelError) -> Problem {
    tracing::warn!(%error, "Postgres can't be asked");
    Problem::unavailable("unavailable", "a service that this needs is out of reach; try again", 1)
}
