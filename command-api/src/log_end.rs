//! The current end of the log: one request to Kafka serves every command that asks for it at the same time.

use std::sync::Arc;

use domain::PositionVector;
use event_log::LogConsumer;
use tokio::sync::{mpsc, oneshot};

/// How many commands may wait for the log's end. Further ones are told that it is unknown.
const MAX_WAITERS: usize = 1_024;

domain::limit_rows! {
    Services, "commands that wait for the end of the log", Count MAX_WAITERS, "503 `projection_behind`", "memory";
}

type Reply = oneshot::Sender<Option<PositionVector>>;

/// Asks Kafka for the log's end, one request at a time.
pub(crate) struct LogEnd {
    requests: mpsc::Sender<Reply>,
}

impl LogEnd {
    /// Needs a tokio runtime.
    pub(crate) fn new(log: Arc<LogConsumer>) -> Self {
        let (requests, mut received) = mpsc::channel::<Reply>(MAX_WAITERS);
        tokio::spawn(async move {
            let mut waiters = Vec::new();
            // A command that asks while a request is under way waits for the next one: the end in that answer may be
            // older than the command.
            while received.recv_many(&mut waiters, MAX_WAITERS).await > 0 {
                let end = match log.end_offsets().await {
                    Ok(end) => Some(end),
                    Err(error) => {
                        tracing::warn!(%error, "reading the end of the log failed; waiting commands get 503");
                        None
                    }
                };
                for reply in waiters.drain(..) {
                    // The command may have given up.
                    let _ = reply.send(end.clone());
                }
            }
        });
        Self { requests }
    }

    /// The next offset of every partition, no older than this call. None if Kafka doesn't answer or too many commands
    /// wait for it.
    pub(crate) async fn read(&self) -> Option<PositionVector> {
        let (reply, end) = oneshot::channel();
        self.requests.try_send(reply).ok()?;
        end.await.ok().flatten()
    }
}
