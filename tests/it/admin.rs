//! The admin API: only admins get in, and whatever they do is in the audit before it happens.

use domain::{Timestamp, UserId};
use serde_json::{Value, json};

use crate::harness::http::{Request, Response};
use crate::harness::log::{self, NewRecord};
use crate::harness::system::{TIMEOUT, unknown_id};
use crate::harness::{System, eventually};

/// The user who is an admin.
pub(crate) const ADMIN: &str = "root";

/// A token of that user.
pub(crate) fn admin_token(system: &System) -> String {
    let user: UserId = ADMIN.parse().unwrap();
    let expires_at = Timestamp::from_millis(4_102_444_800_000).unwrap();
    system.auth.mint_admin(&user, expires_at).unwrap()
}

/// Prepares a request of an admin.
pub(crate) fn ask(system: &System, method: &str, path: &str) -> Request {
    system.request(method, path).header("Authorization", format!("Bearer {}", admin_token(system)))
}

/// Reads the data of a route as an admin.
pub(crate) async fn get(system: &System, path: &str) -> Value {
    let response = ask(system, "GET", path).send().await;
    assert_eq!(response.status, 200, "{response:?}");
    response.body["data"].clone()
}

pub(crate) async fn act(system: &System, path: &str, body: Value) -> Response {
    ask(system, "POST", path).header("X-Request-Id", "request-of-root").json(&body).send().await
}

async fn dead_letter(system: &System) -> String {
    dead_letter_of(system, b"no event\x1b[31m").await
}

/// Appends a record that is no event. Returns its position once it is a dead letter.
pub(crate) async fn dead_letter_of(system: &System, value: &[u8]) -> String {
    let record =
        NewRecord { key: unknown_id(), value: value.to_vec(), event_type: Some("MESSAGE_SENT"), timestamp_ms: None };
    let position = log::append(&system.config, &[record]).await.remove(0);
    eventually("the record is a dead letter", async || {
        let letters = get(system, "/admin/api/dead-letters").await;
        letters.as_array().unwrap().iter().any(|letter| letter["position"] == position.as_str()).then_some(())
    })
    .await;
    position
}

#[tokio::test(flavor = "multi_thread")]
async fn every_admin_route_refuses_everybody_else() {
    let system = System::start().await;
    let document = system.request("GET", "/openapi.json").send().await.body;
    let mut tried = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys().filter(|_| path.starts_with("/admin/")) {
            let path = path.replace("{position}", "0:0").replace("{number}", "1").replace("{id}", &unknown_id());
            let refused = system.ask("alice", &method.to_uppercase(), &path).send().await;
            refused.assert_problem(403, "not_an_admin");
            system.request(&method.to_uppercase(), &path).send().await.assert_problem(401, "missing_token");
            tried += 1;
        }
    }
    assert!(tried >= 12, "{tried}");
    assert_eq!(get(&system, "/admin/api/audit").await, json!([]), "nobody did anything");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_reads_discards_and_retries_a_dead_letter_and_the_audit_says_so() {
    let system = System::start().await;
    let position = dead_letter(&system).await;
    let path = format!("/admin/api/dead-letters/{position}");
    let letter = get(&system, &path).await;
    assert_eq!((&letter["status"], &letter["record"]["value"]), (&json!("parked"), &json!("no event\u{1b}[31m")));
    assert!(letter["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{letter}");

    act(&system, &format!("{path}/discard"), json!({})).await.assert_problem(422, "required");
    act(&system, &format!("{path}/discard"), json!({"reason": "x".repeat(501)})).await.assert_problem(422, "too_long");
    act(&system, &format!("{path}/discard"), json!({"because": "no"})).await.assert_problem(422, "unknown_field");
    let discarded = act(&system, &format!("{path}/discard"), json!({"reason": " somebody's mistake "})).await;
    assert_eq!((discarded.status, &discarded.body["data"]["status"]), (200, &json!("discarded")));
    assert_eq!(discarded.body["data"]["note"], "somebody's mistake");
    act(&system, &format!("{path}/discard"), json!({"reason": "again"})).await.assert_problem(409, "wrong_status");
    let retried = act(&system, &format!("{path}/retry"), json!({})).await;
    assert_eq!(retried.status, 202, "{retried:?}");
    eventually("the projector has tried it again", async || {
        (get(&system, &path).await["status"] == "parked").then_some(())
    })
    .await;
    act(&system, "/admin/api/dead-letters/0:999999/retry", json!({})).await.assert_problem(404, "not_found");

    let audit = get(&system, "/admin/api/audit").await;
    let told: Vec<Value> = audit
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            assert_eq!((&entry["actor"], &entry["requestId"]), (&json!(ADMIN), &json!("request-of-root")));
            json!([entry["action"], entry["target"], entry["reason"], entry["outcome"]])
        })
        .collect();
    let expected = [
        json!(["retry-dead-letter", "0:999999", null, "not_found"]),
        json!(["retry-dead-letter", position, null, "done"]),
        json!(["discard-dead-letter", position, "again", "wrong_status"]),
        json!(["discard-dead-letter", position, "somebody's mistake", "done"]),
    ];
    assert_eq!(told, expected);
    let first = audit[3]["number"].as_i64().unwrap();
    assert_eq!(get(&system, &format!("/admin/api/audit?before={}&limit=1", first + 1)).await[0], audit[3]);

    for change in ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit", "TRUNCATE audit"] {
        let changed = sqlx::query(change).execute(&system.sql).await;
        assert!(changed.unwrap_err().to_string().contains("the audit is never changed"), "{change}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_happens_that_the_audit_cannot_take() {
    let system = System::start().await;
    let position = dead_letter(&system).await;
    let refuse = "ALTER TABLE audit ADD CONSTRAINT audit_test_check CHECK (false) NOT VALID";
    sqlx::query(refuse).execute(&system.sql).await.unwrap();
    let path = format!("/admin/api/dead-letters/{position}");
    let refused = act(&system, &format!("{path}/discard"), json!({"reason": "quietly"})).await;
    refused.assert_problem(503, "unavailable");
    assert_eq!(get(&system, &path).await["status"], "parked");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_says_how_far_each_partition_is() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let sent = system.send("alice", &conversation, "hi").await;
    system.wait_until_published(&sent).await;
    let status = get(&system, "/admin/api/status").await;
    let (partition, offset) = sent.position().split_once(':').unwrap();
    let (partition, offset): (usize, i64) = (partition.parse().unwrap(), offset.parse().unwrap());
    assert_eq!(status["topic"], system.config.kafka_topic.as_str());
    assert_eq!((&status["openDeadLetters"], &status["projectors"]), (&json!(0), &json!(1)));
    let deadline = std::time::Instant::now() + TIMEOUT;
    let mut status = status;
    // The first answers may be from before the event.
    while status["partitions"][partition]["folded"] != offset + 1 && std::time::Instant::now() < deadline {
        status = get(&system, "/admin/api/status").await;
    }
    let mut seen = status["partitions"][partition].clone();
    for rate in ["appendedPerSecond", "foldedPerSecond"] {
        let rate = seen.as_object_mut().unwrap().remove(rate).unwrap();
        assert!(rate.as_f64().is_some_and(|rate| rate >= 0.0), "{rate}");
    }
    let expected = json!({
        "partition": partition, "end": offset + 1, "readable": offset + 1, "folded": offset + 1, "lag": 0,
        "lagSeconds": 0.0, "isProjected": true,
    });
    assert_eq!(seen, expected);
    assert_eq!(status["generations"], json!([{"generation": 1, "status": "live", "changedAt": null}]));
}

