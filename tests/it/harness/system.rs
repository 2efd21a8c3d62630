//! The system under test: its services run in this process (see `layout.rs`), on a topic, a schema and a Redis prefix
//! that no other test has. A test never cleans up: the names are random, and `make clean` deletes the services' data.

use std::time::{Duration, SystemTime};

use clap::Parser;
use domain::{ConversationId, Position, Timestamp, UserId};
use event_log::partition_of;
use messages::process::Roles;
use read_model::ReadModel;
use serde_json::{Value, json};
use service::auth::Auth;
use service::config::Config;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use time::OffsetDateTime;
use uuid::Uuid;

use super::http::{Request, Response};
use super::layout::Services;
use super::log::{self, Record};

/// The secret with which every system under test signs and checks tokens.
pub(crate) const SECRET: &str = "a secret for tests, and for nothing else";
/// How many partitions the topic of a system under test has.
pub(crate) const PARTITIONS: i32 = 3;
/// How long a test waits for an expected event before it fails.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(40);

/// A rate limit that no test reaches.
const UNREACHABLE_LIMIT: u32 = 1_000_000;

/// A running system, as its users and operators see it.
pub(crate) struct System {
    pub(crate) config: Config,
    pub(crate) auth: Auth,
    pub(crate) url: String,
    client: reqwest::Client,
    /// Connections to the read model's schema.
    pub(crate) sql: PgPool,
    /// The services that run in this process. `None` when the test started them elsewhere, or has stopped them.
    running: Option<Services>,
}

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    config: Config,
}

/// The default configuration, with only the addresses of Kafka, Postgres and Redis taken from the environment.
pub(crate) fn defaults() -> Config {
    Arguments::parse_from(["messages"]).config
}

/// A configuration that shares only Kafka, Postgres and Redis with other tests: it has its own topic, schema and
/// prefix. Only tests that set it have a limit of queries: others wait for something by asking again and again.
pub(crate) fn config() -> Config {
    let name = format!("t{}", Uuid::now_v7().simple());
    let mut config = defaults();
    config.auth_jwt_secret = Some(SECRET.to_owned());
    config.kafka_topic = name.clone();
    config.kafka_partitions = PARTITIONS;
    config.database_schema = name.clone();
    config.database_connections = 8;
    config.redis_prefix = name;
    config.port = 0;
    config.limits.limit_queries = UNREACHABLE_LIMIT;
    config
}

/// Raises every rate limit so high that no test reaches it.
pub(crate) fn unlimited(config: &mut Config) {
    let limits = &mut config.limits;
    for limit in [
        &mut limits.limit_messages,
        &mut limits.limit_reactions,
        &mut limits.limit_edits,
        &mut limits.limit_deletions,
        &mut limits.limit_conversations,
        &mut limits.limit_invitations,
        &mut limits.limit_typing,
        &mut limits.limit_read_marks,
    ] {
        *limit = UNREACHABLE_LIMIT;
    }
}

