//! Mentions: the participants whom a message's text names as `@userId`. A text must never mention somebody outside the
//! conversation, and looking for mentions must never cost the length of the text times the number of participants.

use crate::limits;

/// Whether a text can mention anyone. Only then must the participants be loaded.
pub(crate) fn may_mention(text: &str) -> bool {
    text.contains('@')
}

/// The participants whom `@userId` names, each once, in the order of the text. Where the text names more than a message
/// may mention, only one more than that.
///
/// Of several ids that fit after an `@`, the longest counts. An `@` inside that id mentions nobody else. Neither the
/// `@` nor the id's end may be inside a word.
pub(crate) fn mentioned_users<'a, I: AsRef<str>>(text: &str, participants: &'a [I]) -> Vec<&'a I> {
    let mut mentioned: Vec<&I> = Vec::new();
    if !may_mention(text) {
        return mentioned;
    }
    let index = PrefixIndex::new(participants);
    let mut previous: Option<char> = None;
    let mut end_of_last_mention = 0;
    for (at, character) in text.char_indices() {
        let is_inside_word = previous.is_some_and(is_word_character);
        previous = Some(character);
        if character != '@' || is_inside_word || at < end_of_last_mention {
            continue;
        }
        let Some(user) = index.longest_id_at_start(&text[at + 1..]) else { continue };
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

    /// The longest id with which a text begins, and which doesn't end inside a word of it.
    fn longest_id_at_start(&self, text: &str) -> Option<&'a I> {
        let after = self.sorted.partition_point(|id| id.as_ref() <= text);
        let last = after.checked_sub(1)?;
        // Every id with which the text begins stands at or before `last`, which begins with it, too.
        let shared = shared_bytes(self.sorted[last].as_ref(), text);
        let mut candidate = Some(last);
        while let Some(at) = candidate {
            let length = self.sorted[at].as_ref().len();
            if length <= shared && is_word_boundary(text, length) {
                return Some(self.sorted[at]);
            }
            candidate = self.prefixes[at];
        }
        None
    }
}

/// How many bytes two texts have in common at their starts.
fn shared_bytes(one: &str, other: &str) -> usize {
    one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count()
}

