//! What every client of Kafka shares: its settings, and where librdkafka's own log goes.

use std::future::Future;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Sends librdkafka's log to `tracing`.
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
        tracing::warn!(%error, reason, "Kafka client");
    }
}

impl ConsumerContext for KafkaLogContext {}

pub(crate) fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("client.id", "messages")
        // Small requests go out at once.
        .set("socket.nagle.disable", "true")
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000")
        // Nobody asks for the telemetry of KIP-714, and measuring for it costs on every request.
        .set("enable.metrics.push", "false")
        // A topic that the broker makes by itself forgets: only `ensure_topic` makes one.
        .set("allow.auto.create.topics", "false");
    config
}

/// Whether librdkafka gets over an error by itself: a lost connection, which it makes again for as long as
/// it takes. It has been logged by then.
pub(crate) fn is_passing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, Resolve};
    matches!(error.rdkafka_error_code(), Some(AllBrokersDown | BrokerTransportFailure | Resolve))
}

/// Runs what blocks on a thread for that; a panic there is an error here.
pub(crate) fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = Result<T, tokio::task::JoinError>> {
    tokio::task::spawn_blocking(work)
}
