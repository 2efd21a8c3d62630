//! Typing: the commands that may append nothing. They ignore idempotency keys.

use cache::{Admission, Cache, CacheError, LimitState, LocalLimits, TypingAdmission};
use domain::facts::Facts;
use domain::{ConversationId, Event, Position};
use service::problem::Problem;

use crate::append::Appender;
use crate::execute::decision_context;
use crate::facts::FactLookup;
use crate::limits::Limits;
use crate::request::CommandRequest;
use crate::response::{self, CommandOutcome};

/// Executes typing commands.
pub(crate) struct TypingCommands<'a> {
    pub(crate) facts: &'a FactLookup,
    pub(crate) cache: &'a Cache,
    pub(crate) appender: &'a Appender,
    pub(crate) limits: &'a Limits,
    pub(crate) local_limits: &'a LocalLimits,
}

impl TypingCommands<'_> {
    /// Appends a typing start, unless it repeats a recent one.
    ///
    /// # Errors
    /// Whatever prevents the command.
    pub(crate) async fn start(&self, request: &CommandRequest, id: ConversationId) -> Result<CommandOutcome, Problem> {
        let event = self.decide(request, id).await?;
        let limit = self.limits.costs_of(&request.command).of_kind.limit;
        let admission = self.cache.typing_start(id, &request.caller, &limit).await;
        let appended = self.append_admitted(event, request, admission).await;
        if appended.is_err() {
            // Perhaps nobody has seen it, so a retry must not count as a repeat.
            let _ = self.cache.forget_typing(id, &request.caller).await;
        }
        appended
    }

    /// Appends a typing stop, unless the user doesn't type.
    ///
    /// # Errors
    /// Whatever prevents the command.
    pub(crate) async fn stop(&self, request: &CommandRequest, id: ConversationId) -> Result<CommandOutcome, Problem> {
        let event = self.decide(request, id).await?;
        let limit = self.limits.costs_of(&request.command).of_kind.limit;
        let admission = self.cache.typing_stop(id, &request.caller, &limit).await;
        self.append_admitted(event, request, admission).await
    }

    async fn decide(&self, request: &CommandRequest, id: ConversationId) -> Result<Event, Problem> {
        self.facts.wait_for_demand(request).await?;
        let conversation = self.facts.conversation(id, &request.caller, false).await?;
        let facts = Facts { conversation, message: None };
        Ok(domain::decide::decide(&decision_context(request)?, &request.command, &facts)?)
    }

    async fn append_admitted(
        &self,
        event: Event,
        request: &CommandRequest,
        admission: Result<TypingAdmission, CacheError>,
    ) -> Result<CommandOutcome, Problem> {
        let state = match admission {
            Ok(TypingAdmission::Counted(state)) => state,
            Ok(TypingAdmission::Unchanged) => return Ok(outcome(event, None, None)),
            Ok(TypingAdmission::Limited(state)) => return Err(response::limited(&state)),
            // Without Redis nobody knows who types: one event too many beats one too few.
            Err(_) => match self.local_limits.admit(&request.caller, &self.limits.costs_of(&request.command)) {
                Admission::Limited(state) => return Err(response::limited(&state)),
                Admission::Admitted(state) => state,
                Admission::Reserved(_) => return Ok(outcome(event, None, None)),
            },
        };
        let appended = self.appender.append(&event, request.trace).await;
        let position = appended.map_err(|problem| response::counted(problem, &state))?;
        // A position on another topic would be a wrong one to read from.
        Ok(outcome(event, Some(position).filter(|_| !self.appender.has_typing_topic()), Some(state)))
    }
}

fn outcome(event: Event, position: Option<Position>, limit: Option<LimitState>) -> CommandOutcome {
    CommandOutcome { event, position, replayed: false, limit }
}
