//! What a cached query costs: the work of the query API.

use super::{ACTIONS, MeasuredService, measured_config};

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_query_takes_one_round_trip_to_redis_and_no_statement() {
    let config = measured_config();
    let (_projector, command_api, query_api) = tokio::join!(
        MeasuredService::start(&config, &["projector"]),
        MeasuredService::start(&config, &["command-api"]),
        MeasuredService::start(&config, &["query-api"])
    );
    let (commands, queries) = (&command_api.system, &query_api.system);
    commands.wait_until_projecting().await;
    let conversation = commands.conversation("alice", &["bob"]).await;
    let mut last = None;
    for number in 0..20 {
        last = Some(commands.send("alice", &conversation, &format!("message {number}")).await);
    }
    let last = last.unwrap();
    commands.wait_until_published(&last).await;

    for (path, allocations) in [
        ("/api/messages".to_owned(), 172.0),
        (format!("/api/messages?conversationId={conversation}"), 138.0),
        (format!("/api/messages/{}", last.id()), 187.0),
        (format!("/api/conversations/{conversation}"), 195.0),
    ] {
        // The first look-up fills the cache, and the process learns who is in the conversation.
        queries.get("bob", &path).await;
        let tag = queries.get("bob", &path).await.header("etag").to_owned();
        let hits = async || query_api.process.metric("cache_lookups_total", "outcome=\"hit\"").await;
        let hits_before = hits().await;

        let read = query_api
            .measure(&format!("a cached GET {path}"), async |_| {
                let answer = queries.get("bob", &path).await;
                assert_eq!((answer.status, answer.header("x-cache")), (200, "hit"), "{answer:?}");
            })
            .await;

        assert_eq!(hits().await - hits_before, ACTIONS as f64, "cache_lookups_total: {path}");
        assert_eq!(read.round_trips(), ["EVALSHA"], "the script that looks the view up: {path}");
        assert_eq!(read.statements(), [""; 0], "{path}");
        read.assert_allocations(allocations);

        let unchanged = query_api
            .measure(&format!("a 304 for {path}"), async |_| {
                let answer = queries.ask("bob", "GET", &path).header("If-None-Match", &tag).send().await;
                assert_eq!(answer.status, 304, "{answer:?}");
            })
            .await;

        assert_eq!(unchanged.round_trips(), ["EVALSHA"], "{path}");
        assert_eq!(unchanged.statements(), [""; 0], "{path}");
        unchanged.assert_allocations(allocations);
    }
}
