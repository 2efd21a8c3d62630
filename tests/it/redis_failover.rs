//! Connections to Redis that stay open and lead nowhere: to a server that has become a replica, or into a network that
//! swallows everything. The system replaces them by itself.

use std::collections::BTreeSet;

use messages::process::Roles;
use redis::AsyncCommands;
use service::config::Config;

use crate::harness::http::Response;
use crate::harness::proxy::Proxy;
use crate::harness::redis::OwnRedis;
use crate::harness::system::config;
use crate::harness::{Client, System, eventually};

/// A primary with a replica, behind an address that moves.
struct Pair {
    primary: OwnRedis,
    replica: OwnRedis,
    address: Proxy,
}

/// The replica gets its copy without a file, which would lie in the folder of the tests.
const DISKLESS: [&str; 6] =
    ["--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0", "--repl-diskless-load", "swapdb"];

impl Pair {
    async fn start() -> Self {
        let (primary, replica) = (OwnRedis::start(&DISKLESS).await, OwnRedis::start(&DISKLESS).await);
        let address = Proxy::start(&primary.url).await;
        let pair = Self { primary, replica, address };
        follow(&pair.replica, Some(&pair.primary)).await;
        pair
    }

    /// The two change roles. The address still leads to the old primary.
    async fn change_roles(&self) {
        follow(&self.replica, None).await;
        follow(&self.primary, Some(&self.replica)).await;
    }

    /// The address leads to the new primary. Open connections stay where they are.
    async fn move_address(&self) {
        self.address.redirect(&self.replica.url).await;
    }
}

/// Makes a Redis the replica of another, or a primary.
async fn follow(redis: &OwnRedis, primary: Option<&OwnRedis>) {
    let address = primary.map_or("NO:ONE", |primary| primary.url.split("//").nth(1).unwrap());
    let (host, port) = address.split_once(':').unwrap();
    let mut command = redis::cmd("REPLICAOF");
    command.arg(host).arg(port).query_async::<()>(&mut redis.connect().await).await.unwrap();
}

/// The ids of the connections that subscribe to something.
async fn subscribers(redis: &OwnRedis) -> BTreeSet<String> {
    let mut list = redis::cmd("CLIENT");
    let list: String =
        list.arg("LIST").arg("TYPE").arg("PUBSUB").query_async(&mut redis.connect().await).await.unwrap();
    list.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

/// What the process reports of Redis in `/readyz`.
async fn degraded(system: &System) -> Option<String> {
    let ready = system.request("GET", "/readyz").send().await;
    let degraded = ready.body["degraded"].as_array()?.iter().find(|it| it["field"] == "redis")?;
    Some(degraded["detail"].as_str()?.to_owned())
}

/// Waits until everything works again: cached views are found, commands count in `redis`, and the node hears what others
/// publish.
async fn assert_works(system: &System, redis: &OwnRedis, conversation: &str, earlier: &BTreeSet<String>) {
    let path = format!("/api/messages?conversationId={conversation}");
    eventually("cached reads hit", async || {
        let shown: Response = system.get("bob", &path).await;
        (shown.header("x-cache") == "hit").then_some(())
    })
    .await;
    let counter = format!("{}:limit:messages:alice", system.config.redis_prefix);
    let mut connection = redis.connect().await;
    eventually("commands count in Redis", async || {
        let before: u32 = connection.get::<_, Option<u32>>(&counter).await.unwrap().unwrap_or(0);
        assert_eq!(system.send("alice", conversation, "hi").await.status, 201);
        (connection.get::<_, Option<u32>>(&counter).await.unwrap().unwrap_or(0) > before).then_some(())
    })
    .await;
    // Of the progress, and of presence.
    eventually("the node subscribes again", async || {
        (subscribers(redis).await.difference(earlier).count() >= 2).then_some(())
    })
    .await;
    eventually("readiness no longer names Redis", async || degraded(system).await.is_none().then_some(())).await;
}

/// A system with a conversation and a socket, whose caches work.
async fn system_at(address: &Proxy) -> (System, String, Client) {
    let mut config = Config { redis_url: address.url.clone(), ..config() };
    config.limits.limit_messages = 1_000;
    let system = System::with_roles(config, Roles::ALL).await;
    system.wait_until_projecting().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let client = Client::connect(&system, "bob").await;
    let sent = system.send("alice", &conversation, "hi").await;
    system.wait_until_published(&sent).await;
    (system, conversation, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_system_follows_redis_to_another_server() {
    let pair = Pair::start().await;
    let (system, conversation, _socket) = system_at(&pair.address).await;

    pair.change_roles().await;
    let reason = eventually("readiness names the replica", async || degraded(&system).await).await;
    assert!(reason.contains("Redis is a replica"), "{reason}");
    assert_eq!(system.send("alice", &conversation, "without limits for all").await.status, 201);

    pair.move_address().await;
    assert_works(&system, &pair.replica, &conversation, &BTreeSet::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_connections_to_redis_are_replaced() {
    let redis = OwnRedis::start(&[]).await;
    let address = Proxy::start(&redis.url).await;
    let (system, conversation, _socket) = system_at(&address).await;
    let earlier = eventually("the node subscribes", async || {
        Some(subscribers(&redis).await).filter(|subscribers| subscribers.len() >= 2)
    })
    .await;

    address.deaden();

    assert_works(&system, &redis, &conversation, &earlier).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_of_which_only_the_connection_is_dead_is_replaced() {
    let redis = OwnRedis::start(&[]).await;
    let address = Proxy::start(&redis.url).await;
    let cache = cache::Cache::connect(&address.url, &config().redis_prefix).unwrap();
    let _publications = cache.follow_presence();
    eventually("the subscription is there", async || (subscribers(&redis).await.len() == 1).then_some(())).await;

    // Nothing but the subscription uses the address.
    address.deaden();

    let earlier = subscribers(&redis).await;
    eventually("it subscribes again", async || {
        (subscribers(&redis).await.difference(&earlier).count() == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_refused_the_connection_is_connected_to_once_it_takes_it() {
    let redis = OwnRedis::start(&[]).await;
    let set_user = async |rules: &[&str]| {
        let mut command = redis::cmd("ACL");
        command.arg("SETUSER").arg("limited").arg(rules);
        command.query_async::<()>(&mut redis.connect().await).await.unwrap();
    };
    set_user(&["on", ">secret", "~*", "&*", "+@all", "-select"]).await;
    // Whoever connects selects this database first.
    let url = format!("{}/1", redis.url.replacen("redis://", "redis://limited:secret@", 1));
    let cache = cache::Cache::connect(&url, "mine").unwrap();
    let fault = cache.check_writable().await.unwrap_err();
    assert!(fault.to_string().contains("may not use a command"), "{fault}");

    set_user(&["+select"]).await;

    eventually("the cache is connected", async || cache.check_writable().await.ok()).await;
}
