//! Rebuilds and verifications that admins start: they end as they should whatever happens to the process that works on
//! them, and every node shows them.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

use crate::admin::{ADMIN, act, ask, exported_audit, get};
use crate::harness::process::ServiceProcess;
use crate::harness::system::{config, unknown_id, unlimited};
use crate::harness::verified::Verified;
use crate::harness::{System, eventually};
use crate::rebuild::{forge, generation};
use crate::verify::{system_with_history, with_history};

async fn start(system: &System, body: Value) -> i64 {
    let started = act(system, "/admin/api/jobs", body).await;
    assert_eq!((started.status, &started.body["data"]["status"]), (202, &json!("waiting")), "{started:?}");
    started.body["data"]["number"].as_i64().unwrap()
}

async fn ended(system: &System, number: i64) -> Value {
    eventually("the job has ended", async || {
        let job = get(system, &format!("/admin/api/jobs/{number}")).await;
        (!["waiting", "running"].contains(&job["status"].as_str().unwrap())).then_some(job)
    })
    .await
}

async fn run(system: &System, body: Value) -> Value {
    let number = start(system, body).await;
    ended(system, number).await
}

/// Keeps every rebuild from coming further than its first step, until it is dropped.
pub(crate) struct Hold(PgConnection);

impl Hold {
    pub(crate) async fn begin(system: &System) -> Self {
        let mut connection = PgConnection::connect(&system.config.database_url).await.unwrap();
        let lock = format!("BEGIN; LOCK TABLE {}.members IN ACCESS EXCLUSIVE MODE", system.config.database_schema);
        sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut connection).await.unwrap();
        Self(connection)
    }

    pub(crate) async fn end(self) {
        self.0.close().await.unwrap();
    }
}

