//! The community itself: turns one command after the other into records.

use std::collections::VecDeque;

use domain::command::SendMessage;
use domain::decide::{Context, decide, notifications};
use domain::event::{ConversationKind, MessageType};
use domain::facts::Facts;
use domain::seeded_rng::Rng;
use domain::{Command, ConversationId, Event, EventData, Timestamp, UserId};
use serde_json::json;

use crate::conversation::Conversation;
use crate::conversations::Conversations;
use crate::people::people;
use crate::schedule::{CommandKind, CommunitySpec, Schedule};
use crate::texts;

/// A producer repeats about one of so many records.
const RECORDS_PER_COPY: usize = 200;
/// How many records may come between a record and its copy.
const COPY_DELAY: usize = 50;
/// In how many conversations to look for somebody who has not read everything.
const READER_ATTEMPTS: usize = 4;
/// How many records are no events, however large the community is.
const UNDECODABLE_RECORDS: usize = 3;

/// A record for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// An event, for the first time or again.
    Event(Event),
    /// A record that no version of this project has written.
    Undecodable(UndecodableRecord),
}

/// A record that is no event, as other programs and later versions write them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndecodableRecord {
    /// The conversation whose id is the record's key.
    pub key: ConversationId,
    /// The header `ce_type`, if the record has headers.
    pub event_type: Option<&'static str>,
    /// The bytes that don't decode.
    pub value: Vec<u8>,
}

/// An event that comes a second time.
struct PendingCopy {
    event: Event,
    /// How many other records come first.
    delay: usize,
}

/// The records of a community, in the order of the log.
pub struct Community {
    rng: Rng,
    people: Vec<UserId>,
    schedule: Schedule,
    conversations: Conversations,
    traceparent: String,
    /// The time of the present command, in Unix milliseconds.
    now_ms: u64,
    /// What the last command still has to append.
    queue: VecDeque<Record>,
    copy: Option<PendingCopy>,
    /// How many records that are no events have come.
    undecodable: usize,
}

impl Iterator for Community {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        if let Some(copy) = self.copy.take_if(|copy| copy.delay == 0) {
            return Some(Record::Event(copy.event));
        }
        let record = self.next_original();
        match (&mut self.copy, &record) {
            (Some(copy), Some(_)) => copy.delay -= 1,
            (None, Some(Record::Event(event))) if self.rng.below(RECORDS_PER_COPY) == 0 => {
                self.copy = Some(PendingCopy { event: event.clone(), delay: self.rng.below(COPY_DELAY) });
            }
            _ => {}
        }
        record.or_else(|| self.copy.take().map(|copy| Record::Event(copy.event)))
    }
}

impl Community {
    /// A community of which nothing has happened yet.
    pub fn new(spec: &CommunitySpec) -> Self {
        let mut rng = spec.rng();
        let people = people(spec.users.max(2));
        let (trace, span) = (rng.uuid().simple(), rng.uuid().as_u64_pair().1);
        Self {
            // The requests of the community have one trace. Nobody samples it.
            traceparent: format!("00-{trace}-{span:016x}-00"),
            rng,
            schedule: Schedule::new(spec),
            conversations: Conversations::new(people.len()),
            people,
            now_ms: 0,
            queue: VecDeque::new(),
            copy: None,
            undecodable: 0,
        }
    }

    /// The header `traceparent` of all records.
    pub fn traceparent(&self) -> &str {
        &self.traceparent
    }

    /// How many commands have become records, of [`CommunitySpec::commands`].
    pub fn commands_done(&self) -> usize {
        self.schedule.done()
    }

    /// The next record that is no copy.
    fn next_original(&mut self) -> Option<Record> {
        while self.queue.is_empty() {
            let kind = self.schedule.take(&mut self.rng)?;
            self.now_ms = self.schedule.time(&mut self.rng);
            match kind {
                CommandKind::CreateConversation => self.create_conversation(),
                CommandKind::SendMessage => self.send_message(),
                CommandKind::MarkRead => self.mark_read(),
                CommandKind::ChangeMessage => self.change_message(),
            }
            while self.undecodable < UNDECODABLE_RECORDS.min(self.schedule.quarters_done()) {
                self.add_undecodable();
            }
        }
        self.queue.pop_front()
    }

