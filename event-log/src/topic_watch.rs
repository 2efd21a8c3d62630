//! Notices when somebody deletes the topic and creates another under the same name. A process must neither append to
//! nor fold the new topic: its offsets mean other events.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::KafkaError;
use tokio::sync::watch;
use uuid::Uuid;

use crate::client::{self, Admin, KafkaContext};
use crate::topic_id;

/// The pause between two requests for the topic's id.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Reports whether another topic has taken the name of a topic. Clones share one background task.
#[derive(Debug, Clone)]
pub struct TopicWatch(watch::Receiver<Option<Uuid>>);

impl TopicWatch {
    /// Asks once a second for the id of the topic of this name in the background, until the last clone is dropped.
    /// Needs a tokio runtime.
    pub(crate) fn start(brokers: &str, topic: String, id: Uuid) -> Result<Self, KafkaError> {
        let admin: Admin = Arc::new(client::config(brokers).create_with_context(KafkaContext::default())?);
        let (sender, receiver) = watch::channel(None);
        tokio::spawn(poll(admin, topic, id, sender));
        Ok(Self(receiver))
    }

    /// The id of the topic that has replaced this one, known within a second or so. None while the topic is the same,
    /// as far as is known.
    pub fn replacement(&self) -> Option<Uuid> {
        *self.0.borrow()
    }

    /// Waits until [`Self::replacement`] may have changed.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // The background task has ended, because the runtime shuts down.
            std::future::pending().await
        }
    }
}

async fn poll(admin: Admin, topic: String, expected_id: Uuid, sender: watch::Sender<Option<Uuid>>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(POLL_INTERVAL) => {}
            () = sender.closed() => return,
        }
        // Where the topic is missing or no broker answers, nobody can append or read either.
        let Ok(found_id) = topic_id::topic_id(admin.clone(), topic.clone()).await else { continue };
        let replacement = (found_id != expected_id).then_some(found_id);
        let changed = sender.send_if_modified(|known| std::mem::replace(known, replacement) != replacement);
        if changed && replacement.is_some() {
            tracing::error!(
                topic,
                %expected_id,
                %found_id,
                "the topic was deleted and created again; this process neither appends to it nor folds it"
            );
        }
    }
}
