//! What a developer gets: one command, then two links to click.

use std::process::Stdio;

use service::auth::Auth;
use service::config::Config;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::harness::process::{command, free_port};
use crate::harness::system::{SECRET, TIMEOUT, config};
use crate::harness::{Client, System};

/// `messages all` in development: its output is read line by line.
fn development(config: &Config, port: u16) -> Command {
    let mut command = command(config, &["all"]);
    command.env("MESSAGES_ENV", "development").env("PORT", port.to_string()).env_remove("HOST").stdout(Stdio::piped());
    command
}

/// What it prints until it has said how to stop it: an address, and a token for each of two users.
async fn welcome(child: &mut Child) -> (String, [String; 2]) {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut address, mut tokens) = (None, Vec::new());
    loop {
        let line = tokio::time::timeout(TIMEOUT, lines.next_line()).await.expect("it never said welcome").unwrap();
        let line = line.expect("it ended before it said welcome");
        if let Some(rest) = line.strip_prefix("Messages is at ") {
            address = Some(rest.split(' ').next().unwrap().to_owned());
        } else if let Some((link, token)) = line.split_once("#token=") {
            assert!(link.ends_with(address.as_ref().unwrap()), "{line}");
            tokens.push(token.to_owned());
        } else if line.starts_with("Stop it") {
            return (address.unwrap(), tokens.try_into().unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn development_prints_an_address_and_tokens_that_work() {
    let config = config();
    let port = free_port();
    let mut child = development(&config, port).env_remove("AUTH_JWT_SECRET").spawn().unwrap();
    let (address, [alice, bob]) = welcome(&mut child).await;
    assert_eq!(address, format!("http://127.0.0.1:{port}/"));
    assert_eq!(listening_on(port), ["0100007F"], "on loopback and nowhere else");

    let system = System::attach(config, address.trim_end_matches('/'));
    let page = system.request("GET", "/").send().await;
    assert!(page.body.as_str().unwrap().contains("<title>Messages</title>"), "{page:?}");
    let mut socket = Client::open(serde_json::json!({"url": system.url, "token": bob})).await;
    assert_eq!(socket.frame("connection:ready").await.data["userId"], "bob");
    assert_eq!(system.get_with(&alice, "/api/messages").await.data(), &serde_json::json!([]));
    assert_eq!(system.get("alice", "/api/messages").await.status, 401, "its secret is another than that of the tests");
}

#[tokio::test(flavor = "multi_thread")]
async fn development_uses_the_secret_that_is_set() {
    let mut child = development(&config(), free_port()).env("AUTH_JWT_SECRET", SECRET).spawn().unwrap();
    let (_, tokens) = welcome(&mut child).await;
    let users = tokens.map(|token| Auth::new(SECRET).authenticate(&token).unwrap().user);
    assert_eq!(users.map(|user| user.to_string()), ["alice", "bob"]);
}

/// The addresses on which somebody listens on a port, as the kernel writes them: hex, in reverse.
fn listening_on(port: u16) -> Vec<String> {
    const LISTENING: &str = "0A";
    let mut addresses = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in std::fs::read_to_string(table).unwrap_or_default().lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (address, its_port) = fields[1].split_once(':').unwrap();
            if fields[3] == LISTENING && its_port == format!("{port:04X}") {
                addresses.push(address.to_owned());
            }
        }
    }
    addresses
}
