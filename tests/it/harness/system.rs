//! A whole system of one's own: its services in this process (see `layout.rs`), with a topic, a schema and a key prefix
//! that no other test has. Nothing is cleaned up: nobody else comes by there.

use std::time::{Duration, SystemTime};

use cache::Cache;
use clap::Parser;
use domain::{ConversationId, Position, Timestamp, UserId};
use messages::process::Roles;
use read_model::ReadModel;
use redis::AsyncCommands;
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

/// The secret of every system under test.
pub(crate) const SECRET: &str = "a secret for tests, and for nothing else";
/// How many partitions its topic has.
pub(crate) const PARTITIONS: i32 = 3;
/// How often in a minute a user may look for what isn't there.
pub(crate) const FAILED_LOOKUP_LIMIT: u32 = 300;
/// How long anything that should happen may take.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(40);

/// A running system, as its users and admins see it.
pub(crate) struct System {
    pub(crate) config: Config,
    pub(crate) auth: Auth,
    pub(crate) url: String,
    client: reqwest::Client,
    pub(super) sql: PgPool,
    /// The services, where they are in this process.
    running: Option<Services>,
}

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    config: Config,
}

/// The configuration of a process for which nothing is set but the addresses of the three services.
pub(crate) fn defaults() -> Config {
    Arguments::parse_from(["messages"]).config
}

/// A configuration under which nothing is shared with other tests but the three services.
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
    config
}

/// Sets limits that no test reaches.
pub(crate) fn unlimited(config: &mut Config) {
    let limits = &mut config.limits;
    for limit in [
        &mut limits.limit_messages,
        &mut limits.limit_reactions,
        &mut limits.limit_edits,
        &mut limits.limit_deletions,
        &mut limits.limit_conversations,
        &mut limits.limit_read_marks,
    ] {
        *limit = 1_000_000;
    }
}

