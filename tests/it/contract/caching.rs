//! Caching as clients see it: `X-Cache`, `ETag`, and a Redis that may lose everything. A response must never be wrong
//! because of the cache.

use serde_json::json;

use crate::harness::http::Response;
use crate::harness::{System, eventually};

/// A conversation of alice and others, with one message of alice's.
struct Conversation {
    id: String,
    message: String,
}

impl Conversation {
    async fn create(system: &System, others: &[&str]) -> Self {
        let id = system.conversation("alice", others).await;
        let message = system.message("alice", &id, "0").await;
        Self { id, message }
    }

    /// Every path that shows the message.
    fn paths(&self) -> [String; 4] {
        [
            "/api/messages".to_owned(),
            format!("/api/messages?conversationId={}", self.id),
            format!("/api/messages/{}", self.message),
            format!("/api/conversations/{}", self.id),
        ]
    }

    async fn edit(&self, system: &System, content: &str) -> Response {
        let edited = system.edit("alice", &self.message, content).await;
        assert_eq!(edited.status, 200, "{edited:?}");
        edited
    }
}

/// The message's content in any of the views of [`Conversation::paths`].
fn content(response: &Response) -> &str {
    let data = response.data().get(0).unwrap_or(response.data());
    let message = data.get("lastMessage").unwrap_or(data);
    message["content"].as_str().unwrap_or_else(|| panic!("no content: {response:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_equal_read_is_a_hit_until_something_changes() {
    let system = System::unlimited().await;
    let many: Vec<String> = (0..70).map(|number| format!("user-{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let small = Conversation::create(&system, &["bob"]).await;
    let large = Conversation::create(&system, &many).await;
    for (conversation, reader) in [(small, "bob"), (large, "user-69")] {
        for number in 1..=3 {
            let edited = conversation.edit(&system, &number.to_string()).await;
            system.wait_until_published(&edited).await;
            for path in conversation.paths() {
                let first = system.get_after(&edited, reader, &path).await;
                assert_eq!((first.header("x-cache"), content(&first)), ("miss", &*number.to_string()), "{path}");

                let second = system.get(reader, &path).await;
                assert_eq!((second.header("x-cache"), &second.body), ("hit", &first.body), "{path}");

                // A reader that demands the position of the cached view gets a hit, too.
                let third = system.get_after(&first, reader, &path).await;
                assert_eq!((third.header("x-cache"), &third.body), ("hit", &first.body), "{path}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_view_is_304_for_a_client_that_has_it() {
    let system = System::start().await;
    let conversation = Conversation::create(&system, &["bob"]).await;
    let mut latest = conversation.edit(&system, "1").await;
    for path in conversation.paths() {
        system.wait_until_published(&latest).await;
        let full = system.get_after(&latest, "bob", &path).await;
        let etag = full.header("etag").to_owned();
        assert!(etag.starts_with('"'), "{full:?}");

        for if_none_match in [etag.clone(), format!("\"other\", W/{etag}"), "*".to_owned()] {
            let unchanged = system.ask("bob", "GET", &path).header("If-None-Match", &if_none_match).send().await;
            assert_eq!((unchanged.status, &unchanged.body), (304, &json!("")), "{path}");
            for name in ["etag", "cache-control", "vary"] {
                assert_eq!(unchanged.header(name), full.header(name), "{path}");
            }
            assert_eq!(unchanged.header("x-cache"), "hit");
            unchanged.position();
        }

        latest = conversation.edit(&system, &format!("for {path}")).await;
        let request = system.ask("bob", "GET", &path).header("If-None-Match", &etag);
        let changed = request.header("Messages-Position", latest.position()).send().await;
        assert_eq!((changed.status, content(&changed)), (200, &*format!("for {path}")));
        assert_ne!(changed.header("etag"), etag);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_redis_makes_reads_slower_but_never_wrong() {
    let system = System::unlimited().await;
    let conversation = Conversation::create(&system, &["bob"]).await;
    for number in 1..=3 {
        let edited = conversation.edit(&system, &number.to_string()).await;
        let mut views_before = Vec::new();
        for path in conversation.paths() {
            views_before.push(system.get_after(&edited, "bob", &path).await);
        }

        system.clear_redis().await;

        for (path, before) in conversation.paths().iter().zip(views_before) {
            let after = system.get_after(&before, "bob", path).await;
            assert_eq!((after.status, &after.body), (200, &before.body), "{path}");
            // The cache recovers without any new event, also for a reader that demands a position.
            eventually("the read is a cache hit again", async || {
                let again = system.get_after(&before, "bob", path).await;
                assert_eq!((again.status, &again.body), (200, &before.body), "{path}");
                (again.header("x-cache") == "hit").then_some(())
            })
            .await;
        }
    }
}
