//! Notices that a connection has died without a sign: everything sent on it vanishes, and nothing ever comes back. TCP
//! reports that only after many minutes, and sqlx can't set the options that would shorten the time. This module counts
//! the seconds in which a statement gets no answer.
//!
//! After [`ASKS_AFTER`], it asks Postgres on a new connection whether it is at work on the statement. If not, the
//! connection is dead. Postgres itself ends a statement after [`STATEMENT_TIMEOUT_MS`] and reports it. If no report comes,
//! the connection is dead, too, or the server no longer works. All connections that are as old are then *suspect*: the
//! pool closes the idle ones, and a statement under way has a second left. One dead connection uncovers the others.
//!
//! Each process sends Postgres a statement every second. If new connections work, it has noticed all dead ones at most
//! three and a half seconds after they died: the first statement begins within one second, waits for one, the question
//! takes half a second, and the others fail within one more.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep};

/// How long Postgres works on a statement at most. After this time, the client that waits for the result has given up.
pub(crate) const STATEMENT_TIMEOUT_MS: u32 = 3_000;
/// How long a statement may be without an answer: a second more than Postgres takes to give up.
const SILENCE_MAX: Duration = Duration::from_secs(4);
/// The same on a connection that is suspect.
const SUSPECT_SILENCE_MAX: Duration = Duration::from_secs(1);
/// How long a statement is without an answer before the process asks whether Postgres is at work on it.
const ASKS_AFTER: Duration = Duration::from_secs(1);
/// How long the process waits for the answer to that.
const ASKING_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest pause between two such questions.
const ASKS_EVERY_MAX: Duration = Duration::from_secs(10);
/// The pause before it asks again, to be sure.
const ASKS_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// The pause before the server processes of dead connections are terminated, and before each further attempt.
const TERMINATES_AFTER: Duration = Duration::from_millis(200);
/// How many such attempts follow each other.
const TERMINATIONS_MAX: u32 = 20;
/// The unit in which silence is measured. A process that was stopped for a minute counts one, not many: the answer may
/// have come in the meantime.
const TICK: Duration = Duration::from_millis(250);

domain::limit_rows! {
    Services, "wait for the answer to a statement", Time SILENCE_MAX, "the connection, and all that are as old, are replaced; 503 `unavailable`", "requests and batches, which wait for it";
    Services, "the same, once another connection has died", Time SUSPECT_SILENCE_MAX, "the connection is replaced; 503 `unavailable`", "requests and batches, which wait for it";
    Services, "pause between two questions whether Postgres is at work on a statement", Time ASKS_EVERY_MAX, "the next question", "Postgres, and what waits for a statement on a dead connection";
    Services, "attempts in a row to terminate the server processes of dead connections", Count TERMINATIONS_MAX, "Postgres ends them when it learns that their clients are gone", "Postgres";
    Services, "question on a new connection, one at a time for each pool, whether Postgres is at work on a statement", Time ASKING_TIMEOUT, "the statement waits on", "Postgres, which the question costs a connection";
}

/// An open connection, as the watch over its statements knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionId {
    pub(crate) connected_at: Instant,
    /// The id of its server process.
    pub(crate) pid: i32,
}

/// Which connections of a pool are no longer trusted: those that are older than the events in [`Since`].
pub(crate) struct Suspicion {
    since: Mutex<Since>,
    /// How long an answer may take. Without it, a statement may take as long as Postgres is at work on it.
    silence_max: Option<Duration>,
    /// Where another connection leads to the same server.
    options: PgConnectOptions,
    is_asking: AtomicBool,
    /// The server processes of connections that were closed because they weren't trusted.
    abandoned: Mutex<Vec<i32>>,
    is_terminating: AtomicBool,
}

#[derive(Debug, Default, Clone, Copy)]
struct Since {
    /// A connection went silent.
    silent_at: Option<Instant>,
    /// The connections became useless, for this or another reason.
    useless_at: Option<Instant>,
}

impl Suspicion {
    /// Trusts all connections that are opened with these options. An answer may take a few seconds.
    pub(crate) fn new(options: PgConnectOptions) -> Self {
        Self { silence_max: Some(SILENCE_MAX), ..Self::without_limit(options) }
    }

    /// The same. An answer may take as long as Postgres is at work on it.
    pub(crate) fn without_limit(options: PgConnectOptions) -> Self {
        Self {
            since: Mutex::default(),
            silence_max: None,
            options,
            is_asking: AtomicBool::new(false),
            abandoned: Mutex::default(),
            is_terminating: AtomicBool::new(false),
        }
    }

