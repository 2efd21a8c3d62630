//! Mentions: the participants whom a message's text names as `@userId`. A text must never mention somebody outside the
//! conversation, and looking for mentions must never cost the length of the text times the number of participants.

use std::ops::Range;

use addresses::{addresses, continues_as_address};
use borders::WordBorders;
use code::code;

use crate::limits;

mod addresses;
mod borders;
mod code;

/// Whether a text can mention anyone. Only then must the participants be loaded.
pub(crate) fn may_mention(text: &str) -> bool {
    text.contains('@')
}

/// The participants whom `@userId` names, each once, in the order of the text. Where the text names more than a message
/// may mention, only one more than that.
///
/// Of several ids that fit after an `@`, the longest counts. An `@` inside that id mentions nobody else. Neither the
/// `@` nor the id's end may be inside a word ([`WordBorders`]), and the `@` may be neither in code ([`code`]) nor in an
/// address ([`addresses`]).
pub(crate) fn mentioned_users<'a, I: AsRef<str>>(text: &str, participants: &'a [I]) -> Vec<&'a I> {
    let mut mentioned: Vec<&I> = Vec::new();
    if !may_mention(text) {
        return mentioned;
    }
    let index = PrefixIndex::new(participants);
    let borders = WordBorders::new(text);
    let (code, addresses) = (code(text), addresses(text));
    let mut end_of_last_mention = 0;
    for (at, _) in text.match_indices('@') {
        if at < end_of_last_mention || borders.is_inside_word(at) || is_in(&code, at) || is_in(&addresses, at) {
            continue;
        }
        let is_end = |end: usize| borders.is_end(end) && !continues_as_address(&text[end..]);
        let Some(user) = index.longest_id_at(text, at + 1, is_end) else { continue };
        let id = user.as_ref();
        end_of_last_mention = at + 1 + id.len();
        if mentioned.iter().all(|other| other.as_ref() != id) {
            mentioned.push(user);
            if mentioned.len() > limits::MAX_MENTIONS {
                break;
            }
        }
    }
    mentioned
}

/// Whether one of these parts of a text, which are in order, has this index.
fn is_in(parts: &[Range<usize>], at: usize) -> bool {
    parts.get(parts.partition_point(|part| part.end <= at)).is_some_and(|part| part.start <= at)
}

/// Finds the ids with which a text begins, by a binary search among all.
struct PrefixIndex<'a, I> {
    /// In byte order: an id stands before all ids that begin with it.
    sorted: Vec<&'a I>,
    /// For each id, where the longest other id with which it begins stands.
    prefixes: Vec<Option<usize>>,
}

impl<'a, I: AsRef<str>> PrefixIndex<'a, I> {
    fn new(ids: &'a [I]) -> Self {
        let mut sorted: Vec<&I> = ids.iter().collect();
        sorted.sort_unstable_by(|one, other| one.as_ref().cmp(other.as_ref()));
        let mut prefixes: Vec<Option<usize>> = Vec::with_capacity(sorted.len());
        for (at, id) in sorted.iter().enumerate() {
            // An id's prefixes are the id before it or that one's own prefixes.
            let mut candidate = at.checked_sub(1);
            while let Some(prefix) = candidate
                && !id.as_ref().starts_with(sorted[prefix].as_ref())
            {
                candidate = prefixes[prefix];
            }
            prefixes.push(candidate);
        }
        Self { sorted, prefixes }
    }

    /// The longest id that stands at this index of a text, and at whose end `is_end` holds.
    fn longest_id_at(&self, text: &str, at: usize, is_end: impl Fn(usize) -> bool) -> Option<&'a I> {
        let rest = &text[at..];
        let after = self.sorted.partition_point(|id| id.as_ref() <= rest);
        let last = after.checked_sub(1)?;
        // Every id with which the rest begins stands at or before `last`, which begins with it, too.
        let shared = shared_bytes(self.sorted[last].as_ref(), rest);
        let mut candidate = Some(last);
        while let Some(index) = candidate {
            let length = self.sorted[index].as_ref().len();
            if length <= shared && is_end(at + length) {
                return Some(self.sorted[index]);
            }
            candidate = self.prefixes[index];
        }
        None
    }
}

/// How many bytes two texts have in common at their starts.
fn shared_bytes(one: &str, other: &str) -> usize {
    one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count()
}

#[cfg(test)]
mod tests;
