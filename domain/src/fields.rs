//! Reads the fields of a JSON object one by one. It reports every wrong or unknown field, not just the first.

use std::str::FromStr;

use serde_json::{Map, Value};

use crate::ids::UserId;
use crate::rejection::FieldError;
use crate::text;

/// A JSON object whose fields the caller takes one by one. [`Fields::finish`] reports the fields that nobody took.
///
/// The methods that read a field return `None` when the field is absent or wrong. They push an error when it is wrong.
pub(crate) struct Fields {
    /// The path of the object within the body; empty for the body itself.
    path: String,
    /// The fields that nobody has taken yet.
    remaining: Map<String, Value>,
    pub(crate) errors: Vec<FieldError>,
}

impl Fields {
    pub(crate) fn new(path: impl Into<String>, object: Map<String, Value>) -> Self {
        Self { path: path.into(), remaining: object, errors: Vec::new() }
    }

    /// The path of a field as errors show it.
    pub(crate) fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Pushes an error of a field.
    pub(crate) fn push_error(&mut self, name: &str, code: &'static str, detail: impl Into<String>) {
        let path = self.path(name);
        self.errors.push(FieldError::new(path, code, detail));
    }

    /// Takes a field of any type. Null counts as absent.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.remaining.remove(name).filter(|value| !value.is_null())
    }

    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        match self.take(name)? {
            Value::String(text) => Some(text),
            _ => {
                self.push_error(name, "wrong_type", "must be a string");
                None
            }
        }
    }

    /// Whether a field is present. If it isn't, pushes an error.
    pub(crate) fn require(&mut self, name: &str) -> bool {
        let is_present = self.remaining.get(name).is_some_and(|value| !value.is_null());
        if !is_present {
            self.remaining.remove(name);
            self.push_error(name, "required", "is required");
        }
        is_present
    }

    pub(crate) fn required_text(&mut self, name: &str) -> Option<String> {
        if self.require(name) { self.text(name) } else { None }
    }

    /// A text of one line: something to see, at most `max_chars`, no character that [`text::is_control`] names.
    pub(crate) fn line(&mut self, name: &str, max_chars: usize) -> Option<String> {
        let text = self.text(name)?;
        self.check_line(name, text, max_chars)
    }

    pub(crate) fn required_line(&mut self, name: &str, max_chars: usize) -> Option<String> {
        let text = self.required_text(name)?;
        self.check_line(name, text, max_chars)
    }

    fn check_line(&mut self, name: &str, text: String, max_chars: usize) -> Option<String> {
        if text::is_blank(&text) {
            self.push_error(name, "empty", "must not be empty");
        } else if text.chars().count() > max_chars {
            self.push_error(name, "too_long", format!("must be at most {max_chars} characters"));
        } else if text.chars().any(text::is_control) {
            self.push_error(
                name,
                "control_character",
                "must not contain control characters, line breaks, or characters that change the direction of text",
            );
        } else {
            return Some(text);
        }
        None
    }

    pub(crate) fn id<T: FromStr>(&mut self, name: &str) -> Option<T>
    where
        T::Err: std::fmt::Display,
    {
        let text = self.text(name)?;
        self.parse_id(name, &text)
    }

    pub(crate) fn required_id<T: FromStr>(&mut self, name: &str) -> Option<T>
    where
        T::Err: std::fmt::Display,
    {
        let text = self.required_text(name)?;
        self.parse_id(name, &text)
    }

    fn parse_id<T: FromStr>(&mut self, name: &str, text: &str) -> Option<T>
    where
        T::Err: std::fmt::Display,
    {
        text.parse().map_err(|error: T::Err| self.push_error(name, "invalid_id", error.to_string())).ok()
    }

    /// A text that is one of these words. Each word comes with its value.
    pub(crate) fn one_of<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(name)?;
        let value = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if value.is_none() {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.push_error(name, "invalid_value", format!("must be one of {}", words.join(", ")));
        }
        value
    }

    pub(crate) fn list(&mut self, name: &str, max_items: usize) -> Option<Vec<Value>> {
        match self.take(name)? {
            Value::Array(items) if items.len() <= max_items => Some(items),
            Value::Array(_) => {
                self.push_error(name, "too_many", format!("must have at most {max_items} items"));
                None
            }
            _ => {
                self.push_error(name, "wrong_type", "must be an array");
                None
            }
        }
    }

    /// A list of user ids, each once, in the order of their first occurrence. Leaves wrong items out.
    pub(crate) fn user_ids(&mut self, name: &str, max_items: usize) -> Option<Vec<UserId>> {
        let mut user_ids: Vec<UserId> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for (index, item) in self.list(name, max_items)?.into_iter().enumerate() {
            let field = format!("{name}[{index}]");
            let Value::String(text) = item else {
                self.push_error(&field, "wrong_type", "must be a string");
                continue;
            };
            if let Some(user_id) = self.parse_id::<UserId>(&field, &text)
                && seen.insert(user_id.clone())
            {
                user_ids.push(user_id);
            }
        }
        Some(user_ids)
    }

    /// Pushes an error for each field that nobody took. Returns all errors.
    pub(crate) fn finish(mut self) -> Vec<FieldError> {
        let unknown: Vec<String> = self.remaining.keys().cloned().collect();
        for name in unknown {
            self.push_error(&name, "unknown_field", "is not a field of this request");
        }
        self.errors
    }
}
