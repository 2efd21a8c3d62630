//! Beginning conversations.

use messages::process::Roles;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{System, eventually};

/// The published namespace of derived ids.
const NAMESPACE: Uuid = Uuid::from_u128(0x8f1d_6c5e_3b0a_4e5c_9d27_5a4c_7e21_b6f0);

/// The id of a pair's conversation, as an analyst derives it from the documentation.
fn direct_id(first: &str, second: &str) -> String {
    Uuid::new_v5(&NAMESPACE, json!([first, second]).to_string().as_bytes()).to_string()
}

fn begin(participants: &[&str]) -> Value {
    json!({"action": "conversation", "participantIds": participants})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_of_two_is_answered_logged_and_projected() {
    let system = System::start().await;
    let begun = system.post("alice", begin(&["bob"])).await;
    let id = direct_id("alice", "bob");
    let data = json!({"id": id, "type": "DIRECT", "title": null, "participantCount": 2,
                      "participantIds": ["alice", "bob"]});
    assert_eq!((begun.status, &begun.body), (201, &json!({"data": data})));
    assert_eq!(begun.header("location"), format!("/api/conversations/{id}"));
    begun.assert_rate_limit(20, 19);
    let record = system.record_at(&begun).await;
    let expected = json!({"type": "CONVERSATION_CREATED", "actorId": "alice",
                          "data": {"type": "DIRECT", "participantIds": ["alice", "bob"]}});
    record.assert_event(&id, expected);
    assert_eq!(system.records().await.len(), 1);
    system.wait_until_projected(&begun).await;
    let at = &record.value["occurredAt"];
    let row = json!({"id": id, "kind": "DIRECT", "title": null, "participant_count": 2, "created_at": at,
                     "updated_at": at, "last_seq": 0, "last_message_id": null, "position": begun.position()});
    assert_eq!(system.conversation_row(&id).await, row);
    let members = json!([{"user_id": "alice", "last_read_seq": 0, "last_read_at": null},
                         {"user_id": "bob", "last_read_seq": 0, "last_read_at": null}]);
    assert_eq!(system.member_rows(&id).await, members);
    assert_eq!(system.get("alice", begun.header("location")).await.data()["id"], id.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_has_one_conversation_whoever_begins_it_and_however_often() {
    let system = System::start().await;
    // In byte order capitals come before small letters, and those before letters with accents.
    for (one, other, id) in [
        ("alice", "bob", direct_id("alice", "bob")),
        ("adam", "Zoe", direct_id("Zoe", "adam")),
        ("zed", "élan", direct_id("zed", "élan")),
        ("a\"quote", "a[bracket", direct_id("a\"quote", "a[bracket")),
    ] {
        let first = system.post(one, begin(&[other])).await;
        assert_eq!((first.status, first.id()), (201, id.clone()), "{first:?}");
        system.wait_until_projected(&first).await;
        let (row, members) = (system.conversation_row(&id).await, system.member_rows(&id).await);
        for again in [
            system.post(one, begin(&[other])).await,
            system.post(other, begin(&[one])).await,
            system.post(other, begin(&[other, one, one])).await,
            system.post_with_key(other, "a-key", begin(&[one])).await,
            system.post(one, json!({"action": "conversation", "type": "DIRECT", "participantIds": [other]})).await,
        ] {
            assert!([200, 201].contains(&again.status), "{again:?}");
            assert_eq!(again.id(), id);
            system.wait_until_projected(&again).await;
        }
        assert_eq!(system.conversation_row(&id).await, row);
        assert_eq!(system.member_rows(&id).await, members);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_has_its_creator_first_everyone_once_and_a_title_of_its_own() {
    let system = System::start().await;
    let body =
        json!({"action": "conversation", "title": "Trip 🏔 to A", "participantIds": ["bob", "carol", "alice", "bob"]});
    let begun = system.post("alice", body.clone()).await;
    let (id, everyone) = (begun.id(), json!(["alice", "bob", "carol"]));
    let data = json!({"id": id, "type": "GROUP", "title": "Trip 🏔 to A", "participantCount": 3,
                      "participantIds": everyone});
    assert_eq!((begun.status, begun.data()), (201, &data));
    let expected = json!({"type": "CONVERSATION_CREATED", "actorId": "alice",
                          "data": {"type": "GROUP", "title": "Trip 🏔 to A", "participantIds": everyone}});
    system.record_at(&begun).await.assert_event(&id, expected);
    system.wait_until_projected(&begun).await;
    let row = system.conversation_row(&id).await;
    assert_eq!((&row["kind"], &row["title"]), (&json!("GROUP"), &json!("Trip 🏔 to A")));
    assert_ne!(system.post("alice", body).await.id(), id, "each group is one of its own");
    // Two people are a group where they say so, by type or by title; three always are.
    for (body, kind) in [
        (json!({"action": "conversation", "type": "GROUP", "participantIds": ["bob"]}), "GROUP"),
        (json!({"action": "conversation", "title": "We two", "participantIds": ["bob"]}), "GROUP"),
        (json!({"action": "conversation", "title": null, "participantIds": ["bob"]}), "DIRECT"),
        (begin(&["bob", "carol"]), "GROUP"),
    ] {
        let begun = system.post("alice", body).await;
        assert_eq!((begun.status, &begun.data()["type"]), (201, &json!(kind)), "{begun:?}");
        assert_eq!(begun.id() == direct_id("alice", "bob"), kind == "DIRECT");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_conversation_is_answered_with_its_first_fifty_and_logged_whole() {
    let system = System::start().await;
    let others: Vec<String> = (1..1_000).map(|number| format!("user-{number}")).collect();
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    let begun = system.post("alice", begin(&others)).await;
    assert_eq!((begun.status, &begun.data()["participantCount"]), (201, &json!(1_000)), "{begun:?}");
    let mut everyone = vec!["alice"];
    everyone.extend(&others);
    assert_eq!(begun.data()["participantIds"], json!(everyone[..50]));
    let expected = json!({"type": "CONVERSATION_CREATED", "actorId": "alice",
                          "data": {"type": "GROUP", "participantIds": everyone}});
    system.record_at(&begun).await.assert_event(&begun.id(), expected);
    system.wait_until_projected(&begun).await;
    assert_eq!(system.member_rows(&begun.id()).await.as_array().map(Vec::len), Some(1_000));
    everyone[0] = "one-too-many";
    let refused = system.post("alice", begin(&everyone)).await;
    refused.assert_problem(422, "too_many");
    assert_eq!(system.records().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_of_a_moment_ago_can_be_written_to_on_another_node() {
    let system = System::start().await;
    let other = System::with_roles(system.config.clone(), Roles::COMMAND_API).await;
    system.age_reservation_epoch().await;
    // Neither Redis nor Postgres has it: the one forgets, the other waits.
    let hold = system.pause_projection().await;
    let body = json!({"action": "conversation", "title": "Us", "participantIds": ["bob"]});
    let begun = system.post_with_key("alice", "us", body).await;
    system.clear_redis().await;
    let message = json!({"conversationId": begun.id(), "content": "hi"});
    let writing = tokio::spawn(other.ask("bob", "POST", "/api/messages").json(&message).send());
    eventually("the message waits for the projector", async || {
        let keys = system.redis_keys().await;
        keys.iter().any(|key| key.ends_with(":limit:misses:bob")).then_some(())
    })
    .await;
    assert!(!writing.is_finished());
    hold.rollback().await.unwrap();
    let sent = writing.await.unwrap();
    assert_eq!(sent.status, 201, "{sent:?}");
    other.wait_until_projected(&sent).await;
    assert_eq!(other.message_row(&sent.id()).await["seq"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_projector_does_not_reach_in_time_is_503_and_never_a_wrong_404() {
    let system = System::start().await;
    system.age_reservation_epoch().await;
    let hold = system.pause_projection().await;
    let body = json!({"action": "conversation", "title": "Us", "participantIds": ["bob"]});
    let begun = system.post_with_key("alice", "us", body).await;
    let message = json!({"conversationId": begun.id(), "content": "hi"});
    // Unless Redis knows that it was begun.
    assert_eq!(system.post("bob", message.clone()).await.status, 201);
    system.clear_redis().await;
    let refused = system.post("bob", message.clone()).await;
    refused.assert_problem(503, "projection_behind");
    assert_eq!(refused.header("retry-after"), "1");
    // Neither is what Redis has, where the caller demands more.
    let direct = system.conversation("alice", &["bob"]).await;
    let demanding = system.ask("bob", "POST", "/api/messages").header("Messages-Position", begun.position());
    let demanding = demanding.json(&json!({"conversationId": direct, "content": "hi"})).send().await;
    demanding.assert_problem(503, "projection_behind");
    hold.rollback().await.unwrap();
    system.wait_until_projected(&begun).await;
    assert_eq!(system.post("bob", message).await.status, 201);
}
