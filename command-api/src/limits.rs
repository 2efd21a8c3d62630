//! Rate limits: how many commands of each kind a user may send.
//!
//! Redis counts, the same for all nodes. While Redis is down, each process counts by itself.

use std::time::Duration;

use cache::{Admission, Cache, Cost, Costs, Limit, LocalLimits};
use domain::{Command, UserId};
use service::problem::Problem;

use crate::response;

/// The largest number of commands of each kind that a user may send in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Messages sent.
    pub messages: u32,
    /// Reactions added and removed together.
    pub reactions: u32,
    /// Messages edited.
    pub edits: u32,
    /// Messages deleted.
    pub deletions: u32,
    /// Conversations created.
    pub conversations: u32,
    /// People invited to new conversations.
    pub invitations: u32,
    /// Read marks set.
    pub read_marks: u32,
    /// Typing starts and stops together.
    pub typing: u32,
    /// The window, which starts with the first counted command.
    pub window: Duration,
}

/// How many failed look-ups a user may cause in a window. Each costs a request for the log's end.
const FAILED_LOOKUPS: u32 = 300;

/// How often a user may try each command that the limits allow: a client that retries after an outage, or tells us of
/// each key that is pressed, is within it; a loop is not.
const ATTEMPTS: u32 = 20;

domain::limit_rows! {
    Rates, "commands that name conversations or messages that don't exist", Count FAILED_LOOKUPS, "429 `rate_limited`", "Kafka and the projector: each asks for the end of the log";
    Rates, "attempts at commands, for each command that the rows above allow: on each process", Count ATTEMPTS, "429 `rate_limited`", "everything that a command needs before it counts";
}

impl Limits {
    /// What a command costs its user.
    pub(crate) fn costs_of(&self, command: &Command) -> Costs {
        let (name, max) = match command {
            Command::Message(_) => ("messages", self.messages),
            Command::Reaction { .. } | Command::RemoveReaction { .. } => ("reactions", self.reactions),
            Command::Edit { .. } => ("edits", self.edits),
            Command::Delete { .. } => ("deletions", self.deletions),
            Command::Conversation { .. } => ("conversations", self.conversations),
            Command::MarkRead { .. } => ("read-marks", self.read_marks),
            Command::TypingStart { .. } | Command::TypingStop { .. } => ("typing", self.typing),
        };
        let other = match command {
            Command::Conversation { participant_ids, .. } => Some(self.invitations_of(participant_ids)),
            _ => None,
        };
        Costs { other, ..Costs::one(self.limit(name, max)) }
    }

    /// What it costs to invite everybody but the caller, who comes first.
    fn invitations_of(&self, participants: &[UserId]) -> Cost {
        let amount = u32::try_from(participants.len().saturating_sub(1)).unwrap_or(u32::MAX);
        Cost { limit: self.limit("invitations", self.invitations), amount }
    }

    /// How many requests a user may make, for all that their commands may be: [`ATTEMPTS`] of each.
    fn attempts(&self) -> Limit {
        let Self { messages, reactions, edits, deletions, conversations, read_marks, typing, .. } = *self;
        let commands = [messages, reactions, edits, deletions, conversations, read_marks, typing];
        self.limit("attempts", commands.into_iter().fold(0, u32::saturating_add).saturating_mul(ATTEMPTS))
    }

    fn limit(&self, name: &'static str, max: u32) -> Limit {
        Limit { name, max, window: self.window }
    }
}

/// Counts all requests of a user to this process, whatever becomes of them: the malformed, the refused and the repeated
/// count against nothing else. Only this process counts, because that costs no round trip.
pub(crate) struct Attempts {
    local: LocalLimits,
    costs: Costs,
}

impl Attempts {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { local: LocalLimits::default(), costs: Costs::one(limits.attempts()) }
    }

    /// Counts a request before anything is done for it.
    ///
    /// # Errors
    /// 429 when the user has made too many.
    pub(crate) fn count(&self, user: &UserId) -> Result<(), Problem> {
        match self.local.admit(user, &self.costs) {
            Admission::Limited(state) => Err(response::limited(&state)),
            Admission::Admitted(_) | Admission::Reserved(_) => Ok(()),
        }
    }
}

/// Counts failed look-ups: commands that name conversations or messages that don't exist.
pub(crate) struct FailedLookups {
    cache: Cache,
    local: LocalLimits,
    costs: Costs,
}

impl FailedLookups {
    pub(crate) fn new(cache: Cache, limits: &Limits) -> Self {
        let costs = Costs::one(limits.limit("misses", FAILED_LOOKUPS));
        Self { cache, local: LocalLimits::default(), costs }
    }

    /// Counts a look-up before it is made.
    ///
    /// # Errors
    /// 429 when the user has caused too many failed look-ups.
    pub(crate) async fn count(&self, user: &UserId) -> Result<(), Problem> {
        let admission = match self.cache.admit(user, &self.costs, None).await {
            Ok((admission, _)) => admission,
            Err(_) => self.local.admit(user, &self.costs),
        };
        match admission {
            Admission::Limited(state) => Err(response::limited(&state)),
            Admission::Admitted(_) | Admission::Reserved(_) => Ok(()),
        }
    }

    /// Takes a count back after the look-up found something. Without Redis the count stays.
    pub(crate) async fn roll_back(&self, user: &UserId) {
        let _ = self.cache.roll_back(user, &self.costs, None).await;
    }
}
