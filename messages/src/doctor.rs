//! `messages doctor`: looks everything over and says what to do.

use std::fmt;
use std::time::Duration;

use anyhow::bail;
use cache::Cache;
use event_log::{LogConsumer, TopicDescription, describe_topic};
use read_model::ReadModel;
use service::config::{Config, Environment};

use crate::topic::copies;

/// How long each of the looks may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// The oldest Postgres that the SQL is known to run on.
const POSTGRES: i32 = 130_000;
/// The oldest Redis that has all commands (GETEX).
const REDIS: (u32, u32) = (6, 2);
/// From this lag on something is wrong: in a steady stream the projector is a quarter of a second behind.
const LAG: Duration = Duration::from_secs(10);

/// What was found.
struct Finding {
    verdict: Verdict,
    what: String,
    /// What to do about it.
    advice: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Well,
    /// It works, but not as well as it could.
    Poor,
    Wrong,
}

impl Finding {
    fn well(what: impl Into<String>) -> Self {
        Self { verdict: Verdict::Well, what: what.into(), advice: "" }
    }

    fn poor(what: impl Into<String>, advice: &'static str) -> Self {
        Self { verdict: Verdict::Poor, what: what.into(), advice }
    }

    fn wrong(what: impl Into<String>, advice: &'static str) -> Self {
        Self { verdict: Verdict::Wrong, what: what.into(), advice }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.verdict {
            Verdict::Well => '✓',
            Verdict::Poor => '!',
            Verdict::Wrong => '✗',
        };
        write!(f, "{sign} {}", self.what)?;
        if self.advice.is_empty() { Ok(()) } else { write!(f, "\n    → {}", self.advice) }
    }
}

/// Looks everything over, and prints what was found.
///
/// # Errors
/// When something is wrong.
pub(crate) async fn run(config: &Config) -> anyhow::Result<()> {
    println!("messages {}", env!("CARGO_PKG_VERSION"));
    let mut findings = configuration(config);
    let (kafka, postgres, redis) = tokio::join!(
        within(kafka(config), "Kafka did not answer in 15 s"),
        within(postgres(config), "Postgres did not answer in 15 s"),
        within(redis(config), "Redis did not answer in 15 s"),
    );
    let (kafka, topic) = split(kafka);
    let (postgres, read_model) = split(postgres);
    findings.extend(kafka.into_iter().chain(postgres).chain(redis.unwrap_or_else(|late| vec![late])));
    if let (Some(topic), Some(read_model)) = (topic, read_model) {
        let looked = within(projection(config, &topic, &read_model), "the projection could not be seen in 15 s").await;
        findings.extend(looked.unwrap_or_else(|late| vec![late]));
    }
    for finding in &findings {
        println!("{finding}");
    }
    match findings.iter().filter(|finding| finding.verdict == Verdict::Wrong).count() {
        0 => Ok(()),
        wrong => bail!("{wrong} of these {}: see the arrows", if wrong == 1 { "is wrong" } else { "are wrong" }),
    }
}

async fn within<T>(look: impl Future<Output = T>, late: &'static str) -> Result<T, Finding> {
    let looked = tokio::time::timeout(PATIENCE, look).await;
    looked
        .map_err(|_| Finding::wrong(late, "see whether it is overloaded, and whether a firewall swallows connections"))
}

fn split<T>(looked: Result<(Vec<Finding>, Option<T>), Finding>) -> (Vec<Finding>, Option<T>) {
    looked.unwrap_or_else(|late| (vec![late], None))
}

fn configuration(config: &Config) -> Vec<Finding> {
    let secret = match config.secret() {
        Err(error) => {
            Finding::wrong(error.to_string(), "the same for all processes, such as openssl rand -base64 48 makes it")
        }
        Ok(_) if config.environment == Environment::Development => {
            Finding::poor("development: anyone can sign tokens", "set MESSAGES_ENV=production for others to use it")
        }
        Ok(secret) if config.has_weak_secret() => Finding::poor(
            format!("AUTH_JWT_SECRET has {} bytes", secret.len()),
            "use at least 32 random ones; then tokens can't be guessed",
        ),
        Ok(_) => Finding::well("AUTH_JWT_SECRET is set"),
    };
    vec![secret]
}

async fn kafka(config: &Config) -> (Vec<Finding>, Option<TopicDescription>) {
    let name = &config.kafka_topic;
    let topic = match describe_topic(&config.kafka_brokers, name).await {
        Ok(Some(topic)) => topic,
        Ok(None) => {
            let missing =
                Finding::poor(format!("Kafka answers, and has no topic {name}"), "make it: messages topic --make");
            return (vec![missing], None);
        }
        Err(error) => {
            let advice = "start Kafka, or set KAFKA_BROKERS (scripts/services up starts one for development)";
            return (vec![Finding::wrong(error.to_string(), advice)], None);
        }
    };
    let mut findings = vec![Finding::well(format!(
        "Kafka answers and knows topic ids (2.8 or newer), brokers: {}; the topic {name} has {} partitions",
        topic.brokers, topic.partitions
    ))];
    findings.extend(topic.wrong().map(|setting| {
        Finding::wrong(
            format!("the topic has {}={}, but needs {}", setting.name, setting.found, setting.wanted),
            "set it with kafka-configs --alter: the topic is the system of record",
        )
    }));
    if !topic.leaderless.is_empty() {
        let advice = "bring the brokers back that have them; until then their conversations stand still";
        findings.push(Finding::wrong(format!("partitions without a leader: {:?}", topic.leaderless), advice));
    }
    let kept = format!("what is acknowledged is on {}", copies(&topic));
    findings.push(if topic.copies() < 2 {
        Finding::poor(kept, "with three brokers, give the topic three replicas and min.insync.replicas=2")
    } else if topic.in_sync < topic.replicas {
        Finding::poor(
            format!("{kept}; only {} of {} replicas follow", topic.in_sync, topic.replicas),
            "see to the brokers that lag",
        )
    } else {
        Finding::well(kept)
    });
    (findings, Some(topic))
}

