//! One command, from what was asked to what is answered: key, facts, decide, limit and reservation, append.

use std::time::SystemTime;

use cache::admission::{Entry, Scope};
use cache::{Admission, Begun, Limit, LimitState, Reservation};
use domain::decide::{Context, decide, notifications};
use domain::facts::Facts;
use domain::{Command, Event, Position, Timestamp, envelope};
use event_log::AppendError;
use read_model::{KeyUse, Unreserved};
use service::problem::Problem;
use service::trace::{Place, Span, SpanKind};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::CommandApi;
use crate::answer::{self, Done};
use crate::doubt::Look;
use crate::facts::postgres_down;
use crate::routes::Asked;

/// The clock and fresh ids, which the pure core takes as arguments.
pub(crate) fn context(asked: &Asked) -> Result<Context, Problem> {
    let now = Timestamp::from_date_time(OffsetDateTime::from(SystemTime::now())).map_err(|error| {
        tracing::error!(%error, "the clock is beyond the year 9999");
        Problem::internal()
    })?;
    let (fresh_event, fresh_entity) = (Uuid::now_v7(), Uuid::now_v7());
    Ok(Context { actor: asked.caller.clone(), now, key: asked.key.clone(), fresh_event, fresh_entity })
}

impl CommandApi {
    /// Does a command, or gives the answer that its key got before.
    ///
    /// # Errors
    /// Whatever keeps it from being done.
    pub(crate) async fn execute(&self, asked: Asked) -> Result<Done, Problem> {
        if let Some(wanted) = &asked.at_least {
            self.at_least(wanted).await?;
        }
        let context = context(&asked)?;
        let message = match asked.command.message_id() {
            Some(id) => {
                let within = asked.command.conversation_id();
                self.message_facts(id, within, &asked.caller, asked.at_least.as_ref()).await?
            }
            None => None,
        };
        let conversation_id = match &asked.command {
            Command::Conversation { kind, participant_ids, .. } => {
                Some(context.conversation_to_create(*kind, participant_ids))
            }
            command => command.conversation_id().or(message.as_ref().map(|message| message.conversation_id)),
        };
        // The key comes before what the command needs: a retry gets its answer whatever has happened since.
        let (earlier, look) = match (&asked.key, conversation_id) {
            (Some(key), Some(conversation)) => self.earlier(Scope { conversation, actor: &asked.caller, key }).await?,
            _ => (None, Look::now()),
        };
        if let Some((earlier, trusted)) = earlier {
            return self.replay(&asked, earlier, trusted, look).await;
        }
        let conversation = match (&asked.command, conversation_id) {
            (Command::Conversation { .. }, _) | (_, None) => None,
            (command, Some(id)) => self.conversation_facts(id, &asked.caller, command.needs_participants()).await?,
        };
        let event = decide(&context, &asked.command, &Facts { conversation, message })?;
        // From here on it is finished even when the client hangs up, and the server waits for it when it stops.
        let api = self.clone();
        let task = self.0.tasks.spawn(async move { api.admit_and_append(asked, event, look).await });
        task.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a command broke off");
            Err(Problem::internal())
        })
    }

    /// What the key was used for before, if it was: from Redis, else from the fold's memory and the log. And whether
    /// nothing can have come before that.
    async fn earlier(&self, scope: Scope<'_>) -> Result<(Option<(Reservation, bool)>, Look), Problem> {
        let look = Look::now();
        let reserved = self.0.parts.cache.reservation(scope).await.ok().flatten();
        match reserved {
            Some((reservation, _)) if reservation.position.is_some() => Ok((Some((reservation, true)), look)),
            reserved => {
                let (first, unreserved) = self.applied(scope).await?;
                let look = look.with(unreserved);
                let reserved = reserved.map(|(reservation, epoch)| {
                    let trusted = self.is_trusted(epoch.as_deref(), look);
                    (reservation, trusted)
                });
                Ok((first.map(|first| (first, true)).or(reserved), look))
            }
        }
    }

    /// What came first with a key, as far as events are folded; and when keys were used without a reservation.
    pub(crate) async fn applied(&self, scope: Scope<'_>) -> Result<(Option<Reservation>, Option<Unreserved>), Problem> {
        let parts = &self.0.parts;
        let known = parts.read_model.key_use(scope.conversation, scope.actor, scope.key).await;
        let KeyUse { first, unreserved } = known.map_err(|error| postgres_down(&error))?;
        let Some(position) = first else { return Ok((None, unreserved)) };
        let record = parts.log.read_at(position).await.map_err(|error| {
            tracing::warn!(%error, %position, "the log can't be read");
            Problem::unavailable("unavailable", "the log is out of reach; try again", 1)
        })?;
        let record = record.ok_or_else(|| {
            tracing::error!(%position, "an event that was folded is not on the log");
            Problem::internal()
        })?;
        Ok((Some(Reservation { event: record.value.to_vec(), position: Some(position) }), unreserved))
    }

    /// Counts the command, reserves its key, appends its event: in this order, so that only what is valid and
    /// new counts, and two at once with one key append the same bytes.
    async fn admit_and_append(&self, asked: Asked, event: Event, look: Look) -> Result<Done, Problem> {
        let Some(limit) = self.0.parts.limits.of(&asked.command) else {
            tracing::error!("a command without a limit came where all have one");
            return Err(Problem::internal());
        };
        let bytes = envelope::encode(&event);
        let scope = Scope::of(&event);
        let begun = Begun::by(&event, self.partition_of(event.conversation_id)).filter(|_| scope.is_none());
        let entry = Entry { event: &event, bytes: &bytes, begun: begun.as_ref() };
        let (admission, epoch) = match self.0.parts.cache.admit(&asked.caller, &limit, Some(entry)).await {
            Ok(admitted) => admitted,
            Err(error) => {
                tracing::debug!(%error, "Redis is down: this process keeps the limits by itself");
                if scope.is_some() {
                    self.say_unreserved().await?;
                }
                (self.0.local_limits.admit(&asked.caller, &limit), None)
            }
        };
        let doubt = scope.is_some() && self.in_doubt(epoch.as_ref(), look).await;
        let state = match admission {
            Admission::Admitted(state) => state,
            Admission::Limited(state) => return Err(answer::limited(&state)),
            Admission::Reserved(earlier) => return self.replay(&asked, earlier, !doubt, look).await,
        };
        let position = match self.append(&event, asked.place).await {
            Ok(position) => position,
            Err(problem) => {
                if problem.code() == "append_refused" {
                    self.take_back(&asked, &limit, entry).await;
                    return Err(problem);
                }
                return Err(answer::counted(problem, &state));
            }
        };
        if let Some(scope) = scope.filter(|_| doubt || look.is_over())
            && let Some(first) = self.before(scope, position).await?
        {
            // A copy that somebody else appended may have come first.
            let own = first.event == bytes;
            return if own {
                Ok(done(event, first.position.unwrap_or(position), state))
            } else {
                answer_again(&asked, &first)
            };
        }
        self.note(&event, position).await;
        Ok(done(event, position, state))
    }

    async fn take_back(&self, asked: &Asked, limit: &Limit, entry: Entry<'_>) {
        if let Err(error) = self.0.parts.cache.release(&asked.caller, limit, Some(entry)).await {
            tracing::info!(%error, "a refused command still counts against its limit");
        }
    }

    /// Notes in Redis what is certain now: a retry finds its position, the first command in a new conversation finds
    /// its participants without waiting for the projector, and the next one on a message what this one did to it.
    async fn note(&self, event: &Event, position: Position) {
        let cache = &self.0.parts.cache;
        let _ = cache.note(event, position).await;
        if let domain::EventData::ConversationCreated { kind, participant_ids, .. } = &event.data {
            // A group's id that derives from a key may be that of an earlier group with other people.
            if *kind == domain::event::ConversationKind::Direct || event.request.is_none() {
                let _ = cache.fill_participants(event.conversation_id, participant_ids).await;
            }
        }
    }

    /// Gives the answer that the key got before; appends the same bytes again where it isn't known that they
    /// are on the log. The fold and realtime drop the copy. `trusted`: nothing can have come before it; otherwise the
    /// fold decides.
    async fn replay(&self, asked: &Asked, earlier: Reservation, trusted: bool, look: Look) -> Result<Done, Problem> {
        let event = reserved(&earlier)?;
        if !trusted && earlier.position.is_none() && !is_same_request(asked, &event) {
            // The other request may have come second.
            let first = match Scope::of(&event) {
                Some(scope) => self.applied_so_far(scope).await?,
                None => None,
            };
            return answer_again(asked, first.as_ref().unwrap_or(&earlier));
        }
        // Before anything is appended: it may be another request.
        let done = answer_again(asked, &earlier)?;
        if done.position.is_some() {
            return Ok(done);
        }
        let (api, place) = (self.clone(), asked.place);
        let append = self.0.tasks.spawn(async move {
            let position = api.append(&event, place).await?;
            if let Some(scope) = Scope::of(&event).filter(|_| !trusted || look.is_over())
                && let Some(first) = api.before(scope, position).await?
            {
                return Ok(first);
            }
            api.note(&event, position).await;
            Ok(Reservation { position: Some(position), ..earlier })
        });
        answer_again(asked, &append.await.unwrap_or_else(|_| Err(Problem::internal()))?)
    }

    /// Appends an event and the notifications that follow it; waits for all.
    pub(crate) async fn append(&self, event: &Event, place: Place) -> Result<Position, Problem> {
        if let Some(reason) = &*self.0.parts.refusal.borrow() {
            tracing::warn!(reason, "nothing is appended");
            return Err(Problem::unavailable(
                "append_refused",
                "the log isn't the one that it was; it was not done",
                30,
            ));
        }
        let mut events = vec![event.clone()];
        events.extend(notifications(event));
        let mut span = Span::begin(SpanKind::Producer, || format!("append {}", event.data.type_name()), Some(place));
        span.say("messaging.system", "kafka");
        span.say("messaging.operation.type", "send");
        let appended = self.0.parts.producer.append(&events, &span.place().to_string()).await;
        if let Err(error) = &appended {
            span.fail(error.to_string());
        }
        appended.map_err(|error| match error {
            AppendError::Refused(reason) => {
                tracing::warn!(reason, "Kafka refused an event");
                Problem::unavailable("append_refused", "it was not done; try again", 1)
            }
            AppendError::Unknown(reason) => {
                tracing::warn!(reason, "whether Kafka has an event isn't known");
                let detail = "it may have been done; try again with the same Idempotency-Key";
                Problem::unavailable("append_unknown", detail, 1)
            }
        })
    }
}

fn is_same_request(asked: &Asked, event: &Event) -> bool {
    event.request.as_ref().is_some_and(|request| request.hash == asked.command.hash())
}

fn reserved(earlier: &Reservation) -> Result<Event, Problem> {
    envelope::decode(&earlier.event).map_err(|error| {
        tracing::error!(%error, "a reserved event can't be read");
        Problem::internal()
    })
}

/// The answer that a key got before.
///
/// # Errors
/// 409 when that was another request.
fn answer_again(asked: &Asked, earlier: &Reservation) -> Result<Done, Problem> {
    let event = reserved(earlier)?;
    if !is_same_request(asked, &event) {
        let detail = "this key was used for another request in this conversation; use a new one";
        return Err(Problem::conflict("idempotency_key_reused", detail));
    }
    Ok(Done { event, position: earlier.position, replayed: true, limit: None })
}

fn done(event: Event, position: Position, limit: LimitState) -> Done {
    Done { event, position: Some(position), replayed: false, limit: Some(limit) }
}
