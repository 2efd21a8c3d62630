//! A Redis that answers, but can't do all that the services need: what still works, and who says so.

use serde_json::json;

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
