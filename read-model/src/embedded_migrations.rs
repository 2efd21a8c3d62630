//! The migrations of `migrations/`, compiled in. sqlx could embed them with `migrate!`, but that macro makes cargo build
//! sqlx, tokio and rustls a second time, for the compiler. A migration's version, description and checksum must stay as the
//! macro computed them: databases store them, and sqlx refuses to migrate a database whose checksums differ.

use sqlx::SqlStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

struct EmbeddedMigration {
    /// The number that the file's name begins with.
    version: i64,
    /// The rest of the name, with spaces instead of underscores.
    description: &'static str,
    sql: &'static str,
}

const MIGRATIONS: [EmbeddedMigration; 9] = [
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
    EmbeddedMigration {
        version: 6,
        description: "generations",
        sql: include_str!("../../migrations/0006_generations.sql"),
    },
    EmbeddedMigration { version: 7, description: "repairs", sql: include_str!("../../migrations/0007_repairs.sql") },
    EmbeddedMigration { version: 8, description: "audit", sql: include_str!("../../migrations/0008_audit.sql") },
    EmbeddedMigration { version: 9, description: "jobs", sql: include_str!("../../migrations/0009_jobs.sql") },
];

/// The steps that create the schema, in order.
pub(crate) fn migrator() -> Migrator {
    let migrations = MIGRATIONS.map(|EmbeddedMigration { version, description, sql }| {
        Migration::new(version, description.into(), MigrationType::Simple, SqlStr::from_static(sql), false)
    });
    Migrator::with_migrations(migrations.into())
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
