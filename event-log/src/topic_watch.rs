//! Noticing that the topic is another one: deleted, and made again under the same name.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::AdminClient;
use rdkafka::error::KafkaError;
use tokio::sync::watch;
use uuid::Uuid;

use crate::client::{self, KafkaLogContext};
use crate::topic::Topic;
use crate::topic_id;

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whether a topic is still the one that it was. Copies share one look.
#[derive(Debug, Clone)]
pub struct TopicWatch(watch::Receiver<Option<Uuid>>);

impl TopicWatch {
    /// The id of the topic that has taken the name; none while there is no other, as far as was seen within a second
    /// or so.
    pub fn other(&self) -> Option<Uuid> {
        *self.0.borrow()
    }

    /// Waits until [`Self::other`] may give something else than it did.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // Nobody looks any more: the runtime ends.
            std::future::pending().await
        }
    }
}

impl Topic {
    /// Looks once a second whether the topic is still this one, until the last copy of what this gives is dropped.
    /// Needs a tokio runtime.
    ///
    /// # Errors
    /// When librdkafka refuses the settings.
    pub fn watch(&self, brokers: &str) -> Result<TopicWatch, KafkaError> {
        let admin: Arc<AdminClient<KafkaLogContext>> =
            Arc::new(client::config(brokers).create_with_context(KafkaLogContext)?);
        let (sender, receiver) = watch::channel(None);
        tokio::spawn(look(admin, self.clone(), sender));
        Ok(TopicWatch(receiver))
    }
}

async fn look(admin: Arc<AdminClient<KafkaLogContext>>, topic: Topic, sender: watch::Sender<Option<Uuid>>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = sender.closed() => return,
        }
        let (asked, name) = (admin.clone(), topic.name.clone());
        let found = client::blocking(move || topic_id::describe(&asked, &name)).await;
        // Where it isn't there, or nobody answers, nothing can be appended or read anyway.
        let Ok(Ok(found)) = found else { continue };
        let other = (found != topic.id).then_some(found);
        if sender.send_if_modified(|known| std::mem::replace(known, other) != other) && other.is_some() {
            tracing::error!(topic = topic.name, was = %topic.id, is = %found, "the topic was deleted and made again");
        }
    }
}
