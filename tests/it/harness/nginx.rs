//! nginx as it is shipped (`deploy/nginx.conf`), in front of processes of a test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::{Child, Command};
use uuid::Uuid;

use super::process::free_port;
use super::repository::text;
use super::system::eventually;

/// An nginx that runs. It ends with the test.
pub(crate) struct Nginx {
    child: Child,
    /// Where everybody asks.
    pub(crate) url: String,
    /// Where realtime asks query-api.
    pub(crate) internal_url: String,
    /// Its configuration, logs and temporary files.
    folder: PathBuf,
}

impl Nginx {
    /// Starts in front of two processes of each role; they need not be there yet.
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
        let (outside, inside) = (free_port(), free_port());
        let mut shipped = text("deploy/nginx.conf");
        let own = [
            ("listen 80;".to_owned(), format!("listen 127.0.0.1:{outside};")),
            ("listen 8081;".to_owned(), format!("listen 127.0.0.1:{inside};")),
            ("/var/log/nginx/".to_owned(), String::new()),
            // Without a master there is one worker, whatever it says.
            ("http {".to_owned(), format!("http {{ {}", temporary_folders())),
        ];
        for (from, to) in addresses.iter().chain(&own) {
            assert_eq!(shipped.matches(from).count(), 1, "deploy/nginx.conf has another form: {from}");
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
        let [url, internal_url] = [outside, inside].map(|port| format!("http://127.0.0.1:{port}"));
        let mut nginx = Self { child, url, internal_url, folder };
        nginx.serves().await;
        nginx
    }

    /// Waits until it serves: it writes its number once it has its ports.
    async fn serves(&mut self) {
        let (number, log) = (self.folder.join("nginx.pid"), self.folder.join("error.log"));
        eventually("nginx serves", async || {
            let ended = self.child.try_wait().unwrap().is_some();
            assert!(!ended, "{}", std::fs::read_to_string(&log).unwrap_or_default());
            number.exists().then_some(())
        })
        .await;
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // What it logged is worth keeping where the test has failed.
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// Where nginx puts what doesn't fit into its memory: by itself, where only root may.
fn temporary_folders() -> String {
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    kinds.map(|kind| format!("{kind}_temp_path {kind}; ")).concat()
}
