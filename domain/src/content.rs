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

/// The error for a blank content without attachments.
pub(crate) fn blank_error() -> FieldError {
    FieldError::new("content", "empty", "must not be empty unless the message has attachments")
}
