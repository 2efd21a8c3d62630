//! A partition that no projector folds: whatever lives on the others doesn't notice. Its own events still reach the
//! sockets, and reads of them are refused with 503 until they are folded, never with 404.

use domain::PositionVector;
use event_log::{TopicSpec, ensure_topic};
use serde_json::{Value, json};
use service::token::PositionTokens;
use sqlx::{Postgres, Transaction};

use crate::client_sync::{long_messages, start_realtime_node};
use crate::harness::http::Response;
use crate::harness::log;
use crate::harness::sockets::Frame;
use crate::harness::system::{PARTITIONS, SECRET};
use crate::harness::{Client, System, unknown_id};

/// The partition that stands still.
const STUCK: i32 = 0;
/// A partition that goes on.
const ELSEWHERE: i32 = 2;
/// More messages of 16 KB than fit into the buffers of a socket and of the system, and fewer than the tail drops.
const LONG_TAIL: usize = 700;

/// A conversation of alice with a message that is folded.
struct Conversation {
    id: String,
    peer: String,
    message: String,
}

impl Conversation {
    async fn on(system: &System, partition: i32) -> Self {
        let peer = system.peer_on(partition, "alice", "peer");
        let id = system.conversation("alice", &[&peer]).await;
        let message = system.message("alice", &id, "before").await;
        Self { id, peer, message }
    }

    /// The paths of everything that lives on the conversation's partition alone.
    fn paths(&self) -> [String; 3] {
        [
            format!("/api/conversations/{}", self.id),
            format!("/api/messages?conversationId={}", self.id),
            format!("/api/messages/{}", self.message),
        ]
    }
}

/// A system with a partition that stands still. Its last event is a message that no projector has folded.
struct Scene {
    system: System,
    tokens: PositionTokens,
    stuck: Conversation,
    elsewhere: Conversation,
    late: Response,
    /// Holds the partition. It goes on when this ends.
    pause: Transaction<'static, Postgres>,
}

impl Scene {
    async fn start() -> Self {
        let system = System::unlimited().await;
        system.age_reservation_epoch().await;
        let spec = TopicSpec { name: system.config.kafka_topic.clone(), partitions: PARTITIONS };
        let topic = ensure_topic(&system.config.kafka_brokers, &spec).await.unwrap();
        let tokens = PositionTokens::new(SECRET, topic.id, topic.partitions);
        let stuck = Conversation::on(&system, STUCK).await;
        let elsewhere = Conversation::on(&system, ELSEWHERE).await;
        system.wait_until_all_published().await;
        let pause = system.pause_partition(STUCK).await;
        let late = system.send("alice", &stuck.id, &format!("late @{}", stuck.peer)).await;
        assert_eq!(late.status, 201, "{late:?}");
        Self { system, tokens, stuck, elsewhere, late, pause }
    }

    /// A token of a user that includes everything on the log.
    async fn token_of_everything(&self, user: &str) -> String {
        let mut end = PositionVector::zero(usize::try_from(PARTITIONS).unwrap());
        for record in self.system.records().await {
            end.advance(record.partition, record.offset + 1);
        }
        self.tokens.issue(&user.parse().unwrap(), &end, 0)
    }

    async fn get(&self, token: &str, path: &str) -> Response {
        self.system.ask("alice", "GET", path).header("Messages-Position", token).send().await
    }

    async fn post(&self, token: &str, body: Value) -> Response {
        self.system.ask("alice", "POST", "/api/messages").header("Messages-Position", token).json(&body).send().await
    }

    /// What a frame's token includes.
    fn included(&self, user: &str, ready: &Frame) -> PositionVector {
        self.tokens.read(ready.data["position"].as_str().unwrap(), &user.parse().unwrap()).unwrap()
    }

