//! Random histories for tests: several users in several conversations, with retries, repeated records, races and
//! invalid events. The same seed must give the same history on every machine.

use crate::command::{Command, SendMessage};
use crate::decide::{Context, decide, notifications};
use crate::event::{Attachment, ConversationKind, Event, EventData, MessageSent, MessageType, Request};
use crate::facts::{ConversationFacts, Facts, MessageFacts};
use crate::fold::fold;
use crate::ids::{ConversationId, EventId, IdempotencyKey, MessageId, UserId};
use crate::position::Position;
pub use crate::seeded_rng::Rng;
use crate::state::{Changes, MessageKey, State};
use crate::timestamp::Timestamp;

/// The number of partitions over which [`positions`] spreads the conversations.
pub const PARTITIONS: i32 = 12;

const USERS: [&str; 7] = ["alice", "bob", "carol", "zoë", "a.b@c", "用户", "stranger"];
const TEXTS: [&str; 6] = ["hello", "hi @bob, @zoë", "@a.b@c: ¿qué?", "mail@bob", "好 @用户", "@nobody @alice @alice"];
const EMOJI: [&str; 5] = ["👍", "❤", "❤️", "🇨🇭", "👩‍💻"];
/// 2026-11-23T09:00:00Z in Unix milliseconds.
const START_MS: u64 = 1_795_424_400_000;

/// At least `length` events, in the order of the log. There may be a few more, because a message and its notifications
/// stay together.
pub fn random_history(seed: u64, length: usize) -> Vec<Event> {
    let mut world = World::new(seed);
    while world.log.len() < length {
        world.step();
    }
    world.log
}

/// A position for each event, as a topic of [`PARTITIONS`] partitions would assign it.
pub fn positions(events: &[Event]) -> Vec<Position> {
    let mut next = [0; PARTITIONS as usize];
    let mut assign = |event: &Event| {
        let slot = (event.conversation_id.0.as_u128() % PARTITIONS.unsigned_abs() as u128) as usize;
        next[slot] += 1;
        Position { partition: slot as i32, offset: next[slot] - 1 }
    };
    events.iter().map(&mut assign).collect()
}

/// The facts for a command, from a state with everything that may be relevant.
pub fn facts(state: &State, actor: &UserId, command: &Command) -> Facts {
    // Because of invalid events, two conversations may have a message with the same id. Take the first conversation, to
    // be deterministic.
    let message = command.message_id().and_then(|id| {
        state
            .messages
            .iter()
            .filter(|((_, message), _)| *message == id)
            .min_by_key(|((conversation, _), _)| *conversation)
    });
    let conversation_id = command.conversation_id().or(message.map(|((conversation, _), _)| *conversation));
    let known = conversation_id.filter(|id| state.conversations.contains_key(id));
    Facts {
        conversation: known.map(|id| {
            let mut members: Vec<_> =
                state.members.iter().filter(|((conversation, _), _)| *conversation == id).collect();
            members.sort_by_key(|(_, member)| member.ordinal);
            ConversationFacts {
                id,
                is_participant: state.members.contains_key(&(id, actor.clone())),
                participants: members.into_iter().map(|((_, user), _)| user.clone()).collect(),
            }
        }),
        message: message.map(|((conversation_id, id), message)| MessageFacts {
            id: *id,
            conversation_id: *conversation_id,
            sender_id: message.sender_id.clone(),
            has_attachments: !message.attachments.is_empty(),
            deleted_at: message.deleted_at,
            emoji: message.reactions.iter().map(|reaction| reaction.emoji.clone()).collect(),
        }),
    }
}

/// A simulation of users who issue commands, with the log and the state so far.
#[derive(Debug, Clone)]
pub struct World {
    /// All events so far.
    pub log: Vec<Event>,
    /// The state after folding the whole log.
    pub state: State,
    rng: Rng,
    now_ms: u64,
    users: Vec<UserId>,
    /// The state after folding a part of the log, as a node that is behind knows it.
    stale_state: State,
    /// The number of events that the stale state includes.
    stale_length: usize,
    conversations: Vec<ConversationId>,
    messages: Vec<MessageKey>,
    /// The commands that users issued, refused ones included.
    issued: Vec<(Context, Command)>,
}

