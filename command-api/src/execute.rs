//! One command, from request to outcome, in six steps: wait for what the client demands of its conversation, find the
//! message that it names, look its key up, find its conversation, decide, append.
//!
//! The process finishes a decided command even if its client hangs up. It must never append an event before it has
//! counted the command, and either reserved its key or announced the outage of Redis.

use std::sync::Arc;
use std::time::SystemTime;

use cache::{
    Admission, Cache, CacheError, Costs, IdempotencyScope, LimitState, LocalLimits, PendingEntity, ReservationRequest,
};
use domain::decide::{Context, decide};
use domain::event::ConversationKind;
use domain::facts::{Facts, MessageFacts};
use domain::{Command, ConversationId, Event, EventData, Position, Timestamp, UserId, envelope};
use service::problem::{APPEND_UNKNOWN, Problem};
use time::OffsetDateTime;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::append::Appender;
use crate::facts::FactLookup;
use crate::idempotency::{EarlierUse, Idempotency, KeyLookup, KeyState, LoggedEvent};
use crate::limits::Limits;
use crate::request::CommandRequest;
use crate::response::{self, CommandOutcome};

/// Executes commands.
pub(crate) struct Executor {
    pub(crate) facts: FactLookup,
    pub(crate) idempotency: Arc<Idempotency>,
    pub(crate) appender: Appender,
    pub(crate) cache: Cache,
    pub(crate) limits: Limits,
    pub(crate) local_limits: LocalLimits,
    /// The commands that have been decided and are not finished.
    pub(crate) tasks: TaskTracker,
}

/// The clock and fresh ids, which the pure core takes as arguments.
///
/// # Errors
/// 500 when the clock is beyond the year 9999.
pub(crate) fn decision_context(request: &CommandRequest) -> Result<Context, Problem> {
    let now = Timestamp::from_date_time(OffsetDateTime::from(SystemTime::now())).map_err(|error| {
        tracing::error!(%error, "the clock is beyond the year 9999; every command fails");
        Problem::internal()
    })?;
    Ok(Context {
        actor: request.caller.clone(),
        now,
        key: request.key.clone(),
        fresh_event_id: Uuid::now_v7(),
        fresh_entity_id: Uuid::now_v7(),
    })
}

