//! Sync in large conversations: what a page costs, and that nothing is missing whatever changes between two pages.

use std::collections::HashMap;

use domain::event::{ConversationKind, MessageSent, MessageType};
use domain::fold::fold;
use domain::state::{Changes, State};
use domain::sync_cursor::SyncCursor;
use domain::testing::Rng;
use domain::{
    ConversationId, Event, EventData, EventId, MessageId, OffsetAdvance, Position, PositionVector, Timestamp, UserId,
};
use read_model::{Change, Projection, ReadModel, SyncOutcome};
use sqlx::PgPool;
use uuid::Uuid;

use crate::harness::System;
use crate::harness::buffers::BufferCount;
use crate::harness::system::{PARTITIONS, config};

/// The size of the conversations that are large here.
const LARGE: usize = domain::limits::SMALL_CONVERSATION_MAX + 6;

fn user(name: &str) -> UserId {
    name.parse().unwrap()
}

/// A read model of its own, into which the test writes.
struct Scene {
    read_model: ReadModel,
    projection: Projection,
    /// Connections to the schema.
    sql: PgPool,
    /// The same read model, through the proxy that counts.
    measured: ReadModel,
    buffers: BufferCount,
}

impl Scene {
    async fn create() -> Self {
        let config = config();
        let buffers = BufferCount::of(&config.database_url).await;
        let connect = |url: &str| ReadModel::connect(url, &config.database_schema, 1).unwrap();
        let (read_model, measured) = (connect(&config.database_url), connect(&buffers.url));
        read_model.migrate().await.unwrap();
        let partitions = usize::try_from(PARTITIONS).unwrap();
        let projection = read_model.open_projection(Uuid::from_u128(7), partitions).await.unwrap();
        Self { read_model, projection, sql: System::attach(config, "").sql, measured, buffers }
    }

    async fn execute(&self, statement: &'static str, number: i32) {
        sqlx::query(statement).bind(number).execute(&self.sql).await.unwrap();
    }

    /// Adds large groups that alice is in, in which nothing has changed since offset 10 of each partition.
    async fn add_groups(&self, groups: i32) {
        self.execute(
            "INSERT INTO conversations
             SELECT md5(number::text)::uuid, number % 3, 'GROUP', NULL, 100, now(), now(), 5, NULL, 1
             FROM generate_series(1, $1) AS number",
            groups,
        )
        .await;
        self.execute(
            "INSERT INTO members
             SELECT md5(number::text)::uuid, CASE ordinal WHEN 0 THEN 'alice' ELSE 'user-' || ordinal END, ordinal, 3,
                    now(), 1, NULL, number % 3, NULL
             FROM generate_series(1, $1) AS number, generate_series(0, 99) AS ordinal",
            groups,
        )
        .await;
        self.execute("UPDATE partitions SET next_offset = $1", 10).await;
    }

    /// In each of the groups, everybody reads and five people write: 106 changes.
    async fn change_groups(&self, groups: i32) {
        self.execute(
            "UPDATE members SET position = 1000 * number + ordinal
             FROM generate_series(1, $1) AS number WHERE conversation_id = md5(number::text)::uuid",
            groups,
        )
        .await;
        self.execute(
            "INSERT INTO messages
             SELECT md5(number::text)::uuid, seq, md5(number || '/' || seq)::uuid, 'user-1', 'hi', 'TEXT', '[]', '[]',
                    NULL, now(), NULL, NULL, 1000 * number + 500 + seq
             FROM generate_series(1, $1) AS number, generate_series(1, 5) AS seq",
            groups,
        )
        .await;
        self.execute(
            "UPDATE conversations SET changed = 1000 * number + 900
             FROM generate_series(1, $1) AS number WHERE id = md5(number::text)::uuid",
            groups,
        )
        .await;
        self.execute("UPDATE partitions SET next_offset = $1", 1_000_000).await;
    }

    /// Reads alice's pages until there are no more. Returns how many changes each page has, and how many buffers it
    /// read.
    async fn pages(&self, limit: usize) -> Vec<(usize, i64)> {
        let mut since = SyncCursor::new(PositionVector(vec![10, 10, 10]), 0);
        let mut pages = Vec::new();
        loop {
            self.buffers.take();
            let found = self.measured.changes(&user("alice"), &since, limit).await.unwrap().value;
            let SyncOutcome::Page(page) = found else { panic!("{found:?}") };
            pages.push((page.items.len(), self.buffers.take()));
            since = page.next;
            if !page.more {
                return pages;
            }
        }
    }
}

