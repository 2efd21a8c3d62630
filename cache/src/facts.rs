//! Who is in a conversation. That never changes, so what is here is right whenever it is here: in Redis, and in the
//! process, where no Redis is needed to know it.

use std::collections::HashSet;
use std::sync::Arc;

use domain::{ConversationId, UserId};
use quick_cache::Weighter;

use crate::connection::{Cache, CacheError};
use crate::keys;

/// Everyone in a conversation.
pub type Participants = HashSet<UserId>;

/// What the process may hold of them, in bytes.
const HELD_BYTES: u64 = 64 << 20;
/// About what a participant costs beside the name.
const ENTRY_BYTES: usize = 64;
/// How many conversations of a usual size are expected to fit.
const EXPECTED: usize = 100_000;

/// The participants of the conversations that this process had to do with lately.
pub(crate) type Held = quick_cache::sync::Cache<ConversationId, Arc<Participants>, Bytes>;

/// Weighs by what is held.
#[derive(Clone)]
pub(crate) struct Bytes;

impl Weighter<ConversationId, Arc<Participants>> for Bytes {
    fn weight(&self, _: &ConversationId, users: &Arc<Participants>) -> u64 {
        users.iter().map(|user| user.as_str().len() + ENTRY_BYTES).sum::<usize>() as u64
    }
}

pub(crate) fn held() -> Held {
    Held::with_weighter(EXPECTED, HELD_BYTES, Bytes)
}

impl Cache {
    /// Whether a user is in a conversation; none when that isn't known here.
    ///
    /// # Errors
    /// When Redis has to be asked and doesn't answer.
    pub async fn is_participant(
        &self,
        conversation: ConversationId,
        user: &UserId,
    ) -> Result<Option<bool>, CacheError> {
        Ok(self.participants(conversation).await?.map(|users| users.contains(user)))
    }

    /// Everyone in a conversation; none when that isn't known here.
    ///
    /// # Errors
    /// When Redis has to be asked and doesn't answer.
    pub async fn participants(&self, conversation: ConversationId) -> Result<Option<Arc<Participants>>, CacheError> {
        if let Some(users) = self.held().get(&conversation) {
            return Ok(Some(users));
        }
        let mut members = redis::cmd("SMEMBERS");
        members.arg(self.keys().participants(conversation));
        let names: Vec<String> = members.query_async(&mut self.connection()).await?;
        let users: Participants = names.iter().filter_map(|name| name.parse().ok()).collect();
        Ok((!users.is_empty()).then(|| self.hold(conversation, users)))
    }

    /// Stores who is in a conversation, whole.
    ///
    /// # Errors
    /// When Redis doesn't answer; the process knows them all the same.
    pub async fn fill_participants(&self, conversation: ConversationId, users: &[UserId]) -> Result<(), CacheError> {
        self.hold(conversation, users.iter().cloned().collect());
        let key = self.keys().participants(conversation);
        let names: Vec<&str> = users.iter().map(UserId::as_str).collect();
        let mut fill = redis::pipe();
        // At once, so that nobody ever sees a part of them.
        fill.atomic().sadd(&key, names).ignore();
        fill.expire(&key, keys::seconds(keys::PARTICIPANTS_TTL)).ignore();
        Ok(fill.query_async(&mut self.connection()).await?)
    }

    fn hold(&self, conversation: ConversationId, users: Participants) -> Arc<Participants> {
        let users = Arc::new(users);
        self.held().insert(conversation, users.clone());
        users
    }
}
