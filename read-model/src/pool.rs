//! The pool of connections to Postgres. Every statement of this crate runs on a [`PooledConnection`], which bounds the
//! wait for its answer, and is closed rather than given back when something is wrong with it.
//!
//! sqlx's own pool can't do that. It pings each returned connection and waits for the answer without a limit. A dead
//! connection keeps its place in that pool for a quarter of an hour.

mod long_statements;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use sqlx::postgres::{PgConnectOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Connection, Either, Execute, Executor, PgConnection, Postgres, SqlStr};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::error::{ReadModelError, is_starting};
use crate::operation_timer::OperationTimer;
use crate::server_settings::{GenerationRows, ServerSettings, SettledConnection};
use crate::silence::{ConnectionId, Patience, Suspicion, silent};
use crate::statement_watch::{Condition, Watch, watched};

/// How long an operation waits for a free connection, and for a new one to open.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// How much of that time is for another connection, which checks that settings stay.
const TIME_FOR_ANOTHER: Duration = Duration::from_millis(500);
/// How long the same check takes at most when a process starts or migrates.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after a failed attempt to connect, at first. Each failure doubles it.
const FIRST_RETRY_PAUSE: Duration = Duration::from_millis(10);
/// The longest such pause.
const MAX_RETRY_PAUSE: Duration = Duration::from_millis(400);
/// How long a connection stays open without use. Firewalls forget idle connections and report it to nobody.
const IDLE_TIME_MAX: Duration = Duration::from_secs(60);
/// How long a connection stays open at all. A server process that has served for long holds much memory.
const AGE_MAX: Duration = Duration::from_secs(30 * 60);

domain::limit_rows! {
    Services, "wait for a free connection to Postgres", Time ACQUIRE_TIMEOUT, "503 `unavailable`", "tasks and connections";
    Services, "check of the connections to Postgres when a process starts", Time CHECK_TIMEOUT, "the process goes on, and checks again when it connects; a migration fails", "the start of the process";
    Services, "pause between two attempts to connect to Postgres", Time MAX_RETRY_PAUSE, "the next attempt", "a Postgres that is just starting";
    Services, "a connection to Postgres that nobody uses", Time IDLE_TIME_MAX, "it is closed", "operations, which would wait on a connection that a firewall has forgotten";
    Services, "age of a connection to Postgres", Time AGE_MAX, "it is closed", "the memory of Postgres";
}

/// A pool of connections. Clones share it.
#[derive(Clone)]
pub(crate) struct ConnectionPool(Arc<Shared>);

struct Shared {
    options: PgConnectOptions,
    settings: ServerSettings,
    /// How long another connection, which checks that settings stay, may take to open.
    time_for_another: Duration,
    size_max: usize,
    /// One for each connection that may be in use.
    permits: Arc<Semaphore>,
    /// The connection that was used last is the last one.
    idle: Mutex<Vec<IdleConnection>>,
    suspicion: Arc<Suspicion>,
    /// Whether the settings of this pool's connections are known to stay.
    keeps_sessions: AtomicBool,
}

struct IdleConnection {
    open: OpenConnection,
    since: Instant,
}

struct OpenConnection {
    raw: PgConnection,
    id: ConnectionId,
    /// The generation whose rows the statements find; none while there was none.
    generation: Option<i64>,
    condition: Condition,
    is_in_transaction: bool,
}

impl ConnectionPool {
    /// Prepares a pool, which opens at most so many connections.
    pub(crate) fn new(options: PgConnectOptions, settings: ServerSettings, size_max: u32) -> Self {
        let size_max = usize::try_from(size_max).unwrap_or(Semaphore::MAX_PERMITS);
        Self(Arc::new(Shared {
            suspicion: Arc::new(Suspicion::new(options.clone())),
            options,
            settings,
            time_for_another: TIME_FOR_ANOTHER,
            size_max,
            permits: Arc::new(Semaphore::new(size_max)),
            idle: Mutex::default(),
            keeps_sessions: AtomicBool::new(false),
        }))
    }

    /// A pool whose connections find the rows of one generation, whether it is live or not.
    pub(crate) fn of_rows(&self, rows: GenerationRows, size_max: u32) -> Self {
        Self::new(self.0.options.clone(), self.0.settings.with_rows(rows), size_max)
    }

