//! `messages doctor`: checks the whole system from outside and says what to do. It changes nothing, except that it writes
//! a few keys to Redis, which expire within a minute: only a write shows that Redis takes writes.

use std::fmt;
use std::time::Duration;

use anyhow::bail;
use cache::{Cache, RedisFault, RedisHealth};
use domain::PositionVector;
use event_log::{LogConsumer, LostRecords, TopicDescription, describe_topic};
use read_model::{ReadModel, ReadModelError};
use service::config::{Config, Environment};
use service::printable::escaped;

use super::topic::durability;
use crate::process::{connect_cache, folded_mismatch, stalls_report};

/// How long each check may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(15);
/// The oldest supported version of Postgres, as `server_version_num`.
const MIN_POSTGRES: i32 = 130_000;
/// The oldest supported version of Redis: the first with all commands in use (GETEX).
const MIN_REDIS: (u32, u32) = (6, 2);
/// Which Redis may evict, as findings name it.
const EVICTABLE: &str = " at REDIS_CACHE_URL";
/// A lag from here on is wrong: in a steady stream the projector is a quarter of a second behind.
const MAX_LAG: Duration = Duration::from_secs(10);

/// A line of the output: what a check found, and advice unless that is ok.
#[derive(Clone)]
struct Finding {
    severity: Severity,
    message: String,
    advice: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Severity {
    Ok,
    /// The system works, but could be better.
    Warning,
    Error,
}

impl Finding {
    fn ok(message: impl Into<String>) -> Self {
        Self { severity: Severity::Ok, message: message.into(), advice: "" }
    }

    fn warning(message: impl Into<String>, advice: &'static str) -> Self {
        Self { severity: Severity::Warning, message: message.into(), advice }
    }

