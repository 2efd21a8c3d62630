//! What a projector is and works with.

use cache::Cache;
use event_log::{Topic, TopicWatch};
use read_model::ReadModel;

use crate::folded_keys::FoldedKeys;
use crate::stalls::Stalls;

/// A projector: the topic that it folds, the read model and the cache that it keeps up to date, and its own name.
#[derive(Clone)]
pub struct Projector {
    /// The addresses of the Kafka brokers.
    pub brokers: String,
    /// The topic, as it was when the process started.
    pub topic: Topic,
    /// Notices when the topic is no longer what it was.
    pub topic_watch: TopicWatch,
    /// The read model that the projector folds into.
    pub read_model: ReadModel,
    /// The cache whose views the projector invalidates.
    pub cache: Cache,
    /// The name under which the projector owns leases. Unique to the process.
    pub owner: String,
    /// Which of its partitions make no progress.
    pub stalls: Stalls,
    /// What Redis needn't keep much longer.
    pub folded: FoldedKeys,
}
