//! A command as it arrived over HTTP, with its headers.

use axum::extract::FromRequestParts;
use domain::{Command, IdempotencyKey, PositionVector, UserId};
use http::request::Parts;
use http::{HeaderMap, Uri};
use service::auth::Caller;
use service::http::{Params, idempotency_key, messages_position};
use service::problem::Problem;
use service::token::PositionTokens;
use service::trace::TraceContext;

use crate::CommandApi;

/// The user who makes a request, which is counted before its body is read.
pub(crate) struct CountedCaller(pub(crate) UserId);

impl FromRequestParts<CommandApi> for CountedCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &CommandApi) -> Result<Self, Problem> {
        let Caller(caller) = Caller::from_request_parts(parts, api).await?;
        api.attempts.count(&caller)?;
        Ok(Self(caller))
    }
}

/// A command with everything that came with it.
pub(crate) struct CommandRequest {
    pub(crate) caller: UserId,
    pub(crate) command: Command,
    pub(crate) key: Option<IdempotencyKey>,
    /// The facts must be at least this new.
    pub(crate) at_least: Option<PositionVector>,
    /// The trace that the request belongs to.
    pub(crate) trace: TraceContext,
}

/// What a client sends with a command besides the command itself.
pub(crate) struct CommandHeaders {
    key: Option<IdempotencyKey>,
    at_least: Option<PositionVector>,
}

impl CommandHeaders {
    /// Reads the headers.
    ///
    /// # Errors
    /// 400 for a wrong header, or for any query parameter.
    pub(crate) fn read(
        tokens: &PositionTokens,
        caller: &UserId,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Self, Problem> {
        // Commands have no parameters. Ignoring one could ignore what the client meant.
        Params::read(uri, &[])?;
        let key = idempotency_key(headers)?;
        let at_least = match messages_position(headers)? {
            Some(text) => Some(tokens.parse_at_least(text, caller)?),
            None => None,
        };
        Ok(Self { key, at_least })
    }

    pub(crate) fn request(self, caller: UserId, command: Command, trace: TraceContext) -> CommandRequest {
        CommandRequest { caller, command, key: self.key, at_least: self.at_least, trace }
    }
}
