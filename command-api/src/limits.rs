//! How much a user may do.

use std::time::Duration;

use cache::{Admission, Limit};
use domain::{Command, UserId};
use service::problem::Problem;

use crate::CommandApi;
use crate::answer;

/// The most commands of each kind that a user may give in a window.
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
    /// Conversations begun.
    pub conversations: u32,
    /// Read marks set.
    pub read_marks: u32,
    /// The window, from the first counted command on.
    pub window: Duration,
}

/// How many times in a window a user may name things that aren't there: each costs a look at the log's end.
const MISSES: u32 = 300;

impl Limits {
    /// The limit that a command counts against; none for typing.
    pub(crate) fn of(&self, command: &Command) -> Option<Limit> {
        let (name, most) = match command {
            Command::Message(_) => ("messages", self.messages),
            Command::Reaction { .. } | Command::RemoveReaction { .. } => ("reactions", self.reactions),
            Command::Edit { .. } => ("edits", self.edits),
            Command::Delete { .. } => ("deletions", self.deletions),
            Command::Conversation { .. } => ("conversations", self.conversations),
            Command::MarkRead { .. } => ("read-marks", self.read_marks),
            Command::TypingStart { .. } | Command::TypingStop { .. } => return None,
        };
        Some(Limit { name, most, window: self.window })
    }
}

impl CommandApi {
    /// Counts a look for something that isn't there.
    ///
    /// # Errors
    /// 429 when the user has looked in vain too often.
    pub(crate) async fn count_miss(&self, user: &UserId) -> Result<(), Problem> {
        let limit = self.misses();
        let admission = match self.0.parts.cache.admit(user, &limit, None).await {
            Ok((admission, _)) => admission,
            Err(_) => self.0.local_limits.admit(user, &limit),
        };
        match admission {
            Admission::Limited(state) => Err(answer::limited(&state)),
            Admission::Admitted(_) | Admission::Reserved(_) => Ok(()),
        }
    }

    /// Takes a look back that was counted, for it found something. Where Redis doesn't answer it still counts.
    pub(crate) async fn take_back_miss(&self, user: &UserId) {
        let _ = self.0.parts.cache.release(user, &self.misses(), None).await;
    }

    fn misses(&self) -> Limit {
        Limit { name: "misses", most: MISSES, window: self.0.parts.limits.window }
    }
}
