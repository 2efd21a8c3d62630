//! The rows that a state demands: what the projector writes for it.

use std::borrow::Cow;

use domain::state::{AppliedEvent, State};
use domain::{ConversationId, Timestamp};
use serde::Serialize;
use time::OffsetDateTime;
use time::macros::format_description;
use uuid::Uuid;

use super::table::{DerivedRow, DerivedTable};
use crate::rows;
use crate::write::recency;

/// A value of a row that a state demands, by the type of its column in Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Null,
    Uuid(Uuid),
    Integer(i32),
    Bigint(i64),
    Text(Cow<'a, str>),
    /// The JSON of a `jsonb`.
    Json(String),
    /// A `timestamptz`.
    Time(OffsetDateTime),
}

impl Value<'_> {
    /// The text that Postgres makes of the value, except that JSON is compact; none for NULL.
    fn to_text(&self) -> Option<String> {
        match self {
            Self::Null => None,
            Self::Uuid(id) => Some(id.hyphenated().to_string()),
            Self::Integer(number) => Some(number.to_string()),
            Self::Bigint(number) => Some(number.to_string()),
            Self::Text(text) => Some(text.clone().into_owned()),
            Self::Json(json) => Some(json.clone()),
            Self::Time(at) => moment(*at),
        }
    }
}

/// A row that a state demands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DemandedRow<'a> {
    /// The table that has to have it.
    pub(crate) table: DerivedTable,
    /// A value for each of [`DerivedTable::columns`].
    pub(crate) values: Vec<Value<'a>>,
}

impl DemandedRow<'_> {
    /// The row as it is compared with those that Postgres has.
    pub fn to_derived(&self) -> DerivedRow {
        DerivedRow { table: self.table, values: self.values.iter().map(Value::to_text).collect() }
    }
}

fn or_null<'a, T>(value: Option<T>, some: impl FnOnce(T) -> Value<'a>) -> Value<'a> {
    value.map_or(Value::Null, some)
}

fn text(text: &str) -> Value<'_> {
    Value::Text(Cow::Borrowed(text))
}

fn owned_text<'a>(text: String) -> Value<'a> {
    Value::Text(Cow::Owned(text))
}

/// A list as JSON. A list of ids or attachments always has a JSON form.
fn json<'a>(list: &[impl Serialize]) -> Value<'a> {
    if list.is_empty() {
        return Value::Json("[]".to_owned());
    }
    serde_json::to_string(list).map_or(Value::Null, Value::Json)
}

fn time<'a>(at: Timestamp) -> Value<'a> {
    Value::Time(at.to_date_time())
}

/// A time as Postgres writes it: without the zeros at the end of the fraction. Its year before 1 is 1 BC.
fn moment(at: OffsetDateTime) -> Option<String> {
    let (year, era) = if at.year() > 0 { (at.year(), "") } else { (1 - at.year(), " BC") };
    let day = at.format(format_description!("[month]-[day] [hour]:[minute]:[second]")).ok()?;
    let millis = if at.millisecond() == 0 { String::new() } else { format!(".{:03}", at.millisecond()) };
    Some(format!("{year:04}-{day}{}+00{era}", millis.trim_end_matches('0')))
}

/// Every row that a state demands, except those of the applied events, which a state doesn't have in full.
pub fn demanded_rows(state: &State) -> impl Iterator<Item = DemandedRow<'_>> {
    conversations(state).chain(members(state)).chain(messages(state)).chain(reactions(state))
}

fn conversations(state: &State) -> impl Iterator<Item = DemandedRow<'_>> {
    state.conversations.iter().map(|(id, it)| DemandedRow {
        table: DerivedTable::Conversations,
        values: vec![
            Value::Uuid(id.0),
            Value::Integer(it.position.partition),
            owned_text(rows::enum_text(it.kind)),
            or_null(it.title.as_deref(), text),
            Value::Bigint(it.participant_count),
            time(it.created_at),
            time(it.updated_at),
            Value::Bigint(it.last_seq),
            or_null(it.last_message, |id| Value::Uuid(id.0)),
            Value::Bigint(it.position.offset),
        ],
    })
}

fn members(state: &State) -> impl Iterator<Item = DemandedRow<'_>> {
    state.members.iter().map(|((conversation, user), it)| {
        let recency = recency(state, *conversation);
        DemandedRow {
            table: DerivedTable::Members,
            values: vec![
                Value::Uuid(conversation.0),
                text(user.as_str()),
                Value::Integer(it.ordinal),
                Value::Bigint(it.last_read_seq),
                or_null(it.last_read_at, time),
                Value::Bigint(it.position.offset),
                or_null(recency, |(at, _)| Value::Time(at)),
                Value::Integer(it.position.partition),
                or_null(recency, |(_, changed)| Value::Bigint(changed)),
            ],
        }
    })
}

fn messages(state: &State) -> impl Iterator<Item = DemandedRow<'_>> {
    state.messages.iter().map(|((conversation, id), it)| DemandedRow {
        table: DerivedTable::Messages,
        values: vec![
            Value::Uuid(conversation.0),
            Value::Bigint(it.seq),
            Value::Uuid(id.0),
            text(it.sender_id.as_str()),
            or_null(it.content.as_deref(), text),
            owned_text(rows::enum_text(it.message_type)),
            json(&it.attachments),
            json(&it.mentions),
            or_null(it.reply_to_id, |id| Value::Uuid(id.0)),
            time(it.created_at),
            or_null(it.edited_at, time),
            or_null(it.deleted_at, time),
            Value::Bigint(it.position.offset),
        ],
    })
}

fn reactions(state: &State) -> impl Iterator<Item = DemandedRow<'_>> {
    state.messages.iter().flat_map(|((conversation, message), it)| {
        (0_i32..).zip(&it.reactions).map(|(ordinal, reaction)| DemandedRow {
            table: DerivedTable::Reactions,
            values: vec![
                Value::Uuid(conversation.0),
                Value::Uuid(message.0),
                Value::Integer(ordinal),
                text(&reaction.emoji),
                or_null(reaction.label.as_deref(), text),
                json(&reaction.user_ids),
            ],
        })
    })
}

/// The row of an event that was folded.
pub fn demanded_applied(applied: &AppliedEvent) -> DemandedRow<'_> {
    let ConversationId(conversation) = applied.conversation_id;
    let key = applied.key.as_ref();
    DemandedRow {
        table: DerivedTable::AppliedEvents,
        values: vec![
            Value::Uuid(conversation),
            Value::Uuid(applied.event_id.0),
            or_null(key, |(actor, _)| text(actor.as_str())),
            or_null(key, |(_, key)| text(key.as_str())),
            Value::Integer(applied.position.partition),
            Value::Bigint(applied.position.offset),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_postgres_writes_it() {
        for (at, written) in [
            ("2026-11-23T09:00:00.120Z", "2026-11-23 09:00:00.12+00"),
            ("2026-11-23T09:00:00Z", "2026-11-23 09:00:00+00"),
            ("2026-11-23T09:00:00.003Z", "2026-11-23 09:00:00.003+00"),
            ("0999-12-31T23:59:59.999Z", "0999-12-31 23:59:59.999+00"),
            ("0000-01-01T00:00:00Z", "0001-01-01 00:00:00+00 BC"),
        ] {
            assert_eq!(time(at.parse().unwrap()).to_text().as_deref(), Some(written));
        }
    }
}
