//! What the services of a process share, and how each service is built from it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use admin_api::AdminApi;
use anyhow::Context;
use cache::{Cache, Progress};
use command_api::{CommandApi, Limits};
use event_log::{Destination, LogConsumer, Producer, Topic, TopicError, TopicWatch};
use projector::{FoldedKeys, JobRunner, Projector, Stalls};
use query_api::QueryApi;
use read_model::ReadModel;
use read_path::PositionWait;
use realtime::Realtime;
use service::auth::Auth;
use service::config::{Config, LimitConfig};
use service::health::Health;
use service::token::PositionTokens;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::cache_connections::connect_cache;
use super::limits::limits_in_force;
use super::roles::Roles;
use super::topic_guard;
use super::topics::{Topics, ensure_topics};
use super::wait_for_services::wait_for;

/// The configuration, secrets and connections of a process.
pub(super) struct SharedResources {
    pub(super) config: Config,
    pub(super) auth: Auth,
    pub(super) topic: Topic,
    typing_topic: Option<Destination>,
    topic_watch: TopicWatch,
    /// Why nothing may be appended; none while the topic and the read model belong together.
    pub(super) topic_guard: watch::Receiver<Option<String>>,
    tokens: PositionTokens,
    pub(super) read_model: ReadModel,
    pub(super) cache: Cache,
    pub(super) progress: Progress,
    /// Commands and queries share it.
    wait: PositionWait,
    /// The partitions of this process's projector that make no progress.
    pub(super) stalls: Stalls,
    /// The address that the process will listen on.
    pub(super) address: SocketAddr,
}

impl SharedResources {
    /// Waits for Kafka and ensures the topics. Postgres and Redis need not answer yet.
    ///
    /// # Errors
    /// When Kafka doesn't answer for a minute, or the configuration is wrong.
    pub(super) async fn connect(config: &Config, roles: Roles, address: SocketAddr) -> anyhow::Result<Self> {
        let secret = config.secret()?;
        let is_worth_retrying = |error: &TopicError| !matches!(error, TopicError::Misconfigured { .. });
        let topics = wait_for("Kafka", || ensure_topics(config), is_worth_retrying).await?;
        let Topics { log: topic, typing: typing_topic } = topics;
        let read_model = ReadModel::connect(&config.database_url, &config.database_schema, config.database_connections)
            .context("DATABASE_URL")?;
        if roles.need_postgres() {
            read_model.ensure_usable().await.context("DATABASE_URL")?;
        }
        let cache = connect_cache(config)?;
        let progress = Progress::follow(cache.clone());
        let topic_watch = TopicWatch::start(&config.kafka_brokers, topic.clone())?;
        let guarded = roles.need_postgres().then(|| read_model.clone());
        let topic_guard = topic_guard::watch(topic.clone(), topic_watch.clone(), guarded).await;
        Ok(Self {
            auth: config.auth()?,
            tokens: PositionTokens::new(secret, topic.id, topic.partitions),
            topic_watch,
            topic_guard,
            topic,
            typing_topic,
            wait: PositionWait::new(progress.clone(), read_model.clone()),
            read_model,
            progress,
            cache,
            stalls: Stalls::default(),
            address,
            config: config.clone(),
        })
    }

    pub(super) fn consumer(&self, topic: &str, name: &'static str) -> LogConsumer {
        LogConsumer::new(&self.config.kafka_brokers, topic, name)
    }

    /// A projector with connections of its own.
    pub(super) fn projector(&self) -> anyhow::Result<Projector> {
        let config = &self.config;
        Ok(Projector {
            brokers: self.config.kafka_brokers.clone(),
            topic: self.topic.clone(),
            topic_watch: self.topic_watch.clone(),
            read_model: ReadModel::connect_projector(&config.database_url, &config.database_schema)?,
            cache: self.cache.clone(),
            owner: Uuid::now_v7().to_string(),
            stalls: self.stalls.clone(),
            folded: FoldedKeys::default(),
        })
    }

