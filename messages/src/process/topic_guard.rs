//! Guards against a read model that was folded from another topic. Commands would then be decided from the state of a
//! different log, so the command API must append nothing.

use std::time::Duration;

use event_log::{Topic, TopicWatch};
use read_model::ReadModel;
use tokio::sync::watch;

const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Checks now, and then once a second until the last receiver is dropped. The receivers hold the reason why nothing may
/// be appended, if there is one. Without a read model the guard only checks that the topic is still the same.
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

/// Why the topic and the read model don't belong together; none if they do.
async fn mismatch(
    topic: &Topic,
    topic_watch: &TopicWatch,
    read_model: Option<&ReadModel>,
    previous: Option<String>,
) -> Option<String> {
    if topic_watch.replacement().is_some() {
        return Some(format!(
            "the topic {} was deleted and created again; if that was intended, run messages rebuild --reset and \
             restart all processes",
            topic.name
        ));
    }
    match read_model?.topic_id().await {
        Ok(Some(folded)) if folded != topic.id => Some(format!(
            "the read model was folded from another topic than the current {}; if the current topic is right, run \
             messages rebuild --reset",
            topic.name
        )),
        Ok(_) => None,
        // Postgres doesn't answer, so the last result stands.
        Err(_) => previous,
    }
}
