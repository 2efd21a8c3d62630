//! Why a command is refused. A rejection must never reveal whether something exists that the caller may not see.

use serde::Serialize;
use utoipa::ToSchema;

/// An error in one field of the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// The path of the field, such as `attachments[0].url`. Empty for the body as a whole.
    pub field: String,
    /// A stable code for programs.
    pub code: &'static str,
    /// An explanation for people.
    pub detail: String,
}

impl FieldError {
    /// An error of the field at this path.
    pub fn new(field: impl Into<String>, code: &'static str, detail: impl Into<String>) -> Self {
        Self { field: field.into(), code, detail: detail.into() }
    }
}

/// Why a well-formed command is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// The command names something that doesn't exist, or that the caller may not see. The caller can't tell which.
    NotFound(FieldError),
    /// The caller may see the message, but didn't write it.
    NotAuthor,
    /// The message is deleted, which is permanent.
    MessageDeleted,
    /// Some fields are invalid.
    Invalid(Vec<FieldError>),
}

impl From<FieldError> for Rejection {
    fn from(error: FieldError) -> Self {
        Self::Invalid(vec![error])
    }
}
