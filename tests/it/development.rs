//! Development mode: one command starts the system, and prints two links with which a developer signs in.

use std::process::Stdio;

use service::auth::Auth;
use service::config::Config;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::harness::process::{command, free_port};
use crate::harness::system::{SECRET, TIMEOUT, config};
use crate::harness::{Client, System};

/// `messages all` in development mode, with its output piped.
fn development(config: &Config, port: u16) -> Command {
    let mut command = command(config, &["all"]);
    command.env("MESSAGES_ENV", "development").env("PORT", port.to_string()).env_remove("HOST").stdout(Stdio::piped());
    command
}

/// What the process prints at startup.
struct Welcome {
    address: String,
    admin_page: String,
    token_of_alice: String,
    token_of_bob: String,
}

impl Welcome {
    /// Reads the output up to its last line, which says how to stop the process.
    async fn read(child: &mut Child) -> Self {
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut address = None;
        let mut admin_page = None;
        let mut tokens = Vec::new();
        loop {
            let line = tokio::time::timeout(TIMEOUT, lines.next_line()).await.expect("no welcome in time").unwrap();
            let line = line.expect("the process ended before it printed its welcome");
            if let Some(rest) = line.strip_prefix("Messages is at ") {
                address = Some(rest.split(' ').next().unwrap().to_owned());
            } else if let Some(rest) = line.strip_prefix("The admin page is at ") {
                assert!(rest.contains("Continue as admin"), "{line}");
                admin_page = Some(rest.split(": ").next().unwrap().to_owned());
            } else if let Some((link, token)) = line.split_once("#token=") {
                assert!(link.ends_with(address.as_ref().unwrap()), "{line}");
                tokens.push(token.to_owned());
            } else if line.starts_with("Stop it") {
                let [token_of_alice, token_of_bob] = tokens.try_into().unwrap();
                return Self {
                    address: address.unwrap(),
                    admin_page: admin_page.unwrap(),
                    token_of_alice,
                    token_of_bob,
                };
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn development_mode_prints_an_address_and_tokens_that_work() {
    let config = config();
    let port = free_port();
    let mut child = development(&config, port).env_remove("AUTH_JWT_SECRET").spawn().unwrap();
    let welcome = Welcome::read(&mut child).await;
    assert_eq!(welcome.address, format!("http://127.0.0.1:{port}/"));
    assert_eq!(listening_on(port), ["0100007F"], "the process listens not only on loopback");

    let system = System::attach(config, welcome.address.trim_end_matches('/'));
    let page = system.request("GET", "/").send().await;
    assert!(page.body.as_str().unwrap().contains("<title>Messages</title>"), "{page:?}");
    assert_eq!(welcome.admin_page, format!("{}admin", welcome.address));
    let admin_page = system.request("GET", "/admin").send().await;
    assert!(admin_page.body.as_str().unwrap().contains("<title>Messages admin</title>"), "{admin_page:?}");
    let mut bob = Client::open(serde_json::json!({"url": system.url, "token": welcome.token_of_bob})).await;
    assert_eq!(bob.frame("connection:ready").await.data["userId"], "bob");
    assert_eq!(system.get_with(&welcome.token_of_alice, "/api/messages").await.data(), &serde_json::json!([]));
    assert_eq!(system.get("alice", "/api/messages").await.status, 401, "the process accepts the secret of the tests");
}

#[tokio::test(flavor = "multi_thread")]
async fn development_mode_uses_the_secret_that_is_set() {
    let mut child = development(&config(), free_port()).env("AUTH_JWT_SECRET", SECRET).spawn().unwrap();
    let welcome = Welcome::read(&mut child).await;
    let user = |token: &str| Auth::new(SECRET).authenticate(token).unwrap().user.to_string();
    assert_eq!(user(&welcome.token_of_alice), "alice");
    assert_eq!(user(&welcome.token_of_bob), "bob");
}

/// The addresses on which a process listens on this port, as the kernel writes them: in hex, in reverse.
fn listening_on(port: u16) -> Vec<String> {
    const LISTENING: &str = "0A";
    let mut addresses = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in std::fs::read_to_string(table).unwrap_or_default().lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (address, listening_port) = fields[1].split_once(':').unwrap();
            if fields[3] == LISTENING && listening_port == format!("{port:04X}") {
                addresses.push(address.to_owned());
            }
        }
    }
    addresses
}