impl World {
    /// A simulation with an empty log.
    pub fn new(seed: u64) -> Self {
        Self {
            log: Vec::new(),
            state: State::default(),
            rng: Rng::new(seed),
            now_ms: START_MS,
            users: USERS.iter().filter_map(|name| name.parse().ok()).collect(),
            stale_state: State::default(),
            stale_length: 0,
            conversations: Vec::new(),
            messages: Vec::new(),
            issued: Vec::new(),
        }
    }

    /// Simulates one step: a command on fresh or stale facts, a retry, another command with a used key, a repeated
    /// record, or an event that no command has. The command may be refused.
    pub fn step(&mut self) {
        match self.rng.below(100) {
            0..5 => {
                let repeated = self.rng.pick(&self.log);
                repeated.into_iter().for_each(|event| self.append(event));
            }
            5..12 => {
                if let Some((before, command)) = self.rng.pick(&self.issued) {
                    let context = Context { key: before.key, ..self.context(before.actor) };
                    self.run(&context, &command);
                }
            }
            12..15 => {
                let (context, command) = self.random_command();
                let used = self.rng.pick(&self.issued).filter(|(before, _)| before.actor == context.actor);
                self.run(&Context { key: used.and_then(|(before, _)| before.key), ..context }, &command);
            }
            15..20 => {
                let event = self.invalid_event();
                self.append(event);
            }
            _ => {
                let (context, command) = self.random_command();
                self.run(&context, &command);
                self.issued.push((context, command));
            }
        }
    }

    /// A random command about known conversations and messages, mostly one that succeeds.
    pub fn random_command(&mut self) -> (Context, Command) {
        let actor = self.user();
        let command = self.command(&actor);
        (self.context(actor), command)
    }

    /// Appends an event to the log, with the notifications that follow it.
    pub fn append(&mut self, event: Event) {
        match &event.data {
            EventData::ConversationCreated { .. } => self.conversations.push(event.conversation_id),
            EventData::MessageSent(sent) => self.messages.push((event.conversation_id, sent.message_id)),
            _ => {}
        }
        let notifications = notifications(&event);
        for event in std::iter::once(event).chain(notifications) {
            let offset = i64::try_from(self.log.len()).unwrap_or(i64::MAX);
            fold(&mut self.state, &mut Changes::default(), &event, Position { partition: 0, offset });
            self.log.push(event);
        }
    }

    fn run(&mut self, context: &Context, command: &Command) {
        let node_is_behind = self.rng.percent(30);
        if self.rng.percent(20) {
            let length = self.stale_length + self.rng.below(self.log.len() + 1 - self.stale_length);
            for event in &self.log[self.stale_length..length] {
                fold(&mut self.stale_state, &mut Changes::default(), event, Position { partition: 0, offset: 0 });
            }
            self.stale_length = length;
        }
        let state = if node_is_behind { &self.stale_state } else { &self.state };
        if let Ok(event) = decide(context, command, &facts(state, &context.actor, command)) {
            self.append(event);
        }
    }

    fn context(&mut self, actor: UserId) -> Context {
        let key = if self.rng.percent(40) { self.key() } else { None };
        let fresh_event_id = self.rng.uuid();
        let fresh_entity_id = self.rng.uuid();
        Context { actor, now: self.time(), key, fresh_event_id, fresh_entity_id }
    }

    /// The present time. It moves forward mostly, but not always, because the clocks of two nodes differ.
    #[expect(clippy::expect_used, reason = "no test simulates the time until the year 9999")]
    fn time(&mut self) -> Timestamp {
        self.now_ms = (self.now_ms + self.rng.bits() % 2_000).saturating_sub(500);
        Timestamp::from_millis(i64::try_from(self.now_ms).unwrap_or(i64::MAX)).expect("a time before the year 9999")
    }

    /// One of a few keys, so some are used twice in a conversation.
    fn key(&mut self) -> Option<IdempotencyKey> {
        format!("key-{}", self.rng.below(40)).parse().ok()
    }

    fn user(&mut self) -> UserId {
        self.users[self.rng.below(self.users.len())].clone()
    }

    fn conversation(&mut self) -> ConversationId {
        let known = self.rng.pick(&self.conversations).filter(|_| !self.rng.percent(4));
        known.unwrap_or_else(|| ConversationId(self.rng.uuid()))
    }

    /// Mostly a message of this conversation, sometimes one of another or an unknown one.
    fn message(&mut self, conversation_id: ConversationId) -> MessageId {
        let here: Vec<MessageKey> =
            self.messages.iter().filter(|(conversation, _)| *conversation == conversation_id).copied().collect();
        let candidates = if self.rng.percent(5) { &self.messages } else { &here };
        self.rng.pick(candidates).map_or_else(|| MessageId(self.rng.uuid()), |(_, message)| message)
    }