async fn postgres(config: &Config) -> (Vec<Finding>, Option<ReadModel>) {
    let looked = match ReadModel::connect(&config.database_url, &config.database_schema, 2) {
        Ok(read_model) => read_model.health().await.map(|health| (health, read_model)),
        Err(error) => Err(error),
    };
    let (health, read_model) = match looked {
        Ok(looked) => looked,
        Err(error) => {
            let advice = "start Postgres, or set DATABASE_URL (scripts/services up starts one for development)";
            return (vec![Finding::wrong(error.to_string(), advice)], None);
        }
    };
    let mut findings = vec![if health.version_number < POSTGRES {
        Finding::wrong(format!("Postgres is {}", health.version), "use 13 or newer")
    } else {
        Finding::well(format!("Postgres {} answers", health.version))
    }];
    if i64::from(config.database_connections) * 2 > health.max_connections {
        let what = format!(
            "Postgres takes {} connections, and each process opens up to {}",
            health.max_connections, config.database_connections
        );
        findings.push(Finding::poor(what, "raise max_connections, or lower DATABASE_CONNECTIONS"));
    }
    if health.pending_migrations > 0 {
        let what = format!("the schema {} lacks {} migrations", config.database_schema, health.pending_migrations);
        findings.push(Finding::wrong(what, "run messages migrate; a projector does it when it starts"));
        return (findings, None);
    }
    findings.push(Finding::well(format!("the schema {} is up to date", config.database_schema)));
    (findings, Some(read_model))
}

async fn redis(config: &Config) -> Vec<Finding> {
    let looked = match Cache::connect(&config.redis_url, &config.redis_prefix) {
        Ok(cache) => cache.health().await,
        Err(error) => Err(error),
    };
    let health = match looked {
        Ok(health) => health,
        Err(error) => {
            let advice = "everything goes on without, only slower; start Redis, or set REDIS_URL";
            return vec![Finding::poor(error.to_string(), advice)];
        }
    };
    let mut parts = health.version.split('.').map(|part| part.parse().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let mut findings = vec![if version < REDIS {
        Finding::wrong(format!("Redis is {}", health.version), "use 6.2 or newer")
    } else {
        Finding::well(format!("Redis {} answers", health.version))
    }];
    if health.eviction != "noeviction" {
        let what = format!("Redis throws keys away when it is full (maxmemory-policy {})", health.eviction);
        findings.push(Finding::poor(what, "with noeviction, limits and idempotency keys are never what goes"));
    }
    findings
}

async fn projection(config: &Config, topic: &TopicDescription, read_model: &ReadModel) -> Vec<Finding> {
    let unseen = |error: &dyn fmt::Display| vec![Finding::wrong(error.to_string(), "run messages doctor again")];
    match read_model.topic_id().await {
        Ok(None) => {
            return vec![Finding::poor(
                "nothing was ever projected",
                "start a projector: messages projector, or messages all",
            )];
        }
        Ok(Some(of)) if of != topic.id => {
            let advice = "if the topic is right, run messages rebuild --reset, and start the processes anew";
            return vec![Finding::wrong("the read model was folded from another topic", advice)];
        }
        Ok(Some(_)) => {}
        Err(error) => return unseen(&error),
    }
    let mut findings = Vec::new();
    match read_model.leases().await {
        Ok(leases) if leases.unowned.is_empty() => {
            findings.push(Finding::well(format!("projectors at work: {}", leases.projectors)));
        }
        Ok(leases) => findings.push(Finding::wrong(
            format!("nobody projects the partitions {:?}", leases.unowned),
            "start a projector: messages projector; with none, reads grow old",
        )),
        Err(error) => return unseen(&error),
    }
    match lag(config, read_model).await {
        Ok(lag) if lag.oldest < LAG => {
            findings.push(Finding::well(format!("the read model is {} events behind", lag.events)))
        }
        Ok(lag) => findings.push(Finding::wrong(
            format!("the read model is {} events behind, the oldest of {:.0?}", lag.events, lag.oldest),
            "see the projectors' logs; more of them share the partitions, up to one for each",
        )),
        Err(error) => return unseen(&error),
    }
    let partitions: Vec<i32> = (0..).take(topic.partitions).collect();
    match read_model.count_dead_letters(topic.id, &partitions).await {
        Ok(0) => findings.push(Finding::well("no dead letters")),
        Ok(count) => findings.push(Finding::poor(format!("dead letters: {count}"), "see messages dead-letters list")),
        Err(error) => return unseen(&error),
    }
    findings
}

async fn lag(config: &Config, read_model: &ReadModel) -> anyhow::Result<projector::Lag> {
    let log = LogConsumer::new(&config.kafka_brokers, &config.kafka_topic, "doctor")?;
    let next = read_model.offsets().await?;
    Ok(projector::lag(&log, (0..).zip(next.0)).await?)
}
