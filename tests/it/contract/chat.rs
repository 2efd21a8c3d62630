//! The shortest story: one user writes, and the other one receives the message and reads it.

use serde_json::json;

use crate::harness::{Client, System};

#[tokio::test(flavor = "multi_thread")]
async fn a_sent_message_reaches_the_other_participant_and_can_be_read() {
    let system = System::start().await;
    let mut bob = Client::connect(&system, "bob").await;

    let conversation = system.conversation("alice", &["bob"]).await;
    assert_eq!(bob.frame("conversation:created").await.data["id"], conversation.as_str());

    let sent = system.post("alice", json!({"conversationId": conversation, "content": "hi @bob"})).await;
    assert_eq!(sent.status, 201, "{sent:?}");

    let frame = bob.frame("message:new").await;
    assert_eq!(frame.data["content"], "hi @bob");
    assert_eq!(frame.meta["position"], sent.position());

    let page = system.get_after(&sent, "bob", &format!("/api/messages?conversationId={conversation}")).await;
    assert_eq!(page.data()[0]["id"], sent.data()["id"], "{page:?}");
    assert_eq!(page.data()[0]["seq"], 1);
}
