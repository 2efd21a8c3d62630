//! Reading the fields of a JSON object, so that every error is found and named at once.

use std::str::FromStr;

use serde_json::{Map, Value};

use crate::ids::UserId;
use crate::rejection::FieldError;

/// An object whose fields are taken one by one. What is left over at the end is unknown.
pub(crate) struct Fields {
    path: String,
    left: Map<String, Value>,
    pub(crate) errors: Vec<FieldError>,
}

impl Fields {
    pub(crate) fn new(path: impl Into<String>, object: Map<String, Value>) -> Self {
        Self { path: path.into(), left: object, errors: Vec::new() }
    }

    /// The path of a field as errors name it.
    pub(crate) fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    pub(crate) fn fail(&mut self, name: &str, code: &'static str, detail: impl Into<String>) {
        let path = self.path(name);
        self.errors.push(FieldError::new(path, code, detail));
    }

    /// Takes a field; null counts as absent.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.left.remove(name).filter(|value| !value.is_null())
    }

    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        match self.take(name)? {
            Value::String(text) => Some(text),
            _ => {
                self.fail(name, "wrong_type", "must be a string");
                None
            }
        }
    }

    /// Whether a field is there, which is an error otherwise.
    pub(crate) fn require(&mut self, name: &str) -> bool {
        let there = self.left.get(name).is_some_and(|value| !value.is_null());
        if !there {
            self.left.remove(name);
            self.fail(name, "required", "is required");
        }
        there
    }

    pub(crate) fn required_text(&mut self, name: &str) -> Option<String> {
        if self.require(name) { self.text(name) } else { None }
    }

    /// A short text of one line: at least one visible character, at most `max`, no control characters.
    pub(crate) fn line(&mut self, name: &str, max: usize) -> Option<String> {
        let text = self.text(name)?;
        self.check_line(name, text, max)
    }

    pub(crate) fn required_line(&mut self, name: &str, max: usize) -> Option<String> {
        let text = self.required_text(name)?;
        self.check_line(name, text, max)
    }

    fn check_line(&mut self, name: &str, text: String, max: usize) -> Option<String> {
        if text.trim().is_empty() {
            self.fail(name, "empty", "must not be empty");
        } else if text.chars().count() > max {
            self.fail(name, "too_long", format!("must be at most {max} characters"));
        } else if text.chars().any(char::is_control) {
            self.fail(name, "control_character", "must not contain control characters");
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
        self.parse(name, &text)
    }

    pub(crate) fn required_id<T: FromStr>(&mut self, name: &str) -> Option<T>
    where
        T::Err: std::fmt::Display,
    {
        let text = self.required_text(name)?;
        self.parse(name, &text)
    }

    fn parse<T: FromStr>(&mut self, name: &str, text: &str) -> Option<T>
    where
        T::Err: std::fmt::Display,
    {
        text.parse().map_err(|error: T::Err| self.fail(name, "invalid_id", error.to_string())).ok()
    }

    /// One of a few words.
    pub(crate) fn word<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(name)?;
        let known = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if known.is_none() {
            let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.fail(name, "invalid_value", format!("must be one of {}", all.join(", ")));
        }
        known
    }

    /// A list; `None` when absent or no list.
    pub(crate) fn list(&mut self, name: &str, max: usize) -> Option<Vec<Value>> {
        match self.take(name)? {
            Value::Array(items) if items.len() <= max => Some(items),
            Value::Array(_) => {
                self.fail(name, "too_many", format!("must have at most {max} items"));
                None
            }
            _ => {
                self.fail(name, "wrong_type", "must be an array");
                None
            }
        }
    }

    /// A list of user ids, each once, in the order of their first mention.
    pub(crate) fn users(&mut self, name: &str, max: usize) -> Option<Vec<UserId>> {
        let mut users: Vec<UserId> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for (index, item) in self.list(name, max)?.into_iter().enumerate() {
            let field = format!("{name}[{index}]");
            let Value::String(text) = item else {
                self.fail(&field, "wrong_type", "must be a string");
                continue;
            };
            if let Some(user) = self.parse::<UserId>(&field, &text)
                && seen.insert(user.clone())
            {
                users.push(user);
            }
        }
        Some(users)
    }

    /// Names what nobody took. Returns every error found.
    pub(crate) fn finish(mut self) -> Vec<FieldError> {
        let unknown: Vec<String> = self.left.keys().cloned().collect();
        for name in unknown {
            self.fail(&name, "unknown_field", "is not a field of this request");
        }
        self.errors
    }
}