impl System {
    /// Starts all services with the default settings, in the layout of this run.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Starts all services after `change` has altered the settings, in the layout of this run.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config();
        change(&mut config);
        Self::with_config(config).await
    }

    /// Starts all services with [`unlimited`] rate limits, in the layout of this run.
    pub(crate) async fn unlimited() -> Self {
        Self::with(unlimited).await
    }

    /// Starts all services with the given configuration, in the layout of this run.
    pub(crate) async fn with_config(config: Config) -> Self {
        log_warnings(&config);
        let services = Services::start(&config).await;
        let projectors = services.projectors;
        let system = Self::running(config, services);
        system.wait_until_projecting_by(projectors).await;
        system
    }

    /// Starts one process with the given roles and configuration, whatever the layout of this run.
    pub(crate) async fn with_roles(config: Config, roles: Roles) -> Self {
        log_warnings(&config);
        let services = Services::start_one(&config, roles).await;
        Self::running(config, services)
    }

    fn running(config: Config, services: Services) -> Self {
        let mut system = Self::attach(config, &services.url);
        system.running = Some(services);
        system
    }

    /// Attaches to services that already listen at `url`.
    pub(crate) fn attach(config: Config, url: &str) -> Self {
        let options: PgConnectOptions = config.database_url.parse().unwrap();
        let options = options.options([("search_path", &config.database_schema)]);
        Self {
            auth: Auth::new(SECRET),
            url: url.to_owned(),
            client: reqwest::Client::new(),
            sql: PgPoolOptions::new().max_connections(2).connect_lazy_with(options),
            running: None,
            config,
        }
    }

    /// Shuts the services down gracefully and waits until they have ended.
    pub(crate) async fn stop(&mut self) {
        if let Some(services) = self.running.take() {
            services.stop().await;
        }
    }

    /// Issues a token for a user that is valid for an hour.
    pub(crate) fn token(&self, user: &str) -> String {
        self.token_for(user, Duration::from_secs(3_600))
    }

    /// Issues a token for a user that expires after `lifetime`.
    pub(crate) fn token_for(&self, user: &str, lifetime: Duration) -> String {
        let user: UserId = user.parse().unwrap();
        let expires_at = Timestamp::from_date_time(OffsetDateTime::from(SystemTime::now() + lifetime)).unwrap();
        self.auth.mint(&user, expires_at).unwrap()
    }

    /// Prepares a request without a token.
    pub(crate) fn request(&self, method: &str, path: &str) -> Request {
        Request::new(&self.client, method, &format!("{}{path}", self.url))
    }

    /// Prepares a request with a token of this user.
    pub(crate) fn ask(&self, user: &str, method: &str, path: &str) -> Request {
        self.request(method, path).header("Authorization", format!("Bearer {}", self.token(user)))
    }

    /// Sends `GET` as a user.
    pub(crate) async fn get(&self, user: &str, path: &str) -> Response {
        self.ask(user, "GET", path).send().await
    }

    /// Sends `GET` with this token.
    pub(crate) async fn get_with(&self, token: &str, path: &str) -> Response {
        self.request("GET", path).header("Authorization", format!("Bearer {token}")).send().await
    }

    /// Sends `POST /api/messages` as a user.
    pub(crate) async fn post(&self, user: &str, body: Value) -> Response {
        self.ask(user, "POST", "/api/messages").json(&body).send().await
    }

    /// Sends `POST /api/messages` as a user, with an idempotency key.
    pub(crate) async fn post_with_key(&self, user: &str, key: &str, body: Value) -> Response {
        self.ask(user, "POST", "/api/messages").key(key).json(&body).send().await
    }

    /// Sends a message as a user.
    pub(crate) async fn send(&self, user: &str, conversation: &str, content: &str) -> Response {
        self.post(user, json!({"conversationId": conversation, "content": content})).await
    }

    /// Adds a reaction without a label to a message as a user.
    pub(crate) async fn react(&self, user: &str, message: &str, emoji: &str) -> Response {
        self.post(user, json!({"action": "reaction", "messageId": message, "emoji": emoji})).await
    }

    /// Marks a conversation as read by a user: up to a message, or up to its end.
    pub(crate) async fn mark_read(&self, user: &str, conversation: &str, up_to: Option<&str>) -> Response {
        self.post(user, json!({"action": "mark_read", "conversationId": conversation, "messageId": up_to})).await
    }

    /// Edits a message's content as a user.
    pub(crate) async fn edit(&self, user: &str, message: &str, content: &str) -> Response {
        let body = json!({"content": content});
        self.ask(user, "PATCH", &format!("/api/messages/{message}")).json(&body).send().await
    }

    /// Deletes a message as a user.
    pub(crate) async fn delete(&self, user: &str, message: &str) -> Response {
        self.ask(user, "DELETE", &format!("/api/messages/{message}")).send().await
    }

    /// Sends `GET` as a user and demands the position of an earlier response. Retries while the projector is behind,
    /// because on a busy machine the projector may need longer than the server waits for it.
    pub(crate) async fn get_after(&self, earlier: &Response, user: &str, path: &str) -> Response {
        let deadline = tokio::time::Instant::now() + TIMEOUT;
        loop {
            let request = self.ask(user, "GET", path).header("Messages-Position", earlier.position());
            let answer = request.send().await;
            if answer.body["code"] != "projection_behind" || tokio::time::Instant::now() > deadline {
                return answer;
            }
        }
    }

    /// Reads every page of a list and returns all items. `path` must already have a query.
    pub(crate) async fn all_pages(&self, user: &str, path: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut next = path.to_owned();
        loop {
            let page = self.get(user, &next).await;
            assert_eq!(page.status, 200, "{page:?}");
            items.extend(page.data().as_array().unwrap().clone());
            let Some(cursor) = page.next_cursor() else { return items };
            next = format!("{path}&cursor={cursor}");
        }
    }

    /// Creates a conversation and returns its id: direct for two users, a group for more. Waits until every relay has
    /// passed the event, because a client that connects later must not receive `conversation:created`.
    pub(crate) async fn conversation(&self, creator: &str, others: &[&str]) -> String {
        let answer = self.post(creator, json!({"action": "conversation", "participantIds": others})).await;
        assert!([200, 201].contains(&answer.status), "{answer:?}");
        self.wait_until_relayed(&answer).await;
        answer.id()
    }

    /// A user whose direct conversation with `user` is on a partition. Each `name` is another user.
    pub(crate) fn peer_on(&self, partition: i32, user: &str, name: &str) -> String {
        let (user, partitions) = (user.parse().unwrap(), usize::try_from(self.config.kafka_partitions).unwrap());
        let is_there = |peer: &String| {
            partition_of(ConversationId::direct(&user, &peer.parse().unwrap()), partitions) == partition
        };
        (0..).map(|number| format!("{name}-{number}")).find(is_there).unwrap()
    }

    /// Sends a message and returns its id.
    pub(crate) async fn message(&self, sender: &str, conversation: &str, content: &str) -> String {
        let sent = self.send(sender, conversation, content).await;
        assert_eq!(sent.status, 201, "{sent:?}");
        sent.id()
    }

    /// Waits until every relay in this process has passed a command's event.
    pub(crate) async fn wait_until_relayed(&self, done: &Response) {
        let Some(services) = &self.running else { return };
        let position: Position = done.position().parse().unwrap();
        eventually("the event is relayed", async || services.relayed(position).then_some(())).await;
    }

    /// Reads all records of the topic with a plain Kafka client, partition by partition.
    pub(crate) async fn records(&self) -> Vec<Record> {
        log::records(&self.config.kafka_brokers, &self.config.kafka_topic).await
    }

    /// Reads the records of one conversation, in log order.
    pub(crate) async fn records_of(&self, conversation: &str) -> Vec<Record> {
        self.records().await.into_iter().filter(|record| record.key == conversation).collect()
    }

    /// Reads the record at the position in a command's response.
    pub(crate) async fn record_at(&self, done: &Response) -> Record {
        let records = self.records().await;
        let record = records.into_iter().find(|record| record.position() == done.position());
        record.unwrap_or_else(|| panic!("no record at the position of {done:?}"))
    }

    /// Runs a query in the read model's schema and returns its first row as JSON, or null. `$1` is a text.
    pub(crate) async fn row(&self, query: &str, argument: &str) -> Value {
        let query = format!("SELECT to_jsonb(found) FROM ({query}) AS found LIMIT 1");
        let row = sqlx::query_scalar(sqlx::AssertSqlSafe(query)).bind(argument).fetch_optional(&self.sql).await;
        row.unwrap().unwrap_or(Value::Null)
    }

    /// Connects to the read model, for facts that HTTP doesn't expose.
    pub(crate) fn read_model(&self) -> ReadModel {
        ReadModel::connect(&self.config.database_url, &self.config.database_schema, 2).unwrap()
    }
}

fn log_warnings(config: &Config) {
    let filter =
        std::env::var("LOG").unwrap_or_else(|_| "warn,event_log::topic=error,projector::dead_letters=off".to_owned());
    service::telemetry::start(&filter, config.log_format);
}

/// An id that no entity has.
pub(crate) fn unknown_id() -> String {
    ConversationId(Uuid::now_v7()).to_string()
}

/// Calls `probe` until it returns a value. Panics with `what` after [`TIMEOUT`]; a call that has begun by then has as long
/// again.
pub(crate) async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    loop {
        if let Ok(Some(found)) = tokio::time::timeout_at(deadline + TIMEOUT, probe()).await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "this never happened: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Sends requests at the same time. Returns their responses in the order of the requests.
pub(crate) async fn send_concurrently(requests: Vec<Request>) -> Vec<Response> {
    let sent: Vec<_> = requests.into_iter().map(|request| tokio::spawn(request.send())).collect();
    let mut answers = Vec::with_capacity(sent.len());
    for answer in sent {
        answers.push(answer.await.unwrap());
    }
    answers
}
