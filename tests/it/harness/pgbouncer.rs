//! PgBouncer in front of the Postgres of a test.

use std::path::PathBuf;
use std::process::Stdio;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use tokio::process::Child;
use uuid::Uuid;

use super::postgres::run_as_postgres;
use super::process::free_port;
use super::system::eventually;

/// A PgBouncer. It ends with the test.
pub(crate) struct PgBouncer {
    /// The URL of the database, with the address of PgBouncer.
    pub(crate) url: String,
    _child: Child,
    folder: PathBuf,
}

impl PgBouncer {
    /// Starts one in front of the Postgres at this URL, and waits until it answers. It ignores the start-up parameters
    /// that people usually have it ignore.
    pub(crate) async fn start(server: &str, pool_mode: &str) -> Self {
        let options: PgConnectOptions = server.parse().unwrap();
        let port = free_port();
        let folder = std::env::temp_dir().join(format!("messages-test-pgbouncer-{}", Uuid::now_v7().simple()));
        std::fs::create_dir(&folder).unwrap();
        let configuration = folder.join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host={} port={} user={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = {pool_mode}\ndefault_pool_size = 40\n\
             ignore_startup_parameters = extra_float_digits,options\n",
            options.get_host(),
            options.get_port(),
            options.get_username(),
        );
        std::fs::write(&configuration, text).unwrap();
        // Like Postgres, it refuses to run as root.
        let child = run_as_postgres(program())
            .arg(configuration)
            .stderr(Stdio::null())
            .spawn()
            .expect("PgBouncer can't be started; `make test` installs what it needs");
        let host = format!("{}:{}", options.get_host(), options.get_port());
        let url = server.replacen(&host, &format!("127.0.0.1:{port}"), 1);
        let bouncer = Self { url, _child: child, folder };
        let options: PgConnectOptions = bouncer.url.parse().unwrap();
        eventually("PgBouncer answers", async || PgConnection::connect_with(&options).await.ok()).await;
        bouncer
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The program: in PATH, else where Debian installs it, which only root has in PATH.
fn program() -> PathBuf {
    let in_path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&in_path).map(|folder| folder.join("pgbouncer")).find(|path| path.exists());
    found.unwrap_or_else(|| PathBuf::from("/usr/sbin/pgbouncer"))
}
