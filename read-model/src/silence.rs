//! Notices that a connection has died without a sign: everything sent on it vanishes, and nothing ever comes back. TCP
//! reports that only after many minutes, and sqlx can't set the options that would shorten the time. This module counts
//! the seconds in which a statement gets no answer.
//!
//! Postgres itself ends a statement after [`STATEMENT_TIMEOUT_MS`] and reports it. If no report comes, the connection is
//! dead, or the server no longer works. All connections that are as old are then *suspect*: the pool closes the idle
//! ones, and a statement under way has a second left. One dead connection uncovers the others.
//!
//! Each process sends Postgres a statement every second. It has noticed all dead connections at most six seconds after
//! they died: the first statement begins within one second, waits for four, and the others fail within one more.

use std::io;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// How long Postgres works on a statement at most. After this time, the client that waits for the result has given up.
pub(crate) const STATEMENT_TIMEOUT_MS: u32 = 3_000;
/// How many seconds a statement may be without an answer: one more than Postgres takes to give up.
const SILENCE_MAX: u32 = 4;
/// The same on a connection that is suspect.
const SUSPECT_SILENCE_MAX: u32 = 1;
/// The unit in which silence is measured. A process that was stopped for a minute counts one, not sixty: the answer may
/// have come in the meantime.
const TICK: Duration = Duration::from_secs(1);

domain::limit_rows! {
    Services, "seconds in which a statement gets no answer from Postgres", Count SILENCE_MAX, "the connection, and all that are as old, are replaced; 503 `unavailable`", "requests and batches, which wait for it";
    Services, "the same, once another connection has died", Count SUSPECT_SILENCE_MAX, "the connection is replaced; 503 `unavailable`", "requests and batches, which wait for it";
}

/// Which connections of a pool are no longer trusted: those that are older than these events.
#[derive(Debug, Default)]
pub(crate) struct Suspicion(Mutex<Since>);

#[derive(Debug, Default, Clone, Copy)]
struct Since {
    /// A connection went silent.
    silent_at: Option<Instant>,
    /// The connections became useless, for this or another reason.
    useless_at: Option<Instant>,
}

impl Suspicion {
    /// Distrusts all connections that are open now, because one went silent that was opened at this time. One that was
    /// suspect already says nothing new: those that were opened since then may be good.
    fn raise(&self, connected_at: Instant) {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if since.silent_at.is_some_and(|at| connected_at <= at) {
            return;
        }
        tracing::warn!(seconds = SILENCE_MAX, "Postgres gave no answer; replacing the connections to it");
        let now = Instant::now();
        *since = Since { silent_at: Some(now), useless_at: Some(now) };
    }

    /// Distrusts all connections that are open now: they lead to a server that is of no use.
    pub(crate) fn retire(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).useless_at = Some(Instant::now());
    }

    /// Whether a connection of this age may get another statement.
    pub(crate) fn trusts(&self, connected_at: Instant) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).useless_at.is_none_or(|at| at < connected_at)
    }

    fn silence_max(&self, connected_at: Instant) -> u32 {
        let silent_at = self.0.lock().unwrap_or_else(PoisonError::into_inner).silent_at;
        if silent_at.is_none_or(|at| at < connected_at) { SILENCE_MAX } else { SUSPECT_SILENCE_MAX }
    }
}

/// The wait for the answer to a statement.
pub(crate) struct Patience<'a> {
    suspicion: &'a Suspicion,
    connected_at: Instant,
    tick: Pin<Box<Sleep>>,
    silent_ticks: u32,
}

impl<'a> Patience<'a> {
    /// Begins to wait for an answer on a connection of this age.
    pub(crate) fn new(suspicion: &'a Suspicion, connected_at: Instant) -> Self {
        Self { suspicion, connected_at, tick: Box::pin(tokio::time::sleep(TICK)), silent_ticks: 0 }
    }

    /// Begins to count again, because a part of the answer has come.
    pub(crate) fn renew(&mut self) {
        self.silent_ticks = 0;
    }

    /// Ready with an error when nothing has come for too long. The caller must then close the connection.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<sqlx::Error> {
        loop {
            ready!(self.tick.as_mut().poll(context));
            self.silent_ticks += 1;
            if self.silent_ticks >= self.suspicion.silence_max(self.connected_at) {
                self.suspicion.raise(self.connected_at);
                return Poll::Ready(silent());
            }
            self.tick.as_mut().reset(Instant::now() + TICK);
        }
    }

    /// Waits for one answer.
    ///
    /// # Errors
    /// When it doesn't come in time. The caller must then close the connection.
    pub(crate) async fn wait<T>(
        mut self,
        answer: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, sqlx::Error> {
        let mut answer = std::pin::pin!(answer);
        std::future::poll_fn(|context| match answer.as_mut().poll(context) {
            Poll::Pending => self.poll(context).map(Err),
            answered => answered,
        })
        .await
    }
}

/// The error of an operation that got no answer.
pub(crate) fn silent() -> sqlx::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time; the connection may be dead").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many seconds a connection waits for an answer that never comes.
    async fn seconds_until_lost(suspicion: &Suspicion, connected_at: Instant) -> u64 {
        let began = Instant::now();
        let nothing = std::future::pending::<Result<(), sqlx::Error>>();
        assert!(Patience::new(suspicion, connected_at).wait(nothing).await.is_err());
        began.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn one_silent_connection_uncovers_those_that_are_as_old() {
        let suspicion = Suspicion::default();
        let before = Instant::now();
        assert!(suspicion.trusts(before));
        assert_eq!(seconds_until_lost(&suspicion, before).await, u64::from(SILENCE_MAX));
        assert!(!suspicion.trusts(before));
        assert_eq!(seconds_until_lost(&suspicion, before).await, u64::from(SUSPECT_SILENCE_MAX));
        tokio::time::advance(TICK).await;
        let after = Instant::now();
        assert!(suspicion.trusts(after));
        assert_eq!(seconds_until_lost(&suspicion, before).await, u64::from(SUSPECT_SILENCE_MAX));
        assert!(suspicion.trusts(after), "the end of an old connection says nothing about a new one");
        assert_eq!(seconds_until_lost(&suspicion, after).await, u64::from(SILENCE_MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_in_which_the_process_was_stopped_is_no_silence() {
        let suspicion = Suspicion::default();
        let began = Instant::now();
        let late = async {
            tokio::time::advance(TICK * 60).await;
            tokio::task::yield_now().await;
            Ok(())
        };
        assert!(Patience::new(&suspicion, began).wait(late).await.is_ok());
    }
}