async fn running(system: &System, number: i64) -> Value {
    eventually("the job runs", async || {
        let job = get(system, &format!("/admin/api/jobs/{number}")).await;
        (job["status"] == "running" && !job["step"].is_null()).then_some(job)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_rebuilds_under_traffic_and_the_audit_says_so() {
    let system = system_with_history().await;
    let stop = AtomicBool::new(false);
    let writing = async {
        let conversation = system.conversation("alice", &["bob"]).await;
        while !stop.load(Ordering::Relaxed) {
            system.message("alice", &conversation, "meanwhile").await;
        }
    };
    let rebuilding = async {
        let job = run(&system, json!({"kind": "rebuild"})).await;
        stop.store(true, Ordering::Relaxed);
        job
    };
    let (job, ()) = tokio::join!(rebuilding, writing);
    assert_eq!((&job["status"], &job["attempts"], &job["requestedBy"]), (&json!("done"), &json!(1), &json!(ADMIN)));
    let outcome = &job["outcome"];
    assert_eq!((&outcome["isInUse"], &outcome["generation"]), (&json!(true), &json!(2)), "{job}");
    assert!(outcome["records"].as_u64().unwrap() > 2_000 && outcome["stoodStillMs"].is_u64(), "{job}");
    assert_eq!(get(&system, "/admin/api/status").await["generation"], 2);
    assert_eq!(Verified::run(&system.config).await.code, Some(0));
    let audit = exported_audit(&system, 0).await;
    assert_eq!(audit.len(), 1, "{audit:?}");
    assert_eq!((&audit[0]["action"], &audit[0]["target"]), (&json!("start-job"), &json!("rebuild")));
    assert_eq!(audit[0]["outcome"], "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_differ_are_replaced_only_if_the_admin_accepts_it_and_there_is_a_way_back() {
    let system = system_with_history().await;
    let (_, message) = forge(&system, "bob").await;
    let content = async || system.get("bob", &format!("/api/messages/{message}")).await.data()["content"].clone();
    for kind in ["verify", "dryRun", "rebuild"] {
        let job = run(&system, json!({"kind": kind})).await;
        let outcome = &job["outcome"];
        assert_eq!((&job["status"], &outcome["isInUse"]), (&json!("done"), &json!(false)), "{job}");
        assert_eq!(outcome["differingConversations"], 1, "{job}");
        assert!(outcome["first"][0].as_str().unwrap().ends_with("content is \"forged\", must be \"true\""), "{job}");
        let changed = json!([{"table": "messages", "missing": 0, "added": 0, "changed": 1}]);
        assert_eq!(outcome["tables"], changed, "{job}");
        assert_eq!(generation(&system).await, 1);
    }
    let job = run(&system, json!({"kind": "rebuild", "acceptDifferences": true})).await;
    assert_eq!(job["outcome"]["isInUse"], true, "{job}");
    assert_eq!(content().await, "true");
    let back = run(&system, json!({"kind": "goBack"})).await;
    assert_eq!(back["outcome"]["isInUse"], true, "{back}");
    assert_eq!(content().await, "forged");
    let listed = get(&system, "/admin/api/jobs?limit=2").await;
    assert_eq!(listed, json!([back, job]));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_job_runs_at_a_time_and_a_cancelled_one_changes_nothing() {
    let system = system_with_history().await;
    let hold = Hold::begin(&system).await;
    let number = start(&system, json!({"kind": "rebuild"})).await;
    running(&system, number).await;
    act(&system, "/admin/api/jobs", json!({"kind": "verify"})).await.assert_problem(409, "job_at_work");
    let cancelled = act(&system, &format!("/admin/api/jobs/{number}/cancel"), json!({})).await;
    assert_eq!((cancelled.status, &cancelled.body["data"]["isCancelRequested"]), (202, &json!(true)));
    let job = ended(&system, number).await;
    assert_eq!((&job["status"], &job["outcome"]), (&json!("cancelled"), &Value::Null), "{job}");
    hold.end().await;
    assert_eq!(generation(&system).await, 1);
    act(&system, &format!("/admin/api/jobs/{number}/cancel"), json!({})).await.assert_problem(409, "wrong_status");
    act(&system, "/admin/api/jobs/999/cancel", json!({})).await.assert_problem(404, "not_found");
    let job = run(&system, json!({"kind": "rebuild"})).await;
    assert_eq!(job["outcome"]["isInUse"], true, "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_at_the_command_line_counts_as_one_at_work() {
    let system = system_with_history().await;
    let read_model = system.read_model();
    let topic = read_model.folded_topic().await.unwrap().unwrap().id;
    let other = read_model.begin_generation(topic, None).await.unwrap();
    for kind in ["rebuild", "dryRun", "goBack"] {
        act(&system, "/admin/api/jobs", json!({"kind": kind})).await.assert_problem(409, "job_at_work");
    }
    let verified = run(&system, json!({"kind": "verify"})).await;
    assert_eq!((&verified["status"], &verified["outcome"]["differingConversations"]), (&json!("done"), &json!(0)));
    read_model.discard_generation(other).await.unwrap();
    assert_eq!(run(&system, json!({"kind": "rebuild"})).await["outcome"]["isInUse"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_back_that_is_cancelled_can_be_taken_later() {
    let system = system_with_history().await;
    let (_, message) = forge(&system, "bob").await;
    run(&system, json!({"kind": "rebuild", "acceptDifferences": true})).await;
    let hold = Hold::begin(&system).await;
    let number = start(&system, json!({"kind": "goBack"})).await;
    running(&system, number).await;
    act(&system, &format!("/admin/api/jobs/{number}/cancel"), json!({})).await;
    assert_eq!(ended(&system, number).await["status"], "cancelled");
    hold.end().await;
    let back = run(&system, json!({"kind": "goBack"})).await;
    assert_eq!(back["outcome"]["isInUse"], true, "{back}");
    assert_eq!(system.get("bob", &format!("/api/messages/{message}")).await.data()["content"], "forged");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_job_is_refused_and_begins_nothing() {
    let system = System::start().await;
    for (body, field, code) in [
        (json!({}), "kind", "required"),
        (json!({"kind": "reset"}), "kind", "invalid"),
        (json!({"kind": "rebuild", "acceptDifferences": "yes"}), "acceptDifferences", "wrong_type"),
        (json!({"kind": "verify", "acceptDifferences": true}), "acceptDifferences", "not_allowed"),
        (json!({"kind": "verify", "when": "now"}), "when", "unknown_field"),
    ] {
        act(&system, "/admin/api/jobs", body).await.assert_field_refused(422, field, code);
    }
    assert_eq!(get(&system, "/admin/api/jobs").await, json!([]));
    assert_eq!(exported_audit(&system, 0).await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_outlives_the_process_that_works_on_it() {
    let mut config = config();
    unlimited(&mut config);
    let mut doomed = ServiceProcess::start(&config, &["all"]).await;
    let system = with_history(System::attach(config.clone(), &doomed.url)).await;
    let hold = Hold::begin(&system).await;
    let number = start(&system, json!({"kind": "rebuild"})).await;
    let job = running(&system, number).await;

    let node = ServiceProcess::start(&config, &["all"]).await;
    let system = System::attach(config.clone(), &node.url);
    doomed.child.kill().await.unwrap();
    let path = format!("/admin/api/jobs/{number}");
    assert_eq!(get(&system, &path).await["status"], "running");
    let taken_over = eventually("the other node has taken it over", async || {
        let job = get(&system, &path).await;
        // It has come to a step, although the dead one's statement still waited for the lock.
        (job["attempts"] == 2 && !job["step"].is_null()).then_some(job)
    })
    .await;
    assert_ne!(taken_over["runner"], job["runner"], "{taken_over}");
    hold.end().await;
    let job = ended(&system, number).await;
    assert_eq!((&job["status"], &job["outcome"]["isInUse"]), (&json!("done"), &json!(true)), "{job}");
    assert_eq!(generation(&system).await, job["outcome"]["generation"].as_i64().unwrap());
    assert_eq!(Verified::run(&config).await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_whose_process_dies_right_after_the_replacement_is_over_and_does_not_begin_anew() {
    let system = system_with_history().await;
    let job = run(&system, json!({"kind": "rebuild"})).await;
    let number = job["number"].as_i64().unwrap();
    // What Postgres has between the replacement and the job's end.
    let dies = "UPDATE jobs SET status = 'running', outcome = NULL, ended_at = NULL, runner = 'the dead one',
                    beat_at = now() - interval '11 s' WHERE number = $1 AND generation = 2";
    assert_eq!(sqlx::query(dies).bind(number).execute(&system.sql).await.unwrap().rows_affected(), 1);
    let job = ended(&system, number).await;
    assert_eq!((&job["status"], &job["attempts"]), (&json!("done"), &json!(2)), "{job}");
    assert_eq!((&job["outcome"]["isInUse"], &job["outcome"]["generation"]), (&json!(true), &json!(2)), "{job}");
    assert_eq!(generation(&system).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_stops_gives_its_job_back_at_once() {
    let mut config = config();
    unlimited(&mut config);
    let stopping = ServiceProcess::start(&config, &["all"]).await;
    let system = with_history(System::attach(config.clone(), &stopping.url)).await;
    let hold = Hold::begin(&system).await;
    let number = start(&system, json!({"kind": "rebuild"})).await;
    running(&system, number).await;
    stopping.stop().await;
    let job = system.read_model().job(number).await.unwrap().unwrap();
    assert_eq!(json!(job.status), "waiting");
    hold.end().await;
    let node = ServiceProcess::start(&config, &["all"]).await;
    let job = ended(&System::attach(config, &node.url), number).await;
    assert_eq!((&job["status"], &job["outcome"]["isInUse"]), (&json!("done"), &json!(true)), "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_has_the_rows_of_one_conversation_made_anew() {
    let system = system_with_history().await;
    let (conversation, message) = forge(&system, "bob").await;
    let path = format!("/admin/api/conversations/{conversation}/rebuild");
    let requested = act(&system, &path, json!({})).await;
    assert_eq!((requested.status, &requested.body["data"]["status"]), (202, &json!("requested")), "{requested:?}");
    eventually("the message is what was sent", async || {
        (system.get("bob", &format!("/api/messages/{message}")).await.data()["content"] == "true").then_some(())
    })
    .await;
    let audit = exported_audit(&system, 0).await;
    assert_eq!((&audit[0]["action"], &audit[0]["target"]), (&json!("rebuild-conversation"), &json!(conversation)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_whose_process_dies_in_the_middle_of_it_is_in_the_audit() {
    let config = config();
    let mut doomed = ServiceProcess::start(&config, &["all"]).await;
    let system = System::attach(config.clone(), &doomed.url);
    let conversation = unknown_id();
    let mut transaction = system.sql.begin().await.unwrap();
    sqlx::query("LOCK TABLE conversation_rebuilds IN ACCESS EXCLUSIVE MODE").execute(&mut *transaction).await.unwrap();
    let path = format!("/admin/api/conversations/{conversation}/rebuild");
    let acting = async {
        let request = ask(&system, "POST", &path).json(&json!({}));
        assert!(request.try_send().await.is_none(), "the action wasn't cut off");
    };
    let dying = async {
        eventually("the action has begun", async || {
            (system.row("SELECT * FROM audit WHERE target = $1", &conversation).await != Value::Null).then_some(())
        })
        .await;
        doomed.child.kill().await.unwrap();
    };
    tokio::join!(acting, dying);
    transaction.rollback().await.unwrap();
    let node = ServiceProcess::start(&config, &["all"]).await;
    let audit = exported_audit(&System::attach(config, &node.url), 0).await;
    assert_eq!(audit.len(), 1, "{audit:?}");
    assert_eq!((&audit[0]["actor"], &audit[0]["action"]), (&json!(ADMIN), &json!("rebuild-conversation")));
    assert_eq!((&audit[0]["target"], &audit[0]["outcome"]), (&json!(conversation), &Value::Null));
}
