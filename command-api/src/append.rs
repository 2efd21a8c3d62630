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
    last: LastAppend,
}

/// The outcome of the last append: when it failed, and why; none if it succeeded.
#[derive(Default)]
struct LastAppend(Mutex<Option<(Instant, String)>>);

impl LastAppend {
    fn note(&self, appended: &Result<Position, AppendError>) {
        let failure = match appended {
            Ok(_) => None,
            // That is the command's own fault, and says nothing about the log.
            Err(AppendError::TooLarge) => return,
            Err(error) => Some((Instant::now(), error.to_string())),
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    fn check(&self) -> Result<(), String> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some((at, reason)) if at.elapsed() < FAILURE_COUNTS_FOR => Err(format!("the last append failed: {reason}")),
            _ => Ok(()),
        }
    }
}

impl Appender {
    pub(crate) fn new(producer: Producer, block: watch::Receiver<Option<String>>) -> Self {
        Self { producer, block, acknowledged: Arc::default(), last: LastAppend::default() }
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
        self.last.check()
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
        self.last.note(&appended);
        // Nobody reads typing events, and they may be on another topic.
        if let Ok(position) = appended
            && !matches!(event.data, EventData::TypingStart {} | EventData::TypingStop {})
        {
            self.acknowledged.note(position);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_append_that_failed_is_the_state_of_the_log_until_one_succeeds() {
        let last = LastAppend::default();
        last.note(&Err(AppendError::TooLarge));
        assert_eq!(last.check(), Ok(()), "one user's event says nothing about the log");
        last.note(&Err(AppendError::Refused("no broker answers".to_owned())));
        assert_eq!(last.check(), Err("the last append failed: refused: no broker answers".to_owned()));
        last.note(&Err(AppendError::TooLarge));
        assert!(last.check().is_err(), "nor that the log works again");
        last.note(&Ok(Position { partition: 0, offset: 7 }));
        assert_eq!(last.check(), Ok(()));
    }
}
