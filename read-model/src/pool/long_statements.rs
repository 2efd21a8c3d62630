//! Connections for statements that take long, such as migrations and the copying of rows. No time-out could tell whether
//! such a connection is dead, so a statement may take as long as Postgres is at work on it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sqlx::Connection;
use sqlx::migrate::{MigrateError, Migrator};
use tokio::sync::mpsc;

use super::{CHECK_TIMEOUT, ConnectionPool, PooledConnection, Shared};
use crate::operation_timer::OperationTimer;
use crate::silence::{Suspicion, silent};

impl ConnectionPool {
    /// Opens a connection of its own for statements that take as long as Postgres is at work on them. The settings are
    /// checked thoroughly.
    ///
    /// # Errors
    /// When Postgres can't be reached in time, or has no second connection for the check.
    pub(crate) async fn connect_without_limits(
        &self,
        operation: &'static str,
    ) -> Result<PooledConnection, sqlx::Error> {
        let Shared { options, settings, .. } = &*self.0;
        let Self(mut shared) = Self::new(options.clone(), settings.without_limits(), 1);
        if let Some(shared) = Arc::get_mut(&mut shared) {
            shared.suspicion = Arc::new(Suspicion::without_limit(options.clone()));
            shared.time_for_another = CHECK_TIMEOUT;
        }
        let timer = OperationTimer::start(operation);
        let connecting = tokio::time::timeout(CHECK_TIMEOUT, shared.connect());
        let open = connecting.await.unwrap_or_else(|_| Err(silent()))?;
        if !shared.keeps_sessions.load(Ordering::Relaxed) {
            return Err(silent());
        }
        Ok(PooledConnection { open: Some(open), shared, permit: None, _timer: timer })
    }
}

impl PooledConnection {
    /// The id of its server process.
    pub(crate) fn pid(&mut self) -> i32 {
        self.open().id.pid
    }

    /// Runs the migrations that the schema lacks, without sqlx's own lock, which would also block the processes of other
    /// schemas.
    pub(crate) async fn run_migrations(&mut self, mut migrator: Migrator) -> Result<(), MigrateError> {
        migrator.set_locking(false);
        let (raw, mut watch) = self.start_statement();
        let migrating = async { Ok(migrator.run_direct(None, raw, false).await) };
        watch.over(migrating).await??;
        watch.finish();
        Ok(())
    }

    /// Closes the connection, and with it ends what belongs to it, such as locks.
    pub(crate) async fn close(mut self) -> Result<(), sqlx::Error> {
        match self.open.take() {
            Some(open) => open.raw.close().await,
            None => Ok(()),
        }
    }

    /// Runs a COPY from this process, with the bytes that come, in parts of at most so many. Ends when no more come. The
    /// frame is what the format has before and after them.
    pub(crate) async fn copy_in(
        &mut self,
        statement: &str,
        frame: [&[u8]; 2],
        mut bytes: mpsc::Receiver<Vec<u8>>,
        part_max: usize,
    ) -> Result<(), sqlx::Error> {
        let (raw, mut watch) = self.start_statement();
        let mut copying = watch.over(raw.copy_in_raw(statement)).await?;
        watch.over(copying.send(frame[0])).await?;
        while let Some(bytes) = bytes.recv().await {
            for part in bytes.chunks(part_max) {
                watch.over(copying.send(part)).await?;
            }
        }
        watch.over(copying.send(frame[1])).await?;
        watch.over(copying.finish()).await?;
        watch.finish();
        Ok(())
    }
}
