//! What is cached is never older than it says, whatever Redis was told late, lost, or took for new.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cache::{Cache, Head, Progress, Step, ViewKey};
use domain::state::{Changes, State};
use domain::testing::Rng;
use domain::{ConversationId, Position, PositionVector, Timestamp, UserId};
use read_model::{PartitionStep, ReadModel};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::harness::http::Answer;
use crate::harness::system::config;
use crate::harness::{System, eventually};

/// Redis under a prefix of its own, in a generation.
fn cache(generation: i64) -> Cache {
    let config = config();
    let cache = Cache::connect(&config.redis_url, &config.redis_prefix).unwrap();
    cache.enter_generation(generation);
    cache
}

fn step(from: i64, to: i64) -> Step {
    Step { partition: 0, from, to }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_fill_is_never_served() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let sent = system.post("alice", json!({"conversationId": conversation, "content": "old"})).await;
    let message = sent.id();
    system.announced(&sent).await;
    let cache = system.cache();
    cache.enter_generation(system.read_model().generation().await.unwrap().unwrap());
    let (conversation_id, message_id) = (conversation.parse().unwrap(), message.parse().unwrap());
    let (bob, page) = ("bob".parse().unwrap(), "20:-".to_owned());
    let participants = "50:-".to_owned();
    let views = [
        (
            "/api/messages".to_owned(),
            ViewKey::Conversations { user: "bob".parse().unwrap(), page: page.clone() },
            Head::User("bob".parse().unwrap()),
        ),
        (
            format!("/api/messages?conversationId={conversation}"),
            ViewKey::Messages { conversation: conversation_id, page },
            Head::Conversation(conversation_id),
        ),
        (format!("/api/messages/{message}"), ViewKey::Message(message_id), Head::Message(message_id)),
        (
            format!("/api/conversations/{conversation}"),
            ViewKey::Conversation { conversation: conversation_id, user: bob, page: participants },
            Head::Conversation(conversation_id),
        ),
    ];
    for (number, (path, key, head)) in views.into_iter().enumerate() {
        // A slow reader: it takes the stamps, reads, and stores when everything has changed.
        let stamps = cache.stamps(&[head]).await.unwrap();
        let read = system.read_model().offsets().await.unwrap();
        let old = system.get_after(&sent, "bob", &path).await;
        let body = json!({"content": number.to_string()});
        let edited = system.ask("alice", "PATCH", &format!("/api/messages/{message}")).json(&body).send().await;
        system.announced(&edited).await;
        cache.fill(&key, &stamps, &old.body.to_string(), &read).await.unwrap();
        let first = system.get("bob", &path).await;
        assert_eq!(first.header("x-cache"), "miss", "{path}");
        assert_ne!(first.body, old.body, "{path}");
        let second = system.get("bob", &path).await;
        assert_eq!((second.header("x-cache"), &second.body), ("hit", &first.body), "{path}");
        // The keys are those that the system itself uses.
        assert!(cache.view(&key).await.unwrap().body.is_some(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_older_than_what_redis_was_told_are_not_stored() {
    let (cache, conversation) = (cache(1), ConversationId(uuid::Uuid::now_v7()));
    let (key, head) = (ViewKey::Messages { conversation, page: "1".to_owned() }, Head::Conversation(conversation));
    cache.announce(1, &[], &[step(0, 10)]).await.unwrap();
    let stamps = cache.stamps(std::slice::from_ref(&head)).await.unwrap();
    // The read model was emptied, or put back from a copy.
    cache.fill(&key, &stamps, "old", &PositionVector(vec![9])).await.unwrap();
    assert_eq!(cache.view(&key).await.unwrap().body, None);
    cache.fill(&key, &stamps, "now", &PositionVector(vec![10])).await.unwrap();
    assert_eq!(cache.view(&key).await.unwrap().body.as_deref(), Some("now"));
    // What was begun in one generation isn't stored in the next.
    let stamps = cache.stamps(&[head]).await.unwrap();
    cache.enter_generation(2);
    cache.fill(&key, &stamps, "old", &PositionVector(vec![10])).await.unwrap();
    assert_eq!(cache.view(&key).await.unwrap().body, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_progress_of_one_generation_says_nothing_about_the_next() {
    let cache = cache(1);
    let progress = Progress::follow(cache.clone());
    let reached =
        async |next: i64, limit: u64| progress.reached(&PositionVector(vec![next]), Duration::from_millis(limit)).await;
    cache.announce(1, &[], &[step(0, 10)]).await.unwrap();
    assert!(reached(10, 20_000).await);
    // As the projector of the same process does it.
    cache.publish_generation(2).await.unwrap();
    assert!(!reached(10, 1_500).await, "the read model was emptied");
    // A projector that doesn't know yet says what it always said.
    cache.announce(1, &[], &[step(10, 10)]).await.unwrap();
    cache.announce(2, &[], &[step(0, 3)]).await.unwrap();
    assert!(reached(3, 20_000).await);
    assert!(!reached(10, 1_500).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_went_back_in_time_is_not_believed() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let sent = system.post("alice", json!({"conversationId": conversation, "content": "old"})).await;
    system.announced(&sent).await;
    let path = format!("/api/messages/{}", sent.id());
    let paths = [path.clone(), "/api/messages".to_owned(), format!("/api/messages?conversationId={conversation}")];
    for path in &paths {
        system.get("bob", path).await;
    }
    let react = json!({"action": "reaction", "messageId": sent.id(), "emoji": "👍"});
    let reacted = system.post("bob", react.clone()).await;
    system.announced(&reacted).await;
    for path in &paths {
        system.get("bob", path).await;
        assert_eq!(system.get("bob", path).await.header("x-cache"), "hit");
    }
    // What commands need to know is cached too.
    let denied = system.ask("bob", "PATCH", &path).json(&json!({"content": "mine"})).send().await;
    denied.assert_problem(403, "not_author");
    let mut redis = system.redis().await;
    let mut copies: Vec<(String, Vec<u8>)> = Vec::new();
    for key in system.redis_keys().await {
        let copy: Option<Vec<u8>> = redis::cmd("DUMP").arg(&key).query_async(&mut redis).await.unwrap();
        copies.extend(copy.map(|copy| (key, copy)));
    }
    let deleted = system.ask("alice", "DELETE", &path).send().await;
    system.announced(&deleted).await;
    // As after a crash: Redis has what it had before, and nobody tells it anything.
    let mut back = redis::pipe();
    back.atomic();
    for (key, copy) in &copies {
        back.cmd("RESTORE").arg(key).arg(3_600_000).arg(copy).arg("REPLACE").ignore();
    }
    back.query_async::<()>(&mut redis).await.unwrap();
    let late = system.ask("bob", "POST", "/api/messages").header("Messages-Position", deleted.position());
    late.json(&react).send().await.assert_problem(422, "message_deleted");
    let shown = |answer: &Answer| {
        let data = answer.data().get(0).unwrap_or(answer.data());
        data.get("lastMessage").unwrap_or(data)["content"].clone()
    };
    for path in &paths {
        let demanded = system.get_after(&deleted, "bob", path).await;
        assert_eq!((demanded.status, shown(&demanded)), (200, Value::Null), "{path}");
    }
    // Nothing happens, and yet it is told what it missed.
    for path in &paths {
        eventually("the old value is gone", async || shown(&system.get("bob", path).await).is_null().then_some(()))
            .await;
    }
}

/// How many edits there were, and the answer to the last of them.
type Latest = (usize, Option<Answer>);

/// Edits a message over and over: its content is how often.
async fn edit(system: Arc<System>, message: String, latest: watch::Sender<Latest>) {
    for number in 1.. {
        let body = json!({"content": number.to_string()});
        let edited = system.ask("alice", "PATCH", &format!("/api/messages/{message}")).json(&body).send().await;
        assert_eq!(edited.status, 200, "{edited:?}");
        latest.send_replace((number, Some(edited)));
    }
}

/// Reads a view over and over: from at least the newest edit, then from at least what that answer included.
async fn read(system: Arc<System>, path: String, latest: watch::Receiver<Latest>, counts: Arc<[AtomicUsize; 2]>) {
    let [reads, hits] = &*counts;
    let shown = |answer: &Answer| -> usize {
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        let data = answer.data().get(0).unwrap_or(answer.data());
        data.get("lastMessage").unwrap_or(data)["content"].as_str().unwrap().parse().unwrap()
    };
    while latest.has_changed().is_ok() {
        let (least, edited) = latest.borrow().clone();
        let Some(edited) = edited else {
            tokio::task::yield_now().await;
            continue;
        };
        let demanded = system.get_after(&edited, "bob", &path).await;
        assert!(shown(&demanded) >= least, "{path}: {} where {least} was demanded", shown(&demanded));
        // Never back, as far as the reader says what it has.
        let next = system.get_after(&demanded, "bob", &path).await;
        assert!(shown(&next) >= shown(&demanded), "{path}: {} after {}", shown(&next), shown(&demanded));
        for answer in [&demanded, &next] {
            reads.fetch_add(1, Ordering::Relaxed);
            hits.fetch_add(usize::from(answer.header("x-cache") == "hit"), Ordering::Relaxed);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_reader_ever_sees_less_than_it_demands() {
    let system = Arc::new(
        System::with(|config| {
            crate::harness::system::unlimited(config);
            config.database_connections = 16;
        })
        .await,
    );
    let conversation = system.conversation("alice", &["bob"]).await;
    let message = system.message("alice", &conversation, "0").await;
    let (latest, seen) = watch::channel((0, None));
    let writer = tokio::spawn(edit(system.clone(), message.clone(), latest));
    let counts: Arc<[AtomicUsize; 2]> = Arc::default();
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..2 {
        for path in [
            "/api/messages".to_owned(),
            format!("/api/messages?conversationId={conversation}"),
            format!("/api/messages/{message}"),
            format!("/api/conversations/{conversation}"),
        ] {
            readers.spawn(read(system.clone(), path, seen.clone(), counts.clone()));
        }
    }
    // Until there was enough to get wrong.
    eventually("edits, reads and hits", async || {
        assert!(!writer.is_finished());
        if let Some(ended) = readers.try_join_next() {
            ended.unwrap();
        }
        let [reads, hits] = [0, 1].map(|index: usize| counts[index].load(Ordering::Relaxed));
        (seen.borrow().0 >= 100 && reads >= 200 && hits > 20).then_some(())
    })
    .await;
    writer.abort();
    while let Some(reader) = readers.join_next().await {
        reader.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_leaves_nobody_an_old_snapshot() {
    let (config, topic_id) = (config(), uuid::Uuid::now_v7());
    // One connection, so that whoever comes next gets it.
    let connect = || ReadModel::connect(&config.database_url, &config.database_schema, 1).unwrap();
    let (reader, writer) = (connect(), connect());
    writer.migrate().await.unwrap();
    let generation = writer.open(topic_id, 1).await.unwrap().generation;
    let alice = "alice".parse().unwrap();
    for next in 0..300 {
        let step = PartitionStep { partition: 0, from: next, to: next + 1 };
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
        writer.commit(&State::default(), &Changes::default(), &[], &[step], (topic_id, generation)).await.unwrap();
        assert_eq!(reader.offsets().await.unwrap(), PositionVector(vec![next + 1]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_in_an_answer_is_of_one_moment() {
    let (config, topic_id) = (config(), uuid::Uuid::now_v7());
    let read_model = ReadModel::connect(&config.database_url, &config.database_schema, 4).unwrap();
    read_model.migrate().await.unwrap();
    let generation = read_model.open(topic_id, 1).await.unwrap().generation;
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
            let step = PartitionStep { partition: 0, from: offset, to: offset + 1 };
            writer.commit(&state, &changes, &[], &[step], (topic_id, generation)).await.unwrap();
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
