//! An export into an object store keeps the promises of one into a folder. The store is moto's, which speaks the protocol
//! of S3.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use service::config::Config;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::harness::eventually;
use crate::harness::process::{command, free_port};
use crate::log_export::{SMALL_FILES, assert_complete, done};
use crate::verify::system_with_history;

const BUCKET: &str = "analysts";
/// The signature of a request, which moto doesn't check.
const SIGNATURE: &str =
    "AWS4-HMAC-SHA256 Credential=analyst/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=x";

/// An object store with an empty bucket.
struct ObjectStore {
    url: String,
    _child: Child,
}

impl ObjectStore {
    async fn start() -> Self {
        let port = free_port().to_string();
        let child = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("py/.venv/bin/moto_server"))
            .args(["-H", "127.0.0.1", "-p", &port])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("moto_server can't be started; `make test` installs what it needs");
        let url = format!("http://127.0.0.1:{port}");
        eventually("the object store has a bucket", async || {
            let created = reqwest::Client::new().put(format!("{url}/{BUCKET}")).send().await;
            created.is_ok_and(|created| created.status() == 200).then_some(())
        })
        .await;
        Self { url, _child: child }
    }

    fn replay(&self, config: &Config, options: &[&str]) -> Command {
        let folder = format!("s3://{BUCKET}/logs/messages");
        let mut replay = command(config, &[&["replay", "--folder", &folder], &SMALL_FILES[..], options].concat());
        replay
            .env("AWS_ENDPOINT_URL", &self.url)
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "analyst")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        replay
    }

    /// Runs an export. Returns its exit code and what it says.
    async fn export(&self, config: &Config, options: &[&str]) -> (Option<i32>, String) {
        let output = self.replay(config, options).output().await.unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        let request = reqwest::Client::new().get(format!("{}/{BUCKET}{path}", self.url));
        let response = request.header("authorization", SIGNATURE).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        response
    }

    /// The names of its objects.
    async fn names(&self) -> Vec<String> {
        let list = self.get("?list-type=2&max-keys=1000").await.text().await.unwrap();
        let names = list.split("<Key>").skip(1).map(|rest| rest.split("</Key>").next().unwrap().to_owned());
        names.collect()
    }

    /// Downloads everything into a folder.
    async fn download(&self) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in self.names().await {
            let content = self.get(&format!("/{name}")).await.bytes().await.unwrap();
            let name = name.strip_prefix("logs/messages/").unwrap_or_else(|| panic!("{name}"));
            fs::write(folder.path().join(name), content).unwrap();
        }
        folder
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_to_an_object_store_that_are_killed_leave_no_hole_and_no_repeat() {
    let store = ObjectStore::start().await;
    let system = system_with_history().await;
    let config = &system.config;
    let mut killed = store.replay(config, &[]).spawn().unwrap();
    eventually("some objects are there", async || (store.names().await.len() > 8).then_some(())).await;
    assert!(killed.try_wait().unwrap().is_none(), "the export ended before it was killed");
    killed.kill().await.unwrap();
    let (code, said) = store.export(config, &[]).await;
    assert!(code == Some(1) && said.contains("to go on with it, add --continue"), "{said}");
    let (one, two) = tokio::join!(store.export(config, &["--continue"]), store.export(config, &["--continue"]));
    assert_eq!((one.0, two.0), (Some(0), Some(0)), "{one:?} {two:?}");
    let folder = store.download().await;
    assert_complete(folder.path(), &system.records().await).await;
    assert!(done(folder.path()).len() > 40);
    let (code, said) = store.export(config, &["--continue", "--without", "content"]).await;
    assert!(code == Some(1) && said.contains("its content is \"kept\""), "{said}");
}
