//! What is cached is never older than it says, whatever Redis was told late, lost, or took for new.

use std::time::Duration;

use cache::{Cache, Dependency, Progress, ViewKey};
use domain::state::{Changes, State};
use domain::testing::Rng;
use domain::{ConversationId, OffsetAdvance, Position, PositionVector, Timestamp, UserId};
use read_model::ReadModel;
use serde_json::json;

use crate::harness::system::config;

/// Redis under a prefix of its own, in a generation.
fn cache(generation: i64) -> Cache {
    let config = config();
    let cache = Cache::connect(&config.redis_url, &config.redis_prefix).unwrap();
    cache.enter_generation(generation);
    cache
}

fn step(from: i64, to: i64) -> OffsetAdvance {
    OffsetAdvance { partition: 0, from, to }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_older_than_what_redis_was_told_are_not_stored() {
    let (cache, conversation) = (cache(1), ConversationId(uuid::Uuid::now_v7()));
    let (key, head) =
        (ViewKey::Messages { conversation, page: "1".to_owned() }, Dependency::Conversation(conversation));
    cache.publish_progress(1, &[], &[step(0, 10)]).await.unwrap();
    let versions = cache.versions(std::slice::from_ref(&head)).await.unwrap();
    // The read model was emptied, or put back from a copy.
    cache.put_if_current(&key, &versions, "old", &PositionVector(vec![9])).await.unwrap();
    assert_eq!(cache.view(&key).await.unwrap().body, None);
    cache.put_if_current(&key, &versions, "now", &PositionVector(vec![10])).await.unwrap();
    assert_eq!(cache.view(&key).await.unwrap().body.as_deref(), Some("now"));
    // What was begun in one generation isn't stored in the next.
    let versions = cache.versions(&[head]).await.unwrap();
    cache.enter_generation(2);
    cache.put_if_current(&key, &versions, "old", &PositionVector(vec![10])).await.unwrap();
    assert_eq!(cache.view(&key).await.unwrap().body, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_progress_of_one_generation_says_nothing_about_the_next() {
    let cache = cache(1);
    let progress = Progress::follow(cache.clone());
    let reached =
        async |next: i64, limit: u64| progress.reached(&PositionVector(vec![next]), Duration::from_millis(limit)).await;
    cache.publish_progress(1, &[], &[step(0, 10)]).await.unwrap();
    assert!(reached(10, 20_000).await);
    // As the projector of the same process does it.
    cache.publish_generation(2).await.unwrap();
    assert!(!reached(10, 1_500).await, "the read model was emptied");
    // A projector that doesn't know yet says what it always said.
    cache.publish_progress(1, &[], &[step(10, 10)]).await.unwrap();
    cache.publish_progress(2, &[], &[step(0, 3)]).await.unwrap();
    assert!(reached(3, 20_000).await);
    assert!(!reached(10, 1_500).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_leaves_nobody_an_old_snapshot() {
    let (config, topic_id) = (config(), uuid::Uuid::now_v7());
    // One connection, so that whoever comes next gets it.
    let connect = || ReadModel::connect(&config.database_url, &config.database_schema, 1).unwrap();
    let (reader, writer) = (connect(), connect());
    writer.migrate().await.unwrap();
    let projection = writer.open_projection(topic_id, 1).await.unwrap();
    let alice = "alice".parse().unwrap();
    for next in 0..300 {
        let step = OffsetAdvance { partition: 0, from: next, to: next + 1 };
        let hangs_up = async {
            for _ in 0..next {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            _ = reader.conversations(&alice, 1, None) => {}
            () = hangs_up => {}
        }
        // Where a transaction were left open, its snapshot would be taken now.
        reader.offsets().await.unwrap();
        writer.commit(&State::default(), &Changes::default(), &[], &[step], projection).await.unwrap();
        assert_eq!(reader.offsets().await.unwrap(), PositionVector(vec![next + 1]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_in_an_answer_is_of_one_moment() {
    let (config, topic_id) = (config(), uuid::Uuid::now_v7());
    let read_model = ReadModel::connect(&config.database_url, &config.database_schema, 4).unwrap();
    read_model.migrate().await.unwrap();
    let projection = read_model.open_projection(topic_id, 1).await.unwrap();
    let (alice, bob): (UserId, UserId) = ("alice".parse().unwrap(), "bob".parse().unwrap());
    let conversation_id = ConversationId::direct(&alice, &bob);
    let writer = read_model.clone();
    let (users, actor) = (vec![alice.clone(), bob.clone()], bob.clone());
    let writing = tokio::spawn(async move {
        let (mut state, mut rng) = (State::default(), Rng::new(1));
        for offset in 0..200 {
            let data = match offset {
                0 => json!({"type": "DIRECT", "participantIds": users}),
                _ => json!({"messageId": rng.uuid(), "content": offset.to_string()}),
            };
            let kind = if offset == 0 { "CONVERSATION_CREATED" } else { "MESSAGE_SENT" };
            let event = json!({"eventId": rng.uuid(), "type": kind, "version": 1, "actorId": actor, "data": data,
                "occurredAt": Timestamp::from_millis(offset).unwrap(), "conversationId": conversation_id});
            let event = domain::envelope::decode(event.to_string().as_bytes()).unwrap();
            let mut changes = Changes::default();
            domain::fold::fold(&mut state, &mut changes, &event, Position { partition: 0, offset });
            let step = OffsetAdvance { partition: 0, from: offset, to: offset + 1 };
            writer.commit(&state, &changes, &[], &[step], projection).await.unwrap();
        }
    });
    // The event at an offset is the message of that `seq`: every part of an answer tells the moment.
    let mut moments = std::collections::BTreeSet::new();
    while !writing.is_finished() {
        let list = read_model.conversations(&alice, 1, None).await.unwrap();
        let one = read_model.conversation(conversation_id, &alice, 2, 0).await.unwrap();
        let views = list.value.items.into_iter().map(|view| (view, list.offsets.next(0)));
        for (view, next) in views.chain(one.value.map(|page| (page.view, one.offsets.next(0)))) {
            let now = next - 1;
            let last = view.last_message.as_ref().map_or(0, |message| message.seq.unwrap());
            let read = view.participants[1].last_read_seq;
            let moment = (view.position.offset, view.unread_count, view.updated_at.as_millis(), last, read);
            assert_eq!(moment, (now, now, now, now, now), "{view:?}");
            moments.insert(now);
        }
        let page = read_model.messages(conversation_id, 1, None).await.unwrap();
        let newest = page.value.items.first().map_or(0, |message| message.seq.unwrap());
        assert_eq!(newest, (page.offsets.next(0) - 1).max(0));
    }
    writing.await.unwrap();
    assert!(moments.len() > 10, "{moments:?}");
}
