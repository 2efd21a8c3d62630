//! A Redis that answers, but can't do all that the services need: what still works, and who says so.

use cache::RedisFault;
use messages::process::Roles;
use serde_json::json;
use service::config::Config;

use crate::harness::http::Response;
use crate::harness::process::{command, free_port};
use crate::harness::proxy::Proxy;
use crate::harness::redis::OwnRedis;
use crate::harness::system::config;
use crate::harness::{Client, System, eventually};

/// Creates a user `limited` with these rules, besides the prefix of a system's keys and channels. Returns its URL.
async fn limited_user(redis: &OwnRedis, prefix: &str, rules: &[&str]) -> String {
    let mut create = redis::cmd("ACL");
    create.arg("SETUSER").arg("limited").arg("on").arg(">secret");
    create.arg(format!("~{prefix}:*")).arg(format!("&{prefix}:*")).arg(rules);
    create.query_async::<()>(&mut redis.connect().await).await.unwrap();
    redis.url.replacen("redis://", "redis://limited:secret@", 1)
}

/// What Redis has refused to users, with the reasons.
async fn refusals(redis: &OwnRedis) -> Vec<String> {
    let mut log = redis::cmd("ACL");
    let entries: Vec<redis::Value> = log.arg("LOG").query_async(&mut redis.connect().await).await.unwrap();
    entries.iter().map(|entry| format!("{entry:?}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_user_needs_only_the_prefix() {
    let redis = OwnRedis::start(&[]).await;
    let mut config = config();
    config.redis_url = limited_user(&redis, &config.redis_prefix, &["+@all", "-@dangerous"]).await;
    let system = System::with(|default| *default = config).await;
    let conversation = system.conversation("alice", &["bob", "carol"]).await;
    let mut bob = Client::connect(&system, "bob").await;

    // With a key and without; each kind of command; look-ups that find something and those that don't.
    let body = json!({"conversationId": conversation, "content": "hi"});
    let sent = eventually("a command with a key is done", async || {
        Some(system.post_with_key("alice", "a-key", body.clone()).await).filter(|sent| sent.status < 300)
    })
    .await;
    let id = sent.id();
    let mut answers = vec![
        system.send("alice", &conversation, "hi").await,
        system.react("bob", &id, "👍").await,
        system.edit("alice", &id, "hello").await,
        system.mark_read("bob", &conversation, None).await,
        system.post("bob", json!({"action": "typing_start", "conversationId": conversation})).await,
        system.post("bob", json!({"action": "typing_stop", "conversationId": conversation})).await,
        system.delete("alice", &id).await,
    ];
    for path in ["/api/messages", &format!("/api/messages?conversationId={conversation}")] {
        answers.extend([system.get_after(&sent, "bob", path).await, system.get("bob", path).await]);
    }
    for answer in answers {
        assert!(answer.status < 300, "{answer:?}");
    }
    assert_eq!(system.get("bob", &format!("/api/messages/{conversation}")).await.status, 404);
    bob.frame("message:new").await;
    // As when Kafka refuses an event.
    let user = "alice".parse().unwrap();
    let limit = cache::Limit { name: "messages", max: 30, window: std::time::Duration::from_secs(60) };
    system.cache().roll_back(&user, &cache::Costs::one(limit), None).await.unwrap();

    assert_eq!(refusals(&redis).await, Vec::<String>::new());
}

/// Makes Redis full, whatever it holds, or gives it room again.
async fn set_full(redis: &OwnRedis, full: bool) {
    let mut limit = redis::cmd("CONFIG");
    // Less than it uses already.
    limit.arg("SET").arg("maxmemory").arg(if full { "100kb" } else { "0" });
    limit.query_async::<()>(&mut redis.connect().await).await.unwrap();
}

/// Sends each request in turn until one is over its limit. Returns how many were within it.
async fn count_admitted(mut send: impl AsyncFnMut(usize) -> Response) -> usize {
    for number in 0.. {
        let answer = send(number).await;
        if answer.status == 429 {
            return number;
        }
        // With a key, a command may have counted and yet wait for the projector in vain.
        assert!(answer.status < 300 || answer.status == 503, "{answer:?}");
    }
    unreachable!()
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_the_same_on_every_node_while_redis_is_full() {
    let redis = OwnRedis::start(&[]).await;
    let mut config = Config { redis_url: redis.url.clone(), ..config() };
    (config.limits.limit_messages, config.limits.limit_queries, config.limits.limit_typing) = (12, 12, 12);
    let system = System::with(|default| *default = config.clone()).await;
    let other = System::with_roles(config, Roles::ALL).await;
    let nodes = [&system, &other];
    let conversation = system.conversation("alice", &["bob"]).await;
    let mut ids = Vec::new();
    let send = async |number: usize| {
        let (node, body) = (nodes[number % 2], json!({"conversationId": conversation, "content": "hi"}));
        if number.is_multiple_of(4) {
            return node.post_with_key("alice", &format!("key-{number}"), body).await;
        }
        node.post("alice", body).await
    };
    let ask = async |number: usize| nodes[number % 2].get("alice", "/api/messages").await;
    // Each stop after a start counts, and so does each start after a stop.
    let toggle_typing = async |number: usize| {
        let action = if number.is_multiple_of(2) { "typing_start" } else { "typing_stop" };
        nodes[number / 2 % 2].post("alice", json!({"action": action, "conversationId": conversation})).await
    };
    for number in 0..4 {
        let is_decided = async || Some(send(number).await).filter(|sent| sent.status != 503);
        ids.push(eventually("the command is decided", is_decided).await.id());
        assert_eq!(ask(number).await.status, 200);
    }
    // A message would end the typing.
    for number in 0..4 {
        assert_eq!(toggle_typing(number).await.status, 202);
    }

    set_full(&redis, true).await;

    assert_eq!(count_admitted(toggle_typing).await, 8, "typing");
    assert_eq!(count_admitted(async |number| send(number + 4).await).await, 8, "messages");
    assert_eq!(count_admitted(ask).await, 8, "queries");
    // A look-up that finds something doesn't count as failed.
    system.wait_until_caught_up().await;
    assert_eq!(other.edit("alice", &ids[3], "edited").await.status, 200);
    assert_eq!(system.failed_lookups("alice").await, 0);
    set_full(&redis, false).await;
    assert_eq!(send(7).await.status, 429, "what was counted while Redis was full still counts");
}

/// Why Redis is only half usable with this URL and prefix, as readiness and the doctor say it.
async fn reason(url: &str, prefix: &str) -> String {
    match cache::Cache::connect(url, prefix).unwrap().check_writable().await {
        Err(RedisFault::HalfWorks(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_in_which_redis_half_works_has_its_reason() {
    let redis = OwnRedis::start(&["--busy-reply-threshold", "100"]).await;
    let mut connection = redis.connect().await;
    let limited = async |rules: &[&str]| reason(&limited_user(&redis, "mine", rules).await, "mine").await;
    for (rules, named) in [
        (
            &["+@all", "resetkeys", "~other:*"] as &[&str],
            "may not use the services' keys: allow it the pattern ~mine:*",
        ),
        (&["resetkeys", "~mine:*", "resetchannels"], "channels: allow it the pattern &mine:*"),
        (&["&mine:*", "-zadd"], "may not use a command that the services need"),
        (&["+zadd", "-evalsha"], "may not use a command that the services need"),
        (&["resetpass", ">another"], "refuses the user or the password"),
    ] {
        let reason = limited(rules).await;
        assert!(reason.contains(named), "{rules:?}: {reason}");
    }
    set_full(&redis, true).await;
    assert!(reason(&redis.url, "mine").await.contains("Redis is full"));
    set_full(&redis, false).await;

    let mut busy = redis.connect().await;
    let script = tokio::spawn(async move {
        let mut endless = redis::cmd("EVAL");
        endless.arg("while true do end").arg(0).query_async::<()>(&mut busy).await
    });
    // Before the script has begun, nothing is wrong.
    let checked = async || cache::Cache::connect(&redis.url, "mine").unwrap().check_writable().await.err();
    let is_busy = async || checked().await?.to_string().contains("busy with somebody's script").then_some(());
    eventually("Redis is busy", is_busy).await;
    let mut kill = redis::cmd("SCRIPT");
    kill.arg("KILL").query_async::<()>(&mut connection).await.unwrap();
    script.await.unwrap().unwrap_err();

    let mut command = redis::cmd("REPLICAOF");
    command.arg("127.0.0.1").arg(free_port()).query_async::<()>(&mut connection).await.unwrap();
    assert!(reason(&redis.url, "mine").await.contains("Redis is a replica, and refuses to write"));

    let gone = format!("redis://127.0.0.1:{}", free_port());
    let fault = cache::Cache::connect(&gone, "mine").unwrap().check_writable().await.unwrap_err();
    assert!(matches!(fault, RedisFault::Gone(_)), "{fault:?}");
    let silent = Proxy::start(&redis.url).await;
    silent.stall();
    let fault = cache::Cache::connect(&silent.url, "mine").unwrap().check_writable().await.unwrap_err();
    assert!(matches!(fault, RedisFault::Gone(_)), "{fault:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_cluster_is_refused_by_name() {
    let directory = std::env::temp_dir().join(format!("messages-{}", config().redis_prefix));
    std::fs::create_dir(&directory).unwrap();
    // By default, 10,000 above the other port, which may be taken.
    let bus_port = free_port().to_string();
    let options = ["--cluster-enabled", "yes", "--cluster-port", &bus_port, "--dir", directory.to_str().unwrap()];
    let cluster = OwnRedis::start(&options).await;
    let expected = "a Redis Cluster isn't supported: use one primary";
    let found = reason(&cluster.url, "mine").await;
    assert!(found.contains(expected), "without slots: {found}");

    let mut slots = redis::cmd("CLUSTER");
    slots.arg("ADDSLOTSRANGE").arg(0).arg(16_383).query_async::<()>(&mut cluster.connect().await).await.unwrap();
    let config = Config { redis_url: cluster.url.clone(), ..config() };
    let doctor = command(&config, &["doctor"]).output().await.unwrap();
    let printed = String::from_utf8(doctor.stdout).unwrap();
    assert!(printed.contains(&format!("✗ {expected}")), "{printed}");
    std::fs::remove_dir_all(directory).unwrap();
}
