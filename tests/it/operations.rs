//! What those who run the system rely on.

use serde_json::json;

use crate::harness::process::{Running, command};
use crate::harness::system::{System, config};

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_list_touches_neither_postgres_nor_kafka() {
    let config = config();
    let running = Running::start(&config, &["all"]).await;
    let system = System::beside(config, &running.url);
    let conversation = system.conversation("alice", &["bob"]).await;
    let sent = system.post("alice", json!({"conversationId": conversation, "content": "hi"})).await;
    let path = "/api/messages";
    assert_eq!(system.get_after(&sent, "bob", path).await.header("x-cache"), "miss");
    let before = touched(&running).await;
    for _ in 0..5 {
        let answer = system.get("bob", path).await;
        assert_eq!((answer.header("x-cache"), answer.status), ("hit", 200));
    }
    assert_eq!(touched(&running).await, before);
    assert!(running.metric("cache_lookups_total", "view=\"conversations\",outcome=\"hit\"").await >= 5.0);
}

/// How often queries asked Postgres, and how many events were appended. The projector looks at its leases all the
/// time: those are not counted.
async fn touched(running: &Running) -> (f64, f64) {
    let mut queries = 0.0;
    for operation in ["conversations", "memberships", "participants", "messages", "message", "conversation", "offsets"]
    {
        queries += running.metric("postgres_queries_total", &format!("operation=\"{operation}\"")).await;
    }
    (queries, running.metric("events_appended_total", "").await)
}

#[tokio::test(flavor = "multi_thread")]
async fn production_refuses_to_start_without_a_secret() {
    let ended = command(&config(), &["all"]).env_remove("AUTH_JWT_SECRET").output().await.unwrap();
    assert!(!ended.status.success());
    assert!(String::from_utf8_lossy(&ended.stderr).contains("AUTH_JWT_SECRET is not set"), "{ended:?}");
}