#[tokio::test]
async fn a_sync_page_reads_as_little_on_the_last_page_as_on_the_first_and_in_many_groups_as_in_few() {
    let mut reads = Vec::new();
    for groups in [40, 160] {
        let scene = Scene::create().await;
        scene.add_groups(groups).await;
        scene.change_groups(groups).await;

        let pages = scene.pages(50).await;

        let changes: usize = pages.iter().map(|(changes, _)| changes).sum();
        assert_eq!(changes, usize::try_from(groups).unwrap() * 106, "each change once");
        reads.push(pages.into_iter().map(|(_, buffers)| buffers).max().unwrap());
    }
    assert!(reads.iter().all(|buffers| (1..BUFFERS_MAX).contains(buffers)), "{reads:?}");
}

/// The most buffers that a page of 50 changes reads.
const BUFFERS_MAX: i64 = 700;

#[tokio::test]
async fn a_user_in_very_many_groups_gets_a_change_on_a_later_page_and_then_no_more_pages() {
    let scene = Scene::create().await;
    scene.add_groups(1_100).await;
    // The walk comes to this group last.
    scene
        .execute(
            "UPDATE conversations SET changed = 19 WHERE id = (SELECT min(id::text)::uuid FROM conversations)
             AND participant_count > $1",
            0,
        )
        .await;
    scene.execute("UPDATE partitions SET next_offset = $1", 20).await;

    let pages = scene.pages(100).await;

    let changes: Vec<usize> = pages.iter().map(|(changes, _)| *changes).collect();
    assert_eq!(changes, [0, 0, 1], "500 groups a page");
    assert!(pages.iter().all(|(_, buffers)| (1..5_000).contains(buffers)), "{pages:?}");
}

/// What a client has: for each thing, the position of its last change.
type Known = HashMap<(ConversationId, String), Position>;

/// A client that synchronizes.
struct Reader {
    user: UserId,
    since: SyncCursor,
    known: Known,
}

impl Reader {
    fn new(name: &str) -> Self {
        let since = SyncCursor::new(PositionVector::zero(usize::try_from(PARTITIONS).unwrap()), 0);
        Self { user: user(name), since, known: Known::new() }
    }

    /// Reads a page. Returns whether there are more.
    async fn read_page(&mut self, read_model: &ReadModel, limit: usize) -> bool {
        let found = read_model.changes(&self.user, &self.since, limit).await.unwrap().value;
        let SyncOutcome::Page(page) = found else { panic!("{found:?}") };
        assert!(page.items.len() <= limit);
        assert!(page.items.is_sorted_by_key(|item| item.position), "a page is in the order of the log");
        for item in page.items {
            let key = match &item.change {
                Change::Conversation(view) => (view.id, "conversation".to_owned()),
                Change::Message(view) => (view.conversation_id, view.id.to_string()),
                Change::ReadMark(mark) => (mark.conversation_id, mark.user_id.to_string()),
            };
            let before = self.known.insert(key, item.position);
            assert!(before <= Some(item.position), "a page never goes back behind what the client has");
        }
        self.since = page.next;
        page.more
    }
}

/// A random history that goes straight into a read model.
struct History {
    rng: Rng,
    state: State,
    next: PositionVector,
    conversations: Vec<(ConversationId, Vec<UserId>)>,
    messages: Vec<(ConversationId, MessageId, UserId)>,
}

impl History {
    fn new(seed: u64) -> Self {
        let next = PositionVector::zero(usize::try_from(PARTITIONS).unwrap());
        let (conversations, messages) = (Vec::new(), Vec::new());
        Self { rng: Rng::new(seed), state: State::default(), next, conversations, messages }
    }

