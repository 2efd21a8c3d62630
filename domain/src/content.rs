//! The text of a message: which characters and lengths a command may send.

use crate::limits;
use crate::rejection::FieldError;

/// Checks the characters and the length of a content. Whether it may be blank depends on the message's attachments, so
/// the caller checks that.
pub(crate) fn check(content: &str) -> Option<FieldError> {
    if content.chars().count() > limits::MAX_CONTENT_CHARS {
        let detail = format!("must be at most {} characters", limits::MAX_CONTENT_CHARS);
        return Some(FieldError::new("content", "too_long", detail));
    }
    if content.contains('\0') {
        return Some(FieldError::new("content", "control_character", "must not contain the character U+0000"));
    }
    None
}

/// Whether a content consists of white space only.
pub(crate) fn is_blank(content: &str) -> bool {
    content.chars().all(char::is_whitespace)
}

/// The error for a blank content without attachments.
pub(crate) fn blank_error() -> FieldError {
    FieldError::new("content", "empty", "must not be empty unless the message has attachments")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_of_any_kind_is_blank() {
        assert!(is_blank("") && is_blank(" \t\r\n\u{a0}\u{2003}\u{3000}"));
        assert!(!is_blank(" . "));
    }
}
