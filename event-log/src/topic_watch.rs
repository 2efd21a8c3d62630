//! Watches whether the topic is what it was when the process started. Where a promise of the log is broken, a process
//! must append nothing: Kafka could delete the events, or nobody would read them.

use std::sync::Arc;
use std::time::Duration;

use domain::PositionVector;
use rdkafka::Offset;
use tokio::sync::watch;
use uuid::Uuid;

use crate::client::{self, Admin, KafkaContext};
use crate::error::LogError;
use crate::lookup::{LogLookup, Records};
use crate::lost_records::LostRecords;
use crate::topic::{self, RECORD_SIZE_SETTING, Topic, TopicSetting};
use crate::topic_id::{self, TopicIdentity};

/// The pause between two looks at the topic.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Every how many looks the settings are read, too.
const LOOKS_PER_SETTINGS: u32 = 3;

/// A change of the topic that breaks a promise of the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicChange {
    /// Another topic has taken the name. Its offsets mean other events.
    #[error(
        "the topic {topic} was deleted and created again; if that was intended, run messages rebuild --reset and \
         restart all processes"
    )]
    Replaced {
        /// The topic's name.
        topic: String,
        /// The id of the other topic.
        id: Uuid,
    },
    /// The topic has another number of partitions. A key no longer says on which partition its events are.
    #[error(
        "the topic {topic} had {expected} partitions and now has {found}; Kafka can't take partitions away, so copy its \
         records to a new topic with {expected} partitions, set KAFKA_TOPIC, and run messages rebuild --reset"
    )]
    Repartitioned {
        /// The topic's name.
        topic: String,
        /// The number of partitions at the start of the process.
        expected: usize,
        /// The present number.
        found: usize,
    },
    /// Records that the topic had when the process started are gone.
    #[error(
        "the topic {topic} loses records: {lost} while this process ran; find out what deletes them, and restart all \
         processes to go on with the rest"
    )]
    RecordsLost {
        /// The topic's name.
        topic: String,
        /// The records that are gone.
        lost: LostRecords,
    },
    /// A setting has another value than a log of record needs.
    #[error("the topic {topic} has {}={}, but needs {}; set it with kafka-configs --alter", setting.name, setting.found, setting.wanted)]
    Misconfigured {
        /// The topic's name.
        topic: String,
        /// Its present and its needed value.
        setting: TopicSetting,
    },
}

impl TopicChange {
    /// Whether records of the topic may mean something else than they did: nobody may fold them.
    pub fn forbids_folding(&self) -> bool {
        matches!(self, Self::Replaced { .. } | Self::Repartitioned { .. })
    }
}

/// What is known of the topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct TopicState {
    change: Option<TopicChange>,
    /// The oldest offset of each partition; none before the first look.
    beginning: Option<PositionVector>,
}

/// Reports changes of a topic. Clones share one background task.
#[derive(Debug, Clone)]
pub struct TopicWatch(watch::Receiver<TopicState>);

impl TopicWatch {
    /// Looks at the topic once a second in the background, until the last clone is dropped. Needs a tokio runtime.
    ///
    /// # Errors
    /// When librdkafka refuses the settings.
    pub fn start(brokers: &str, topic: Topic) -> Result<Self, LogError> {
        let admin: Admin = Arc::new(client::config(brokers).create_with_context(KafkaContext::default())?);
        let lookup = Arc::new(LogLookup::new(brokers, &topic.name, Records::Acknowledged)?);
        let (sender, receiver) = watch::channel(TopicState::default());
        tokio::spawn(Watcher { admin, lookup, topic, first_beginning: None, wrong_setting: None }.run(sender));
        Ok(Self(receiver))
    }

    /// The change that breaks a promise of the log, known within seconds. None while the topic is what it was, as far
    /// as is known.
    pub fn change(&self) -> Option<TopicChange> {
        self.0.borrow().change.clone()
    }

    /// The oldest offset of every partition at the last look; none before the first.
    pub fn beginning(&self) -> Option<PositionVector> {
        self.0.borrow().beginning.clone()
    }

    /// Waits until something may have changed.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // The background task has ended, because the runtime shuts down.
            std::future::pending().await
        }
    }
}

/// Looks at a topic again and again.
struct Watcher {
    admin: Admin,
    lookup: Arc<LogLookup>,
    /// The topic as it was when the process started.
    topic: Topic,
    first_beginning: Option<PositionVector>,
    wrong_setting: Option<TopicSetting>,
}

impl Watcher {
    async fn run(mut self, sender: watch::Sender<TopicState>) {
        let mut interval = tokio::time::interval(POLL_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for look in 0_u32.. {
            tokio::select! {
                _ = interval.tick() => {}
                () = sender.closed() => return,
            }
            // Where the topic is missing or no broker answers, nobody can append or read either.
            let Some(state) = self.look(look.is_multiple_of(LOOKS_PER_SETTINGS)).await else { continue };
            if sender.borrow().change != state.change {
                match &state.change {
                    Some(change) => tracing::error!(%change, "the topic changed; this process appends nothing to it"),
                    None => tracing::info!(topic = self.topic.name, "the topic is again what it was"),
                }
            }
            sender.send_if_modified(|known| {
                let is_new = *known != state;
                *known = state;
                is_new
            });
        }
    }

    /// The present state of the topic. None if Kafka doesn't answer.
    async fn look(&mut self, with_settings: bool) -> Option<TopicState> {
        let name = self.topic.name.clone();
        let TopicIdentity { id, partitions } = topic_id::identify(self.admin.clone(), name.clone()).await.ok()?;
        if id != self.topic.id {
            let change = Some(TopicChange::Replaced { topic: name, id });
            return Some(TopicState { change, beginning: None });
        }
        if partitions != self.topic.partitions {
            let change = TopicChange::Repartitioned { topic: name, expected: self.topic.partitions, found: partitions };
            return Some(TopicState { change: Some(change), beginning: None });
        }
        let beginning = self.lookup.clone().offsets(Offset::Beginning).await.ok()?;
        if with_settings && let Ok(settings) = topic::settings(&self.admin, &name).await {
            let mut settings = topic::compare_settings(&settings).into_iter();
            // The other events still fit: the producer refuses those that don't, one by one.
            self.wrong_setting = settings.find(|setting| !setting.is_right && setting.name != RECORD_SIZE_SETTING);
        }
        let first = self.first_beginning.get_or_insert_with(|| beginning.clone());
        let change = match (LostRecords::between(first, &beginning), self.wrong_setting.clone()) {
            (Some(lost), _) => Some(TopicChange::RecordsLost { topic: name, lost }),
            (None, Some(setting)) => Some(TopicChange::Misconfigured { topic: name, setting }),
            (None, None) => None,
        };
        Some(TopicState { change, beginning: Some(beginning) })
    }
}
