//! The schema of a generation: creating it with the migrations, and dropping it.

use std::collections::BTreeMap;

use domain::PositionVector;
use sqlx::{AssertSqlSafe, Row};

use crate::derived_rows::DerivedTable;
use crate::embedded_migrations::migrator;
use crate::error::ReadModelError;
use crate::pool::PooledConnection;

/// The table with the offsets of a generation.
pub(super) const PARTITIONS: &str = "partitions";

/// The tables of a generation.
fn tables() -> impl Iterator<Item = &'static str> {
    DerivedTable::ALL.into_iter().map(DerivedTable::name).chain([PARTITIONS])
}

/// Runs a statement that isn't worth preparing.
pub(super) async fn run(connection: &mut PooledConnection, statement: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await?;
    Ok(())
}

/// Reads the offsets of a generation.
pub(super) async fn offsets(connection: &mut PooledConnection, schema: &str) -> Result<PositionVector, sqlx::Error> {
    let statement = format!("SELECT next_offset FROM {schema}.partitions ORDER BY partition");
    Ok(PositionVector(sqlx::query_scalar(AssertSqlSafe(statement)).fetch_all(connection).await?))
}

/// Creates a schema with the tables of a generation, all of them empty.
pub(super) async fn create(connection: &mut PooledConnection, base: &str, schema: &str) -> Result<(), ReadModelError> {
    run(connection, format!("CREATE SCHEMA {schema}; SET search_path = {schema}")).await?;
    // The migrations are the one place that says what the tables are.
    connection.run_migrations(migrator()).await?;
    run(connection, format!("SET search_path = {base}")).await?;
    let created = sqlx::query("SELECT tablename::text FROM pg_tables WHERE schemaname = $1").bind(schema);
    for row in created.fetch_all(&mut *connection).await? {
        let name: String = row.try_get("tablename")?;
        if !tables().any(|table| table == name) {
            run(connection, format!("DROP TABLE {schema}.\"{name}\"")).await?;
        }
    }
    Ok(())
}

/// The table in a generation's schema that has the digests of the live one.
pub(super) fn live_digests(schema: &str, table: DerivedTable) -> String {
    format!("{schema}.live_digests_of_{}", table.name())
}

/// Drops the rows of a generation. Those of the first one are in the configured schema, which stays.
pub(super) async fn drop(connection: &mut PooledConnection, base: &str, schema: &str) -> Result<(), sqlx::Error> {
    if schema != base {
        return run(connection, format!("DROP SCHEMA IF EXISTS {schema} CASCADE")).await;
    }
    for table in tables() {
        run(connection, format!("DROP TABLE IF EXISTS {base}.{table}")).await?;
    }
    for table in DerivedTable::ALL {
        run(connection, format!("DROP TABLE IF EXISTS {}", live_digests(base, table))).await?;
    }
    Ok(())
}

/// Drops the indexes and keys of a generation's rows. Returns the statements that make them again, by table.
pub(super) async fn drop_indexes(
    connection: &mut PooledConnection,
    schema: &str,
) -> Result<BTreeMap<String, Vec<String>>, sqlx::Error> {
    let mut create: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let keys = sqlx::query(
        "SELECT conrelid::regclass::text AS relation, relname::text AS name_of_table, conname::text AS name, pg_get_constraintdef(pg_constraint.oid) AS definition
         FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid
         WHERE contype IN ('p', 'u') AND connamespace = to_regnamespace($1) AND conrelid <> to_regclass($2)",
    );
    let keys = keys.bind(schema).bind(format!("{schema}.{PARTITIONS}")).fetch_all(&mut *connection).await?;
    for key in keys {
        let (relation, name): (String, String) = (key.try_get("relation")?, key.try_get("name")?);
        let definition: String = key.try_get("definition")?;
        run(connection, format!("ALTER TABLE {relation} DROP CONSTRAINT {name}")).await?;
        let statement = format!("ALTER TABLE {relation} ADD CONSTRAINT {name} {definition}");
        create.entry(key.try_get("name_of_table")?).or_default().push(statement);
    }
    let indexes = sqlx::query(
        "SELECT tablename::text AS name_of_table, indexname::text AS name, indexdef FROM pg_indexes WHERE schemaname = $1 AND tablename <> $2",
    );
    for index in indexes.bind(schema).bind(PARTITIONS).fetch_all(&mut *connection).await? {
        let name: String = index.try_get("name")?;
        run(connection, format!("DROP INDEX {schema}.{name}")).await?;
        create.entry(index.try_get("name_of_table")?).or_default().push(index.try_get("indexdef")?);
    }
    Ok(create)
}