    /// The time of the present command.
    fn now(&self) -> Option<Timestamp> {
        i64::try_from(self.now_ms).ok().and_then(|now| Timestamp::from_millis(now).ok())
    }

    /// Decides a command and queues its events. Returns the event.
    fn run(&mut self, actor: UserId, command: &Command, facts: &Facts) -> Option<Event> {
        let is_keyed = self.rng.percent(50);
        let context = Context {
            actor,
            now: self.now()?,
            key: is_keyed.then(|| self.rng.uuid().to_string().parse().ok()).flatten(),
            fresh_event_id: self.rng.uuid_at(self.now_ms),
            fresh_entity_id: self.rng.uuid_at(self.now_ms),
        };
        // Every command of the community is valid; a test holds that none is refused.
        let event = decide(&context, command, facts).ok()?;
        self.queue.push_back(Record::Event(event.clone()));
        self.queue.extend(notifications(&event).into_iter().map(Record::Event));
        Some(event)
    }

    fn create_conversation(&mut self) {
        let (kind, people) = self.conversations.next_people(&mut self.rng);
        let participant_ids: Vec<UserId> = people.iter().map(|person| self.people[*person].clone()).collect();
        let title = if kind == ConversationKind::Group { texts::title(&mut self.rng) } else { None };
        let creator = participant_ids[0].clone();
        let command = Command::Conversation { kind, title, participant_ids };
        if let Some(event) = self.run(creator, &command, &Facts::default()) {
            self.conversations.push(Conversation::new(event.conversation_id, &people));
        }
    }

    fn send_message(&mut self) {
        let rng = &mut self.rng;
        let index = self.conversations.pick(rng);
        let conversation = &self.conversations[index];
        let sender = conversation.writer(rng);
        let named = self.named(index, sender, 8);
        let (conversation, rng) = (&self.conversations[index], &mut self.rng);
        let is_reply = !conversation.is_without_messages() && rng.percent(15);
        let replied = is_reply.then(|| conversation.recent(conversation.pick_recent(rng)));
        let (attachments, message_type) =
            if rng.percent(5) { texts::attachments(rng) } else { (Vec::new(), MessageType::Text) };
        // A file may come without words.
        let is_silent = !attachments.is_empty() && named.is_empty() && rng.percent(50);
        let command = Command::Message(SendMessage {
            conversation_id: conversation.id,
            content: if is_silent { String::new() } else { texts::content(rng, &named) },
            message_type,
            attachments,
            reply_to_id: replied.map(|replied| replied.id),
            mentions: Vec::new(),
        });
        let facts = conversation.facts(&self.people, named, replied);
        let actor = self.people[conversation.person(sender)].clone();
        if let Some(EventData::MessageSent(sent)) = self.run(actor, &command, &facts).map(|event| event.data) {
            self.conversations[index].add_message(sender, &sent);
        }
    }

    /// The people whom a text of this member names, with this probability in percent.
    fn named(&mut self, conversation: usize, member: usize, percent: usize) -> Vec<UserId> {
        if !self.rng.percent(percent) {
            return Vec::new();
        }
        let conversation = &self.conversations[conversation];
        let others = conversation.others(&mut self.rng, member);
        others.into_iter().map(|other| self.people[conversation.person(other)].clone()).collect()
    }

    fn mark_read(&mut self) {
        let (index, member) = self.reader();
        let (conversation, rng) = (&self.conversations[index], &mut self.rng);
        let message = if rng.percent(50) { conversation.unread(rng, member) } else { None };
        let message_id = message.map(|message| message.id);
        let facts = conversation.facts(&self.people, Vec::new(), message);
        let command = Command::MarkRead { conversation_id: conversation.id, message_id };
        let actor = self.people[conversation.person(member)].clone();
        if self.run(actor, &command, &facts).is_some() {
            self.conversations[index].mark_read(member, message_id);
        }
    }