    /// What works on jobs in the projector's process, under the projector's name.
    pub(super) fn job_runner(&self, projector: &Projector) -> JobRunner {
        JobRunner {
            brokers: projector.brokers.clone(),
            topic: self.topic.clone(),
            read_model: self.read_model.clone(),
            cache: self.cache.clone(),
            name: projector.owner.clone(),
        }
    }

    /// A producer that has connected to the brokers: the first command needn't wait for that.
    pub(super) async fn producer(&self) -> anyhow::Result<Producer> {
        let typing_topic = self.typing_topic.clone();
        let producer = Producer::new(&self.config.kafka_brokers, (&self.topic).into(), typing_topic)?;
        producer.warm_up().await.context("Kafka")?;
        Ok(producer)
    }

    pub(super) fn command_api(&self, producer: Producer) -> CommandApi {
        CommandApi::new(command_api::Parts {
            auth: self.auth.clone(),
            tokens: self.tokens.clone(),
            producer,
            log: Arc::new(self.consumer(&self.topic.name, "command-api")),
            partitions: self.topic.partitions,
            cache: self.cache.clone(),
            wait: self.wait.clone(),
            read_model: self.read_model.clone(),
            limits: limits(&self.config.limits),
            append_block: self.topic_guard.clone(),
        })
    }

    pub(super) fn query_api(&self) -> QueryApi {
        QueryApi::new(query_api::Parts {
            auth: self.auth.clone(),
            tokens: self.tokens.clone(),
            cache: self.cache.clone(),
            wait: self.wait.clone(),
            read_model: self.read_model.clone(),
            partitions: self.topic.partitions,
            log: Arc::new(self.consumer(&self.topic.name, "query-api")),
            queries_per_window: self.config.limits.limit_queries,
            window: window(&self.config.limits),
        })
    }

    pub(super) fn admin_api(&self, roles: Roles, health: Health, shutdown: CancellationToken) -> AdminApi {
        let parts = admin_api::Parts {
            auth: self.auth.clone(),
            read_model: self.read_model.clone(),
            cache: self.cache.clone(),
            log: Arc::new(self.consumer(&self.topic.name, "admin-api")),
            health,
            roles: roles.names().collect(),
            limits: limits_in_force(&self.config),
            brokers: self.config.kafka_brokers.clone(),
            topic: self.topic.name.clone(),
            topic_id: self.topic.id,
            partitions: self.topic.partitions,
        };
        AdminApi::start(parts, shutdown)
    }

    pub(super) async fn realtime(&self, roles: Roles, shutdown: CancellationToken) -> anyhow::Result<Realtime> {
        let query_api_url = match &self.config.query_api_url {
            Some(url) => url.clone(),
            None if roles.query_api => format!("http://{}", own_address(self.address)),
            None => anyhow::bail!(
                "realtime needs QUERY_API_URL: the address of a query-api, which it asks for the members of rooms"
            ),
        };
        let typing_topic = self.config.kafka_typing_topic.as_ref();
        let parts = realtime::Parts {
            auth: self.auth.clone(),
            tokens: self.tokens.clone(),
            cache: self.cache.clone(),
            progress: self.progress.clone(),
            log: self.consumer(&self.topic.name, "realtime"),
            typing_log: typing_topic.map(|topic| self.consumer(topic, "realtime-typing")),
            query_api_url,
        };
        Ok(Realtime::start(parts, shutdown).await?)
    }
}

/// An address at which the process reaches itself. It can't connect to an unspecified address, such as 0.0.0.0.
fn own_address(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn limits(config: &LimitConfig) -> Limits {
    Limits {
        messages: config.limit_messages,
        reactions: config.limit_reactions,
        edits: config.limit_edits,
        deletions: config.limit_deletions,
        conversations: config.limit_conversations,
        invitations: config.limit_invitations,
        read_marks: config.limit_read_marks,
        typing: config.limit_typing,
        window: window(config),
    }
}

fn window(config: &LimitConfig) -> Duration {
    Duration::from_secs(u64::from(config.limit_window_seconds))
}
