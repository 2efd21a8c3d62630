//! One conversation, as far as the next commands in it depend on it.

use std::collections::VecDeque;

use domain::event::MessageSent;
use domain::facts::{ConversationFacts, Facts, MessageFacts};
use domain::seeded_rng::Rng;
use domain::{ConversationId, MessageId, UserId};

/// How many messages of a conversation people still reply and react to. Nothing else of older messages is kept.
const RECENT_MESSAGES: usize = 12;
/// How many reactions a message gets at most.
const REACTIONS: usize = 12;
/// How often to look for somebody who fits before going on without.
const ATTEMPTS: usize = 8;

pub(crate) struct Conversation {
    pub(crate) id: ConversationId,
    members: Vec<Member>,
    /// The number of messages so far, which is the `seq` of the newest.
    sent: usize,
    recent: VecDeque<RecentMessage>,
}

struct Member {
    /// The index of the person among all people.
    person: usize,
    /// The `seq` up to which the member has read.
    read_seq: usize,
}

/// A message that people may still reply to, react to or change.
pub(crate) struct RecentMessage {
    pub(crate) id: MessageId,
    seq: usize,
    /// The index of the author among the members.
    pub(crate) sender: usize,
    has_attachments: bool,
    /// Who reacts with what: the member's index, and the emoji.
    pub(crate) reactions: Vec<(usize, &'static str)>,
}

impl Conversation {
    pub(crate) fn new(id: ConversationId, people: &[usize]) -> Self {
        let members = people.iter().map(|person| Member { person: *person, read_seq: 0 }).collect();
        Self { id, members, sent: 0, recent: VecDeque::with_capacity(RECENT_MESSAGES) }
    }

    /// The person behind a member, as an index among all people.
    pub(crate) fn person(&self, member: usize) -> usize {
        self.members[member].person
    }

    pub(crate) fn is_without_messages(&self) -> bool {
        self.recent.is_empty()
    }

    /// A member who writes. The first members write the most.
    pub(crate) fn writer(&self, rng: &mut Rng) -> usize {
        rng.below(self.members.len()).min(rng.below(self.members.len()))
    }

    /// Up to three members other than this one.
    pub(crate) fn others(&self, rng: &mut Rng, member: usize) -> Vec<usize> {
        let mut others = Vec::new();
        for _ in 0..1 + rng.below(3).min(rng.below(3)) {
            let other = (member + 1 + rng.below(self.members.len() - 1)) % self.members.len();
            if !others.contains(&other) {
                others.push(other);
            }
        }
        others
    }

    /// A member who has not read everything, if one is found quickly.
    pub(crate) fn reader(&self, rng: &mut Rng) -> Option<usize> {
        let mut candidates = (0..ATTEMPTS).map(|_| rng.below(self.members.len()));
        candidates.find(|member| self.members[*member].read_seq < self.sent)
    }

    /// A recent message that this member has not read.
    pub(crate) fn unread(&self, rng: &mut Rng, member: usize) -> Option<&RecentMessage> {
        let message = self.recent.get(rng.below(self.recent.len()))?;
        (message.seq > self.members[member].read_seq).then_some(message)
    }

    /// A recent message, by its index among them.
    pub(crate) fn pick_recent(&self, rng: &mut Rng) -> usize {
        rng.below(self.recent.len())
    }

    /// A recent message with a reaction, by its index: at this index if possible, else one that follows.
    pub(crate) fn find_reacted(&self, from: usize) -> Option<usize> {
        let all = self.recent.len();
        (from..from + all).map(|index| index % all).find(|index| !self.recent[*index].reactions.is_empty())
    }

    pub(crate) fn recent(&self, index: usize) -> &RecentMessage {
        &self.recent[index]
    }

    /// A member and an emoji with which the member doesn't react to this message yet, if both are found quickly.
    pub(crate) fn new_reaction(&self, rng: &mut Rng, recent: usize) -> Option<(usize, &'static str)> {
        let reactions = &self.recent[recent].reactions;
        let mut candidates = (0..ATTEMPTS).map(|_| (rng.below(self.members.len()), crate::texts::emoji(rng)));
        candidates.find(|candidate| reactions.len() < REACTIONS && !reactions.contains(candidate))
    }

    /// Whether enough messages are left to delete one.
    pub(crate) fn may_delete(&self) -> bool {
        self.recent.len() > RECENT_MESSAGES / 2
    }

    pub(crate) fn add_message(&mut self, sender: usize, sent: &MessageSent) {
        if self.recent.len() == RECENT_MESSAGES {
            self.recent.pop_front();
        }
        self.sent += 1;
        self.members[sender].read_seq = self.sent;
        self.recent.push_back(RecentMessage {
            id: sent.message_id,
            seq: self.sent,
            sender,
            has_attachments: !sent.attachments.is_empty(),
            reactions: Vec::new(),
        });
    }

    /// Moves a member's read mark to a recent message, or to the newest message.
    pub(crate) fn mark_read(&mut self, member: usize, message: Option<MessageId>) {
        let recent = self.recent.iter().find(|recent| Some(recent.id) == message);
        self.members[member].read_seq = recent.map_or(self.sent, |recent| recent.seq);
    }

    pub(crate) fn add_reaction(&mut self, recent: usize, reaction: (usize, &'static str)) {
        self.recent[recent].reactions.push(reaction);
    }

    pub(crate) fn remove_reaction(&mut self, recent: usize, reaction: usize) {
        self.recent[recent].reactions.remove(reaction);
    }

    pub(crate) fn forget_message(&mut self, recent: usize) {
        self.recent.remove(recent);
    }

    /// The facts for a command about this conversation and one of its recent messages. Of the participants, only those
    /// whom the text names matter.
    pub(crate) fn facts(&self, people: &[UserId], named: Vec<UserId>, message: Option<&RecentMessage>) -> Facts {
        let conversation = ConversationFacts { id: self.id, is_participant: true, participants: named };
        let message = message.map(|message| MessageFacts {
            id: message.id,
            conversation_id: self.id,
            sender_id: people[self.person(message.sender)].clone(),
            has_attachments: message.has_attachments,
            deleted_at: None,
            emoji: message.reactions.iter().map(|(_, emoji)| (*emoji).to_owned()).collect(),
        });
        Facts { conversation: Some(conversation), message }
    }
}

#[cfg(test)]
mod tests {
    use domain::event::MessageType;

    use super::*;

    #[test]
    fn a_conversation_remembers_a_few_messages_and_reactions_however_long_it_is() {
        let mut rng = Rng::new(1);
        let mut conversation = Conversation::new(ConversationId(rng.uuid()), &[0, 1, 2]);
        for _ in 0..1_000 {
            let sent = MessageSent {
                message_id: MessageId(rng.uuid()),
                content: "hi".to_owned(),
                message_type: MessageType::Text,
                attachments: Vec::new(),
                mentions: Vec::new(),
                reply_to_id: None,
            };
            conversation.add_message(conversation.writer(&mut rng), &sent);
            for _ in 0..20 {
                let recent = conversation.pick_recent(&mut rng);
                if let Some(reaction) = conversation.new_reaction(&mut rng, recent) {
                    conversation.add_reaction(recent, reaction);
                }
            }
        }
        assert_eq!((conversation.sent, conversation.recent.len()), (1_000, RECENT_MESSAGES));
        assert!(conversation.recent.iter().all(|message| message.reactions.len() <= REACTIONS));
    }
}
