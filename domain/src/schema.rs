//! JSON Schema of every event type.
