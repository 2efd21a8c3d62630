//! The end of the log as it is now, asked for once for all who want to know it at the same time.

use std::sync::Arc;

use domain::PositionVector;
use event_log::LogConsumer;
use tokio::sync::{mpsc, oneshot};

/// How many may wait for a look at the log's end; more are turned away.
const WAITING: usize = 1_024;

type Answer = oneshot::Sender<Option<PositionVector>>;

/// Asks Kafka for the log's ends, one question at a time.
pub(crate) struct Barrier {
    ask: mpsc::Sender<Answer>,
}

impl Barrier {
    pub(crate) fn new(log: Arc<LogConsumer>) -> Self {
        let (ask, mut asked) = mpsc::channel::<Answer>(WAITING);
        tokio::spawn(async move {
            let mut waiting = Vec::new();
            // Whoever asks while a look is under way waits for the next one: the end that is being fetched may
            // be from before they asked.
            while asked.recv_many(&mut waiting, WAITING).await > 0 {
                let end = match log.end_offsets().await {
                    Ok(end) => Some(end),
                    Err(error) => {
                        tracing::warn!(%error, "the end of the log is out of reach");
                        None
                    }
                };
                for answer in waiting.drain(..) {
                    // Whoever asked may have given up.
                    let _ = answer.send(end.clone());
                }
            }
        });
        Self { ask }
    }

    /// The next offset of every partition, no older than this call. None when Kafka doesn't answer or too many
    /// are waiting.
    pub(crate) async fn log_end(&self) -> Option<PositionVector> {
        let (answer, end) = oneshot::channel();
        self.ask.try_send(answer).ok()?;
        end.await.ok().flatten()
    }
}
