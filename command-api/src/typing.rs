//! Typing: the one command that may append nothing, and that counts against no limit.

use axum::response::{IntoResponse, Response};
use domain::facts::Facts;
use domain::{ConversationId, Event, Position};
use service::problem::Problem;

use crate::CommandApi;
use crate::answer::Done;
use crate::execute::context;
use crate::routes::Asked;

impl CommandApi {
    /// Appends that the caller types, unless they said so just now; or that they stopped.
    pub(crate) async fn typing(
        &self,
        asked: &Asked,
        conversation_id: ConversationId,
        start: bool,
    ) -> Result<Response, Problem> {
        if let Some(wanted) = &asked.at_least {
            self.at_least(wanted).await?;
        }
        let conversation = self.conversation_facts(conversation_id, &asked.caller, false).await?;
        let facts = Facts { conversation, message: None };
        let event = domain::decide::decide(&context(asked)?, &asked.command, &facts)?;
        let cache = &self.0.parts.cache;
        if start {
            // Without Redis every start counts as the first: one event too many beats one too few.
            if !cache.typing_start(conversation_id, &asked.caller).await.unwrap_or(true) {
                return Ok(answered(event, None));
            }
        } else {
            let _ = cache.typing_stop(conversation_id, &asked.caller).await;
        }
        match self.append(&event, asked.place).await {
            // A position on another topic would be a wrong one to read from.
            Ok(position) => Ok(answered(event, Some(position).filter(|_| !self.0.parts.producer.has_typing_topic()))),
            Err(problem) => {
                if start {
                    // Nobody may have heard of it: trying again must not pass for a repeat.
                    let _ = cache.typing_stop(conversation_id, &asked.caller).await;
                }
                Err(problem)
            }
        }
    }
}

fn answered(event: Event, position: Option<Position>) -> Response {
    Done { event, position, replayed: false, limit: None }.into_response()
}