    /// Gets a connection for one operation, which goes back to the pool when it is dropped. The metrics count the
    /// operation under its name, and record how long it takes.
    ///
    /// # Errors
    /// When all are in use, or Postgres can't be reached, for two seconds.
    pub(crate) async fn acquire(&self, operation: &'static str) -> Result<PooledConnection, sqlx::Error> {
        let timer = OperationTimer::start(operation);
        let deadline = Instant::now() + ACQUIRE_TIMEOUT;
        let permit = timeout_at(deadline, self.0.permits.clone().acquire_owned()).await;
        let permit = permit.map_err(|_| sqlx::Error::PoolTimedOut)?.map_err(|_| sqlx::Error::PoolClosed)?;
        let open = match self.0.take_idle() {
            Some(open) => open,
            // Opening a connection is rare, and its future is large.
            None => Box::pin(self.0.connect_until(deadline)).await?,
        };
        self.0.show_size();
        Ok(PooledConnection { open: Some(open), shared: self.0.clone(), permit: Some(permit), _timer: timer })
    }

    /// Checks thoroughly that settings stay.
    ///
    /// # Errors
    /// When they don't, or Postgres can't be reached in time.
    pub(crate) async fn check_sessions(&self) -> Result<(), sqlx::Error> {
        let connecting = self.0.settings.connect(&self.0.options, CHECK_TIMEOUT);
        let connected = tokio::time::timeout(CHECK_TIMEOUT, connecting).await.unwrap_or_else(|_| Err(silent()))?;
        self.0.keeps_sessions.fetch_or(connected.is_checked, Ordering::Relaxed);
        connected.raw.close().await
    }
}

impl Shared {
    fn take_idle(&self) -> Option<OpenConnection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |it: &mut IdleConnection| !self.is_usable(&it.open) || it.since.elapsed() >= IDLE_TIME_MAX;
        let over: Vec<IdleConnection> = idle.extract_if(.., is_over).collect();
        let found = idle.pop().map(|it| it.open);
        drop(idle);
        over.into_iter().for_each(|it| self.close(it.open));
        found
    }

    fn show_size(&self) {
        let in_use = self.size_max.saturating_sub(self.permits.available_permits());
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).len();
        metrics::gauge!("postgres_connections").set((in_use + idle) as f64);
        metrics::gauge!("postgres_connections_idle").set(idle as f64);
    }

    fn is_usable(&self, open: &OpenConnection) -> bool {
        self.suspicion.trusts(open.id.connected_at) && open.id.connected_at.elapsed() < AGE_MAX
    }

    fn put_back(&self, open: OpenConnection) {
        if !self.is_usable(&open) {
            return self.close(open);
        }
        let idle = IdleConnection { open, since: Instant::now() };
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(idle);
    }

    /// Closes a connection, and what it was doing ends with it.
    fn close(&self, open: OpenConnection) {
        if !self.suspicion.trusts(open.id.connected_at) {
            self.suspicion.abandon(open.id);
        }
    }

    /// Connects. While Postgres is starting, tries again until the deadline.
    async fn connect_until(&self, deadline: Instant) -> Result<OpenConnection, sqlx::Error> {
        let mut pause = FIRST_RETRY_PAUSE;
        loop {
            let failure = match timeout_at(deadline, self.connect()).await {
                Ok(Ok(open)) => return Ok(open),
                Ok(Err(error)) => error,
                Err(_) => silent(),
            };
            if !is_starting(&failure) || Instant::now() + pause >= deadline {
                return Err(failure);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_RETRY_PAUSE);
        }
    }

    async fn connect(&self) -> Result<OpenConnection, sqlx::Error> {
        let connected_at = Instant::now();
        let is_known = self.keeps_sessions.load(Ordering::Relaxed);
        let time_for_another = if is_known { Duration::ZERO } else { self.time_for_another };
        let connected = self.settings.connect(&self.options, time_for_another).await?;
        self.keeps_sessions.fetch_or(connected.is_checked, Ordering::Relaxed);
        let SettledConnection { raw, pid, generation, .. } = connected;
        let id = ConnectionId { connected_at, pid };
        Ok(OpenConnection { raw, id, generation, condition: Condition::Ready, is_in_transaction: false })
    }
}

/// A connection of a pool. sqlx's queries run on a mutable reference to it.
pub(crate) struct PooledConnection {
    /// None once it is given back.
    open: Option<OpenConnection>,
    shared: Arc<Shared>,
    permit: Option<OwnedSemaphorePermit>,
    _timer: OperationTimer,
}