    /// Distrusts all connections that are open now, because one went silent that was opened at this time. One that was
    /// suspect already says nothing new: those that were opened since then may be good.
    fn raise(&self, connected_at: Instant) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.silent_at.is_some_and(|at| connected_at <= at) {
            return;
        }
        tracing::warn!("a connection to Postgres gives no answer; replacing all that are as old");
        let now = Instant::now();
        *since = Since { silent_at: Some(now), useless_at: Some(now) };
    }

    /// Distrusts all connections that are open now: they lead to a server that is of no use.
    pub(crate) fn retire(&self) {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).useless_at = Some(Instant::now());
    }

    /// Whether a connection of this age may get another statement.
    pub(crate) fn trusts(&self, connected_at: Instant) -> bool {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).useless_at.is_none_or(|at| at < connected_at)
    }

    /// Asks Postgres whether it is at work for a connection, and distrusts the connection if not. Does so in a task of its
    /// own, unless another question is under way. Sets `is_dead` then, too.
    fn ask(self: &Arc<Self>, connection: ConnectionId, is_dead: &Arc<AtomicBool>) {
        // Without a runtime, the process is ending.
        let Ok(runtime) = Handle::try_current() else { return };
        if self.is_asking.swap(true, Ordering::Relaxed) {
            return;
        }
        let (suspicion, is_dead) = (self.clone(), is_dead.clone());
        runtime.spawn(async move {
            let idles = tokio::time::timeout(ASKING_TIMEOUT, idles(&suspicion.options, connection.pid)).await;
            if let Ok(Ok(true)) = idles {
                is_dead.store(true, Ordering::Relaxed);
                suspicion.raise(connection.connected_at);
            }
            suspicion.is_asking.store(false, Ordering::Relaxed);
        });
    }

    /// Takes note that a connection was closed because it isn't trusted, and terminates its server process: nobody tells
    /// it that its client is gone. Until it learns that, it would keep its locks, and a place that new connections need.
    pub(crate) fn abandon(self: &Arc<Self>, connection: ConnectionId) {
        self.abandoned.lock().unwrap_or_else(PoisonError::into_inner).push(connection.pid);
        let Ok(runtime) = Handle::try_current() else { return };
        if self.is_terminating.swap(true, Ordering::Relaxed) {
            return;
        }
        let suspicion = self.clone();
        runtime.spawn(async move {
            for _ in 0..TERMINATIONS_MAX {
                // Others follow.
                tokio::time::sleep(TERMINATES_AFTER).await;
                let pids = std::mem::take(&mut *suspicion.abandoned.lock().unwrap_or_else(PoisonError::into_inner));
                if pids.is_empty() {
                    break;
                }
                let terminated = tokio::time::timeout(ASKING_TIMEOUT, terminate(&suspicion.options, &pids)).await;
                if !matches!(terminated, Ok(Ok(()))) {
                    suspicion.abandoned.lock().unwrap_or_else(PoisonError::into_inner).extend(pids);
                }
            }
            suspicion.is_terminating.store(false, Ordering::Relaxed);
        });
    }

    fn silence_max(&self, connected_at: Instant) -> Option<Duration> {
        let silent_at = self.since.lock().unwrap_or_else(PoisonError::into_inner).silent_at;
        let is_suspect = silent_at.is_some_and(|at| connected_at <= at);
        self.silence_max.map(|limit| if is_suspect { SUSPECT_SILENCE_MAX } else { limit })
    }
}

/// Whether a server process has been waiting for its client for a while, or is gone: then it won't answer.
async fn idles(options: &PgConnectOptions, pid: i32) -> Result<bool, sqlx::Error> {
    let mut connection = PgConnection::connect_with(options).await?;
    // A copy from its client may just be waiting for the next rows.
    let idles = waits_for_client(&mut connection, pid).await? && {
        tokio::time::sleep(ASKS_AGAIN_AFTER).await;
        waits_for_client(&mut connection, pid).await?
    };
    connection.close().await?;
    Ok(idles)
}

/// The condition of a server process that has been waiting for its client for a while. Without `track_activities`, nobody
/// knows. An answer may be on its way. While it copies rows from its client, it is active whenever it waits for them, too.
const WAITS_FOR_CLIENT: &str = "(state LIKE 'idle%' OR wait_event IS NOT DISTINCT FROM 'ClientRead')
                                AND state_change <= clock_timestamp() - interval '1 s'";