fn is_word_character(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Whether no word spans this byte index of a text.
fn is_word_boundary(text: &str, index: usize) -> bool {
    let before = text[..index].chars().next_back();
    let after = text[index..].chars().next();
    !(before.is_some_and(is_word_character) && after.is_some_and(is_word_character))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    fn mentioned<'a>(text: &str, participants: &'a [&'a str]) -> Vec<&'a str> {
        mentioned_users(text, participants).into_iter().copied().collect()
    }

    /// What the documentation of [`mentioned_users`] says, word for word, at any cost.
    fn expected_mentions<'a>(text: &str, participants: &'a [String]) -> Vec<&'a str> {
        let in_word = |letter: Option<&char>| letter.is_some_and(|letter| letter.is_alphanumeric() || *letter == '_');
        let text: Vec<char> = text.chars().collect();
        let (mut expected, mut at) = (Vec::new(), 0);
        while at < text.len() {
            let is_start = text[at] == '@' && !(at > 0 && in_word(text.get(at - 1)));
            at += 1;
            let fits = |id: &&String| {
                let id: Vec<char> = id.chars().collect();
                let end = at + id.len();
                text[at..].starts_with(&id) && !(in_word(text.get(end - 1)) && in_word(text.get(end)))
            };
            let longest = participants.iter().filter(fits).max_by_key(|id| id.len());
            let Some(longest) = longest.filter(|_| is_start) else { continue };
            at += longest.chars().count();
            if !expected.contains(&longest.as_str()) {
                expected.push(longest.as_str());
            }
        }
        expected.truncate(limits::MAX_MENTIONS + 1);
        expected
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn a_text_mentions_whom_the_rules_say(
            text in "[@@@ab.é用_ ]{0,24}",
            participants in prop::collection::hash_set("[@ab.é用_]{1,5}", 0..40),
        ) {
            let participants: Vec<String> = participants.into_iter().collect();
            let found: Vec<&str> = mentioned_users(&text, &participants).into_iter().map(String::as_str).collect();
            prop_assert_eq!(found, expected_mentions(&text, &participants));
        }
    }

    /// A user id that counts how often somebody reads it.
    struct CountedId<'a> {
        id: String,
        reads: &'a Cell<usize>,
    }

    impl AsRef<str> for CountedId<'_> {
        fn as_ref(&self) -> &str {
            self.reads.set(self.reads.get() + 1);
            &self.id
        }
    }

    #[test]
    fn four_thousand_at_signs_in_a_group_of_a_thousand_cost_no_four_million_comparisons() {
        let numbered: Vec<String> = (0..limits::MAX_PARTICIPANTS).map(|number| format!("user-{number}")).collect();
        let nested: Vec<String> = (1..limits::MAX_USER_ID_CHARS).map(|length| "@".repeat(length) + "!").collect();
        let at_signs = "@".repeat(limits::MAX_CONTENT_CHARS);
        let mentions = "@user-7 ".repeat(limits::MAX_CONTENT_CHARS / 8);
        for (ids, text) in [(&numbered, &at_signs), (&numbered, &mentions), (&nested, &at_signs)] {
            let reads = Cell::new(0);
            let participants: Vec<CountedId<'_>> =
                ids.iter().map(|id| CountedId { id: id.clone(), reads: &reads }).collect();
            mentioned_users(text, &participants);
            let most = 20 * (limits::MAX_CONTENT_CHARS + limits::MAX_PARTICIPANTS);
            assert!(reads.get() <= most, "{} reads of user ids, more than {most}", reads.get());
        }
    }

    #[test]
    fn a_mention_may_stand_anywhere_but_inside_a_word() {
        let outside_words =
            ["@bob", "hi @bob", "(@bob)", "@bob, hi", "@bob's", "@@bob", "\n@bob\n", "你好 @bob", "🎉@bob🎉", "@bob."];
        for text in outside_words {
            assert_eq!(mentioned(text, &["bob"]), ["bob"], "{text}");
        }
        let inside_words = ["mail@bob", "_@bob", "1@bob", "é@bob", "你好@bob", "@bobby", "@bob_", "@bob2", "@bobé"];
        let other_texts = ["bob", "@ bob", "@Bob"];
        for text in inside_words.iter().chain(&other_texts) {
            assert!(mentioned(text, &["bob"]).is_empty(), "{text}");
        }
    }

    #[test]
    fn the_longest_id_that_fits_is_mentioned() {
        let participants = ["ann", "ann-marie", "ann.", "a"];
        assert_eq!(mentioned("@ann-marie", &participants), ["ann-marie"]);
        assert_eq!(mentioned("@ann-mari", &participants), ["ann"]);
        assert_eq!(mentioned("@ann.", &participants), ["ann."]);
        assert_eq!(mentioned("@ann!", &participants), ["ann"]);
        assert!(mentioned("@anna", &participants).is_empty());
    }

    #[test]
    fn an_at_sign_inside_a_mentioned_id_mentions_nobody_else() {
        let participants = ["a.b@c", "c", "x-@c", "@home"];
        assert_eq!(mentioned("@a.b@c", &participants), ["a.b@c"]);
        assert_eq!(mentioned("@a.b@c @c", &participants), ["a.b@c", "c"]);
        assert_eq!(mentioned("@x-@c", &participants), ["x-@c"], "c is not mentioned");
        assert_eq!(mentioned("@@home", &participants), ["@home"]);
    }

    #[test]
    fn an_id_that_ends_in_punctuation_needs_no_space_after_it() {
        assert_eq!(mentioned("@bob!hi", &["bob!"]), ["bob!"]);
        assert!(mentioned("@bobhi!", &["bob"]).is_empty());
    }

    #[test]
    fn ids_of_any_script_are_mentioned() {
        assert_eq!(mentioned("@zoë @用户, @Ωmega", &["zoë", "用户", "Ωmega", "zo"]), ["zoë", "用户", "Ωmega"]);
        assert!(mentioned("@用户们", &["用户"]).is_empty(), "the id ends inside a word");
    }

    #[test]
    fn each_participant_is_mentioned_once_in_the_order_of_the_text() {
        assert_eq!(mentioned("@b @a @b @c@a", &["a", "b", "c"]), ["b", "a", "c"]);
    }
}
