//! Guards against a topic that isn't what it was, and against a read model that was folded from another log. Commands
//! would then be decided from the state of a different log, or their events would be lost, so the command API must append
//! nothing.

use std::time::Duration;

use domain::PositionVector;
use event_log::{LostRecords, Topic, TopicWatch};
use read_model::{FoldedTopic, ReadModel};
use tokio::sync::watch;
use uuid::Uuid;

const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Checks now, and then once a second until the last receiver is dropped. The receivers hold the reason why nothing may
/// be appended, if there is one. Without a read model the guard only checks that the topic is still what it was.
pub(super) async fn watch(
    topic: Topic,
    mut topic_watch: TopicWatch,
    read_model: Option<ReadModel>,
) -> watch::Receiver<Option<String>> {
    let (sender, receiver) = watch::channel(mismatch(&topic, &topic_watch, read_model.as_ref(), None).await);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(CHECK_INTERVAL) => {}
                () = topic_watch.changed() => {}
                () = sender.closed() => return,
            }
            let previous = sender.borrow().clone();
            sender.send_replace(mismatch(&topic, &topic_watch, read_model.as_ref(), previous).await);
        }
    });
    receiver
}

/// Why nothing may be appended; none if the topic is what it was and the read model belongs to it.
async fn mismatch(
    topic: &Topic,
    topic_watch: &TopicWatch,
    read_model: Option<&ReadModel>,
    previous: Option<String>,
) -> Option<String> {
    if let Some(change) = topic_watch.change() {
        return Some(change.to_string());
    }
    // Before the read model's offsets: they only grow, so what lies between the two is gone.
    let beginning = topic_watch.beginning().unwrap_or_default();
    match read_model?.folded_topic().await {
        Ok(folded) => folded_mismatch((&topic.name, topic.id, topic.partitions), folded.as_ref(), &beginning),
        // Postgres doesn't answer, so the last result stands.
        Err(_) => previous,
    }
}

/// Why the read model doesn't belong to a topic with this name, id and number of partitions, which begin at these
/// offsets; none if it does.
pub(crate) fn folded_mismatch(
    (name, id, partitions): (&str, Uuid, usize),
    folded: Option<&FoldedTopic>,
    beginning: &PositionVector,
) -> Option<String> {
    if folded.is_some_and(|folded| folded.id != id) {
        return Some(format!(
            "the read model was folded from another topic than the current {name}; if the current topic is right, run \
             messages rebuild --reset"
        ));
    }
    if let Some(folded) = folded
        && usize::try_from(folded.partitions) != Ok(partitions)
    {
        return Some(format!(
            "the read model was folded from {} partitions, and the topic {name} now has {partitions}: keys have moved. Copy its \
             records to a new topic with {0} partitions, set KAFKA_TOPIC, and run messages rebuild --reset",
            folded.partitions
        ));
    }
    let needed = folded.map(|folded| folded.next.clone()).unwrap_or_default();
    let lost = LostRecords::between(&needed, beginning)?;
    Some(format!(
        "the topic {name} no longer has records that the read model needs: {lost}. Restore them into a new topic, set \
         KAFKA_TOPIC, and run messages rebuild --reset"
    ))
}
