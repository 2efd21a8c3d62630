//! Cached views while the projector can't tell Redis what has changed: readers don't get old views for long, and reads go
//! on without Postgres.

use messages::process::Roles;
use redis::AsyncCommands;
use service::config::Config;
use time::OffsetDateTime;

use crate::harness::http::Response;
use crate::harness::proxy::Proxy;
use crate::harness::system::{config, unlimited};
use crate::harness::{System, eventually};

/// The services in processes of their own: some reach Redis or Postgres through a proxy.
struct Services {
    projector: System,
    commands: System,
    queries: System,
    /// A conversation of alice and bob.
    conversation: String,
    /// alice's message in it.
    message: String,
    /// The command that wrote the message.
    sent: Response,
}

impl Services {
    async fn start(projector: impl FnOnce(&mut Config), queries: impl FnOnce(&mut Config)) -> Self {
        let mut shared = config();
        unlimited(&mut shared);
        let (mut of_projector, mut of_queries) = (shared.clone(), shared.clone());
        projector(&mut of_projector);
        queries(&mut of_queries);
        let projector = System::with_roles(of_projector, Roles::PROJECTOR).await;
        let commands = System::with_roles(shared, Roles::COMMAND_API).await;
        let queries = System::with_roles(of_queries, Roles::QUERY_API).await;
        commands.wait_until_projecting().await;
        let conversation = commands.conversation("alice", &["bob"]).await;
        let sent = commands.send("alice", &conversation, "old").await;
        commands.wait_until_published(&sent).await;
        Self { projector, commands, queries, conversation, message: sent.id(), sent }
    }

    /// The paths that show the message. The list comes first.
    fn paths(&self) -> [String; 4] {
        [
            "/api/messages".to_owned(),
            format!("/api/messages?conversationId={}", self.conversation),
            format!("/api/conversations/{}", self.conversation),
            format!("/api/messages/{}", self.message),
        ]
    }

    /// Reads each path as bob, so that Redis has it.
    async fn fill_cache(&self) -> Vec<Response> {
        let mut views = Vec::new();
        for path in self.paths() {
            views.push(self.queries.get_after(&self.sent, "bob", &path).await);
            let hit = self.queries.get("bob", &path).await;
            assert_eq!((hit.status, hit.header("x-cache")), (200, "hit"), "{path}");
        }
        views
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projector_that_does_not_reach_redis_leaves_no_reader_with_an_old_view() {
    let redis = Proxy::start(&config().redis_url).await;
    let services = Services::start(|config| config.redis_url.clone_from(&redis.url), |_| {}).await;
    services.fill_cache().await;

    redis.down();
    let edited = services.commands.edit("alice", &services.message, "new").await;
    services.commands.wait_until_projected(&edited).await;

    for path in services.paths() {
        eventually("a reader that demands nothing sees the edit", async || {
            let read = services.queries.get("bob", &path).await;
            assert_eq!(read.status, 200, "{read:?}");
            read.body.to_string().contains("\"new\"").then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_postgres_cached_reads_go_on_however_old_they_are() {
    let postgres = Proxy::start(&config().database_url).await;
    let mut services = Services::start(|_| {}, |config| config.database_url.clone_from(&postgres.url)).await;
    let before = services.fill_cache().await;

    services.projector.stop().await;
    for path in services.paths() {
        eventually("the view is too old", async || {
            let read = services.queries.get("bob", &path).await;
            (read.header("x-cache") == "miss").then_some(())
        })
        .await;
    }
    postgres.down();

    for _ in 0..3 {
        for (path, before) in services.paths().iter().zip(&before) {
            let read = services.queries.get("bob", path).await;
            assert_eq!((read.status, &read.body, read.header("x-cache")), (200, &before.body, "hit"), "{path}");
            // The reader gets no more than the response claims.
            let demanding = services.queries.ask("bob", "GET", path).header("Messages-Position", read.position());
            assert_eq!(demanding.send().await.body, before.body, "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_counts_as_long_as_the_partitions_that_it_depends_on_are_current() {
    let mut services = Services::start(|_| {}, |_| {}).await;
    services.fill_cache().await;
    services.projector.stop().await;
    let partition: i32 = services.sent.position().split(':').next().unwrap().parse().unwrap();
    let (mut redis, key) = (services.commands.redis().await, services.commands.as_of_key().await);
    let now_ms = OffsetDateTime::now_utc().unix_timestamp() * 1_000;
    let [list, of_the_conversation @ ..] = services.paths();

    // Given that only the conversation's partition is current, and will be for an hour.
    for other in 0..services.commands.config.kafka_partitions {
        let as_of = if other == partition { now_ms + 3_600_000 } else { 0 };
        redis.hset::<_, _, _, ()>(&key, other, as_of).await.unwrap();
    }
    for path in &of_the_conversation {
        assert_eq!(services.queries.get("bob", path).await.header("x-cache"), "hit", "{path}");
    }
    assert_eq!(services.queries.get("bob", &list).await.header("x-cache"), "miss");

    // Given that only the other partitions are current.
    for other in 0..services.commands.config.kafka_partitions {
        let as_of = if other == partition { 0 } else { now_ms + 3_600_000 };
        redis.hset::<_, _, _, ()>(&key, other, as_of).await.unwrap();
    }
    for path in services.paths() {
        assert_eq!(services.queries.get("bob", &path).await.header("x-cache"), "miss", "{path}");
    }
}
