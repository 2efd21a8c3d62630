//! A Postgres of a test's own, which the test may stop, kill, and make read-only.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::process::{Child, Command};
use uuid::Uuid;

use super::process::free_port;
use super::system::eventually;

/// A Postgres of a test's own. It ends with the test.
pub(crate) struct OwnPostgres {
    pub(crate) url: String,
    port: u16,
    /// None while it is stopped or killed.
    server: Option<Child>,
    data: DataFolder,
}

/// The data of a Postgres. It is deleted with the test.
struct DataFolder(PathBuf);

impl Drop for DataFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl OwnPostgres {
    /// Starts one with an empty database, and waits until it answers.
    pub(crate) async fn start() -> Self {
        let port = free_port();
        // Not in the target folder: the user `postgres` may have no access to it.
        let data = DataFolder(std::env::temp_dir().join(format!("messages-test-postgres-{}", Uuid::now_v7().simple())));
        std::fs::create_dir(&data.0).unwrap();
        if is_root() {
            let changed = Command::new("chown").arg("postgres:").arg(&data.0).status().await.unwrap();
            assert!(changed.success(), "there is no user `postgres`");
        }
        let made = program("initdb")
            .args(["--username=messages", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "-D"])
            .arg(&data.0)
            .output()
            .await
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let url = format!("postgres://messages@127.0.0.1:{port}/postgres");
        let mut postgres = Self { url, port, server: None, data };
        postgres.resume().await;
        postgres
    }

    /// A folder in which it may write.
    pub(crate) fn folder(&self) -> &Path {
        &self.data.0
    }

    /// Starts it again with the data that it had, and waits until it answers.
    pub(crate) async fn resume(&mut self) {
        let Self { url, port, server, data } = self;
        eventually("Postgres answers", async || {
            // The processes of a killed Postgres linger for a moment, and a new one then ends at once.
            if server.as_mut().is_none_or(|server| server.try_wait().unwrap().is_some()) {
                *server = Some(serve(&data.0, *port));
            }
            PgConnection::connect(url).await.ok()
        })
        .await;
    }

    /// Stops it: Postgres disconnects its clients and shuts down.
    pub(crate) async fn stop(&mut self) {
        self.end("-INT").await;
    }

    /// Kills it with SIGKILL.
    pub(crate) async fn kill(&mut self) {
        self.end("-KILL").await;
    }

    async fn end(&mut self, signal: &str) {
        let mut server = self.server.take().expect("Postgres runs");
        let process = server.id().unwrap().to_string();
        assert!(Command::new("kill").args([signal, &process]).status().await.unwrap().success());
        server.wait().await.unwrap();
    }

    /// Makes it read-only or writable, for present and for new connections.
    pub(crate) async fn set_read_only(&self, is_read_only: bool) {
        let setting = if is_read_only { "on" } else { "off" };
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        let alter = format!("ALTER SYSTEM SET default_transaction_read_only = {setting}");
        for statement in [&alter, "SELECT pg_reload_conf()"] {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
        }
        eventually("Postgres has read the new setting", async || {
            let mut connection = PgConnection::connect(&self.url).await.unwrap();
            let show = sqlx::query_scalar("SHOW default_transaction_read_only");
            let now: String = show.fetch_one(&mut connection).await.unwrap();
            (now == setting).then_some(())
        })
        .await;
    }

    /// Restarts it as a hot standby, as after a failover to another server: it answers reads and refuses writes.
    pub(crate) async fn demote(&mut self) {
        self.stop().await;
        std::fs::write(self.data.0.join("standby.signal"), "").unwrap();
        self.resume().await;
    }

    /// Ends its time as a hot standby: it takes writes again.
    pub(crate) async fn promote(&self) {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        sqlx::query("SELECT pg_promote()").execute(&mut connection).await.unwrap();
    }
}

fn serve(data: &Path, port: u16) -> Child {
    let mut server = program("postgres");
    server.arg("-D").arg(data).args(["--listen_addresses=127.0.0.1", "--unix_socket_directories=", "--fsync=off"]);
    server.arg(format!("--port={port}")).stderr(Stdio::null()).spawn().unwrap()
}

/// Prepares a program of Postgres.
fn program(name: &str) -> Command {
    run_as_postgres(folder().join(name))
}

/// Prepares a program that refuses to run as root: root runs it as the user `postgres`.
pub(crate) fn run_as_postgres(program: PathBuf) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    command
}

/// The folder of Postgres's programs: in PATH, else where Debian and Homebrew install the newest version.
fn folder() -> PathBuf {
    let in_path = std::env::var_os("PATH").unwrap_or_default();
    let mut installed: Vec<PathBuf> = ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt"]
        .iter()
        .filter_map(|parent| std::fs::read_dir(parent).ok())
        .flat_map(|versions| versions.map(|version| version.unwrap().path().join("bin")))
        .collect();
    installed.sort();
    std::env::split_paths(&in_path)
        .chain(installed.into_iter().rev())
        .find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
        .expect("Postgres isn't installed; `scripts/services up` installs it")
}

/// Whether root runs the tests: root then owns the folder of their files.
fn is_root() -> bool {
    std::fs::metadata(env!("CARGO_TARGET_TMPDIR")).is_ok_and(|folder| folder.uid() == 0)
}

#[tokio::test]
async fn a_killed_postgres_keeps_its_data_and_a_demoted_one_refuses_writes() {
    let mut postgres = OwnPostgres::start().await;
    let execute = async |postgres: &OwnPostgres, statement: &'static str| {
        let mut connection = PgConnection::connect(&postgres.url).await?;
        sqlx::query(statement).execute(&mut connection).await.map(|done| done.rows_affected())
    };
    let insert = async |postgres: &OwnPostgres| execute(postgres, "INSERT INTO notes SELECT * FROM notes").await;
    execute(&postgres, "CREATE TABLE notes AS SELECT 1 AS note").await.unwrap();
    postgres.kill().await;
    postgres.resume().await;
    assert_eq!(insert(&postgres).await.unwrap(), 1);
    postgres.set_read_only(true).await;
    assert!(insert(&postgres).await.is_err());
    postgres.set_read_only(false).await;
    assert_eq!(insert(&postgres).await.unwrap(), 2);
    postgres.demote().await;
    assert!(insert(&postgres).await.is_err());
    postgres.promote().await;
    eventually("Postgres takes writes", async || insert(&postgres).await.ok()).await;
}