    /// A conversation, and a member who has not read all of it. If that isn't found quickly, somebody reads it again.
    fn reader(&mut self) -> (usize, usize) {
        let mut index = self.conversations.pick(&mut self.rng);
        for _ in 0..READER_ATTEMPTS {
            if let Some(member) = self.conversations[index].reader(&mut self.rng) {
                return (index, member);
            }
            index = self.conversations.pick(&mut self.rng);
        }
        (index, self.conversations[index].writer(&mut self.rng))
    }

    fn change_message(&mut self) {
        let index = self.conversations.pick_with_messages(&mut self.rng);
        let conversation = &self.conversations[index];
        let recent = conversation.pick_recent(&mut self.rng);
        match self.rng.below(100) {
            0..60 => {
                if let Some(reaction) = conversation.new_reaction(&mut self.rng, recent) {
                    return self.add_reaction(index, recent, reaction);
                }
            }
            60..70 => {
                if let Some(reacted) = conversation.find_reacted(recent) {
                    return self.remove_reaction(index, reacted);
                }
            }
            70..75 if conversation.may_delete() => return self.delete(index, recent),
            _ => {}
        }
        self.edit(index, recent);
    }

    fn add_reaction(&mut self, index: usize, recent: usize, (member, emoji): (usize, &'static str)) {
        let message_id = self.conversations[index].recent(recent).id;
        let label = texts::label(&mut self.rng);
        let command = Command::Reaction { message_id, emoji: emoji.to_owned(), label };
        if self.run_about(index, recent, member, Vec::new(), &command).is_some() {
            self.conversations[index].add_reaction(recent, (member, emoji));
        }
    }

    fn remove_reaction(&mut self, index: usize, recent: usize) {
        let message = self.conversations[index].recent(recent);
        let reaction = self.rng.below(message.reactions.len());
        let (member, emoji) = message.reactions[reaction];
        let command = Command::RemoveReaction { message_id: message.id, emoji: emoji.to_owned() };
        if self.run_about(index, recent, member, Vec::new(), &command).is_some() {
            self.conversations[index].remove_reaction(recent, reaction);
        }
    }

    fn delete(&mut self, index: usize, recent: usize) {
        let message = self.conversations[index].recent(recent);
        let (author, command) = (message.sender, Command::Delete { message_id: message.id });
        if self.run_about(index, recent, author, Vec::new(), &command).is_some() {
            self.conversations[index].forget_message(recent);
        }
    }

    fn edit(&mut self, index: usize, recent: usize) {
        let message = self.conversations[index].recent(recent);
        let (author, message_id) = (message.sender, message.id);
        let named = self.named(index, author, 5);
        let content = texts::content(&mut self.rng, &named);
        self.run_about(index, recent, author, named, &Command::Edit { message_id, content });
    }

    /// Decides a command of a member about a recent message.
    fn run_about(
        &mut self,
        index: usize,
        recent: usize,
        member: usize,
        named: Vec<UserId>,
        command: &Command,
    ) -> Option<Event> {
        let conversation = &self.conversations[index];
        let facts = conversation.facts(&self.people, named, Some(conversation.recent(recent)));
        let actor = self.people[conversation.person(member)].clone();
        self.run(actor, command, &facts)
    }

    /// Queues one of the records that are no events, on the partition of a conversation.
    fn add_undecodable(&mut self) {
        let index = self.conversations.pick(&mut self.rng);
        let key = self.conversations[index].id;
        let event_id = self.rng.uuid_at(self.now_ms);
        let now = self.now();
        let event = |event_type: &str, version: u32| {
            json!({"eventId": event_id, "type": event_type, "version": version, "occurredAt": now,
                   "conversationId": key, "actorId": self.people[0], "data": {}})
        };
        let (event_type, value) = match self.undecodable {
            0 => (None, "a program that nobody remembers was here".to_owned()),
            1 => (Some("MESSAGE_PINNED"), event("MESSAGE_PINNED", 1).to_string()),
            _ => (Some("MESSAGE_SENT"), event("MESSAGE_SENT", 1_000).to_string()),
        };
        self.undecodable += 1;
        self.queue.push_back(Record::Undecodable(UndecodableRecord { key, event_type, value: value.into_bytes() }));
    }
}
