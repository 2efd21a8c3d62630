//! What all Kafka clients of this crate share: their settings, the target of librdkafka's own log, the count of their
//! requests, and the thread for calls that block. A client must never create a topic by itself.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use serde::Deserialize;

/// How often a client with [`count_requests`] reports its statistics, in milliseconds. A report is 6 KB of JSON, and 1 KB
/// more for each partition. Every ten seconds it also costs a request for the oldest offset of each partition that the
/// client reads.
const STATISTICS_INTERVAL_MS: &str = "5000";

/// What librdkafka reports back to. Forwards its log to `tracing`: librdkafka reconnects by itself, so none of its lines
/// is an error here. Counts the requests of one client, if the client reports them.
#[derive(Debug, Default)]
pub(crate) struct KafkaContext {
    /// How many requests of the client the metrics include.
    counted_requests: AtomicU64,
}

/// The part of librdkafka's statistics that the metrics include.
#[derive(Deserialize)]
struct Statistics<'a> {
    #[serde(rename = "type")]
    client: &'a str,
    /// The requests that the client has sent to all brokers since it began.
    #[serde(rename = "tx")]
    requests: u64,
}

impl ClientContext for KafkaContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::warn!(facility, message, "librdkafka");
            }
            RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => tracing::info!(facility, message, "librdkafka"),
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => tracing::debug!(facility, message, "librdkafka"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            // No failure: a consumer that asks for it hears of it in its queue, too.
            return;
        }
        tracing::warn!(%error, reason, "the Kafka client reported an error; librdkafka retries");
    }

    fn stats_raw(&self, statistics: &[u8]) {
        match serde_json::from_slice(statistics) {
            Ok(Statistics { client, requests }) => {
                let client = if client == "producer" { "producer" } else { "consumer" };
                let before = self.counted_requests.swap(requests, Ordering::Relaxed);
                let new = requests.saturating_sub(before);
                metrics::counter!("kafka_requests_total", "client" => client).increment(new);
            }
            Err(error) => tracing::debug!(%error, "librdkafka's statistics have another form; requests aren't counted"),
        }
    }
}

impl ConsumerContext for KafkaContext {}

/// A client for requests about topics. Its clones share one connection.
pub(crate) type Admin = Arc<AdminClient<KafkaContext>>;

/// How long Kafka may take for a response, beyond the time that a request asks it to wait.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(4);

domain::limit_rows! {
    Services, "a response of Kafka", Time SOCKET_TIMEOUT, "the process connects again", "whoever waits for events on a connection that has died silently";
}

/// The settings of every client; callers add their own.
pub(crate) fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("client.id", "messages")
        // Send small requests at once.
        .set("socket.nagle.disable", "true")
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000")
        // A connection on which nothing comes back is dead: the client closes it and connects again.
        .set("socket.timeout.ms", SOCKET_TIMEOUT.as_millis().to_string())
        .set("socket.keepalive.enable", "true")
        // Nobody reads the telemetry of KIP-714, and librdkafka would measure for it on every request.
        .set("enable.metrics.push", "false")
        // The broker would create a topic that deletes old records. Only `ensure_topic` may create one.
        .set("allow.auto.create.topics", "false");
    config
}

/// How long a look-up may take, with everything that it needs.
pub(crate) const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// The settings of a client for look-ups, whose callers wait for [`LOOKUP_TIMEOUT`] at most.
pub(crate) fn lookup_config(brokers: &str, group: &str) -> ClientConfig {
    let mut config = config(brokers);
    config
        // librdkafka demands a group even of consumers that join none.
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false");
    config
}

/// Makes a client report how many requests it sends to the brokers. Only for a client that is polled all the time: its
/// reports wait in its queue, and nothing limits how many.
pub(crate) fn count_requests(config: &mut ClientConfig) {
    config.set("statistics.interval.ms", STATISTICS_INTERVAL_MS);
}

/// Whether librdkafka recovers from an error by itself: a lost connection, which it restores however long that takes.
/// librdkafka has already logged such an error.
pub(crate) fn is_transient(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, Resolve};
    matches!(error.rdkafka_error_code(), Some(AllBrokersDown | BrokerTransportFailure | Resolve))
}

/// Runs a blocking call on a thread for such calls. A panic of the call becomes an error.
pub(crate) fn run_blocking<T: Send + 'static>(
    call: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = Result<T, tokio::task::JoinError>> {
    tokio::task::spawn_blocking(call)
}