    fn error(message: impl Into<String>, advice: &'static str) -> Self {
        Self { severity: Severity::Error, message: message.into(), advice }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.severity {
            Severity::Ok => '✓',
            Severity::Warning => '!',
            Severity::Error => '✗',
        };
        write!(f, "{sign} {}", escaped(&self.message))?;
        if self.advice.is_empty() { Ok(()) } else { write!(f, "\n    → {}", self.advice) }
    }
}

/// The result of a check: its findings, and what later checks need of it, unless it failed.
struct Checked<T> {
    findings: Vec<Finding>,
    output: Option<T>,
}

impl<T> Checked<T> {
    fn failed(finding: Finding) -> Self {
        Self { findings: vec![finding], output: None }
    }
}

/// Runs all checks and prints their findings.
///
/// # Errors
/// When a finding is an error.
pub(crate) async fn run(config: &Config) -> anyhow::Result<()> {
    println!("messages {}", env!("CARGO_PKG_VERSION"));
    let mut findings = vec![check_secret(config)];
    let (kafka, postgres, redis) = tokio::join!(
        with_timeout(check_kafka(config), "Kafka did not answer within 15 s"),
        with_timeout(check_postgres(config), "Postgres did not answer within 15 s"),
        with_timeout(check_redis(config), "Redis did not answer within 15 s"),
    );
    findings.extend(kafka.findings);
    findings.extend(postgres.findings);
    findings.extend(redis.findings);
    if let (Some(topic), Some(read_model)) = (kafka.output, postgres.output) {
        let check = check_projection(config, &topic, &read_model, redis.output.as_ref());
        findings.extend(with_timeout(check, "the projection could not be checked within 15 s").await.findings);
    }
    for finding in &findings {
        println!("{finding}");
    }
    match findings.iter().filter(|finding| finding.severity == Severity::Error).count() {
        0 => Ok(()),
        1 => bail!("1 check failed: follow the advice after its arrow"),
        failed => bail!("{failed} checks failed: follow the advice after their arrows"),
    }
}

/// Ends a check that takes longer than [`CHECK_TIMEOUT`] with an error.
async fn with_timeout<T>(check: impl Future<Output = Checked<T>>, timeout_message: &str) -> Checked<T> {
    tokio::time::timeout(CHECK_TIMEOUT, check).await.unwrap_or_else(|_| {
        Checked::failed(Finding::error(
            timeout_message,
            "check whether it is overloaded, and whether a firewall drops connections",
        ))
    })
}

fn check_secret(config: &Config) -> Finding {
    match config.secret() {
        Err(error) => Finding::error(
            error.to_string(),
            "create one with openssl rand -base64 48, and set the same for all processes",
        ),
        Ok(_) if config.environment == Environment::Development => Finding::warning(
            "development mode: anyone can sign tokens",
            "set MESSAGES_ENV=production before others use the system",
        ),
        Ok(secret) if config.has_weak_secret() => Finding::warning(
            format!("AUTH_JWT_SECRET has {} bytes", secret.len()),
            "use at least 32 random bytes: an attacker can guess a shorter secret and sign tokens with it",
        ),
        Ok(_) => Finding::ok("AUTH_JWT_SECRET is set"),
    }
}

async fn check_kafka(config: &Config) -> Checked<TopicDescription> {
    let name = &config.kafka_topic;
    let topic = match describe_topic(&config.kafka_brokers, name).await {
        Ok(Some(topic)) => topic,
        Ok(None) => {
            let message = format!("Kafka answers, but the topic {name} doesn't exist");
            return Checked::failed(Finding::warning(message, "create it: messages topic --make"));
        }
        Err(error) => {
            let advice = "start Kafka, or set KAFKA_BROKERS (scripts/services up starts one for development)";
            return Checked::failed(Finding::error(error.to_string(), advice));
        }
    };
    let mut findings = vec![Finding::ok(format!(
        "Kafka answers and supports topic ids (2.8 or newer), brokers: {}; the topic {name} has {} partitions",
        topic.brokers, topic.partitions
    ))];
    findings.extend(topic.wrong_settings().map(|setting| {
        Finding::error(
            format!("the topic has {}={}, but needs {}", setting.name, setting.found, setting.wanted),
            "correct it with kafka-configs --alter: the topic is the system of record",
        )
    }));
    if !topic.leaderless.is_empty() {
        let advice = "start the brokers that store them; until then, their conversations can't be written or read";
        findings.push(Finding::error(format!("partitions without a leader: {:?}", topic.leaderless), advice));
    }
    let durability = durability(&topic);
    findings.push(if topic.copies() < 2 {
        Finding::warning(durability, "with three brokers, set three replicas and min.insync.replicas=2 for the topic")
    } else if topic.in_sync < topic.replicas {
        let message = format!("{durability}; only {} of {} replicas are in sync", topic.in_sync, topic.replicas);
        Finding::warning(message, "check the brokers whose replicas lag")
    } else {
        Finding::ok(durability)
    });
    Checked { findings, output: Some(topic) }
}

async fn check_postgres(config: &Config) -> Checked<ReadModel> {
    let connected = match ReadModel::connect(&config.database_url, &config.database_schema, 2) {
        Ok(read_model) => read_model.health().await.map(|health| (health, read_model)),
        Err(error) => Err(error),
    };
    let (health, read_model) = match connected {
        Ok(connected) => connected,
        Err(error @ ReadModelError::Misconfigured(_)) => {
            let advice = "correct DATABASE_URL, or the pooler that it leads to; nothing starts until then";
            return Checked::failed(Finding::error(error.to_string(), advice));
        }
        Err(error) => {
            let advice = "start Postgres, or set DATABASE_URL (scripts/services up starts one for development)";
            return Checked::failed(Finding::error(error.to_string(), advice));
        }
    };
    let mut findings = vec![if health.version_number < MIN_POSTGRES {
        Finding::error(format!("Postgres is version {}", health.version), "upgrade it to 13 or newer")
    } else {
        Finding::ok(format!("Postgres {} answers", health.version))
    }];
    if health.is_read_only {
        findings.push(Finding::error(
            "Postgres takes no writes: it is a standby, or default_transaction_read_only is on",
            "let DATABASE_URL lead to the primary; until then, the projectors stand still",
        ));
    }
    if i64::from(config.database_connections) * 2 > health.max_connections {
        let message = format!(
            "Postgres accepts {} connections, and each process opens up to {}",
            health.max_connections, config.database_connections
        );
        findings.push(Finding::warning(message, "raise max_connections, or lower DATABASE_CONNECTIONS"));
    }
    if health.pending_migrations > 0 {
        let message = format!("the schema {} lacks {} migrations", config.database_schema, health.pending_migrations);
        findings.push(Finding::error(message, "run messages migrate; a projector also migrates when it starts"));
        return Checked { findings, output: None };
    }
    findings.push(Finding::ok(format!("the schema {} is up to date", config.database_schema)));
    Checked { findings, output: Some(read_model) }
}

async fn check_redis(config: &Config) -> Checked<Cache> {
    let cache = match connect_cache(config) {
        Ok(cache) => cache,
        Err(error) => return Checked::failed(Finding::error(format!("{error:#}"), "correct the address")),
    };
    let (main, evictable) = tokio::join!(check_main_redis(&cache), check_evictable_redis(&cache));
    Checked { findings: [main, evictable].concat(), output: Some(cache) }
}

async fn check_main_redis(cache: &Cache) -> Vec<Finding> {
    let (checked, health) = tokio::join!(cache.check_writable(), cache.health());
    match checked {
        Ok(()) => {}
        Err(RedisFault::Gone(reason)) => {
            let advice = "start Redis, or set REDIS_URL; without Redis everything works, only slower";
            return vec![Finding::warning(reason, advice)];
        }
        Err(RedisFault::HalfWorks(reason)) => {
            let advice = "until then commands with a key take a second longer, and presence stands still";
            return vec![Finding::error(reason, advice)];
        }
    }
    let Ok(health) = health else { return vec![untold_version("")] };
    let mut findings = vec![check_redis_version(&health, "")];
    if health.eviction != "noeviction" {
        let message = format!("Redis evicts keys when it is full (maxmemory-policy {})", health.eviction);
        findings.push(Finding::warning(
            message,
            "set maxmemory-policy noeviction: Redis then never evicts limits or idempotency keys",
        ));
    }
    findings
}

/// Checks the instance that may evict, if there is one.
async fn check_evictable_redis(cache: &Cache) -> Vec<Finding> {
    if !cache.has_evictable_instance() {
        return Vec::new();
    }
    let (checked, health) = tokio::join!(cache.check_evictable_writable(), cache.evictable_health());
    match checked {
        Ok(()) => {}
        Err(RedisFault::Gone(reason)) => {
            let advice = "start the Redis of REDIS_CACHE_URL; without it everything works, only slower";
            return vec![Finding::warning(reason, advice)];
        }
        Err(RedisFault::HalfWorks(reason)) => {
            let message = format!("REDIS_CACHE_URL: {reason}");
            return vec![Finding::error(message, "until then everything works, only slower")];
        }
    }
    let Ok(health) = health else { return vec![untold_version(EVICTABLE)] };
    let mut findings = vec![check_redis_version(&health, EVICTABLE)];
    if health.eviction == "noeviction" {
        findings.push(Finding::warning(
            "the Redis of REDIS_CACHE_URL evicts nothing: once it is full, nobody learns how far the projector is",
            "set its maxmemory, and maxmemory-policy allkeys-lru",
        ));
    }
    findings
}

/// Redis does what the services need, but tells its user neither its version nor its settings.
fn untold_version(place: &str) -> Finding {
    let message = format!("Redis{place} answers, but refuses to tell its version and its settings (INFO)");
    Finding::warning(message, "allow its user +info to have them checked as well")
}

/// `place` says which instance it is.
fn check_redis_version(health: &RedisHealth, place: &str) -> Finding {
    let mut parts = health.version.split('.').map(|part| part.parse().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version < MIN_REDIS {
        Finding::error(format!("Redis{place} is version {}", health.version), "upgrade it to 6.2 or newer")
    } else {
        Finding::ok(format!("Redis {}{place} answers", health.version))
    }
}

async fn check_projection(
    config: &Config,
    topic: &TopicDescription,
    read_model: &ReadModel,
    cache: Option<&Cache>,
) -> Checked<()> {
    let failed =
        |error: &dyn fmt::Display| Checked::failed(Finding::error(error.to_string(), "run messages doctor again"));
    let log = LogConsumer::new(&config.kafka_brokers, &config.kafka_topic, "doctor");
    let mut findings = match check_folded_topic(config, topic, read_model, &log).await {
        Ok(Checked { findings, output: Some(()) }) => findings,
        Ok(failed) => return failed,
        Err(error) => return failed(&error),
    };
    match read_model.leases().await {
        Ok(leases) if leases.unowned.is_empty() => {
            findings.push(Finding::ok(format!("projectors running: {}", leases.projectors)));
        }
        Ok(leases) => findings.push(Finding::error(
            format!("no projector owns partitions {:?}", leases.unowned),
            "start a projector: messages projector; until then, reads become stale",
        )),
        Err(error) => return failed(&error),
    }
    match log.held_partitions().await {
        Ok(held) => findings.extend(held.into_iter().map(check_held)),
        Err(error) => return failed(&error),
    }
    match lag(&log, read_model).await {
        Ok(lag) if lag.oldest < MAX_LAG => {
            findings.push(Finding::ok(format!("the read model is {} events behind", lag.events)));
        }
        Ok(lag) => findings.push(Finding::error(
            format!("the read model is {} events behind; the oldest of them is {:.0?} old", lag.events, lag.oldest),
            "check the projectors' logs; more projectors share the partitions, up to one for each partition",
        )),
        Err(error) => return failed(&error),
    }
    if let Some(cache) = cache {
        findings.extend(check_stalls(read_model, cache).await);
    }
    let partitions: Vec<i32> = (0..).take(topic.partitions).collect();
    match read_model.upkeep(topic.id, &partitions).await.map(|upkeep| upkeep.open_dead_letters) {
        Ok(0) => findings.push(Finding::ok("no dead letters")),
        Ok(count) => {
            findings.push(Finding::warning(format!("dead letters: {count}"), "list them: messages dead-letters list"));
        }
        Err(error) => return failed(&error),
    }
    Checked { findings, output: Some(()) }
}

/// Whether the read model belongs to the topic, and the topic still has all records.
async fn check_folded_topic(
    config: &Config,
    description: &TopicDescription,
    read_model: &ReadModel,
    log: &LogConsumer,
) -> anyhow::Result<Checked<()>> {
    // Before the read model's offsets: they only grow, so what lies between the two is gone.
    let beginning = log.beginning_offsets().await?;
    let folded = read_model.folded_topic().await?;
    let topic = (config.kafka_topic.as_str(), description.id, description.partitions);
    if let Some(reason) = folded_mismatch(topic, folded.as_ref(), &beginning) {
        let advice = "until that is done, commands get 503 append_refused; restart all processes afterwards";
        return Ok(Checked::failed(Finding::error(reason, advice)));
    }
    if folded.is_none() {
        let advice = "start a projector: messages projector, or messages all";
        return Ok(Checked::failed(Finding::warning("no projector has run yet", advice)));
    }
    let lost = LostRecords::between(&PositionVector::default(), &beginning).map(|lost| {
        Finding::warning(
            format!("the topic no longer has its first records: {lost}"),
            "find out what deletes them; only the read model has them, and it can't be rebuilt: back Postgres up",
        )
    });
    Ok(Checked { findings: lost.into_iter().collect(), output: Some(()) })
}

/// A partition that an open transaction holds, from an offset on.
fn check_held((partition, from): (i32, i64)) -> Finding {
    Finding::error(
        format!("partition {partition}: {}", projector::held_reason(from)),
        "end it: kafka-transactions.sh find-hanging and abort, or wait for its transaction.timeout.ms; nobody else may \
         write to the topic",
    )
}

async fn lag(log: &LogConsumer, read_model: &ReadModel) -> anyhow::Result<projector::Lag> {
    let next = read_model.offsets().await?;
    Ok(projector::lag(log, (0..).zip(next.0)).await?)
}

/// The partitions that projectors report to make no progress.
async fn check_stalls(read_model: &ReadModel, cache: &Cache) -> Option<Finding> {
    cache.enter_generation(read_model.generation().await.ok()??);
    let report = stalls_report(&cache.read_stalls().await.ok()?)?;
    Some(Finding::error(report, "remove the cause; the projector tries again every few seconds by itself"))
}