impl PooledConnection {
    /// Begins a transaction with a statement. Without a commit, the pool rolls the transaction back before it gives the
    /// connection to another operation.
    pub(crate) async fn begin(&mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        self.open().is_in_transaction = true;
        self.execute(statement).await?;
        Ok(())
    }

    /// Commits the transaction.
    pub(crate) async fn commit(mut self) -> Result<(), sqlx::Error> {
        self.execute("COMMIT").await?;
        self.open().is_in_transaction = false;
        Ok(())
    }

    /// Rolls the transaction back, at once.
    pub(crate) async fn rollback(mut self) -> Result<(), sqlx::Error> {
        self.execute("ROLLBACK").await?;
        self.open().is_in_transaction = false;
        Ok(())
    }

    /// Checks that the rows that the connection finds are those of the live generation, given the generation that they
    /// say they are of. Otherwise all open connections are replaced.
    ///
    /// # Errors
    /// [`ReadModelError::Retired`] when another generation has replaced them since the connection was opened.
    pub(crate) fn ensure_live(&mut self, found: Option<i64>) -> Result<(), ReadModelError> {
        let Some(found) = found else { return Ok(()) };
        let open = self.open();
        if found > 0 && *open.generation.get_or_insert(found) == found {
            return Ok(());
        }
        self.shared.suspicion.retire();
        Err(ReadModelError::Retired)
    }

    #[expect(clippy::expect_used, reason = "only `drop` and `close` take the connection away")]
    fn open(&mut self) -> &mut OpenConnection {
        self.open.as_mut().expect("the connection isn't given back")
    }

    /// The connection, and a watch over the statement that begins on it.
    #[expect(clippy::expect_used, reason = "only `drop` and `close` take the connection away")]
    fn start_statement(&mut self) -> (&mut PgConnection, Watch<'_>) {
        let OpenConnection { raw, id, condition, .. } = self.open.as_mut().expect("the connection isn't given back");
        (raw, Watch::begin(&self.shared.suspicion, *id, condition))
    }
}

impl fmt::Debug for PooledConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PooledConnection")
    }
}

impl<'c> Executor<'c> for &'c mut PooledConnection {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let (raw, mut watch) = self.start_statement();
        let mut answers = raw.fetch_many(query);
        stream::poll_fn(move |context| match answers.poll_next_unpin(context) {
            Poll::Ready(None) => {
                watch.finish();
                Poll::Ready(None)
            }
            Poll::Ready(Some(answer)) => watch.pass(context, Poll::Ready(answer)).map(Some),
            Poll::Pending => watch.pass(context, Poll::Pending).map(Some),
        })
        .boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let (raw, watch) = self.start_statement();
        watched(raw.fetch_optional(query), watch)
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        let (raw, watch) = self.start_statement();
        watched(raw.prepare_with(sql, parameters), watch)
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        let (Some(open), Some(permit)) = (self.open.take(), self.permit.take()) else { return };
        match open.condition {
            Condition::Broken => self.shared.close(open),
            Condition::Ready if !open.is_in_transaction => self.shared.put_back(open),
            // Others wait for its permit.
            Condition::Ready | Condition::Unfinished if !self.shared.suspicion.trusts(open.id.connected_at) => {
                self.shared.close(open);
            }
            Condition::Ready | Condition::Unfinished => {
                // Without a runtime, the process is ending.
                if let Ok(runtime) = Handle::try_current() {
                    runtime.spawn(recover(self.shared.clone(), open, permit));
                }
            }
        }
    }
}

/// Waits until an abandoned statement has ended, rolls the transaction back, and gives the connection back. Keeps the
/// permit until then, because the connection is still open.
async fn recover(shared: Arc<Shared>, mut open: OpenConnection, permit: OwnedSemaphorePermit) {
    let OpenConnection { raw, id, is_in_transaction, .. } = &mut open;
    let recovering = async {
        raw.ping().await?;
        if *is_in_transaction {
            raw.execute("ROLLBACK").await?;
        }
        Ok(())
    };
    if Patience::new(&shared.suspicion, *id).wait(recovering).await.is_ok() {
        shared.put_back(OpenConnection { condition: Condition::Ready, is_in_transaction: false, ..open });
    } else {
        shared.close(open);
    }
    drop(permit);
}