impl System {
    /// Starts everything, in the layout of this run, with the defaults.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Starts everything, in the layout of this run, with some settings changed.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config();
        change(&mut config);
        Self::with_config(config).await
    }

    /// Starts everything, in the layout of this run, with limits that no test reaches.
    pub(crate) async fn unlimited() -> Self {
        Self::with(unlimited).await
    }

    /// Starts everything, in the layout of this run, under a given configuration.
    pub(crate) async fn with_config(config: Config) -> Self {
        log_trouble(&config);
        let services = Services::all(&config).await;
        let projectors = services.projectors;
        let system = Self::of(config, services);
        system.wait_until_projecting_by(projectors).await;
        system
    }

    /// Starts some of the services in one process under a given configuration, in any layout.
    pub(crate) async fn with_roles(config: Config, roles: Roles) -> Self {
        log_trouble(&config);
        let services = Services::one(&config, roles).await;
        Self::of(config, services)
    }

    fn of(config: Config, services: Services) -> Self {
        let mut system = Self::attach(config, &services.url);
        system.running = Some(services);
        system
    }

    /// A system that somebody else started.
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

    /// Stops the services in good order and waits for them.
    pub(crate) async fn stop(&mut self) {
        if let Some(services) = self.running.take() {
            services.stop().await;
        }
    }

    /// A token for a user, good for an hour.
    pub(crate) fn token(&self, user: &str) -> String {
        self.token_for(user, Duration::from_secs(3_600))
    }

    /// A token for a user that is good for so long.
    pub(crate) fn token_for(&self, user: &str, lasts: Duration) -> String {
        let user: UserId = user.parse().unwrap();
        let until = Timestamp::from_date_time(OffsetDateTime::from(SystemTime::now() + lasts)).unwrap();
        self.auth.mint(&user, until).unwrap()
    }

    /// A request without a token.
    pub(crate) fn request(&self, method: &str, path: &str) -> Request {
        Request::new(&self.client, method, &format!("{}{path}", self.url))
    }

    /// A request of a user.
    pub(crate) fn ask(&self, user: &str, method: &str, path: &str) -> Request {
        self.request(method, path).header("Authorization", format!("Bearer {}", self.token(user)))
    }

    /// `GET` as a user.
    pub(crate) async fn get(&self, user: &str, path: &str) -> Response {
        self.ask(user, "GET", path).send().await
    }

    /// `GET` with this token.
    pub(crate) async fn get_with(&self, token: &str, path: &str) -> Response {
        self.request("GET", path).header("Authorization", format!("Bearer {token}")).send().await
    }

    /// `POST /api/messages` as a user.
    pub(crate) async fn post(&self, user: &str, body: Value) -> Response {
        self.ask(user, "POST", "/api/messages").json(&body).send().await
    }

    /// `POST /api/messages` as a user, with an idempotency key.
    pub(crate) async fn post_with_key(&self, user: &str, key: &str, body: Value) -> Response {
        self.ask(user, "POST", "/api/messages").key(key).json(&body).send().await
    }

    /// `PATCH` of a message's content as a user.
    pub(crate) async fn edit(&self, user: &str, message: &str, content: &str) -> Response {
        let body = json!({"content": content});
        self.ask(user, "PATCH", &format!("/api/messages/{message}")).json(&body).send().await
    }

    /// `DELETE` of a message as a user.
    pub(crate) async fn delete(&self, user: &str, message: &str) -> Response {
        self.ask(user, "DELETE", &format!("/api/messages/{message}")).send().await
    }

    /// `GET` as a user, from at least the position of an earlier answer. Tries again while that isn't reached: on a
    /// busy machine it may take more than a second.
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

    /// Every item of a list, page by page; the path has a query.
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

    /// A conversation that `creator` begins with the others: direct for two, a group for more. Whoever connects
    /// from now on is told nothing of its creation.
    pub(crate) async fn conversation(&self, creator: &str, others: &[&str]) -> String {
        let answer = self.post(creator, json!({"action": "conversation", "participantIds": others})).await;
        assert!([200, 201].contains(&answer.status), "{answer:?}");
        self.wait_until_relayed(&answer).await;
        answer.data()["id"].as_str().unwrap().to_owned()
    }

    /// A message that is sent: its id.
    pub(crate) async fn message(&self, sender: &str, conversation: &str, content: &str) -> String {
        let answer = self.post(sender, json!({"conversationId": conversation, "content": content})).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.data()["id"].as_str().unwrap().to_owned()
    }

    /// Waits until every relay in this process has passed an answer's event.
    pub(crate) async fn wait_until_relayed(&self, done: &Response) {
        let Some(services) = &self.running else { return };
        let position: Position = done.position().parse().unwrap();
        eventually("the event is relayed", async || services.relayed(position).then_some(())).await;
    }

    /// Everything that is on the topic, as any other client of Kafka reads it, partition by partition.
    pub(crate) async fn records(&self) -> Vec<Record> {
        log::records(&self.config.kafka_brokers, &self.config.kafka_topic).await
    }

    /// The records of one conversation, in order.
    pub(crate) async fn records_of(&self, conversation: &str) -> Vec<Record> {
        self.records().await.into_iter().filter(|record| record.key == conversation).collect()
    }

    /// The record at the position that an answer to a command gives.
    pub(crate) async fn record_at(&self, done: &Response) -> Record {
        let records = self.records().await;
        let record = records.into_iter().find(|record| record.position() == done.position());
        record.unwrap_or_else(|| panic!("no record at the position of {done:?}"))
    }

    /// The first row of a query in the read model's schema, as JSON; null for none. `$1` is a text.
    pub(crate) async fn row(&self, query: &str, argument: &str) -> Value {
        let query = format!("SELECT to_jsonb(found) FROM ({query}) AS found LIMIT 1");
        let row = sqlx::query_scalar(sqlx::AssertSqlSafe(query)).bind(argument).fetch_optional(&self.sql).await;
        row.unwrap().unwrap_or(Value::Null)
    }

    /// The read model, for what can't be asked over HTTP.
    pub(crate) fn read_model(&self) -> ReadModel {
        ReadModel::connect(&self.config.database_url, &self.config.database_schema, 2).unwrap()
    }

    /// Redis, with the system's prefix.
    pub(crate) fn cache(&self) -> Cache {
        Cache::connect(&self.config.redis_url, &self.config.redis_prefix).unwrap()
    }

    /// Redis, without anything around it.
    pub(crate) async fn redis(&self) -> redis::aio::MultiplexedConnection {
        redis::Client::open(self.config.redis_url.as_str()).unwrap().get_multiplexed_async_connection().await.unwrap()
    }

    /// Waits until Redis has been told of an answer's event: from then on an equal read is a hit.
    pub(crate) async fn wait_until_published(&self, answer: &Response) {
        self.told(answer.position().parse().unwrap()).await;
    }

    /// Waits until Redis has been told of everything that is on the topic now.
    pub(crate) async fn wait_until_all_published(&self) {
        for record in self.records().await {
            self.told(record.position().parse().unwrap()).await;
        }
    }

    async fn told(&self, position: Position) {
        let mut redis = self.redis().await;
        eventually("Redis is told", async || {
            let generation: Option<i64> = redis.get(format!("{}:generation", self.config.redis_prefix)).await.unwrap();
            let key = format!("{}:{}:progress", self.config.redis_prefix, generation?);
            let next: Option<i64> = redis.hget(key, position.partition).await.unwrap();
            next.filter(|next| *next > position.offset)
        })
        .await;
    }

    /// Every key in Redis under the system's prefix.
    pub(crate) async fn redis_keys(&self) -> Vec<String> {
        let mut keys = redis::cmd("KEYS");
        keys.arg(format!("{}:*", self.config.redis_prefix));
        keys.query_async(&mut self.redis().await).await.unwrap()
    }

    /// Leaves a user so many more looks for what isn't there in this minute.
    pub(crate) async fn leave_failed_lookups(&self, user: &str, left: u32) {
        let mut set = redis::cmd("SET");
        set.arg(format!("{}:limit:misses:{user}", self.config.redis_prefix))
            .arg(FAILED_LOOKUP_LIMIT - left)
            .arg("EX")
            .arg(60);
        set.query_async::<()>(&mut self.redis().await).await.unwrap();
    }

    /// Lets Redis have kept every idempotency key for hours.
    pub(crate) async fn age_reservation_epoch(&self) {
        let then = OffsetDateTime::now_utc().unix_timestamp() * 1_000 - 7_200_000;
        let key = format!("{}:reservations-since", self.config.redis_prefix);
        redis::cmd("SET").arg(key).arg(format!("{then} x")).query_async::<()>(&mut self.redis().await).await.unwrap();
    }

    /// Deletes every key in Redis under the system's prefix.
    pub(crate) async fn clear_redis(&self) {
        // One that isn't there, for there may be no other.
        let keys = [vec!["none".to_owned()], self.redis_keys().await].concat();
        redis::cmd("DEL").arg(keys).query_async::<()>(&mut self.redis().await).await.unwrap();
    }
}

fn log_trouble(config: &Config) {
    let filter = std::env::var("LOG").unwrap_or_else(|_| "warn,event_log::topic=error,projector::batch=off".to_owned());
    service::telemetry::start(&filter, config.log_format);
}

/// An id that nothing has.
pub(crate) fn unknown_id() -> String {
    ConversationId(Uuid::now_v7()).to_string()
}

/// Waits until `probe` gives something; panics with `what` after [`TIMEOUT`].
pub(crate) async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Sends requests at the same time; their answers in the order given.
pub(crate) async fn send_concurrently(requests: Vec<Request>) -> Vec<Response> {
    let sent: Vec<_> = requests.into_iter().map(|request| tokio::spawn(request.send())).collect();
    let mut answers = Vec::with_capacity(sent.len());
    for answer in sent {
        answers.push(answer.await.unwrap());
    }
    answers
}
