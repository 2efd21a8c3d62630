//! Whether the log still has everything that a new read model needs, where it needs it.

use domain::PositionVector;
use event_log::{LogConsumer, LostRecords};
use read_model::FoldedTopic;

use crate::projector::Projector;

/// Checks that a log still has all records from the beginning on.
///
/// # Errors
/// When it doesn't: a read model that is folded from it would lack what they did.
pub(crate) async fn ensure_complete(log: &LogConsumer) -> anyhow::Result<()> {
    let beginning = log.beginning_offsets().await?;
    match LostRecords::between(&PositionVector::default(), &beginning) {
        None => Ok(()),
        Some(lost) => anyhow::bail!(
            "the log no longer has its first records, so a read model that is folded from it would lack what they did: \
             {lost}. Nothing was changed; restore the records into a new topic and set KAFKA_TOPIC, or keep the read \
             model"
        ),
    }
}

/// Checks that the log is complete, if the read model is empty.
///
/// # Errors
/// As [`ensure_complete`].
pub(crate) async fn ensure_complete_for_empty(projector: &Projector, log: &LogConsumer) -> anyhow::Result<()> {
    match projector.read_model.folded_topic().await? {
        Some(_) => Ok(()),
        None => ensure_complete(log).await,
    }
}

/// Checks that a topic still has the partitions that the read model was folded from.
///
/// # Errors
/// When it has others: the same key is then on two of them, and what is on the wrong one can't be folded.
pub(crate) fn ensure_same_partitions(name: &str, partitions: usize, folded: &FoldedTopic) -> anyhow::Result<()> {
    if usize::try_from(folded.partitions) != Ok(partitions) {
        anyhow::bail!(
            "the topic {name} has {partitions} partitions now and had {0}: keys have moved. Nothing was changed; copy its \
             records to a new topic with {0} partitions and set KAFKA_TOPIC",
            folded.partitions
        );
    }
    Ok(())
}
