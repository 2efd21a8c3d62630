//! The current end of the log: one request to Kafka serves every request of a process that asks for it at the same time.

use std::sync::Arc;

use domain::PositionVector;
use event_log::LogConsumer;
use tokio::sync::{mpsc, oneshot};

/// How many requests may wait for the log's end. Further ones are told that it is unknown.
const MAX_WAITERS: usize = 1_024;

domain::limit_rows! {
    Services, "requests that wait for the end of the log", Count MAX_WAITERS, "503 `projection_behind`", "memory";
}

type Reply = oneshot::Sender<Option<PositionVector>>;

/// Asks Kafka for the log's end, one request at a time.
pub struct LogEnd {
    requests: mpsc::Sender<Reply>,
}

impl LogEnd {
    /// Asks this consumer. Needs a tokio runtime.
    pub fn new(log: Arc<LogConsumer>) -> Self {
        let (requests, mut received) = mpsc::channel::<Reply>(MAX_WAITERS);
        tokio::spawn(async move {
            let mut waiters = Vec::new();
            // Whoever asks while a look-up is under way waits for the next one: the end in that answer may be older
            // than the request.
            while received.recv_many(&mut waiters, MAX_WAITERS).await > 0 {
                let end = match log.end_offsets().await {
                    Ok(end) => Some(end),
                    Err(error) => {
                        tracing::warn!(%error, "reading the end of the log failed; waiting requests get 503");
                        None
                    }
                };
                for reply in waiters.drain(..) {
                    // The request may have given up.
                    let _ = reply.send(end.clone());
                }
            }
        });
        Self { requests }
    }

    /// The next offset of every partition, no older than this call. None if Kafka doesn't answer or too many requests
    /// wait for it.
    pub async fn read(&self) -> Option<PositionVector> {
        let (reply, end) = oneshot::channel();
        self.requests.try_send(reply).ok()?;
        end.await.ok().flatten()
    }
}
