//! What it costs to wait for a position that the projector doesn't reach.

use std::time::Instant;

use serde_json::json;

use super::{MeasuredService, measured_config};
use crate::harness::http::Request;
use crate::harness::send_concurrently;

/// How many requests wait at the same time: half of them queries, half of them commands.
const WAITERS: usize = 60;
/// The most polls of Postgres in a second, by all who wait.
const POLLS_PER_SECOND: f64 = 10.0;

#[tokio::test(flavor = "multi_thread")]
async fn however_many_requests_wait_the_process_polls_postgres_ten_times_a_second() {
    let process = MeasuredService::start(&measured_config(), &["all"]).await;
    let system = &process.system;
    system.wait_until_projecting().await;
    let created = system.post("alice", json!({"action": "conversation", "participantIds": ["bob"]})).await;
    system.wait_until_published(&created).await;
    let partition = created.position().split(':').next().unwrap();
    let position = format!("{partition}:9000000000000000000");
    let path = format!("/api/messages?conversationId={}", created.id());
    let message = json!({"conversationId": created.id(), "content": "hi"});
    let request = |number: usize| -> Request {
        let request = if number.is_multiple_of(2) {
            system.ask("alice", "GET", &path)
        } else {
            system.ask("bob", "POST", "/api/messages").json(&message)
        };
        request.header("Messages-Position", &position)
    };
    process.foreground();

    let began = Instant::now();
    for _ in 0..3 {
        for answer in send_concurrently((0..WAITERS).map(request).collect()).await {
            answer.assert_problem(503, "projection_behind");
        }
    }

    let seconds = began.elapsed().as_secs_f64();
    let statements = process.foreground().action.statements;
    let polls = statements
        .iter()
        .filter(|it| it.starts_with("SELECT partition, next_offset, generation FROM partitions"))
        .count();
    assert!(polls >= 3, "nobody has polled: {statements:?}");
    assert!(polls as f64 <= POLLS_PER_SECOND * seconds + 1.0, "{polls} polls in {seconds:.1} s");
}
