//! Why a command is refused.

use serde::Serialize;
use utoipa::ToSchema;

/// One thing that is wrong with a request, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// The field as a path, such as `attachments[0].url`; empty for the body as a whole.
    pub field: String,
    /// A stable code for programs.
    pub code: &'static str,
    /// A sentence for people.
    pub detail: String,
}

impl FieldError {
    /// An error of a field.
    pub fn new(field: impl Into<String>, code: &'static str, detail: impl Into<String>) -> Self {
        Self { field: field.into(), code, detail: detail.into() }
    }
}

/// Why a command that can be understood isn't done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// Something that it names isn't there, or isn't the caller's to see: the two look alike.
    NotFound(FieldError),
    /// The caller may see the message but didn't write it.
    NotAuthor,
    /// The message is deleted, and stays so.
    MessageDeleted,
    /// Fields are wrong.
    Invalid(Vec<FieldError>),
}

impl From<FieldError> for Rejection {
    fn from(error: FieldError) -> Self {
        Self::Invalid(vec![error])
    }
}
