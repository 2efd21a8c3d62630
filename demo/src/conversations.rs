//! All conversations of the community: who is in a new one, and in which one the next thing happens.

use std::collections::HashSet;
use std::ops::{Index, IndexMut};

use domain::event::ConversationKind;
use domain::limits;
use domain::seeded_rng::Rng;

use crate::conversation::Conversation;

/// In how many conversations people talk at the same time, besides the busiest.
const LIVELY: usize = 16;
/// How often to look for a pair of people without a direct conversation before beginning a group instead.
const PAIR_ATTEMPTS: usize = 8;

/// The first conversation is the busiest: it has a tenth of all messages, and as many people as a group may have.
pub(crate) struct Conversations {
    all: Vec<Conversation>,
    /// The people in an order that changes with each group.
    shuffled: Vec<usize>,
    /// The pairs that have a direct conversation, the lower index first.
    pairs: HashSet<(usize, usize)>,
    /// The indexes of the conversations in which people talk now.
    lively: [usize; LIVELY],
}

impl Index<usize> for Conversations {
    type Output = Conversation;

    fn index(&self, index: usize) -> &Conversation {
        &self.all[index]
    }
}

impl IndexMut<usize> for Conversations {
    fn index_mut(&mut self, index: usize) -> &mut Conversation {
        &mut self.all[index]
    }
}

impl Conversations {
    pub(crate) fn new(people: usize) -> Self {
        Self { all: Vec::new(), shuffled: (0..people).collect(), pairs: HashSet::new(), lively: [0; LIVELY] }
    }

    /// The people of the next conversation, by their indexes, the creator first.
    pub(crate) fn next_people(&mut self, rng: &mut Rng) -> (ConversationKind, Vec<usize>) {
        let most = self.shuffled.len().min(limits::MAX_PARTICIPANTS);
        if self.all.is_empty() {
            return (ConversationKind::Group, self.group(rng, most));
        }
        let pair = if rng.percent(60) { self.pair(rng) } else { None };
        if let Some((one, other)) = pair {
            return (ConversationKind::Direct, vec![one, other]);
        }
        // The size has a random number of bits, so small groups are as frequent as large ones are rare.
        let octaves = most.ilog2() as usize;
        let least = 2 << rng.below(octaves).min(rng.below(octaves));
        let size = (least + rng.below(least)).min(most);
        (ConversationKind::Group, self.group(rng, size))
    }

    /// Two people who have no direct conversation yet.
    fn pair(&mut self, rng: &mut Rng) -> Option<(usize, usize)> {
        let people = self.shuffled.len();
        for _ in 0..PAIR_ATTEMPTS {
            let (one, other) = (rng.below(people), rng.below(people));
            if one != other && self.pairs.insert((one.min(other), one.max(other))) {
                return Some((one, other));
            }
        }
        None
    }

    /// So many different people. Costs as much as the group is large, however many people there are.
    fn group(&mut self, rng: &mut Rng, size: usize) -> Vec<usize> {
        for index in 0..size {
            let other = index + rng.below(self.shuffled.len() - index);
            self.shuffled.swap(index, other);
        }
        self.shuffled[..size].to_vec()
    }

    pub(crate) fn push(&mut self, conversation: Conversation) {
        self.all.push(conversation);
    }

    /// The conversation in which the next thing happens, by its index.
    pub(crate) fn pick(&mut self, rng: &mut Rng) -> usize {
        if self.all.len() == 1 || rng.percent(10) {
            return 0;
        }
        let slot = rng.below(LIVELY);
        if self.lively[slot] == 0 || rng.percent(5) {
            let others = self.all.len() - 1;
            // Of three, the oldest: people write more in old conversations.
            let oldest = rng.below(others).min(rng.below(others)).min(rng.below(others));
            self.lively[slot] = 1 + oldest;
        }
        self.lively[slot]
    }

    /// Like [`Self::pick`], but one that has a message, as the first conversation always has.
    pub(crate) fn pick_with_messages(&mut self, rng: &mut Rng) -> usize {
        let picked = self.pick(rng);
        if self.all[picked].is_without_messages() { 0 } else { picked }
    }
}
