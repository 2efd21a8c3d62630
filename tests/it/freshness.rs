//! Cached and stored views are never older than they say, even if Redis learns of changes late, loses data, or the read
//! model is rebuilt.
//!
//! These tests drive `cache` and `read-model` directly: no client can arrange such moments.

use std::collections::BTreeSet;
use std::time::Duration;

use cache::{Cache, Dependency, Progress, View, ViewKey};
use domain::state::{Changes, State};
use domain::testing::Rng;
use domain::{ConversationId, Event, OffsetAdvance, Position, PositionVector, Timestamp, UserId};
use read_model::ReadModel;
use serde_json::json;

use crate::harness::system::config;

/// Redis under a key prefix of this test, in a generation of the read model.
fn cache_in_generation(generation: i64) -> Cache {
    let config = config();
    let cache = Cache::connect(&config.redis_url, &config.redis_prefix).unwrap();
    cache.enter_generation(generation);
    cache
}

/// An advance of the only partition.
fn advance(from: i64, to: i64) -> OffsetAdvance {
    OffsetAdvance { partition: 0, from, to }
}

/// A view of a conversation's messages, and what it depends on.
fn messages_view() -> (ViewKey, Dependency) {
    let conversation = ConversationId(uuid::Uuid::now_v7());
    (ViewKey::Messages { conversation, page_size: 1 }, Dependency::Conversation(conversation))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_from_before_the_published_progress_is_not_stored() {
    let cache = cache_in_generation(1);
    let (key, dependency) = messages_view();
    cache.publish_progress(1, &[], &[advance(0, 10)]).await.unwrap();
    let versions = cache.versions(&[dependency]).await.unwrap();

    // The read model was emptied, or restored from a backup.
    let behind = PositionVector(vec![9]);
    cache.put_if_current(&key, &versions, &View::new("old"), &behind).await.unwrap();
    assert_eq!(cache.view(&key).await.unwrap().view, None);

    let level = PositionVector(vec![10]);
    cache.put_if_current(&key, &versions, &View::new("now"), &level).await.unwrap();
    assert_eq!(cache.view(&key).await.unwrap().view, Some(View::new("now")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_from_before_redis_lost_the_progress_is_never_fresh_again() {
    let cache = cache_in_generation(1);
    let (key, dependency) = messages_view();
    // Redis has lost everything, when a reader loads what the read model has at offset 2.
    let versions = cache.versions(&[dependency]).await.unwrap();
    let values = PositionVector(vec![2]);

    // A projector commits offset 2 and dies. Another only knows that the read model is at offset 3.
    cache.publish_progress(1, &[], &[advance(3, 3)]).await.unwrap();
    cache.put_if_current(&key, &versions, &View::new("old"), &values).await.unwrap();

    let found = cache.view(&key).await.unwrap();
    assert_eq!((found.progress, found.view), (PositionVector(vec![3]), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_of_one_generation_is_not_stored_in_the_next() {
    let cache = cache_in_generation(1);
    let (key, dependency) = messages_view();
    cache.publish_progress(1, &[], &[advance(0, 10)]).await.unwrap();
    let level = PositionVector(vec![10]);
    let versions = cache.versions(std::slice::from_ref(&dependency)).await.unwrap();
    cache.put_if_current(&key, &versions, &View::new("now"), &level).await.unwrap();

    let versions = cache.versions(&[dependency]).await.unwrap();
    cache.enter_generation(2);
    cache.put_if_current(&key, &versions, &View::new("old"), &level).await.unwrap();

    assert_eq!(cache.view(&key).await.unwrap().view, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_progress_of_one_generation_does_not_count_in_the_next() {
    let cache = cache_in_generation(1);
    let progress = Progress::follow(cache.clone());
    let is_reached = async |offset: i64, within_ms: u64| {
        progress.reached(&PositionVector(vec![offset]), Duration::from_millis(within_ms)).await
    };
    cache.publish_progress(1, &[], &[advance(0, 10)]).await.unwrap();
    assert!(is_reached(10, 20_000).await);

    // As a projector in the same process does it.
    cache.publish_generation(2).await.unwrap();
    assert!(!is_reached(10, 1_500).await, "the read model was emptied");

    // A projector that doesn't know the new generation yet still publishes the old one's progress.
    cache.publish_progress(1, &[], &[advance(10, 10)]).await.unwrap();
    cache.publish_progress(2, &[], &[advance(0, 3)]).await.unwrap();
    assert!(is_reached(3, 20_000).await);
    assert!(!is_reached(10, 1_500).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_query_leaves_no_old_snapshot_to_the_next() {
    let (config, topic_id) = (config(), uuid::Uuid::now_v7());
    // One connection, which the next query must reuse.
    let connect = || ReadModel::connect(&config.database_url, &config.database_schema, 1).unwrap();
    let (reader, writer) = (connect(), connect());
    writer.migrate().await.unwrap();
    let projection = writer.open_projection(topic_id, 1).await.unwrap();
    let alice = "alice".parse().unwrap();
    for next in 0..300 {
        let client_hangs_up = async {
            for _ in 0..next {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            _ = reader.conversations(&alice, 1, None) => {}
            () = client_hangs_up => {}
        }
        // If the cancelled query left a transaction open, this query would take its snapshot.
        reader.offsets().await.unwrap();
        let step = advance(next, next + 1);
        writer.commit(&State::default(), &Changes::default(), &[], &[step], projection).await.unwrap();
        assert_eq!(reader.offsets().await.unwrap(), PositionVector(vec![next + 1]));
    }
}

/// A log on which the event at each offset shows in every part of an answer: the first event creates a conversation of
/// alice and bob, and every later one is a message of bob, whose `seq`, time and unread count are its offset.
struct Log {
    rng: Rng,
    conversation: ConversationId,
    alice: UserId,
    bob: UserId,
}

impl Log {
    fn event(&mut self, offset: i64) -> Event {
        let (kind, data) = if offset == 0 {
            ("CONVERSATION_CREATED", json!({"type": "DIRECT", "participantIds": [self.alice, self.bob]}))
        } else {
            ("MESSAGE_SENT", json!({"messageId": self.rng.uuid(), "content": offset.to_string()}))
        };
        let event = json!({
            "eventId": self.rng.uuid(), "type": kind, "version": 1, "actorId": self.bob, "data": data,
            "occurredAt": Timestamp::from_millis(offset).unwrap(), "conversationId": self.conversation,
        });
        domain::envelope::decode(event.to_string().as_bytes()).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_part_of_an_answer_is_of_the_same_moment() {
    let (config, topic_id) = (config(), uuid::Uuid::now_v7());
    let read_model = ReadModel::connect(&config.database_url, &config.database_schema, 4).unwrap();
    read_model.migrate().await.unwrap();
    let projection = read_model.open_projection(topic_id, 1).await.unwrap();
    let (alice, bob): (UserId, UserId) = ("alice".parse().unwrap(), "bob".parse().unwrap());
    let conversation = ConversationId::direct(&alice, &bob);
    let mut log = Log { rng: Rng::new(1), conversation, alice: alice.clone(), bob };
    let writer = read_model.clone();
    let writing = tokio::spawn(async move {
        let mut state = State::default();
        for offset in 0..200 {
            let event = log.event(offset);
            let mut changes = Changes::default();
            domain::fold::fold(&mut state, &mut changes, &event, Position { partition: 0, offset });
            let step = advance(offset, offset + 1);
            writer.commit(&state, &changes, &[], &[step], projection).await.unwrap();
        }
    });

    let mut moments = BTreeSet::new();
    while !writing.is_finished() {
        let list = read_model.conversations(&alice, 1, None).await.unwrap();
        let single = read_model.conversation(conversation, &alice, 2, 0).await.unwrap();
        let listed = list.value.items.into_iter().map(|view| (view, list.offsets.next(0)));
        let views = listed.chain(single.value.map(|page| (page.view, single.offsets.next(0))));
        for (view, next_offset) in views {
            let moment = next_offset - 1;
            let last_seq = view.last_message.as_ref().map_or(0, |message| message.seq.unwrap());
            assert_eq!(view.position.offset, moment, "{view:?}");
            assert_eq!(view.unread_count, moment, "{view:?}");
            assert_eq!(view.updated_at.as_millis(), moment, "{view:?}");
            assert_eq!(last_seq, moment, "{view:?}");
            assert_eq!(view.participants[1].last_read_seq, moment, "{view:?}");
            moments.insert(moment);
        }
        let page = read_model.messages(conversation, 1, None).await.unwrap();
        let newest = page.value.items.first().map_or(0, |message| message.seq.unwrap());
        assert_eq!(newest, (page.offsets.next(0) - 1).max(0));
    }
    writing.await.unwrap();
    assert!(moments.len() > 10, "the queries saw too few moments: {moments:?}");
}