impl Executor {
    /// Executes a command, or repeats the response that its key got before.
    ///
    /// # Errors
    /// Whatever prevents the command.
    pub(crate) async fn execute(self: &Arc<Self>, request: CommandRequest) -> Result<CommandOutcome, Problem> {
        self.facts.wait_for_demand(&request).await?;
        let context = decision_context(&request)?;
        let message = self.facts.message_of(&request).await?;
        let conversation_id = conversation_of(&request.command, &context, message.as_ref());
        // The key comes before the conversation: a retry gets its response whatever has happened since.
        let KeyState { lookup, earlier_use } = self.look_up_key(&request, conversation_id).await?;
        if let Some(earlier) = earlier_use {
            return self.replay(&request, earlier, lookup).await;
        }
        let conversation = match (&request.command, conversation_id) {
            (Command::Conversation { .. }, _) | (_, None) => None,
            (command, Some(id)) => self.facts.conversation(id, &request.caller, command.needs_participants()).await?,
        };
        let event = decide(&context, &request.command, &Facts { conversation, message })?;
        let executor = self.clone();
        let task = self.tasks.spawn(async move { executor.admit_and_append(request, event, lookup).await });
        task.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a command's task failed; the client gets 500");
            Err(Problem::internal())
        })
    }

    async fn look_up_key(
        &self,
        request: &CommandRequest,
        conversation_id: Option<ConversationId>,
    ) -> Result<KeyState, Problem> {
        match (&request.key, conversation_id) {
            (Some(key), Some(conversation)) => {
                self.idempotency.look_up(IdempotencyScope { conversation, actor: &request.caller, key }).await
            }
            _ => Ok(KeyState { lookup: KeyLookup::begin(), earlier_use: None }),
        }
    }

    /// Counts the command, reserves its key and appends its event, in this order: only valid, new commands count, and
    /// two requests with one key append the same bytes.
    async fn admit_and_append(
        self: Arc<Self>,
        request: CommandRequest,
        event: Event,
        lookup: KeyLookup,
    ) -> Result<CommandOutcome, Problem> {
        let costs = self.limits.costs_of(&request.command);
        let bytes = envelope::encode(&event);
        let scope = IdempotencyScope::of(&event);
        let partition = self.facts.partition_of(event.conversation_id);
        let pending = PendingEntity::created_by(&event, partition).filter(|_| scope.is_none());
        let reservation = ReservationRequest { event: &event, bytes: &bytes, pending: pending.as_ref() };
        let (admission, epoch) = match self.cache.admit(&request.caller, &costs, Some(reservation)).await {
            Ok(admitted) => admitted,
            Err(error) => {
                if scope.is_some() {
                    self.idempotency.announce_outage().await?;
                }
                (self.count_unreserved(&request.caller, &costs, &error).await, None)
            }
        };
        let unconfirmed = scope.is_some() && self.idempotency.needs_confirmation(epoch.as_ref(), lookup).await;
        let state = match admission {
            Admission::Admitted(state) => state,
            Admission::Limited(state) => return Err(response::limited(&state)),
            Admission::Reserved(reservation) => {
                return self.replay(&request, EarlierUse::of(reservation, !unconfirmed), lookup).await;
            }
        };
        let position = match self.appender.append(&event, request.trace).await {
            Ok(position) => position,
            Err(problem) if ["append_refused", "event_too_large"].contains(&problem.code()) => {
                return Err(match self.cache.roll_back(&request.caller, &costs, Some(reservation)).await {
                    // Another attempt appends the event, too. What Kafka says of this copy says nothing of the other.
                    Ok(false) if problem.code() == "append_refused" => Problem::append_unknown(APPEND_UNKNOWN),
                    Ok(_) => problem,
                    Err(error) => {
                        tracing::info!(%error, "Redis failed; a refused command still counts against its limit");
                        problem
                    }
                });
            }
            Err(problem) => return Err(response::counted(problem, &state)),
        };
        if let Some(scope) = scope.filter(|_| unconfirmed || lookup.has_expired())
            && let Some(first) = self.confirm(scope, &event, position).await?
        {
            // Another node may have appended a copy of this event first.
            let is_copy = first.event == event;
            return if is_copy { Ok(executed(event, first.position, state)) } else { repeat_response(&request, first) };
        }
        self.record_outcome(&event, position).await;
        Ok(executed(event, position, state))
    }

    /// Counts a command that Redis couldn't admit: in Redis if that is only full, and else in this process alone.
    async fn count_unreserved(&self, user: &UserId, costs: &Costs, error: &CacheError) -> Admission {
        if error.is_full()
            && let Ok((counted, _)) = self.cache.admit(user, costs, None).await
        {
            return counted;
        }
        tracing::debug!(%error, "Redis failed; this process counts the command by itself");
        self.local_limits.admit(user, costs)
    }

    /// Records in Redis what is certain now: a retry finds the position, the first command in a new conversation finds
    /// its participants without waiting for the projector, and the next command on a message finds what this one did.
    async fn record_outcome(&self, event: &Event, position: Position) {
        let _ = self.cache.record_outcome(event, position).await;
        if let EventData::ConversationCreated { kind, participant_ids, .. } = &event.data {
            // A group id that derives from a key may belong to an earlier group with other participants.
            if *kind == ConversationKind::Direct || event.request.is_none() {
                let _ = self.cache.put_participants(event.conversation_id, participant_ids).await;
            }
        }
    }

    /// Repeats the response that the key got before. If the earlier event may not be on the log, appends the same bytes
    /// again: the fold and realtime drop the copy. If it may not be the first with its key, the fold decides.
    async fn replay(
        self: &Arc<Self>,
        request: &CommandRequest,
        earlier: EarlierUse,
        lookup: KeyLookup,
    ) -> Result<CommandOutcome, Problem> {
        let (bytes, is_first) = match earlier {
            EarlierUse::Logged { position, request: logged } => {
                // Another request is refused without reading the log.
                if logged.is_some_and(|logged| !logged.may_be(&request.command.hash())) {
                    return Err(key_reused());
                }
                let event = self.idempotency.event_at(position).await?;
                return repeat_response(request, LoggedEvent { event, position });
            }
            EarlierUse::Reserved { bytes, is_first } => (bytes, is_first),
        };
        let event = reserved_event(&bytes)?;
        if !is_same_request(request, &event) {
            if is_first {
                return Err(key_reused());
            }
            // The other request may have come second.
            let first = match IdempotencyScope::of(&event) {
                Some(scope) => self.idempotency.first_on_log(scope).await?,
                None => None,
            };
            return first.map_or_else(|| Err(key_reused()), |first| repeat_response(request, first));
        }
        if !is_first
            && let Some(position) = self.cache.appended(event.event_id).await.ok().flatten()
            && let Some(scope) = IdempotencyScope::of(&event)
        {
            // An earlier attempt has appended it, and only the fold can say more.
            let first = self.idempotency.confirm(scope, &event, position).await?;
            return repeat_response(request, first.unwrap_or(LoggedEvent { event, position }));
        }
        let bytes = self.share_reservation(&event, bytes).await?;
        let (executor, trace, costs) = (self.clone(), request.trace, self.limits.costs_of(&request.command));
        let append = self.tasks.spawn(async move {
            let position = match executor.appender.append(&event, trace).await {
                Err(problem) if problem.code() == "event_too_large" => {
                    let reservation = ReservationRequest { event: &event, bytes: &bytes, pending: None };
                    return executor.release_too_large(reservation, &costs).await?.ok_or(problem);
                }
                appended => appended?,
            };
            if let Some(scope) = IdempotencyScope::of(&event).filter(|_| !is_first || lookup.has_expired())
                && let Some(first) = executor.confirm(scope, &event, position).await?
            {
                return Ok(first);
            }
            executor.record_outcome(&event, position).await;
            Ok(LoggedEvent { event, position })
        });
        repeat_response(request, append.await.unwrap_or_else(|_| Err(Problem::internal()))?)
    }

    /// Waits until the fold has decided whether the key of an appended event was used before. If that takes too long,
    /// a retry goes on from here. Returns the event that used the key first, unless it is that one.
    async fn confirm(
        &self,
        scope: IdempotencyScope<'_>,
        event: &Event,
        position: Position,
    ) -> Result<Option<LoggedEvent>, Problem> {
        let _ = self.cache.note_appended(event.event_id, position).await;
        self.idempotency.confirm(scope, event, position).await
    }

    /// Notes that this attempt appends a reserved event, too. Returns what its key is reserved for now.
    ///
    /// # Errors
    /// When the attempt that reserved it has ended meanwhile. A retry finds out how.
    async fn share_reservation(&self, event: &Event, bytes: Vec<u8>) -> Result<Vec<u8>, Problem> {
        let Some(scope) = IdempotencyScope::of(event) else { return Ok(bytes) };
        match self.cache.share_reservation(scope, &bytes).await {
            Ok(shared) => shared.ok_or_else(|| Problem::append_unknown(APPEND_UNKNOWN)),
            Err(error) => {
                tracing::debug!(%error, "Redis failed; the attempt that reserved the key can't free it either");
                Ok(bytes)
            }
        }
    }

    /// Releases the key of a reserved event that the log doesn't take any longer, unless an earlier attempt has appended
    /// it. Returns the event that used the key first, then.
    async fn release_too_large(
        &self,
        reservation: ReservationRequest<'_>,
        costs: &Costs,
    ) -> Result<Option<LoggedEvent>, Problem> {
        let Some(scope) = IdempotencyScope::of(reservation.event) else { return Ok(None) };
        let first = self.idempotency.first_on_log(scope).await?;
        if first.is_none()
            && let Err(error) = self.cache.roll_back(&reservation.event.actor_id, costs, Some(reservation)).await
        {
            tracing::info!(%error, "Redis failed; the key of an event that is too large stays reserved");
        }
        Ok(first)
    }
}

