//! The rows that a state demands: what the projector writes for it.

use domain::state::{AppliedEvent, State};
use domain::{ConversationId, Timestamp};
use serde::Serialize;
use time::OffsetDateTime;
use time::macros::format_description;
use uuid::Uuid;

use super::table::{DerivedRow, DerivedTable};
use crate::rows;
use crate::write::recency;

type Value = Option<String>;

fn text(value: impl ToString) -> Value {
    Some(value.to_string())
}

fn uuid(id: Uuid) -> Value {
    text(id.hyphenated())
}

/// A list as JSON. A list of ids or attachments always has a JSON form.
fn json(list: &impl Serialize) -> Value {
    serde_json::to_string(list).ok()
}

fn time(at: Timestamp) -> Value {
    moment(at.to_date_time())
}

/// A time as Postgres writes it: without the zeros at the end of the fraction. Its year before 1 is 1 BC.
fn moment(at: OffsetDateTime) -> Value {
    let (year, era) = if at.year() > 0 { (at.year(), "") } else { (1 - at.year(), " BC") };
    let day = at.format(format_description!("[month]-[day] [hour]:[minute]:[second]")).ok()?;
    let millis = if at.millisecond() == 0 { String::new() } else { format!(".{:03}", at.millisecond()) };
    Some(format!("{year:04}-{day}{}+00{era}", millis.trim_end_matches('0')))
}

/// Every row that a state demands, except those of the applied events, which a state doesn't have in full.
pub fn demanded_rows(state: &State) -> impl Iterator<Item = DerivedRow> {
    conversations(state).chain(members(state)).chain(messages(state)).chain(reactions(state))
}

fn conversations(state: &State) -> impl Iterator<Item = DerivedRow> {
    state.conversations.iter().map(|(id, it)| DerivedRow {
        table: DerivedTable::Conversations,
        values: vec![
            uuid(id.0),
            text(it.position.partition),
            Some(rows::enum_text(it.kind)),
            it.title.clone(),
            text(it.participant_count),
            time(it.created_at),
            time(it.updated_at),
            text(it.last_seq),
            it.last_message.and_then(|id| uuid(id.0)),
            text(it.position.offset),
        ],
    })
}

fn members(state: &State) -> impl Iterator<Item = DerivedRow> {
    state.members.iter().map(|((conversation, user), it)| {
        let recency = recency(state, *conversation);
        DerivedRow {
            table: DerivedTable::Members,
            values: vec![
                uuid(conversation.0),
                text(user),
                text(it.ordinal),
                text(it.last_read_seq),
                it.last_read_at.and_then(time),
                text(it.position.offset),
                recency.and_then(|(at, _)| moment(at)),
                text(it.position.partition),
                recency.and_then(|(_, changed)| text(changed)),
            ],
        }
    })
}

fn messages(state: &State) -> impl Iterator<Item = DerivedRow> {
    state.messages.iter().map(|((conversation, id), it)| DerivedRow {
        table: DerivedTable::Messages,
        values: vec![
            uuid(conversation.0),
            text(it.seq),
            uuid(id.0),
            text(&it.sender_id),
            it.content.clone(),
            Some(rows::enum_text(it.message_type)),
            json(&it.attachments),
            json(&it.mentions),
            it.reply_to_id.and_then(|id| uuid(id.0)),
            time(it.created_at),
            it.edited_at.and_then(time),
            it.deleted_at.and_then(time),
            text(it.position.offset),
        ],
    })
}

fn reactions(state: &State) -> impl Iterator<Item = DerivedRow> {
    state.messages.iter().flat_map(|((conversation, message), it)| {
        (0_i32..).zip(&it.reactions).map(|(ordinal, reaction)| DerivedRow {
            table: DerivedTable::Reactions,
            values: vec![
                uuid(conversation.0),
                uuid(message.0),
                text(ordinal),
                Some(reaction.emoji.clone()),
                reaction.label.clone(),
                json(&reaction.user_ids),
            ],
        })
    })
}

/// The row of an event that was folded.
pub fn demanded_applied(applied: &AppliedEvent) -> DerivedRow {
    let ConversationId(conversation) = applied.conversation_id;
    DerivedRow {
        table: DerivedTable::AppliedEvents,
        values: vec![
            uuid(conversation),
            uuid(applied.event_id.0),
            applied.key.as_ref().and_then(|(actor, _)| text(actor)),
            applied.key.as_ref().and_then(|(_, key)| text(key.as_str())),
            text(applied.position.partition),
            text(applied.position.offset),
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
            assert_eq!(time(at.parse().unwrap()).as_deref(), Some(written));
        }
    }
}
