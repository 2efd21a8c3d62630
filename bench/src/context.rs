//! What all phases of a run share, and what the run creates and deletes.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use event_log::{TopicSpec, ensure_topic};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use crate::failures::Failures;
use crate::floors::kafka;
use crate::options::Services;

/// A run. Its topics and schemas have names that begin with its id.
pub(crate) struct Context {
    pub(crate) services: Services,
    pub(crate) failures: Arc<Failures>,
    id: String,
    topics: Mutex<Vec<String>>,
}

impl Context {
    pub(crate) fn new(services: &Services) -> Self {
        let id = format!("bench_{}", Uuid::now_v7().simple());
        Self { services: services.clone(), failures: Arc::default(), id, topics: Mutex::default() }
    }

    /// Creates a topic for a process. Its name also serves as the process's schema and key prefix.
    ///
    /// # Errors
    /// When Kafka doesn't create it.
    pub(crate) async fn create_topic(&self, purpose: &str) -> anyhow::Result<String> {
        let name = format!("{}_{purpose}", self.id);
        self.topics.lock().unwrap_or_else(PoisonError::into_inner).push(name.clone());
        let spec = TopicSpec { name: name.clone(), partitions: kafka::PARTITIONS };
        ensure_topic(&self.services.kafka_brokers, &spec).await?;
        Ok(name)
    }

    /// Deletes all topics, and the schemas of the same names.
    ///
    /// # Errors
    /// When a service doesn't answer.
    pub(crate) async fn clean_up(&self) -> anyhow::Result<()> {
        let topics = std::mem::take(&mut *self.topics.lock().unwrap_or_else(PoisonError::into_inner));
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        kafka::delete_topics(&self.services.kafka_brokers, &names).await?;
        let mut postgres = PgConnection::connect(&self.services.database_url).await.context("DATABASE_URL")?;
        for name in names {
            let drop = format!("DROP SCHEMA IF EXISTS \"{name}\" CASCADE");
            sqlx::query(AssertSqlSafe(drop)).execute(&mut postgres).await?;
        }
        Ok(postgres.close().await?)
    }
}
