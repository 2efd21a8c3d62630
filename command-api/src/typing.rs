//! Typing: the one command that may append nothing. It counts against no limit, and ignores idempotency keys.

use cache::Cache;
use domain::facts::Facts;
use domain::{ConversationId, Event, Position};
use service::problem::Problem;

use crate::append::Appender;
use crate::execute::decision_context;
use crate::facts::FactLookup;
use crate::request::CommandRequest;
use crate::response::CommandOutcome;

/// Executes typing commands.
pub(crate) struct TypingCommands<'a> {
    pub(crate) facts: &'a FactLookup,
    pub(crate) cache: &'a Cache,
    pub(crate) appender: &'a Appender,
}

impl TypingCommands<'_> {
    /// Appends a typing start, unless it repeats a recent one.
    ///
    /// # Errors
    /// Whatever prevents the command.
    pub(crate) async fn start(&self, request: &CommandRequest, id: ConversationId) -> Result<CommandOutcome, Problem> {
        let event = self.decide(request, id).await?;
        // Without Redis every start counts as the first: one event too many beats one too few.
        if !self.cache.typing_start(id, &request.caller).await.unwrap_or(true) {
            return Ok(outcome(event, None));
        }
        match self.append(&event, request).await {
            Err(problem) => {
                // Perhaps nobody has seen it, so a retry must not count as a repeat.
                let _ = self.cache.typing_stop(id, &request.caller).await;
                Err(problem)
            }
            appended => appended,
        }
    }

    /// Appends a typing stop.
    ///
    /// # Errors
    /// Whatever prevents the command.
    pub(crate) async fn stop(&self, request: &CommandRequest, id: ConversationId) -> Result<CommandOutcome, Problem> {
        let event = self.decide(request, id).await?;
        let _ = self.cache.typing_stop(id, &request.caller).await;
        self.append(&event, request).await
    }

    async fn decide(&self, request: &CommandRequest, id: ConversationId) -> Result<Event, Problem> {
        self.facts.wait_for_demand(request).await?;
        let conversation = self.facts.conversation(id, &request.caller, false).await?;
        let facts = Facts { conversation, message: None };
        Ok(domain::decide::decide(&decision_context(request)?, &request.command, &facts)?)
    }

    async fn append(&self, event: &Event, request: &CommandRequest) -> Result<CommandOutcome, Problem> {
        let position = self.appender.append(event, request.trace).await?;
        // A position on another topic would be a wrong one to read from.
        Ok(outcome(event.clone(), Some(position).filter(|_| !self.appender.has_typing_topic())))
    }
}

fn outcome(event: Event, position: Option<Position>) -> CommandOutcome {
    CommandOutcome { event, position, replayed: false, limit: None }
}
