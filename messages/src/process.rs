//! A process: the services that it runs, over connections that they share.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use cache::{Cache, Progress};
use command_api::{CommandApi, Limits};
use domain::PositionVector;
use event_log::{LogConsumer, Producer, Topic, TopicError, TopicSpec, TopicWatch, ensure_topic, ensure_typing_topic};
use projector::Projector;
use query_api::QueryApi;
use read_model::{ReadModel, ReadModelError};
use realtime::Realtime;
use service::auth::Auth;
use service::config::{Config, Environment, LimitConfig};
use service::lifecycle;
use service::readiness::{self, Readiness};
use service::token::PositionTokens;
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::wait_for_services::wait_for;
use crate::{development, openapi, topic_guard, web};

/// What to look at when Postgres doesn't answer.
pub(crate) const POSTGRES_HINT: &str =
    "Postgres; is it running, and is DATABASE_URL right? (scripts/services up starts one)";
/// How many connections may wait to be accepted; the system may allow fewer (`net.core.somaxconn`).
const WAITING_CONNECTIONS: u32 = 4_096;
/// How long each service may take to end once it is told to.
const FINISH: Duration = Duration::from_secs(10);

/// Which services a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    command_api: bool,
    projector: bool,
    query_api: bool,
    realtime: bool,
}

impl Roles {
    const NONE: Self = Self { command_api: false, projector: false, query_api: false, realtime: false };
    /// All of them, and the chat page.
    pub const ALL: Self = Self { command_api: true, projector: true, query_api: true, realtime: true };
    /// Validates commands and appends events.
    pub const COMMAND_API: Self = Self { command_api: true, ..Self::NONE };
    /// Folds events into the read model.
    pub const PROJECTOR: Self = Self { projector: true, ..Self::NONE };
    /// Answers queries.
    pub const QUERY_API: Self = Self { query_api: true, ..Self::NONE };
    /// Relays events to sockets.
    pub const REALTIME: Self = Self { realtime: true, ..Self::NONE };

    fn need_postgres(self) -> bool {
        self.command_api || self.projector || self.query_api
    }

    /// What the process is called among others: `all`, or the service that it runs.
    pub fn service_name(self) -> &'static str {
        if self == Self::ALL { "all" } else { self.names().next().unwrap_or("none") }
    }

    fn names(self) -> impl Iterator<Item = &'static str> {
        let all = [
            (self.command_api, "command-api"),
            (self.projector, "projector"),
            (self.query_api, "query-api"),
            (self.realtime, "realtime"),
        ];
        all.into_iter().filter_map(|(runs, name)| runs.then_some(name))
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().collect::<Vec<_>>().join(", "))
    }
}