    async fn projected(&self, partition: i32) -> i64 {
        let query = "SELECT next_offset FROM partitions WHERE partition = $1::integer";
        self.system.row(query, &partition.to_string()).await["next_offset"].as_i64().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_of_something_on_another_partition_succeeds_whatever_its_token_includes() {
    let scene = Scene::start().await;
    let sent = scene.system.send("alice", &scene.elsewhere.id, "after").await;
    let token = scene.token_of_everything("alice").await;
    scene.system.wait_until_projected(&sent).await;

    let message = format!("/api/messages/{}", sent.id());
    for path in scene.elsewhere.paths().iter().chain([&message]) {
        let read = scene.get(&token, path).await;
        assert_eq!(read.status, 200, "{path}: {read:?}");
        let included = scene.tokens.read(read.position(), &"alice".parse().unwrap()).unwrap();
        assert!(included.includes(sent.position().parse().unwrap()), "{path}: {included:?}");
    }
    // These depend on all partitions, and a message that isn't found may be on any.
    let unknown = format!("/api/messages/{}", unknown_id());
    for path in ["/api/messages", "/api/messages/sync", &unknown] {
        scene.get(&token, path).await.assert_problem(503, "projection_behind");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_of_something_on_the_stuck_partition_is_503_and_never_404_until_it_is_folded() {
    let scene = Scene::start().await;
    let peer = scene.system.peer_on(STUCK, "alice", "new");
    let created = scene.system.post("alice", json!({"action": "conversation", "participantIds": [peer]})).await;
    assert_eq!(created.status, 201, "{created:?}");
    let token = scene.token_of_everything("alice").await;
    let late = [format!("/api/messages/{}", scene.late.id()), format!("/api/conversations/{}", created.id())];
    let paths = [&scene.stuck.paths()[..], &late].concat();

    for path in &paths {
        scene.get(&token, path).await.assert_problem(503, "projection_behind");
    }
    // What Redis knows of pending entities lasts for a minute only.
    scene.system.clear_redis().await;
    for path in &paths {
        scene.get(&token, path).await.assert_problem(503, "projection_behind");
    }
    // A stranger can't tell a message that they may not see from one that doesn't exist.
    let token_of_eve = scene.token_of_everything("eve").await;
    for message in [&scene.elsewhere.message, &scene.stuck.message, &unknown_id()] {
        let request = scene.system.ask("eve", "GET", &format!("/api/messages/{message}"));
        request.header("Messages-Position", &token_of_eve).send().await.assert_problem(503, "projection_behind");
    }

    scene.pause.rollback().await.unwrap();
    scene.system.wait_until_projected(&created).await;
    for path in &paths {
        let read = scene.system.ask("alice", "GET", path).header("Messages-Position", &token).send().await;
        assert_eq!(read.status, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_on_other_partitions_go_on_whatever_their_token_includes() {
    let scene = Scene::start().await;
    let token = scene.token_of_everything("alice").await;
    let Conversation { id, message, .. } = &scene.elsewhere;
    let edit =
        scene.system.ask("alice", "PATCH", &format!("/api/messages/{message}")).json(&json!({"content": "edited"}));
    let delete = scene.system.ask("alice", "DELETE", &format!("/api/messages/{message}"));
    // The conversation is new, so nothing about it can be missing.
    let create = json!({"action": "conversation", "participantIds": [scene.system.peer_on(STUCK, "alice", "new")]});

    for (body, status) in [
        (json!({"conversationId": id, "content": "hi", "replyToId": message}), 201),
        (json!({"action": "typing_start", "conversationId": id}), 202),
        (json!({"action": "mark_read", "conversationId": id, "messageId": message}), 200),
        (json!({"action": "reaction", "messageId": message, "emoji": "👍"}), 201),
        (create, 201),
    ] {
        let done = scene.post(&token, body.clone()).await;
        assert_eq!(done.status, status, "{body}: {done:?}");
    }
    for command in [edit, delete] {
        let done = command.header("Messages-Position", &token).send().await;
        assert_eq!(done.status, 200, "{done:?}");
    }

    let Conversation { id, message, .. } = &scene.stuck;
    for body in [
        json!({"conversationId": id, "content": "too early"}),
        json!({"action": "reaction", "messageId": message, "emoji": "👍"}),
        json!({"action": "reaction", "messageId": scene.late.id(), "emoji": "👍"}),
    ] {
        scene.post(&token, body.clone()).await.assert_problem(503, "projection_behind");
        assert_eq!(scene.system.post("alice", body.clone()).await.status, 201, "without the token: {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_gets_everything_that_the_projector_has_not_folded() {
    let scene = Scene::start().await;
    let bob = &scene.stuck.peer;
    let carol = scene.system.peer_on(STUCK, bob, "carol");
    let created = scene.system.conversation(&carol, &[bob]).await;
    scene.system.message(&carol, &created, "first").await;
    // Stands while the node starts, too.
    let other_node = start_realtime_node(&scene.system).await;

    // The second socket comes when the user is in all rooms already.
    let mut contents = vec![format!("late @{bob}"), "first".to_owned()];
    for (url, live) in [(&scene.system.url, "one"), (&scene.system.url, "two"), (&other_node.url, "three")] {
        let mut client = Client::open(json!({"url": url, "token": scene.system.token(bob)})).await;
        let ready = client.frame("connection:ready").await;
        let included = scene.included(bob, &ready);
        assert_eq!(included.next(STUCK), scene.projected(STUCK).await, "the token says where the projector stands");
        assert!(included.next(ELSEWHERE) > 0);
        let sync = format!("/api/messages/sync?since={}", ready.data["position"].as_str().unwrap());
        assert_eq!(scene.system.get(bob, &sync).await.status, 200, "the client can sync up to the token");

        scene.system.message(&carol, &created, live).await;
        contents.push(live.to_owned());
        let mut frames = client.frames_until("the live message", |frame| frame.is_message(live)).await;
        frames.retain(|frame| frame.name != "presence:update");
        let names: Vec<_> = frames.iter().map(|frame| frame.name.as_str()).collect();
        let mut expected = vec!["message:new", "mention:new", "conversation:created"];
        expected.resize(contents.len() + 2, "message:new");
        assert_eq!(names, expected, "{live}");
        let received = frames.iter().filter(|frame| frame.name == "message:new").map(|frame| &frame.data["content"]);
        assert_eq!(received.collect::<Vec<_>>(), contents.iter().collect::<Vec<_>>(), "{live}");
        let unread = client.unread_frames().await;
        assert!(unread.iter().all(|name| name == "presence:update"), "a frame came twice: {unread:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_that_is_longer_than_the_buffers_of_a_slow_socket_arrives_completely_and_in_order() {
    let scene = Scene::start().await;
    let records = long_messages("alice", &scene.stuck.id, LONG_TAIL);
    let positions = log::append(&scene.system.config, &records).await;

    let mut bob = Client::connect(&scene.system, &scene.stuck.peer).await;
    scene.system.message("alice", &scene.stuck.id, "live").await;

    let mut frames = bob.frames_until("the live message", |frame| frame.is_message("live")).await;
    assert!(frames.iter().all(|frame| frame.name != "connection:ready"), "the server closed the connection");
    frames.retain(|frame| frame.name == "message:new");
    let received: Vec<_> = frames.iter().map(|frame| frame.meta["position"].as_str().unwrap()).collect();
    assert_eq!(received[1..=LONG_TAIL], positions);
}
