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
/// counts, and neither the `@` nor the id's end may be inside a word.
pub(crate) fn mentions(content: &str, participants: &[UserId]) -> Vec<UserId> {
    let mut found: Vec<UserId> = Vec::new();
    let mut before: Option<char> = None;
    for (index, character) in content.char_indices() {
        let inside = before.is_some_and(is_word);
        before = Some(character);
        if character != '@' || inside {
            continue;
        }
        let rest = &content[index + 1..];
        let longest = participants
            .iter()
            .filter(|user| rest.starts_with(user.as_str()) && ends_at_boundary(rest, user.as_str().len()))
            .max_by_key(|user| user.as_str().len());
        if let Some(user) = longest
            && !found.contains(user)
        {
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