/// A process that serves.
pub struct Process {
    address: SocketAddr,
    realtime: Option<Realtime>,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Process {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How far its relay is, next offset by partition; none where it has no realtime worker.
    pub fn relayed(&self) -> Option<PositionVector> {
        self.realtime.as_ref().map(Realtime::relayed)
    }

    /// Waits until it has stopped: after its shutdown was cancelled, when what was under way is finished.
    ///
    /// # Errors
    /// When it failed instead.
    pub async fn finished(self) -> anyhow::Result<()> {
        self.running.await?
    }
}

/// What the services of a process share.
struct Common {
    config: Config,
    auth: Auth,
    topic: Topic,
    topic_watch: TopicWatch,
    /// Why nothing may be appended.
    topic_guard: watch::Receiver<Option<String>>,
    tokens: PositionTokens,
    read_model: ReadModel,
    cache: Cache,
    progress: Progress,
    address: SocketAddr,
}

/// Starts the services; when this returns they serve, at the address to which the socket is bound. Until then nobody
/// listens there. The shutdown stops them in good order.
///
/// # Errors
/// When Kafka doesn't answer for a minute or its topic is set up wrong, when Postgres doesn't answer a projector for as
/// long, and for a configuration with which nothing can be started.
pub async fn start(
    config: &Config,
    roles: Roles,
    socket: TcpSocket,
    shutdown: CancellationToken,
) -> anyhow::Result<Process> {
    lifecycle::raise_open_file_limit();
    metrics::gauge!("messages_build_info", "version" => env!("CARGO_PKG_VERSION"), "roles" => roles.to_string()).set(1);
    let common = Common::new(config, roles, socket.local_addr()?).await?;
    let mut router = Router::new();
    let mut readiness = common.readiness(roles, shutdown.clone())?;
    let mut ending = Ending::default();
    if roles.projector {
        // Stopped last: what is under way elsewhere may wait for it.
        let is_away = |error: &ReadModelError| matches!(error, ReadModelError::Unavailable(_));
        let migrated = wait_for("Postgres", || common.read_model.migrate(), is_away).await;
        migrated.context(POSTGRES_HINT)?;
        let task = projector::run(common.projector(), ending.projector.clone());
        ending.projecting = Some(tokio::spawn(task));
    }
    if roles.command_api {
        let (api, producer) = common.command_api().await?;
        router = router.merge(api.router());
        ending.commands = Some((api, producer));
    }
    if roles.query_api {
        router = router.merge(common.query_api().router());
    }
    if roles.realtime {
        let realtime = common.realtime(roles, shutdown.clone()).await?;
        readiness = realtime.readiness(readiness);
        router = router.merge(realtime.router());
        ending.realtime = Some(realtime);
    }
    if roles == Roles::ALL {
        router = router.merge(web::router(config.environment));
        if config.environment == Environment::Development {
            router = router.merge(development::router(common.auth.clone()));
        }
    }
    let document = openapi::document();
    let operations: Router = readiness::routes().with_state(readiness).into();
    let router = router.merge(operations).merge(openapi::router(document.clone()));
    let router = service::http::with_middleware(router, &document, &config.cors_origins);
    let listener = socket.listen(WAITING_CONNECTIONS)?;
    let (address, realtime) = (common.address, ending.realtime.clone());
    let running = tokio::spawn(async move {
        let served = lifecycle::serve(listener, router, shutdown.clone()).await;
        // Also when serving failed: the rest has nobody to work for.
        shutdown.cancel();
        ending.finish().await;
        Ok(served?)
    });
    Ok(Process { address, realtime, running })
}

/// What has to end in good order.
#[derive(Default)]
struct Ending {
    realtime: Option<Realtime>,
    commands: Option<(CommandApi, Producer)>,
    projector: CancellationToken,
    projecting: Option<JoinHandle<()>>,
}

impl Ending {
    async fn finish(self) {
        if let Some(realtime) = self.realtime {
            realtime.finish(FINISH).await;
        }
        if let Some((commands, producer)) = self.commands {
            commands.finish(FINISH).await;
            producer.flush().await;
        }
        self.projector.cancel();
        if let Some(projecting) = self.projecting
            && tokio::time::timeout(FINISH, projecting).await.is_err()
        {
            tracing::warn!("stopped in the middle of a batch; it is folded at the next start");
        }
    }
}

impl Common {
    async fn new(config: &Config, roles: Roles, address: SocketAddr) -> anyhow::Result<Self> {
        let secret = config.secret()?;
        let is_away = |error: &TopicError| !matches!(error, TopicError::Misconfigured { .. });
        let topic = wait_for("Kafka", || topic(config), is_away).await?;
        let read_model = ReadModel::connect(&config.database_url, &config.database_schema, config.database_connections)
            .context("DATABASE_URL")?;
        let cache = Cache::connect(&config.redis_url, &config.redis_prefix).context("REDIS_URL")?;
        let topic_watch = topic.watch(&config.kafka_brokers)?;
        let folded = roles.need_postgres().then(|| read_model.clone());
        let topic_guard = topic_guard::watch(topic.clone(), topic_watch.clone(), folded).await;
        Ok(Self {
            auth: Auth::new(secret),
            tokens: PositionTokens::new(secret, topic.id, topic.partitions),
            topic_watch,
            topic_guard,
            topic,
            read_model,
            progress: Progress::follow(cache.clone()),
            cache,
            address,
            config: config.clone(),
        })
    }

    fn consumer(&self, topic: &str, name: &'static str) -> anyhow::Result<LogConsumer> {
        Ok(LogConsumer::new(&self.config.kafka_brokers, topic, name)?)
    }

