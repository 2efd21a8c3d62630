//! What the memberships of a user cost while somebody always writes in one of the user's small conversations.

use super::{MeasuredService, measured_config};
use crate::harness::raw_socket::RawSocket;

/// How many messages are written, each before a list and a new socket.
const MESSAGES: usize = 20;
/// A part of the statement that reads the memberships of a user.
const READ_MEMBERSHIPS: &str = "participant_count FROM members";

#[tokio::test(flavor = "multi_thread")]
async fn messages_make_neither_a_list_nor_a_joining_socket_read_the_memberships() {
    let config = measured_config();
    let (_projector, command_api, query_api) = tokio::join!(
        MeasuredService::start(&config, &["projector"]),
        MeasuredService::start(&config, &["command-api"]),
        MeasuredService::start(&config, &["query-api"])
    );
    let realtime = MeasuredService::start(&config, &["realtime", "--query-api-url", &query_api.system.url]).await;
    let (commands, queries) = (&command_api.system, &query_api.system);
    commands.wait_until_projecting().await;
    let conversation = commands.conversation("alice", &["bob"]).await;
    let reads = || {
        let statements = query_api.foreground().action.statements;
        statements.iter().filter(|statement| statement.contains(READ_MEMBERSHIPS)).count()
    };
    let write_and_read = async || {
        let sent = commands.send("alice", &conversation, "hi").await;
        commands.wait_until_published(&sent).await;
        let list = queries.get("bob", "/api/messages").await;
        assert_eq!((list.status, list.header("x-cache")), (200, "miss"), "{list:?}");
        RawSocket::connect(&realtime.system, &realtime.process.url, "bob").await;
    };
    write_and_read().await;
    assert!(reads() > 0, "nobody knew the memberships");

    for _ in 0..MESSAGES {
        write_and_read().await;
    }
    assert_eq!(reads(), 0, "{MESSAGES} messages");

    let other = commands.conversation("carol", &["bob"]).await;
    write_and_read().await;
    assert_eq!(reads(), 1, "bob is in another conversation");
    let list = queries.get("bob", "/api/messages").await;
    assert!(list.ids().contains(&other.as_str()), "{list:?}");
}
