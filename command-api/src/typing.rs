//! Typing: the one command that may append nothing, and that counts against no limit.

use axum::Json;
use axum::response::{IntoResponse, Response};
use domain::ConversationId;
use domain::facts::Facts;
use http::StatusCode;
use serde_json::json;
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
                let body = Json(json!({"data": domain::answer::data(&event)}));
                return Ok((StatusCode::ACCEPTED, body).into_response());
            }
        } else {
            let _ = cache.typing_stop(conversation_id, &asked.caller).await;
        }
        let position = self.append(&event, &asked.traceparent).await?;
        Ok(Done { event, position, replayed: false, limit: None }.into_response())
    }
}
