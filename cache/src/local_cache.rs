//! The participants of conversations that this process used lately, within a bounded number of bytes.

use std::collections::HashSet;
use std::sync::Arc;

use domain::{ConversationId, UserId};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

/// All participants of a conversation.
pub type Participants = HashSet<UserId>;

/// How many bytes of participants the process may keep.
const MAX_BYTES: u64 = 64 << 20;
/// About how many bytes a participant costs besides the user id.
const PARTICIPANT_BYTES: usize = 64;
/// About how many bytes a conversation costs besides its participants.
const CONVERSATION_BYTES: usize = 192;
/// How many conversations of a usual size fit.
const EXPECTED: usize = 100_000;
/// How many parts with a lock of their own the cache has. With more, a part would be too small for a large conversation.
const SHARDS: usize = 16;

type Lifecycle = quick_cache::sync::DefaultLifecycle<ConversationId, Arc<Participants>>;

domain::limit_rows! {
    Memory, "participants of conversations", Bytes MAX_BYTES, "the process asks Redis again for the least used ones", "memory";
}

/// Participants by conversation.
pub(crate) struct LocalCache(
    quick_cache::sync::Cache<ConversationId, Arc<Participants>, ByteWeigher, DefaultHashBuilder, Lifecycle>,
);

/// Weighs an entry by its bytes.
#[derive(Clone)]
struct ByteWeigher;

impl Weighter<ConversationId, Arc<Participants>> for ByteWeigher {
    fn weight(&self, _: &ConversationId, users: &Arc<Participants>) -> u64 {
        let participants: usize = users.iter().map(|user| user.as_str().len() + PARTICIPANT_BYTES).sum();
        (CONVERSATION_BYTES + participants) as u64
    }
}

impl LocalCache {
    pub(crate) fn new() -> Self {
        let mut options = OptionsBuilder::new();
        options.shards(SHARDS).estimated_items_capacity(EXPECTED).weight_capacity(MAX_BYTES);
        let (hash_builder, lifecycle) = (DefaultHashBuilder::default(), Lifecycle::default());
        Self(match options.build() {
            Ok(options) => quick_cache::sync::Cache::with_options(options, ByteWeigher, hash_builder, lifecycle),
            // Only without a capacity, which has been set.
            Err(_) => quick_cache::sync::Cache::with(EXPECTED, MAX_BYTES, ByteWeigher, hash_builder, lifecycle),
        })
    }

    pub(crate) fn get(&self, conversation: ConversationId) -> Option<Arc<Participants>> {
        self.0.get(&conversation)
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.0.clear();
    }

    pub(crate) fn insert(&self, conversation: ConversationId, users: Arc<Participants>) {
        self.0.insert(conversation, users);
        metrics::gauge!("local_cache_entries", "cache" => "participants").set(self.0.len() as f64);
        metrics::gauge!("local_cache_bytes", "cache" => "participants").set(self.0.weight() as f64);
    }
}

#[cfg(test)]
mod tests {
    use domain::limits;
    use uuid::Uuid;

    use super::*;

    fn conversation(number: u128) -> ConversationId {
        ConversationId(Uuid::from_u128(number))
    }

    #[test]
    fn participants_are_kept_within_the_bytes_also_of_the_largest_conversations() {
        let longest = "é".repeat(limits::MAX_USER_ID_CHARS - 4);
        let users = (0..limits::MAX_PARTICIPANTS).map(|number| format!("{number:04}{longest}").parse().unwrap());
        let users: Arc<Participants> = Arc::new(users.collect());
        let cache = LocalCache::new();
        for number in 0..1_000 {
            cache.insert(conversation(number), users.clone());
            assert!(cache.get(conversation(number)).is_some(), "conversation {number} isn't kept");
            assert!(cache.0.weight() <= MAX_BYTES);
        }
        assert!(cache.0.len() >= 100, "{} large conversations fit", cache.0.len());
    }
}
