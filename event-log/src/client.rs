//! What all Kafka clients of this crate share: their settings, the target of librdkafka's own log, and the thread for
//! calls that block. A client must never create a topic by itself.

use std::future::Future;
use std::sync::Arc;

use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Forwards librdkafka's log to `tracing`. librdkafka reconnects by itself, so none of its lines is an error here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KafkaLogContext;

impl ClientContext for KafkaLogContext {
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
        tracing::warn!(%error, reason, "the Kafka client reported an error; librdkafka retries");
    }
}

impl ConsumerContext for KafkaLogContext {}

/// A client for requests about topics. Its clones share one connection.
pub(crate) type Admin = Arc<AdminClient<KafkaLogContext>>;

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
        // Nobody reads the telemetry of KIP-714, and librdkafka would measure for it on every request.
        .set("enable.metrics.push", "false")
        // The broker would create a topic that deletes old records. Only `ensure_topic` may create one.
        .set("allow.auto.create.topics", "false");
    config
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
