//! A command as it arrived over HTTP, with its headers.

use domain::{Command, IdempotencyKey, PositionVector, UserId};
use http::{HeaderMap, Uri};
use service::http::{Params, idempotency_key, messages_position};
use service::problem::Problem;
use service::token::PositionTokens;
use service::trace::TraceContext;

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
