//! Creating conversations: direct ones and groups, and how soon participants can write to them.

use messages::process::Roles;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{System, eventually};

/// The published namespace of derived ids.
const NAMESPACE: Uuid = Uuid::from_u128(0x8f1d_6c5e_3b0a_4e5c_9d27_5a4c_7e21_b6f0);

/// Derives the id of a direct conversation as the documentation describes it.
fn direct_id(first: &str, second: &str) -> String {
    Uuid::new_v5(&NAMESPACE, json!([first, second]).to_string().as_bytes()).to_string()
}

/// The body of a command that creates a conversation.
fn create(participants: &[&str]) -> Value {
    json!({"action": "conversation", "participantIds": participants})
}

fn create_titled(title: &str, participants: &[&str]) -> Value {
    json!({"action": "conversation", "title": title, "participantIds": participants})
}

fn create_typed(kind: &str, participants: &[&str]) -> Value {
    json!({"action": "conversation", "type": kind, "participantIds": participants})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_created_direct_conversation_is_returned_logged_and_projected() {
    let system = System::start().await;

    let created = system.post("alice", create(&["bob"])).await;

    let id = direct_id("alice", "bob");
    let data = json!({"id": id, "type": "DIRECT", "title": null, "participantCount": 2,
                      "participantIds": ["alice", "bob"]});
    assert_eq!((created.status, &created.body), (201, &json!({"data": data})));
    assert_eq!(created.header("location"), format!("/api/conversations/{id}"));
    created.assert_rate_limit(20, 19);
    let record = system.record_at(&created).await;
    let expected = json!({"type": "CONVERSATION_CREATED", "actorId": "alice",
                          "data": {"type": "DIRECT", "participantIds": ["alice", "bob"]}});
    record.assert_event(&id, expected);
    assert_eq!(system.records().await.len(), 1);
    system.wait_until_projected(&created).await;
    let created_at = &record.value["occurredAt"];
    let row = json!({"id": id, "kind": "DIRECT", "title": null, "participant_count": 2, "created_at": created_at,
                     "updated_at": created_at, "last_seq": 0, "last_message_id": null,
                     "position": created.position()});
    assert_eq!(system.conversation_row(&id).await, row);
    let members = json!([{"user_id": "alice", "last_read_seq": 0, "last_read_at": null},
                         {"user_id": "bob", "last_read_seq": 0, "last_read_at": null}]);
    assert_eq!(system.member_rows(&id).await, members);
    assert_eq!(system.get("alice", created.header("location")).await.data()["id"], id.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_users_have_one_direct_conversation_whoever_creates_it_and_however_often() {
    struct Pair {
        creator: &'static str,
        other: &'static str,
        id: String,
    }
    let system = System::start().await;
    // The id depends on the byte order of the names: capitals, then small letters, then letters with accents.
    for Pair { creator, other, id } in [
        Pair { creator: "alice", other: "bob", id: direct_id("alice", "bob") },
        Pair { creator: "adam", other: "Zoe", id: direct_id("Zoe", "adam") },
        Pair { creator: "zed", other: "élan", id: direct_id("zed", "élan") },
        Pair { creator: "a\"quote", other: "a[bracket", id: direct_id("a\"quote", "a[bracket") },
    ] {
        let first = system.post(creator, create(&[other])).await;
        assert_eq!((first.status, first.id()), (201, id.clone()), "{first:?}");
        system.wait_until_projected(&first).await;
        let (row, members) = (system.conversation_row(&id).await, system.member_rows(&id).await);

        for again in [
            system.post(creator, create(&[other])).await,
            system.post(other, create(&[creator])).await,
            system.post(other, create(&[other, creator, creator])).await,
            system.post_with_key(other, "a-key", create(&[creator])).await,
            system.post(creator, create_typed("DIRECT", &[other])).await,
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
async fn a_group_lists_its_creator_first_and_every_participant_once() {
    let system = System::start().await;
    let body = create_titled("Trip 🏔 to A", &["bob", "carol", "alice", "bob"]);

    let created = system.post("alice", body.clone()).await;

    let (id, everyone) = (created.id(), json!(["alice", "bob", "carol"]));
    let data = json!({"id": id, "type": "GROUP", "title": "Trip 🏔 to A", "participantCount": 3,
                      "participantIds": everyone});
    assert_eq!((created.status, created.data()), (201, &data));
    let expected = json!({"type": "CONVERSATION_CREATED", "actorId": "alice",
                          "data": {"type": "GROUP", "title": "Trip 🏔 to A", "participantIds": everyone}});
    system.record_at(&created).await.assert_event(&id, expected);
    system.wait_until_projected(&created).await;
    let row = system.conversation_row(&id).await;
    assert_eq!((&row["kind"], &row["title"]), (&json!("GROUP"), &json!("Trip 🏔 to A")));
    assert_ne!(system.post("alice", body).await.id(), id, "an equal command must create another group");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_users_are_a_group_only_by_type_or_title_and_three_always_are() {
    let system = System::start().await;
    let untitled = json!({"action": "conversation", "title": null, "participantIds": ["bob"]});
    for (body, expected_type) in [
        (create_typed("GROUP", &["bob"]), "GROUP"),
        (create_titled("We two", &["bob"]), "GROUP"),
        (untitled, "DIRECT"),
        (create(&["bob", "carol"]), "GROUP"),
    ] {
        let created = system.post("alice", body).await;
        assert_eq!((created.status, &created.data()["type"]), (201, &json!(expected_type)), "{created:?}");
        assert_eq!(created.id() == direct_id("alice", "bob"), expected_type == "DIRECT");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_conversation_is_returned_with_its_first_fifty_participants_and_logged_with_all() {
    let system = System::start().await;
    let others: Vec<String> = (1..1_000).map(|number| format!("user-{number}")).collect();
    let others: Vec<&str> = others.iter().map(String::as_str).collect();

    let created = system.post("alice", create(&others)).await;

    assert_eq!((created.status, &created.data()["participantCount"]), (201, &json!(1_000)), "{created:?}");
    let mut everyone = vec!["alice"];
    everyone.extend(&others);
    assert_eq!(created.data()["participantIds"], json!(everyone[..50]));
    let expected = json!({"type": "CONVERSATION_CREATED", "actorId": "alice",
                          "data": {"type": "GROUP", "participantIds": everyone}});
    system.record_at(&created).await.assert_event(&created.id(), expected);
    system.wait_until_projected(&created).await;
    assert_eq!(system.member_rows(&created.id()).await.as_array().map(Vec::len), Some(1_000));

    everyone[0] = "one-too-many";
    let refused = system.post("alice", create(&everyone)).await;
    refused.assert_problem(422, "too_many");
    assert_eq!(system.records().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_waits_for_a_conversation_that_another_node_has_just_created() {
    let system = System::start().await;
    let other_node = System::with_roles(system.config.clone(), Roles::COMMAND_API).await;
    system.age_reservation_epoch().await;
    // Given a conversation that neither Postgres nor Redis knows.
    let pause = system.pause_projection().await;
    let created = system.post_with_key("alice", "us", create_titled("Us", &["bob"])).await;
    system.clear_redis().await;

    let message = json!({"conversationId": created.id(), "content": "hi"});
    let sending = tokio::spawn(other_node.ask("bob", "POST", "/api/messages").json(&message).send());
    eventually("the message waits for the projector", async || (system.failed_lookups("bob").await > 0).then_some(()))
        .await;
    assert!(!sending.is_finished());
    pause.rollback().await.unwrap();

    let sent = sending.await.unwrap();
    assert_eq!(sent.status, 201, "{sent:?}");
    other_node.wait_until_projected(&sent).await;
    assert_eq!(other_node.message_row(&sent.id()).await["seq"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_that_is_not_projected_in_time_is_503_and_never_404() {
    let system = System::start().await;
    system.age_reservation_epoch().await;
    let pause = system.pause_projection().await;
    let created = system.post_with_key("alice", "us", create_titled("Us", &["bob"])).await;
    let message = json!({"conversationId": created.id(), "content": "hi"});
    assert_eq!(system.post("bob", message.clone()).await.status, 201, "Redis knows the pending conversation");

    system.clear_redis().await;

    let refused = system.post("bob", message.clone()).await;
    refused.assert_problem(503, "projection_behind");
    assert_eq!(refused.header("retry-after"), "1");
    // Redis knows this conversation, but the caller also demands an event that isn't projected.
    let direct = system.conversation("alice", &["bob"]).await;
    let sent = system.send("alice", &direct, "hi").await;
    let demanding = system.ask("bob", "POST", "/api/messages").header("Messages-Position", sent.position());
    let demanding = demanding.json(&json!({"conversationId": direct, "content": "hi"})).send().await;
    demanding.assert_problem(503, "projection_behind");

    pause.rollback().await.unwrap();
    system.wait_until_projected(&created).await;
    assert_eq!(system.post("bob", message).await.status, 201);
}
