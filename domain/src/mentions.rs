//! Mentions: the participants whom a message's text names as `@userId`. A text must never mention somebody outside the
//! conversation.

use crate::ids::UserId;

/// Whether a text can mention anyone. Only then must the participants be loaded.
pub(crate) fn may_mention(text: &str) -> bool {
    text.contains('@')
}

/// The participants whom `@userId` names, each once, in the order of the text.
///
/// Of several ids that fit after an `@`, the longest counts. An `@` inside that id mentions nobody else. Neither the
/// `@` nor the id's end may be inside a word.
pub(crate) fn mentioned_users(text: &str, participants: &[UserId]) -> Vec<UserId> {
    let mut mentioned: Vec<UserId> = Vec::new();
    let mut previous: Option<char> = None;
    let mut end_of_last_mention = 0;
    for (index, character) in text.char_indices() {
        let is_inside_word = previous.is_some_and(is_word_character);
        previous = Some(character);
        if character != '@' || is_inside_word || index < end_of_last_mention {
            continue;
        }
        let rest = &text[index + 1..];
        let longest = participants
            .iter()
            .filter(|user| rest.starts_with(user.as_str()) && is_word_boundary(rest, user.as_str().len()))
            .max_by_key(|user| user.as_str().len());
        let Some(user) = longest else { continue };
        end_of_last_mention = index + 1 + user.as_str().len();
        if !mentioned.contains(user) {
            mentioned.push(user.clone());
        }
    }
    mentioned
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
    use super::*;

    fn mentioned(text: &str, participants: &[&str]) -> Vec<String> {
        let participants: Vec<UserId> = participants.iter().map(|name| name.parse().unwrap()).collect();
        mentioned_users(text, &participants).iter().map(ToString::to_string).collect()
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