    /// Commits a batch of so many random events.
    async fn commit(&mut self, scene: &Scene, events: usize) {
        let (from, mut changes) = (self.next.clone(), Changes::default());
        for _ in 0..events {
            let event = self.event();
            let partition = i32::try_from(event.conversation_id.0.as_u128() % 3).unwrap();
            let position = Position { partition, offset: self.next.next(partition) };
            self.next.advance(partition, position.offset + 1);
            fold(&mut self.state, &mut changes, &event, position);
        }
        let advance =
            |partition| OffsetAdvance { partition, from: from.next(partition), to: self.next.next(partition) };
        let advances: Vec<OffsetAdvance> = (0..PARTITIONS).map(advance).collect();
        scene.read_model.commit(&self.state, &changes, &[], &advances, scene.projection).await.unwrap();
    }

    fn event(&mut self) -> Event {
        let kind = self.rng.below(100);
        let (conversation_id, actor_id, data) = match (self.rng.pick(&self.conversations), kind) {
            (Some((id, users)), 12..60) => {
                let (sender, message_id) = (self.rng.pick(&users).unwrap(), MessageId(self.rng.uuid()));
                self.messages.push((id, message_id, sender.clone()));
                (id, sender, EventData::MessageSent(message(message_id)))
            }
            (Some((id, users)), 60..85) => {
                (id, self.rng.pick(&users).unwrap(), EventData::MessagesRead { message_id: None })
            }
            (Some(_), 85..) if !self.messages.is_empty() => {
                let (id, message_id, sender) = self.rng.pick(&self.messages).unwrap();
                let content = format!("edited {kind}");
                (id, sender, EventData::MessageEdited { message_id, content, mentions: Vec::new() })
            }
            _ => self.creation(),
        };
        let occurred_at = Timestamp::from_millis(1_800_000_000_000).unwrap();
        let event_id = EventId(self.rng.uuid());
        Event { event_id, occurred_at, conversation_id, actor_id, request: None, data }
    }

    /// Half of the conversations are large. Alice is in most.
    fn creation(&mut self) -> (ConversationId, UserId, EventData) {
        let (id, size) = (ConversationId(self.rng.uuid()), if self.rng.percent(50) { LARGE } else { 3 });
        let creator = if self.rng.percent(90) { "alice" } else { "carol" };
        let mut participant_ids = vec![user(creator), user("bob")];
        participant_ids.extend((2..size).map(|number| user(&format!("user-{number}"))));
        self.conversations.push((id, participant_ids.clone()));
        (
            id,
            user(creator),
            EventData::ConversationCreated { kind: ConversationKind::Group, title: None, participant_ids },
        )
    }

    /// What a user who is up to date has.
    fn of(&self, user: &UserId) -> Known {
        let is_own = |id: ConversationId| self.state.members.contains_key(&(id, user.clone()));
        let conversations =
            self.state.conversations.iter().map(|(id, it)| ((*id, "conversation".to_owned()), it.position));
        let messages = self.state.messages.iter().map(|((id, message), it)| ((*id, message.to_string()), it.position));
        let marks = self.state.members.iter().filter(|(_, member)| member.last_read_seq > 0);
        let marks = marks.map(|((id, user), member)| ((*id, user.to_string()), member.position));
        conversations.chain(messages).chain(marks).filter(|((id, _), _)| is_own(*id)).collect()
    }
}

fn message(message_id: MessageId) -> MessageSent {
    MessageSent {
        message_id,
        content: "hi".to_owned(),
        message_type: MessageType::Text,
        attachments: Vec::new(),
        mentions: Vec::new(),
        reply_to_id: None,
    }
}

#[tokio::test]
async fn whatever_changes_between_two_pages_a_client_without_more_pages_has_everything() {
    for seed in 1..=4 {
        let (scene, mut history) = (Scene::create().await, History::new(seed));
        let mut readers: Vec<Reader> = ["alice", "bob", "carol", "user-2"].map(Reader::new).into();
        for round in 0..60 {
            history.commit(&scene, 20).await;
            for (number, reader) in readers.iter_mut().enumerate() {
                let limit = [1, 2, 7, 40, 500][(round + number) % 5];
                if !reader.read_page(&scene.read_model, limit).await {
                    assert_eq!(
                        reader.known,
                        history.of(&reader.user),
                        "{} in round {round} of seed {seed}",
                        reader.user
                    );
                }
            }
        }
        for reader in &mut readers {
            while reader.read_page(&scene.read_model, 13).await {}
            assert_eq!(reader.known, history.of(&reader.user), "{} at the end of seed {seed}", reader.user);
        }
    }
}
