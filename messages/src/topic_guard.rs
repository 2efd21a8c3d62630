//! Whether the topic and the read model belong together. Where they don't, a command would be decided by what another
//! log says: nothing is appended then.

use std::time::Duration;

use event_log::{Topic, TopicWatch};
use read_model::ReadModel;
use tokio::sync::watch;

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks at it once now and then once a second, until the last receiver is dropped: what is wrong, if something is.
/// Without a read model, only whether the topic is still the same.
pub(crate) async fn watch(
    topic: Topic,
    mut topic_watch: TopicWatch,
    read_model: Option<ReadModel>,
) -> watch::Receiver<Option<String>> {
    let (sender, receiver) = watch::channel(look(&topic, &topic_watch, read_model.as_ref(), None).await);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = topic_watch.changed() => {}
                () = sender.closed() => return,
            }
            let known = sender.borrow().clone();
            sender.send_replace(look(&topic, &topic_watch, read_model.as_ref(), known).await);
        }
    });
    receiver
}

async fn look(
    topic: &Topic,
    topic_watch: &TopicWatch,
    read_model: Option<&ReadModel>,
    known: Option<String>,
) -> Option<String> {
    if topic_watch.other().is_some() {
        return Some(format!(
            "the topic {} was deleted and made again; if that was meant, run messages rebuild --reset and start anew",
            topic.name
        ));
    }
    match read_model?.topic_id().await {
        Ok(Some(of)) if of != topic.id => Some(format!(
            "the read model was folded from another topic than the present {}; if that is right, run \
             messages rebuild --reset",
            topic.name
        )),
        Ok(_) => None,
        // Nobody knows; it is as it was.
        Err(_) => known,
    }
}
