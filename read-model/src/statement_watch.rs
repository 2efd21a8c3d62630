//! The watch over a statement: how long its answer may take, and what becomes of its connection.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::error::{ends_the_connection, is_read_only};
use crate::silence::{ConnectionId, Patience, Suspicion};

/// The condition of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Ready,
    /// A statement has begun. Its caller may have stopped waiting, or got an error.
    Unfinished,
    /// It gives no more answers.
    Broken,
}

/// Watches a statement: bounds the wait for its answer, and records the condition of the connection.
pub(crate) struct Watch<'a> {
    patience: Patience<'a>,
    condition: &'a mut Condition,
    suspicion: &'a Arc<Suspicion>,
}

impl<'a> Watch<'a> {
    /// Begins with a statement on a connection.
    pub(crate) fn begin(suspicion: &'a Arc<Suspicion>, connection: ConnectionId, condition: &'a mut Condition) -> Self {
        *condition = Condition::Unfinished;
        Self { patience: Patience::new(suspicion, connection), condition, suspicion }
    }

    /// Passes the next part of the answer on, or an error if none came for too long.
    pub(crate) fn pass<T>(
        &mut self,
        context: &mut Context<'_>,
        came: Poll<Result<T, sqlx::Error>>,
    ) -> Poll<Result<T, sqlx::Error>> {
        let came = match came {
            Poll::Pending => self.patience.poll(context).map(Err),
            came => came,
        };
        match &came {
            Poll::Pending => {}
            Poll::Ready(Ok(_)) => self.patience.renew(),
            Poll::Ready(Err(error)) => {
                if ends_the_connection(error) {
                    *self.condition = Condition::Broken;
                }
                if is_read_only(error) {
                    self.suspicion.retire();
                }
            }
        }
        came
    }

    /// Waits for a part of the answer, or until Postgres has taken a part of the statement.
    pub(crate) async fn over<T>(
        &mut self,
        part: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, sqlx::Error> {
        let mut part = std::pin::pin!(part);
        std::future::poll_fn(|context| {
            let came = part.as_mut().poll(context);
            self.pass(context, came)
        })
        .await
    }

    /// Records that the statement has ended.
    pub(crate) fn finish(&mut self) {
        *self.condition = Condition::Ready;
    }
}

/// Waits for one answer, as long as the watch allows.
pub(crate) fn watched<'e, T: Send + 'e>(
    mut answer: BoxFuture<'e, Result<T, sqlx::Error>>,
    mut watch: Watch<'e>,
) -> BoxFuture<'e, Result<T, sqlx::Error>> {
    std::future::poll_fn(move |context| {
        let came = answer.poll_unpin(context);
        let came = watch.pass(context, came);
        if matches!(came, Poll::Ready(Ok(_))) {
            watch.finish();
        }
        came
    })
    .boxed()
}
