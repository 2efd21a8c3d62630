//! nginx with the configuration that is shipped (`deploy/nginx.conf`), in front of a test's processes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::{Child, Command};
use uuid::Uuid;

use super::process::free_port;
use super::repository::text;
use super::system::eventually;

/// A running nginx. It ends with the test.
pub(crate) struct Nginx {
    child: Child,
    /// The URL for clients.
    pub(crate) url: String,
    /// The URL at which realtime reaches query-api.
    pub(crate) internal_url: String,
    /// The folder of nginx's configuration, logs and temporary files.
    folder: PathBuf,
}

impl Nginx {
    /// Starts nginx in front of two processes of each role. They needn't listen yet.
    pub(crate) async fn start(
        command_api: [SocketAddr; 2],
        query_api: [SocketAddr; 2],
        realtime: [SocketAddr; 2],
    ) -> Self {
        let mut addresses = Vec::new();
        for (role, processes) in [("command-api", command_api), ("query-api", query_api), ("realtime", realtime)] {
            for (number, process) in (1..).zip(processes) {
                addresses.push((format!("server {role}-{number}:8080 "), format!("server {process} ")));
            }
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("nginx-{}", Uuid::now_v7().simple()));
        std::fs::create_dir_all(&folder).unwrap();
        let (public_port, internal_port) = (free_port(), free_port());
        let mut shipped = text("deploy/nginx.conf");
        let replacements = [
            ("listen 80;".to_owned(), format!("listen 127.0.0.1:{public_port};")),
            ("listen 8081;".to_owned(), format!("listen 127.0.0.1:{internal_port};")),
            ("/var/log/nginx/".to_owned(), String::new()),
            // Without a master process nginx has one worker, whatever the configuration says.
            ("http {".to_owned(), format!("http {{ {}", temporary_folders())),
        ];
        for (from, to) in addresses.iter().chain(&replacements) {
            assert_eq!(shipped.matches(from).count(), 1, "deploy/nginx.conf must have this text exactly once: {from}");
            shipped = shipped.replace(from, to);
        }
        let configuration = folder.join("nginx.conf");
        std::fs::write(&configuration, shipped).unwrap();
        let child = Command::new("nginx")
            .arg("-p")
            .arg(&folder)
            .arg("-c")
            .arg(&configuration)
            .args(["-g", "daemon off; master_process off; pid nginx.pid; error_log error.log;"])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("nginx can't be started; `make test` installs what it needs");
        let [url, internal_url] = [public_port, internal_port].map(|port| format!("http://127.0.0.1:{port}"));
        let mut nginx = Self { child, url, internal_url, folder };
        nginx.wait_until_listening().await;
        nginx
    }

    /// Waits until nginx listens: it writes its process id only after it has bound its ports.
    async fn wait_until_listening(&mut self) {
        let (pid_file, error_log) = (self.folder.join("nginx.pid"), self.folder.join("error.log"));
        eventually("nginx serves", async || {
            let ended = self.child.try_wait().unwrap().is_some();
            assert!(!ended, "{}", std::fs::read_to_string(&error_log).unwrap_or_default());
            pid_file.exists().then_some(())
        })
        .await;
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // A failed test keeps nginx's logs for its investigation.
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// Directives that move nginx's temporary files into its own folder: by default only root may write them.
fn temporary_folders() -> String {
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    kinds.map(|kind| format!("{kind}_temp_path {kind}; ")).concat()
}
