//! Appending an event to the log, as part of its request's trace, and telling the client when that fails.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::decide::notifications;
use domain::{Event, EventData, Position};
use event_log::{AppendError, Producer};
use service::problem::{APPEND_REFUSED, APPEND_UNKNOWN, Problem};
use service::trace::{Span, SpanKind, TraceContext};
use tokio::sync::watch;

use crate::acknowledged::AcknowledgedEvents;

/// For how long a failed append counts as the state of the log, unless a later one succeeds.
const FAILURE_COUNTS_FOR: Duration = Duration::from_secs(30);

/// An append takes at most 5 s. After this time it has certainly ended: the event is on the log, or never will be.
pub(crate) const APPEND_ENDS_AFTER: Duration = Duration::from_secs(10);

/// Appends events, unless something blocks all appends.
pub(crate) struct Appender {
    producer: Producer,
    /// Why no event may be appended now, if there is a reason.
    block: watch::Receiver<Option<String>>,
    acknowledged: Arc<AcknowledgedEvents>,
    /// When the last append failed, and why; none if it succeeded.
    last_failure: Mutex<Option<(Instant, String)>>,
}

impl Appender {
    pub(crate) fn new(producer: Producer, block: watch::Receiver<Option<String>>) -> Self {
        Self { producer, block, acknowledged: Arc::default(), last_failure: Mutex::default() }
    }

    /// Whether typing events go to another topic, whose positions clients must not see.
    pub(crate) fn has_typing_topic(&self) -> bool {
        self.producer.has_typing_topic()
    }

    /// The events that nobody can read yet.
    pub(crate) fn acknowledged(&self) -> &Arc<AcknowledgedEvents> {
        &self.acknowledged
    }

    /// Whether the last append succeeded, or was long ago.
    ///
    /// # Errors
    /// With the reason why it failed.
    pub(crate) fn check_last(&self) -> Result<(), String> {
        let last_failure = self.last_failure.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last_failure {
            Some((at, reason)) if at.elapsed() < FAILURE_COUNTS_FOR => Err(format!("the last append failed: {reason}")),
            _ => Ok(()),
        }
    }

    /// Notes the outcome of an append, for operators.
    fn note(&self, event: &Event, appended: &Result<Position, AppendError>) {
        let failure = appended.as_ref().err().map(|error| (Instant::now(), error.to_string()));
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
        // Nobody reads typing events, and they may be on another topic.
        if let Ok(position) = appended
            && !matches!(event.data, EventData::TypingStart {} | EventData::TypingStop {})
        {
            self.acknowledged.note(*position);
        }
    }

    /// Appends an event and the notifications that follow it. Waits until Kafka has acknowledged all of them.
    ///
    /// # Errors
    /// If the event is certainly not on the log, 413 `event_too_large` or 503 `append_refused`, else 503 `append_unknown`.
    pub(crate) async fn append(&self, event: &Event, trace: TraceContext) -> Result<Position, Problem> {
        if let Some(reason) = &*self.block.borrow() {
            tracing::warn!(reason, "appends are blocked; the client gets 503");
            let detail = "the log is not what it was when this service was started; the command was not executed";
            return Err(Problem::append_refused(detail, 30));
        }
        let mut events = vec![event.clone()];
        events.extend(notifications(event));
        let mut span = Span::begin(SpanKind::Producer, || format!("append {}", event.data.type_name()), Some(trace));
        span.set_attribute("messaging.system", "kafka");
        span.set_attribute("messaging.operation.type", "send");
        let appended = self.producer.append(&events, &span.context().to_string()).await;
        self.note(event, &appended);
        if let Err(error) = &appended {
            span.fail(error.to_string());
        }
        appended.map_err(|error| match error {
            AppendError::Refused(reason) => {
                tracing::warn!(reason, "Kafka refused an event; the client is told to retry");
                Problem::append_refused(APPEND_REFUSED, 1)
            }
            AppendError::TooLarge => {
                tracing::warn!("an event is larger than the topic takes; raise its max.message.bytes");
                Problem::event_too_large()
            }
            AppendError::Unknown(reason) => {
                tracing::warn!(reason, "Kafka did not confirm an event; the client is told to retry");
                Problem::append_unknown(APPEND_UNKNOWN)
            }
        })
    }
}
