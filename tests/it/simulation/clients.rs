//! Clients: each command goes through the production decision, on facts that may be stale, and through the production
//! reservation of its idempotency key. A node may die between any two steps.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use cache::{Admission, Cache, Costs, IdempotencyScope, Limit, PendingEntity, Reservation, ReservationRequest};
use domain::decide::{Context, decide, notifications};
use domain::facts::{ConversationFacts, Facts, MessageFacts};
use domain::testing::{Rng, World, facts};
use domain::{Command, ConversationId, Event, MessageId, Position, envelope};
use read_model::Snapshot;
use read_path::RequestCache;

use super::log::Log;
use super::postgres_model::PostgresModel;
use super::views::ViewRequest;

/// So high that no simulation reaches it.
const LIMIT: Limit = Limit { name: "messages", max: 1_000_000, window: Duration::from_secs(60) };

/// A command on its way through a node.
pub(super) struct CommandRun {
    context: Context,
    command: Command,
    stage: Stage,
}

enum Stage {
    Deciding,
    Admitting(Event),
    Appending(Event),
    Recording(Event, Position),
}

/// How a step of a command ended.
pub(super) enum CommandStep {
    GoesOn,
    Refused,
    /// The client has its response: the event is on the log at this position.
    Acknowledged(Box<Event>, Position),
}

/// What a command's steps work with.
pub(super) struct Surroundings<'a> {
    pub(super) cache: &'a Cache,
    pub(super) postgres: &'a Rc<RefCell<PostgresModel>>,
    pub(super) log: &'a mut Log,
    pub(super) world: &'a mut World,
    pub(super) rng: &'a mut Rng,
}

impl CommandRun {
    pub(super) fn new(context: Context, command: Command) -> Self {
        Self { context, command, stage: Stage::Deciding }
    }

    /// Does the next step.
    pub(super) async fn step(&mut self, around: &mut Surroundings<'_>) -> CommandStep {
        let stage = std::mem::replace(&mut self.stage, Stage::Deciding);
        self.stage = match stage {
            Stage::Deciding => {
                let facts = self.facts(around).await;
                match decide(&self.context, &self.command, &facts) {
                    Ok(event) => Stage::Admitting(event),
                    Err(_) => return CommandStep::Refused,
                }
            }
            // This node can't reach Redis just now: only the fold knows that a key is used.
            Stage::Admitting(event) if around.rng.percent(20) => Stage::Appending(event),
            Stage::Admitting(event) => admit(around, event).await,
            Stage::Appending(event) => {
                let position = append(around, &event);
                Stage::Recording(event, position)
            }
            Stage::Recording(event, position) => {
                let _ = around.cache.record_outcome(&event, position).await;
                return CommandStep::Acknowledged(Box::new(event), position);
            }
        };
        CommandStep::GoesOn
    }

    /// The facts as this node knows them. What it doesn't know at all, it learns from the end of the log.
    async fn facts(&self, around: &mut Surroundings<'_>) -> Facts {
        let newest = facts(&around.world.state, &self.context.actor, &self.command);
        let message = match self.command.message_id() {
            Some(id) => message_facts(around, id).await.or(newest.message),
            None => None,
        };
        let id = self.command.conversation_id().or(message.as_ref().map(|message| message.conversation_id));
        let conversation = match id {
            Some(id) => match participants(around, id).await {
                Some(participants) => {
                    let is_participant = participants.contains(&self.context.actor);
                    Some(ConversationFacts { id, is_participant, participants })
                }
                None => newest.conversation.filter(|conversation| conversation.id == id),
            },
            None => None,
        };
        Facts { conversation, message }
    }
}

/// The facts about a message: from Redis, else from Postgres, else from its pending creation.
async fn message_facts(around: &Surroundings<'_>, id: MessageId) -> Option<MessageFacts> {
    let mut cache = RequestCache::new(Some(around.cache), || {});
    let request = ViewRequest::MessageFacts(id);
    let pending = around.cache.pending_changes(id).await.unwrap_or_default();
    let known = match cache.view(&request.key(), &Default::default()).await {
        Some((view, _)) => serde_json::from_slice(view.body()).ok(),
        None => {
            let load = async { Ok::<_, Infallible>(request.load(&around.postgres.borrow())) };
            let render = super::readers::render;
            let Ok(loaded) = cache.load_and_fill(&request.key(), request.dependency(), load, render).await;
            loaded.value.and_then(|facts| serde_json::from_value(facts).ok())
        }
    };
    let facts = match known {
        Some(facts) => Some(facts),
        None => match cache.pending_entity(&request.dependency()).await {
            Some(PendingEntity::Message { facts, .. }) => Some(facts),
            _ => None,
        },
    };
    facts.map(|facts| pending.apply_to(facts))
}

/// The participants of a conversation: from this node or Redis, else from Postgres.
async fn participants(around: &Surroundings<'_>, id: ConversationId) -> Option<Vec<domain::UserId>> {
    if let Ok(Some(known)) = around.cache.participants(id).await {
        let mut participants: Vec<_> = known.iter().cloned().collect();
        participants.sort_unstable();
        return Some(participants);
    }
    let Snapshot { value, .. } = around.postgres.borrow().participants(id);
    if let Some(participants) = &value {
        let _ = around.cache.put_participants(id, participants).await;
    }
    value
}

/// Reserves the event's key. Returns what to do next: an earlier event with the key is appended again, or is on the log.
async fn admit(around: &Surroundings<'_>, event: Event) -> Stage {
    let bytes = envelope::encode(&event);
    let pending = PendingEntity::created_by(&event, Log::partition_of(&event));
    let pending = pending.filter(|_| IdempotencyScope::of(&event).is_none());
    let request = ReservationRequest { event: &event, bytes: &bytes, pending: pending.as_ref() };
    match around.cache.admit(&event.actor_id, &Costs::one(LIMIT), Some(request)).await {
        Ok((Admission::Reserved(Reservation::Event(reserved)), _)) => {
            Stage::Appending(envelope::decode(&reserved).unwrap())
        }
        Ok((Admission::Reserved(Reservation::Acknowledged(request)), _)) => {
            Stage::Recording(around.log.event_at(request.position), request.position)
        }
        Ok(_) | Err(_) => Stage::Appending(event),
    }
}

/// Appends an event with its notifications, sometimes twice: the first acknowledgement may have been lost.
fn append(around: &mut Surroundings<'_>, event: &Event) -> Position {
    around.world.append(event.clone());
    if around.rng.percent(10) {
        around.log.append(event);
    }
    let position = around.log.append(event);
    for notification in notifications(event) {
        around.log.append(&notification);
    }
    position
}