/// Each line of the export of the audit.
pub(crate) async fn exported_audit(system: &System, after: i64) -> Vec<Value> {
    let exported = ask(system, "GET", &format!("/admin/api/audit.jsonl?after={after}")).send().await;
    assert_eq!((exported.status, exported.header("content-type")), (200, "application/x-ndjson"), "{exported:?}");
    // A single line is read as JSON.
    let text = exported.body.as_str().map_or_else(|| exported.body.to_string(), str::to_owned);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_who_does_too_much_is_slowed_down_and_the_export_has_every_action_once() {
    let system = System::start().await;
    for number in 0..60 {
        act(&system, &format!("/admin/api/dead-letters/0:{number}/retry"), json!({}))
            .await
            .assert_problem(404, "not_found");
    }
    let refused = act(&system, "/admin/api/jobs", json!({"kind": "verify"})).await;
    refused.assert_problem(429, "rate_limited");
    assert_eq!(refused.header("retry-after"), "60");
    assert_eq!(get(&system, "/admin/api/jobs").await, json!([]), "it has begun");

    let exported = exported_audit(&system, 0).await;
    let targets: Vec<String> = (0..60).map(|number| format!("0:{number}")).collect();
    assert_eq!(exported.iter().map(|entry| entry["target"].as_str().unwrap()).collect::<Vec<_>>(), targets);
    assert!(exported.iter().all(|entry| entry["outcome"] == "not_found"), "{exported:?}");
    let newest_first = get(&system, "/admin/api/audit?limit=60").await;
    assert!(exported.iter().eq(newest_first.as_array().unwrap().iter().rev()), "{newest_first}");
    let last = exported.last().unwrap()["number"].as_i64().unwrap();
    assert_eq!(exported_audit(&system, last).await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_dead_letters_skip_and_repeat_nothing() {
    let system = System::start().await;
    for _ in 0..5 {
        dead_letter(&system).await;
    }
    let all = get(&system, "/admin/api/dead-letters").await;
    let (mut paged, mut after) = (Vec::new(), String::new());
    loop {
        let page = get(&system, &format!("/admin/api/dead-letters?limit=2{after}")).await;
        let Some(last) = page.as_array().unwrap().last() else { break };
        after = format!("&after={}", last["position"].as_str().unwrap());
        paged.extend(page.as_array().unwrap().clone());
    }
    assert_eq!((paged.len(), json!(paged)), (5, all));
    ask(&system, "GET", "/admin/api/dead-letters?limit=501").send().await.assert_problem(400, "invalid_limit");
}
