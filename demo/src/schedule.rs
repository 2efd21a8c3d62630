//! How much happens, and when: the size of the community, and the order in which its commands come.

use domain::Timestamp;
use domain::seeded_rng::Rng;

/// How long the community has existed when it ends.
const LIFETIME_MS: u64 = 365 * 24 * 3_600_000;
/// How many times more likely than another command the creation of a conversation comes next, in proportion to what is
/// left of both: most conversations begin early.
const EARLINESS: usize = 4;

/// What decides a community. Two that are equal give the same records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommunitySpec {
    /// The number of people, at least two.
    pub users: usize,
    /// The number of conversations, at least one.
    pub conversations: usize,
    /// The number of messages, at least one. For six of them there are three read marks, and one edit, deletion or
    /// reaction.
    pub messages: usize,
    /// Decides everything that the other fields leave open.
    pub seed: u64,
    /// The time before which everything happened, within a year.
    pub until: Timestamp,
}

impl CommunitySpec {
    /// The number of commands that the people issue. Each becomes a record; notifications and copies are more records.
    pub fn commands(&self) -> usize {
        Schedule::new(self).remaining()
    }

    /// The random numbers of the community. They depend on every field: two communities on one topic must not give the
    /// same id to different events.
    pub(crate) fn rng(&self) -> Rng {
        let fields =
            [self.users as u64, self.conversations as u64, self.messages as u64, self.until.as_millis() as u64];
        fields.into_iter().fold(Rng::new(self.seed), |mut rng, field| Rng::new(rng.bits() ^ field))
    }
}

/// What a command does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommandKind {
    CreateConversation,
    SendMessage,
    MarkRead,
    /// An edit, a deletion or a reaction.
    ChangeMessage,
}

/// The commands that are still to come, by kind. Their order is random, and their numbers are exact.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    conversations: usize,
    messages: usize,
    read_marks: usize,
    changes: usize,
    total: usize,
    until_ms: u64,
}

impl Schedule {
    pub(crate) fn new(spec: &CommunitySpec) -> Self {
        let (conversations, messages) = (spec.conversations.max(1), spec.messages.max(1));
        // Of all commands about messages, 60 % send one, 30 % mark it as read, and 10 % change it.
        let (read_marks, changes) = (messages / 2, messages / 6);
        let total = conversations + messages + read_marks + changes;
        let until_ms = u64::try_from(spec.until.as_millis()).unwrap_or(LIFETIME_MS).max(LIFETIME_MS);
        Self { conversations, messages, read_marks, changes, total, until_ms }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.conversations + self.messages + self.read_marks + self.changes
    }

    pub(crate) fn done(&self) -> usize {
        self.total - self.remaining()
    }

    /// Which quarter of the commands is done: from 0 to 4.
    pub(crate) fn quarters_done(&self) -> usize {
        self.done() * 4 / self.total
    }

    /// Takes the next command. None once all are done. The first creates a conversation and the second sends a message,
    /// because the others need both.
    pub(crate) fn take(&mut self, rng: &mut Rng) -> Option<CommandKind> {
        let index = match self.done() {
            0 => 0,
            1 => self.conversations * EARLINESS,
            _ => rng.below(self.remaining() + self.conversations * (EARLINESS - 1)),
        };
        let mut end = 0;
        for (left, weight, kind) in [
            (&mut self.conversations, EARLINESS, CommandKind::CreateConversation),
            (&mut self.messages, 1, CommandKind::SendMessage),
            (&mut self.read_marks, 1, CommandKind::MarkRead),
            (&mut self.changes, 1, CommandKind::ChangeMessage),
        ] {
            end += *left * weight;
            if index < end {
                *left -= 1;
                return Some(kind);
            }
        }
        None
    }

    /// A time for the command that was taken last, in Unix milliseconds. It is never before that of an earlier command.
    pub(crate) fn time(&self, rng: &mut Rng) -> u64 {
        let lifetime = u128::from(LIFETIME_MS);
        let start_of = |command: usize| (lifetime * command as u128 / self.total as u128) as u64;
        let (from, to) = (start_of(self.done().saturating_sub(1)), start_of(self.done()));
        self.until_ms - LIFETIME_MS + from + rng.bits() % (to - from).max(1)
    }
}
