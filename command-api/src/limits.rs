//! Rate limits: how many commands of each kind a user may send.
//!
//! Redis counts, the same for all nodes. While Redis is down, each process counts by itself.

use std::time::Duration;

use cache::{Admission, Cache, Limit, LocalLimits};
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
    /// Read marks set.
    pub read_marks: u32,
    /// The window, which starts with the first counted command.
    pub window: Duration,
}

/// How many failed look-ups a user may cause in a window. Each costs a request for the log's end.
const FAILED_LOOKUPS: u32 = 300;

impl Limits {
    /// The limit that a command counts against; none for typing.
    pub(crate) fn of(&self, command: &Command) -> Option<Limit> {
        let (name, max) = match command {
            Command::Message(_) => ("messages", self.messages),
            Command::Reaction { .. } | Command::RemoveReaction { .. } => ("reactions", self.reactions),
            Command::Edit { .. } => ("edits", self.edits),
            Command::Delete { .. } => ("deletions", self.deletions),
            Command::Conversation { .. } => ("conversations", self.conversations),
            Command::MarkRead { .. } => ("read-marks", self.read_marks),
            Command::TypingStart { .. } | Command::TypingStop { .. } => return None,
        };
        Some(Limit { name, max, window: self.window })
    }
}

/// Counts failed look-ups: commands that name conversations or messages that don't exist.
pub(crate) struct FailedLookups {
    cache: Cache,
    local: LocalLimits,
    limit: Limit,
}

impl FailedLookups {
    pub(crate) fn new(cache: Cache, limits: &Limits) -> Self {
        let limit = Limit { name: "misses", max: FAILED_LOOKUPS, window: limits.window };
        Self { cache, local: LocalLimits::default(), limit }
    }

    /// Counts a look-up before it is made.
    ///
    /// # Errors
    /// 429 when the user has caused too many failed look-ups.
    pub(crate) async fn count(&self, user: &UserId) -> Result<(), Problem> {
        let admission = match self.cache.admit(user, &self.limit, None).await {
            Ok((admission, _)) => admission,
            Err(_) => self.local.admit(user, &self.limit),
        };
        match admission {
            Admission::Limited(state) => Err(response::limited(&state)),
            Admission::Admitted(_) | Admission::Reserved(_) => Ok(()),
        }
    }

    /// Takes a count back after the look-up found something. Without Redis the count stays.
    pub(crate) async fn roll_back(&self, user: &UserId) {
        let _ = self.cache.roll_back(user, &self.limit, None).await;
    }
}