    fn command(&mut self, actor: &UserId) -> Command {
        let conversation_id = self.conversation();
        let message_id = self.message(conversation_id);
        let emoji = self.emoji();
        match self.rng.below(100) {
            0..6 => self.conversation_command(actor),
            6..42 => Command::Message(SendMessage {
                conversation_id,
                content: self.text(),
                message_type: self.message_type(),
                attachments: self.attachments(),
                reply_to_id: Some(message_id).filter(|_| self.rng.percent(20)),
                mentions: Vec::new(),
            }),
            42..52 => Command::Edit { message_id, content: self.text() },
            52..58 => Command::Delete { message_id },
            58..74 => Command::Reaction { message_id, emoji, label: self.label() },
            74..82 => Command::RemoveReaction { message_id, emoji },
            82..85 => Command::TypingStart { conversation_id },
            85..88 => Command::TypingStop { conversation_id },
            _ => Command::MarkRead { conversation_id, message_id: Some(message_id).filter(|_| self.rng.percent(60)) },
        }
    }

    fn conversation_command(&mut self, actor: &UserId) -> Command {
        let mut participant_ids = vec![actor.clone()];
        for user in &self.users {
            if user != actor && self.rng.percent(50) {
                participant_ids.push(user.clone());
            }
        }
        let kind = if participant_ids.len() == 2 { ConversationKind::Direct } else { ConversationKind::Group };
        let title = (kind == ConversationKind::Group).then(|| self.text());
        Command::Conversation { kind, title, participant_ids }
    }

    /// An event that no command has: from a user outside the conversation, about an unknown message, or with empty
    /// texts.
    fn invalid_event(&mut self) -> Event {
        let conversation_id = self.conversation();
        let actor_id = self.user();
        let user_id = self.user();
        let message_id = if self.rng.percent(50) { self.message(conversation_id) } else { MessageId(self.rng.uuid()) };
        let content = self.rng.pick(&["", "nonsense"]).unwrap_or_default().to_owned();
        let emoji = self.emoji();
        let label = self.label();
        let data = match self.rng.below(10) {
            0 => {
                let participant_ids = if self.rng.percent(50) { Vec::new() } else { vec![user_id.clone(), user_id] };
                EventData::ConversationCreated { kind: ConversationKind::Direct, title: Some(content), participant_ids }
            }
            1 => EventData::MessageSent(MessageSent {
                message_id,
                content,
                message_type: self.message_type(),
                attachments: self.attachments(),
                mentions: vec![user_id],
                reply_to_id: Some(message_id),
            }),
            2 => EventData::MessageEdited { message_id, content, mentions: vec![user_id] },
            3 => EventData::MessageDeleted { message_id },
            4 => EventData::ReactionAdded { message_id, emoji, label },
            5 => EventData::ReactionRemoved { message_id, emoji: content },
            6 => EventData::TypingStart {},
            7 => EventData::TypingStop {},
            8 => EventData::MessagesRead { message_id: Some(message_id) },
            _ => EventData::MentionNotification { message_id, user_id },
        };
        let key = if self.rng.percent(30) { self.key() } else { None };
        let request = key.map(|key| Request { key, hash: "0".repeat(64) });
        let event_id = EventId(self.rng.uuid());
        Event { event_id, occurred_at: self.time(), conversation_id, actor_id, request, data }
    }

    fn text(&mut self) -> String {
        TEXTS[self.rng.below(TEXTS.len())].to_owned()
    }

    fn emoji(&mut self) -> String {
        EMOJI[self.rng.below(EMOJI.len())].to_owned()
    }

    fn label(&mut self) -> Option<String> {
        self.rng.pick(&[None, None, Some("agreed"), Some("同意")])?.map(str::to_owned)
    }

    fn message_type(&mut self) -> MessageType {
        self.rng.pick(&[MessageType::Text, MessageType::Image, MessageType::File]).unwrap_or_default()
    }

    fn attachments(&mut self) -> Vec<Attachment> {
        (0..self.rng.below(3))
            .map(|number| Attachment {
                url: format!("https://files.example/{number}"),
                name: format!("datei-ü-{number}.png"),
                mime_type: "image/png".to_owned(),
                size: self.rng.bits() >> 11,
            })
            .collect()
    }
}
