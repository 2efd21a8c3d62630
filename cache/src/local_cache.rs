//! The participants of conversations that this process used lately, within a bounded number of bytes.

use std::collections::HashSet;
use std::sync::Arc;

use domain::{ConversationId, UserId};
use quick_cache::Weighter;

/// All participants of a conversation.
pub type Participants = HashSet<UserId>;

/// How many bytes of participants the process may keep.
const MAX_BYTES: u64 = 64 << 20;
/// About how many bytes a participant costs besides the user id.
const ENTRY_BYTES: usize = 64;
/// How many conversations of a usual size fit.
const EXPECTED: usize = 100_000;

/// Participants by conversation.
pub(crate) type LocalCache = quick_cache::sync::Cache<ConversationId, Arc<Participants>, ByteWeigher>;

/// Weighs an entry by its bytes.
#[derive(Clone)]
pub(crate) struct ByteWeigher;

impl Weighter<ConversationId, Arc<Participants>> for ByteWeigher {
    fn weight(&self, _: &ConversationId, users: &Arc<Participants>) -> u64 {
        users.iter().map(|user| user.as_str().len() + ENTRY_BYTES).sum::<usize>() as u64
    }
}

pub(crate) fn new() -> LocalCache {
    LocalCache::with_weighter(EXPECTED, MAX_BYTES, ByteWeigher)
}