/// Terminates the server processes that wait for their clients.
async fn terminate(options: &PgConnectOptions, pids: &[i32]) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect_with(options).await?;
    let pids: Vec<String> = pids.iter().map(i32::to_string).collect();
    let statement = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE pid IN ({}) AND {WAITS_FOR_CLIENT}",
        pids.join(", ")
    );
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
    connection.close().await
}

async fn waits_for_client(connection: &mut PgConnection, pid: i32) -> Result<bool, sqlx::Error> {
    let question = format!(
        "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid} AND ({WAITS_FOR_CLIENT}) IS NOT TRUE)"
    );
    let row = sqlx::raw_sql(AssertSqlSafe(question)).fetch_one(connection).await?;
    sqlx::Row::try_get(&row, 0)
}

/// The wait for the answer to a statement.
pub(crate) struct Patience<'a> {
    suspicion: &'a Arc<Suspicion>,
    connection: ConnectionId,
    tick: Pin<Box<Sleep>>,
    silent_for: Duration,
    /// At which silence the process asks Postgres.
    asks_at: Duration,
    /// Whether Postgres said that it isn't at work for the connection.
    is_dead: Arc<AtomicBool>,
}

impl<'a> Patience<'a> {
    /// Begins to wait for an answer on a connection.
    pub(crate) fn new(suspicion: &'a Arc<Suspicion>, connection: ConnectionId) -> Self {
        let tick = Box::pin(tokio::time::sleep(TICK));
        Self { suspicion, connection, tick, silent_for: Duration::ZERO, asks_at: ASKS_AFTER, is_dead: Arc::default() }
    }

    /// Begins to count again, because a part of the answer has come.
    pub(crate) fn renew(&mut self) {
        (self.silent_for, self.asks_at) = (Duration::ZERO, ASKS_AFTER);
    }

    /// Ready with an error when nothing has come for too long. The caller must then close the connection.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<sqlx::Error> {
        loop {
            ready!(self.tick.as_mut().poll(context));
            self.silent_for += TICK;
            let limit = self.suspicion.silence_max(self.connection.connected_at);
            if self.is_dead.load(Ordering::Relaxed) || limit.is_some_and(|limit| self.silent_for >= limit) {
                self.suspicion.raise(self.connection.connected_at);
                return Poll::Ready(silent());
            }
            if self.silent_for >= self.asks_at {
                // A statement that takes long anyway costs few questions.
                self.asks_at += (self.silent_for / 2).min(ASKS_EVERY_MAX);
                self.suspicion.ask(self.connection, &self.is_dead);
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

    /// New connections are refused.
    fn nobody_answers() -> Arc<Suspicion> {
        Arc::new(Suspicion::new(PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(1)))
    }

    /// How long a connection waits for an answer that never comes.
    async fn wait_until_lost(suspicion: &Arc<Suspicion>, connected_at: Instant) -> Duration {
        let began = Instant::now();
        let nothing = std::future::pending::<Result<(), sqlx::Error>>();
        assert!(Patience::new(suspicion, ConnectionId { connected_at, pid: 1 }).wait(nothing).await.is_err());
        Duration::from_millis(began.elapsed().as_millis() as u64)
    }

    #[tokio::test(start_paused = true)]
    async fn one_silent_connection_uncovers_those_that_are_as_old() {
        let suspicion = nobody_answers();
        let before = Instant::now();
        assert!(suspicion.trusts(before));
        assert_eq!(wait_until_lost(&suspicion, before).await, SILENCE_MAX);
        assert!(!suspicion.trusts(before));
        assert_eq!(wait_until_lost(&suspicion, before).await, SUSPECT_SILENCE_MAX);
        tokio::time::advance(TICK).await;
        let after = Instant::now();
        assert!(suspicion.trusts(after));
        assert_eq!(wait_until_lost(&suspicion, before).await, SUSPECT_SILENCE_MAX);
        assert!(suspicion.trusts(after), "the end of an old connection says nothing about a new one");
        assert_eq!(wait_until_lost(&suspicion, after).await, SILENCE_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_in_which_the_process_was_stopped_is_no_silence() {
        let suspicion = nobody_answers();
        let began = Instant::now();
        let late = async {
            tokio::time::advance(TICK * 60).await;
            tokio::task::yield_now().await;
            Ok(())
        };
        assert!(Patience::new(&suspicion, ConnectionId { connected_at: began, pid: 1 }).wait(late).await.is_ok());
    }
}
