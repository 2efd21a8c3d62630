//! Records as rows of CSV (RFC 4180), with the same columns for every type of event.

use std::io::Write;

use domain::Event;
use domain::event::{EventData, MessageSent};
use serde::Serialize;

use crate::replayed_record::{ContentChoice, ReplayedRecord};

/// A row. A cell without a value is empty. Lists are JSON arrays.
#[derive(Serialize, Default)]
pub(crate) struct CsvRow {
    partition: i32,
    offset: i64,
    logged_at: String,
    occurred_at: String,
    #[serde(rename = "type")]
    event_type: &'static str,
    event_id: String,
    conversation_id: String,
    actor_id: String,
    message_id: String,
    content: String,
    message_type: String,
    attachments: String,
    mentions: String,
    reply_to_id: String,
    conversation_type: String,
    title: String,
    participant_ids: String,
    emoji: String,
    label: String,
    user_id: String,
    idempotency_key: String,
    request_hash: String,
    error: String,
    key: String,
    value: String,
}

impl CsvRow {
    fn new(record: &ReplayedRecord, content: ContentChoice) -> serde_json::Result<Self> {
        let mut row = Self {
            partition: record.position.partition,
            offset: record.position.offset,
            logged_at: record.logged_at.map(|time| time.to_string()).unwrap_or_default(),
            ..Self::default()
        };
        match &record.event {
            Ok(event) => row.add_event(event)?,
            Err(reason) => {
                content.reason(reason).clone_into(&mut row.error);
                row.key = String::from_utf8_lossy(&record.key).into_owned();
                row.value = String::from_utf8_lossy(&record.value).into_owned();
            }
        }
        if content == ContentChoice::LeftOut {
            let fields = [
                &mut row.content,
                &mut row.attachments,
                &mut row.title,
                &mut row.label,
                &mut row.request_hash,
                &mut row.key,
                &mut row.value,
            ];
            fields.into_iter().for_each(String::clear);
        }
        Ok(row)
    }

    fn add_event(&mut self, event: &Event) -> serde_json::Result<()> {
        self.occurred_at = event.occurred_at.to_string();
        self.event_type = event.data.type_name();
        self.event_id = event.event_id.to_string();
        self.conversation_id = event.conversation_id.to_string();
        self.actor_id = event.actor_id.to_string();
        self.message_id = event.data.message_id().map(|id| id.to_string()).unwrap_or_default();
        if let Some(request) = &event.request {
            self.idempotency_key = request.key.to_string();
            self.request_hash.clone_from(&request.hash);
        }
        match &event.data {
            EventData::ConversationCreated { kind, title, participant_ids } => {
                self.conversation_type = word(kind)?;
                self.title = title.clone().unwrap_or_default();
                self.participant_ids = serde_json::to_string(participant_ids)?;
            }
            EventData::MessageSent(sent) => self.add_message(sent)?,
            EventData::MessageEdited { content, mentions, .. } => {
                self.content.clone_from(content);
                self.mentions = serde_json::to_string(mentions)?;
            }
            EventData::ReactionAdded { emoji, label, .. } => {
                self.emoji.clone_from(emoji);
                self.label = label.clone().unwrap_or_default();
            }
            EventData::ReactionRemoved { emoji, .. } => self.emoji.clone_from(emoji),
            EventData::MentionNotification { user_id, .. } => self.user_id = user_id.to_string(),
            EventData::MessageDeleted { .. }
            | EventData::MessagesRead { .. }
            | EventData::TypingStart {}
            | EventData::TypingStop {} => {}
        }
        Ok(())
    }

    fn add_message(&mut self, sent: &MessageSent) -> serde_json::Result<()> {
        self.content.clone_from(&sent.content);
        self.message_type = word(&sent.message_type)?;
        self.attachments = serde_json::to_string(&sent.attachments)?;
        self.mentions = serde_json::to_string(&sent.mentions)?;
        self.reply_to_id = sent.reply_to_id.map(|id| id.to_string()).unwrap_or_default();
        Ok(())
    }
}

/// The word that stands for a value in events.
fn word(value: &impl Serialize) -> serde_json::Result<String> {
    Ok(serde_json::to_value(value)?.as_str().unwrap_or_default().to_owned())
}

/// Writes a record as a row. The writer must write no names of columns.
pub(crate) fn write<W: Write>(
    record: &ReplayedRecord,
    content: ContentChoice,
    out: &mut csv::Writer<W>,
) -> csv::Result<()> {
    let row = CsvRow::new(record, content).map_err(std::io::Error::from)?;
    out.serialize(row)
}

/// The line with the names of the columns.
pub(crate) fn head() -> csv::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.serialize(CsvRow::default())?;
    let mut bytes = writer.into_inner().map_err(|error| error.into_error())?;
    let end = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    bytes.truncate(end);
    Ok(bytes)
}
