//! Checking the fields of a request's body.

use domain::FieldError;
use serde_json::{Map, Value};
use service::problem::Problem;

/// Refuses a body with a field that isn't one of these.
///
/// # Errors
/// 422 `unknown_field`, for the first one.
pub(crate) fn ensure_known(body: &Map<String, Value>, fields: &[&str]) -> Result<(), Problem> {
    match body.keys().find(|name| !fields.contains(&name.as_str())) {
        Some(unknown) => Err(invalid(unknown, "unknown_field", "is not a field of this request")),
        None => Ok(()),
    }
}

/// 422 for a field.
pub(crate) fn invalid(field: &str, code: &'static str, detail: &str) -> Problem {
    Problem::invalid_body(vec![FieldError::new(field, code, detail)])
}
