//! The content of a message: what is allowed in it, and whom it mentions.

use crate::ids::UserId;
use crate::limits;
use crate::rejection::FieldError;

/// Checks a content's characters and length; whether it may be empty depends on the attachments.
pub(crate) fn check(content: &str) -> Option<FieldError> {
    if content.chars().count() > limits::CONTENT_CHARS {
        let detail = format!("must be at most {} characters", limits::CONTENT_CHARS);
        return Some(FieldError::new("content", "too_long", detail));
    }
    if content.contains('\0') {
        return Some(FieldError::new("content", "control_character", "must not contain the character U+0000"));
    }
    None
}

/// Whether there is nothing to read in it.
pub(crate) fn is_blank(content: &str) -> bool {
    content.chars().all(char::is_whitespace)
}

pub(crate) fn blank_error() -> FieldError {
    FieldError::new("content", "empty", "must not be empty unless there are attachments")
}

/// Whether a content could mention anyone: only then are the participants needed.
pub(crate) fn may_mention(content: &str) -> bool {
    content.contains('@')
}

/// The participants whom `@userId` names, each once, in the order of the text. The longest id that fits
/// counts, whole: an `@` within it names nobody else. Neither the `@` nor the id's end may be inside a word.
pub(crate) fn mentions(content: &str, participants: &[UserId]) -> Vec<UserId> {
    let mut found: Vec<UserId> = Vec::new();
    let mut before: Option<char> = None;
    let mut end_of_last = 0;
    for (index, character) in content.char_indices() {
        let inside = before.is_some_and(is_word);
        before = Some(character);
        if character != '@' || inside || index < end_of_last {
            continue;
        }
        let rest = &content[index + 1..];
        let longest = participants
            .iter()
            .filter(|user| rest.starts_with(user.as_str()) && ends_at_boundary(rest, user.as_str().len()))
            .max_by_key(|user| user.as_str().len());
        let Some(user) = longest else { continue };
        end_of_last = index + 1 + user.as_str().len();
        if !found.contains(user) {
            found.push(user.clone());
        }
    }
    found
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn ends_at_boundary(rest: &str, end: usize) -> bool {
    let last = rest[..end].chars().next_back();
    let next = rest[end..].chars().next();
    !(last.is_some_and(is_word) && next.is_some_and(is_word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(content: &str, participants: &[&str]) -> Vec<String> {
        let participants: Vec<UserId> = participants.iter().map(|name| name.parse().unwrap()).collect();
        mentions(content, &participants).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_mention_may_stand_anywhere_but_inside_a_word() {
        for content in
            ["@bob", "hi @bob", "(@bob)", "@bob, hi", "@bob's", "@@bob", "\n@bob\n", "你好 @bob", "🎉@bob🎉", "@bob."]
        {
            assert_eq!(named(content, &["bob"]), ["bob"], "{content}");
        }
        for content in [
            "bob",
            "mail@bob",
            "_@bob",
            "1@bob",
            "é@bob",
            "你好@bob",
            "@bobby",
            "@bob_",
            "@bob2",
            "@bobé",
            "@ bob",
            "@Bob",
        ] {
            assert!(named(content, &["bob"]).is_empty(), "{content}");
        }
    }

    #[test]
    fn the_longest_id_that_fits_counts() {
        let all = ["ann", "ann-marie", "ann.", "a"];
        assert_eq!(named("@ann-marie", &all), ["ann-marie"]);
        assert_eq!(named("@ann-mari", &all), ["ann"]);
        assert_eq!(named("@ann.", &all), ["ann."]);
        assert_eq!(named("@ann!", &all), ["ann"]);
        assert!(named("@anna", &all).is_empty());
    }

    #[test]
    fn ids_with_an_at_sign_are_mentioned_whole() {
        let all = ["a.b@c", "c", "x-@c", "@home"];
        assert_eq!(named("@a.b@c", &all), ["a.b@c"]);
        assert_eq!(named("@a.b@c @c", &all), ["a.b@c", "c"]);
        assert_eq!(named("@x-@c", &all), ["x-@c"], "not also c");
        assert_eq!(named("@@home", &all), ["@home"]);
    }

    #[test]
    fn an_id_that_ends_in_punctuation_needs_no_space_after_it() {
        assert_eq!(named("@bob!hi", &["bob!"]), ["bob!"]);
        assert!(named("@bobhi!", &["bob"]).is_empty());
    }

    #[test]
    fn ids_of_any_script_are_mentioned() {
        assert_eq!(named("@zoë @用户, @Ωmega", &["zoë", "用户", "Ωmega", "zo"]), ["zoë", "用户", "Ωmega"]);
        assert!(named("@用户们", &["用户"]).is_empty(), "inside a word");
    }

    #[test]
    fn each_is_mentioned_once_in_the_order_of_the_text() {
        assert_eq!(named("@b @a @b @c@a", &["a", "b", "c"]), ["b", "a", "c"]);
    }

    #[test]
    fn white_space_of_any_kind_is_blank() {
        assert!(is_blank("") && is_blank(" \t\r\n\u{a0}\u{2003}\u{3000}"));
        assert!(!is_blank(" . "));
    }
}
