//! Exporting the whole read model as a `State`, to compare it with a fold of the log. No request may use it: it holds
//! everything in memory.

use domain::state::State;
use domain::{ConversationId, EventId};
use sqlx::Row;

use crate::connection::ReadModel;
use crate::error::ReadModelError;
use crate::load;
use crate::rows::{self, MessageRow};

impl ReadModel {
    /// Reads the whole read model from one snapshot. For comparisons and tests: it holds everything in memory.
    pub async fn export_state(&self) -> Result<State, ReadModelError> {
        let (mut transaction, _) = self.snapshot("whole_state").await?;
        let mut state = State::default();
        for row in sqlx::query("SELECT * FROM conversations").fetch_all(&mut transaction).await? {
            let (id, conversation) = load::conversation(&row)?;
            state.conversations.insert(id, conversation);
        }
        for row in sqlx::query("SELECT * FROM members").fetch_all(&mut transaction).await? {
            let key = (ConversationId(row.try_get("conversation_id")?), rows::user(&row, "user_id")?);
            state.members.insert(key, load::member(&row)?);
        }
        let messages =
            "SELECT messages.*, partition FROM messages JOIN conversations ON conversations.id = conversation_id";
        for row in sqlx::query(messages).fetch_all(&mut transaction).await? {
            let conversation = ConversationId(row.try_get("conversation_id")?);
            let message_row = MessageRow::read(&row)?;
            let key = (conversation, message_row.id);
            state.messages.insert(key, load::message(message_row, row.try_get("partition")?));
        }
        let reactions = "SELECT * FROM reactions ORDER BY conversation_id, message_id, ordinal";
        let reactions = sqlx::query(reactions).fetch_all(&mut transaction).await?;
        load::add_reactions(&reactions, &mut state.messages)?;
        for row in sqlx::query("SELECT * FROM applied_events").fetch_all(&mut transaction).await? {
            let conversation = ConversationId(row.try_get("conversation_id")?);
            state.applied.insert((conversation, EventId(row.try_get("event_id")?)));
            if let Some(key) = row.try_get::<Option<&str>, _>("idempotency_key")? {
                let key = key.parse().map_err(|error: domain::ids::IdError| sqlx::Error::Decode(Box::new(error)))?;
                state.keys.insert((conversation, rows::user(&row, "actor_id")?, key));
            }
        }
        transaction.commit().await?;
        Ok(state)
    }
}
