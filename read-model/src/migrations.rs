//! The migrations of `migrations/`, compiled in, and how they run. sqlx could embed them with `migrate!`, but that macro
//! makes cargo build sqlx, tokio and rustls a second time, for the compiler. A migration's version, description and
//! checksum must stay as the macro computed them: databases store them, and sqlx refuses to migrate a database whose
//! checksums differ.

use std::pin::pin;
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqlStr};

use crate::connection::ReadModel;
use crate::error::ReadModelError;
use crate::server_settings::NoSessions;
use crate::silence::silent;

/// How often a migration is watched.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);
/// At how many looks in a row Postgres may not be at work on the migration.
const IDLE_LOOKS_MAX: u32 = 3;

domain::limit_rows! {
    Services, "looks, 5 s apart, at which Postgres isn't at work on the migration that a process waits for", Count IDLE_LOOKS_MAX, "the attempt has failed, and the next one begins", "the start of the process";
}

struct EmbeddedMigration {
    /// The number that the file's name begins with.
    version: i64,
    /// The rest of the name, with spaces instead of underscores.
    description: &'static str,
    sql: &'static str,
}

const MIGRATIONS: [EmbeddedMigration; 5] = [
    EmbeddedMigration {
        version: 1,
        description: "read model",
        sql: include_str!("../../migrations/0001_read_model.sql"),
    },
    EmbeddedMigration {
        version: 2,
        description: "dead letters",
        sql: include_str!("../../migrations/0002_dead_letters.sql"),
    },
    EmbeddedMigration {
        version: 3,
        description: "unreserved",
        sql: include_str!("../../migrations/0003_unreserved.sql"),
    },
    EmbeddedMigration {
        version: 4,
        description: "sync walk",
        sql: include_str!("../../migrations/0004_sync_walk.sql"),
    },
    EmbeddedMigration {
        version: 5,
        description: "emoji spellings",
        sql: include_str!("../../migrations/0005_emoji_spellings.sql"),
    },
];

/// The steps that create the schema, in order.
pub(crate) fn migrator() -> Migrator {
    let migrations = MIGRATIONS.map(|EmbeddedMigration { version, description, sql }| {
        Migration::new(version, description.into(), MigrationType::Simple, SqlStr::from_static(sql), false)
    });
    Migrator::with_migrations(migrations.into())
}

impl ReadModel {
    /// Creates the schema if it is missing and runs the migrations that it lacks. Several processes may do so at once.
    ///
    /// # Errors
    /// When a migration fails, or somebody changed the schema by other means.
    pub async fn migrate(&self) -> Result<(), ReadModelError> {
        let (mut connection, pid) = self.pool.connect_without_limits().await?;
        {
            let mut migration = pin!(self.migrate_on(&mut connection));
            // A migration may take hours, so no time-out can tell whether its connection is dead.
            let mut idle_looks = 0;
            while idle_looks < IDLE_LOOKS_MAX {
                tokio::select! {
                    done = &mut migration => { done?; break }
                    () = tokio::time::sleep(WATCH_INTERVAL) => {}
                }
                let works = self.works_for(pid).await.unwrap_or(false);
                idle_looks = if works { 0 } else { idle_looks + 1 };
            }
            if idle_looks == IDLE_LOOKS_MAX {
                // Otherwise the server process keeps the lock until it learns that its client is gone.
                let _ = self.terminate(pid).await;
                return Err(silent().into());
            }
        }
        // Closing the connection releases the lock.
        Ok(connection.close().await?)
    }

    /// Whether this server process has had something to do in the last seconds.
    async fn works_for(&self, pid: i32) -> Result<bool, ReadModelError> {
        let mut connection = self.acquire("watch_migration").await?;
        let query = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_stat_activity
                            WHERE pid = $1 AND (state = 'active' OR state_change > now() - make_interval(secs => $2)))",
        );
        Ok(query.bind(pid).bind(WATCH_INTERVAL.as_secs_f64()).fetch_one(&mut connection).await?)
    }

    async fn terminate(&self, pid: i32) -> Result<(), ReadModelError> {
        let mut connection = self.acquire("end_migration").await?;
        sqlx::query("SELECT pg_terminate_backend($1)").bind(pid).execute(&mut connection).await?;
        Ok(())
    }

    async fn migrate_on(&self, connection: &mut PgConnection) -> Result<(), ReadModelError> {
        // CREATE SCHEMA IF NOT EXISTS fails when two processes run it at once.
        sqlx::query("SELECT pg_advisory_lock(hashtext($1))").bind(&self.schema).execute(&mut *connection).await?;
        // The configuration admits only letters, digits and underscores in the name.
        let create = format!("CREATE SCHEMA IF NOT EXISTS \"{}\"", self.schema);
        sqlx::query(AssertSqlSafe(create)).execute(&mut *connection).await?;
        // A table in another schema could be anybody's.
        let is_current = sqlx::query_scalar("SELECT current_schema() = $1").bind(&self.schema);
        if !is_current.fetch_one(&mut *connection).await? {
            return Err(sqlx::Error::Configuration(Box::new(NoSessions)).into());
        }
        let mut migrator = migrator();
        // sqlx's own lock would also block processes that use other schemas of the database.
        migrator.set_locking(false);
        migrator.run_direct(None, connection, false).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// What databases that an earlier version migrated have stored: version, description, and the first bytes of the
    /// SHA-384. Only add to it.
    const STORED: [(i64, &str, u64); 3] = [
        (1, "read model", 0x0c3c_8a2e_2b31_ec54),
        (2, "dead letters", 0x7200_490b_47bd_9afc),
        (3, "unreserved", 0x564e_997b_4b66_5b8f),
    ];

    #[tokio::test]
    async fn the_executable_contains_every_migration_as_sqlx_reads_it_from_the_folder() {
        let embedded = migrator();
        let folder = Migrator::new(Path::new("../migrations")).await.unwrap();
        assert_eq!(embedded.iter().count(), folder.iter().count(), "add the new file to MIGRATIONS");
        for (embedded, read) in embedded.iter().zip(folder.iter()) {
            assert_eq!(
                (embedded.version, &embedded.description, embedded.migration_type, &embedded.checksum, embedded.no_tx),
                (read.version, &read.description, read.migration_type, &read.checksum, read.no_tx)
            );
        }
    }

    #[test]
    fn a_released_migration_keeps_what_databases_have_stored_of_it() {
        let migrator = migrator();
        let embedded = migrator.iter().map(|migration| {
            let checksum = migration.checksum.first_chunk().copied().map(u64::from_be_bytes).unwrap();
            (migration.version, &*migration.description, checksum)
        });
        assert_eq!(embedded.take(STORED.len()).collect::<Vec<_>>(), STORED);
    }
}