    /// What each role can't do without, and what it can.
    fn readiness(&self, roles: Roles, shutdown: CancellationToken) -> anyhow::Result<Readiness> {
        let cache = self.cache.clone();
        let mut readiness = Readiness::until(shutdown).with_optional("redis", move || {
            let cache = cache.clone();
            async move { cache.ping().await.map_err(|error| error.to_string()) }
        });
        if roles.command_api || roles.projector || roles.realtime {
            let log = Arc::new(self.consumer(&self.topic.name, "readiness")?);
            readiness = readiness.with_required("kafka", move || {
                let log = log.clone();
                async move { log.end_offsets().await.map(drop).map_err(|error| error.to_string()) }
            });
        }
        let topic_guard = self.topic_guard.clone();
        readiness = readiness.with_required("topic", move || {
            let wrong = topic_guard.borrow().clone();
            async move { wrong.map_or(Ok(()), Err) }
        });
        if roles.need_postgres() {
            let read_model = self.read_model.clone();
            readiness = readiness.with_required("postgres", move || {
                let read_model = read_model.clone();
                async move { read_model.ping().await.map_err(|error| error.to_string()) }
            });
        }
        Ok(readiness)
    }

    fn projector(&self) -> Projector {
        Projector {
            brokers: self.config.kafka_brokers.clone(),
            topic: self.topic.clone(),
            topic_watch: self.topic_watch.clone(),
            read_model: self.read_model.clone(),
            cache: self.cache.clone(),
            owner: Uuid::now_v7().to_string(),
        }
    }

    async fn command_api(&self) -> anyhow::Result<(CommandApi, Producer)> {
        let config = &self.config;
        let producer = Producer::new(&config.kafka_brokers, &self.topic.name, config.kafka_typing_topic.as_deref())?;
        producer.warm_up().await.context("Kafka")?;
        let api = CommandApi::new(command_api::Parts {
            auth: self.auth.clone(),
            tokens: self.tokens.clone(),
            producer: producer.clone(),
            log: Arc::new(self.consumer(&self.topic.name, "command-api")?),
            partitions: self.topic.partitions,
            cache: self.cache.clone(),
            progress: self.progress.clone(),
            read_model: self.read_model.clone(),
            limits: limits(&config.limits),
            append_block: self.topic_guard.clone(),
        });
        Ok((api, producer))
    }

    fn query_api(&self) -> QueryApi {
        QueryApi::new(query_api::Parts {
            auth: self.auth.clone(),
            tokens: self.tokens.clone(),
            cache: self.cache.clone(),
            progress: self.progress.clone(),
            read_model: self.read_model.clone(),
        })
    }

    async fn realtime(&self, roles: Roles, shutdown: CancellationToken) -> anyhow::Result<Realtime> {
        let query_api_url = match &self.config.query_api_url {
            Some(url) => url.clone(),
            None if roles.query_api => format!("http://{}", reachable(self.address)),
            None => anyhow::bail!("realtime needs QUERY_API_URL: the address of a query-api, for who is in which room"),
        };
        let typing_topic = self.config.kafka_typing_topic.as_ref();
        let parts = realtime::Parts {
            auth: self.auth.clone(),
            tokens: self.tokens.clone(),
            cache: self.cache.clone(),
            progress: self.progress.clone(),
            log: self.consumer(&self.topic.name, "realtime")?,
            typing_log: typing_topic.map(|topic| self.consumer(topic, "realtime-typing")).transpose()?,
            query_api_url,
        };
        Ok(Realtime::start(parts, shutdown).await?)
    }
}

/// The topic of record, and the one of typing events where that is another.
///
/// # Errors
/// When Kafka doesn't answer, or the topic of record is set up otherwise than it must be.
pub(crate) async fn topic(config: &Config) -> Result<Topic, TopicError> {
    let spec = TopicSpec { name: config.kafka_topic.clone(), partitions: config.kafka_partitions };
    let topic = ensure_topic(&config.kafka_brokers, &spec).await?;
    if let Some(name) = &config.kafka_typing_topic {
        let spec = TopicSpec { name: name.clone(), partitions: config.kafka_partitions };
        ensure_typing_topic(&config.kafka_brokers, &spec).await?;
    }
    Ok(topic)
}

/// An address at which a process reaches itself.
fn reachable(address: SocketAddr) -> SocketAddr {
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
        read_marks: config.limit_read_marks,
        window: Duration::from_secs(u64::from(config.limit_window_seconds)),
    }
}