/// The conversation that a command is about: the one that it creates or names, else that of its message.
fn conversation_of(command: &Command, context: &Context, message: Option<&MessageFacts>) -> Option<ConversationId> {
    match command {
        Command::Conversation { kind, participant_ids, .. } => {
            Some(context.conversation_to_create(*kind, participant_ids))
        }
        command => command.conversation_id().or(message.map(|message| message.conversation_id)),
    }
}

fn is_same_request(request: &CommandRequest, event: &Event) -> bool {
    event.request.as_ref().is_some_and(|earlier| earlier.hash == request.command.hash())
}

fn reserved_event(bytes: &[u8]) -> Result<Event, Problem> {
    envelope::decode(bytes).map_err(|error| {
        tracing::error!(%error, "a reserved event can't be decoded; the client gets 500");
        Problem::internal()
    })
}

/// The response that a key got before.
///
/// # Errors
/// 409 if that was another request.
fn repeat_response(request: &CommandRequest, earlier: LoggedEvent) -> Result<CommandOutcome, Problem> {
    let LoggedEvent { event, position } = earlier;
    if !is_same_request(request, &event) {
        return Err(key_reused());
    }
    Ok(CommandOutcome { event, position: Some(position), replayed: true, limit: None })
}

fn key_reused() -> Problem {
    let detail = "this key was used for another request in this conversation; use a new one";
    Problem::conflict("idempotency_key_reused", detail)
}

fn executed(event: Event, position: Position, limit: LimitState) -> CommandOutcome {
    CommandOutcome { event, position: Some(position), replayed: false, limit: Some(limit) }
}
