//! The views that readers read: how each is loaded from the modelled Postgres, and what it must be at given offsets.

use std::collections::BTreeSet;

use cache::{Dependency, ViewKey};
use domain::view::{ConversationView, MessageView};
use domain::{ConversationId, MessageId, PositionVector, UserId};
use read_model::{Membership, Snapshot};
use serde_json::{Value, json};

use super::expected::Expected;
use super::log::PARTITIONS;
use super::postgres_model::PostgresModel;

/// How many participants a view of a conversation lists.
const PARTICIPANTS: usize = 3;
/// How many messages or conversations a page lists.
const PAGE: usize = 4;

/// A view that somebody can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ViewRequest {
    Message(MessageId),
    MessageFacts(MessageId),
    Messages(ConversationId),
    Conversation(ConversationId, UserId),
    Memberships(UserId),
    Conversations(UserId),
}

/// The offsets of a view's values: for a view from Postgres, both ends are the same.
pub(super) struct Between<'a> {
    pub(super) least: &'a PositionVector,
    pub(super) most: &'a PositionVector,
}

impl Between<'_> {
    fn of(&self, id: ConversationId) -> (i64, i64) {
        let partition = event_log::partition_for(id.to_string().as_bytes(), PARTITIONS);
        (self.least.next(partition), self.most.next(partition))
    }
}

impl ViewRequest {
    pub(super) fn key(&self) -> ViewKey {
        let page_size = i64::try_from(PAGE).unwrap();
        match self.clone() {
            Self::Message(id) => ViewKey::Message(id),
            Self::MessageFacts(id) => ViewKey::MessageFacts(id),
            Self::Messages(conversation) => ViewKey::Messages { conversation, page_size },
            Self::Conversation(conversation, user) => ViewKey::Conversation { conversation, user, page_size },
            Self::Memberships(user) => ViewKey::Memberships(user),
            Self::Conversations(user) => ViewKey::Conversations { user, page_size },
        }
    }

    /// What the view depends on. A list also depends on the user's large conversations.
    pub(super) fn dependency(&self) -> Dependency {
        match self.clone() {
            Self::Message(id) | Self::MessageFacts(id) => Dependency::Message(id),
            Self::Messages(id) | Self::Conversation(id, _) => Dependency::Conversation(id),
            Self::Memberships(user) => Dependency::Memberships(user),
            Self::Conversations(user) => Dependency::User(user),
        }
    }

    /// The view's JSON from Postgres; none for what doesn't exist.
    pub(super) fn load(&self, postgres: &PostgresModel) -> Snapshot<Option<Value>> {
        match self {
            Self::Message(id) => {
                let Snapshot { value, offsets } = postgres.message(*id);
                Snapshot { value: value.map(|view| json!(view)), offsets }
            }
            Self::MessageFacts(id) => {
                let Snapshot { value, offsets } = postgres.message_facts(*id);
                Snapshot { value: value.map(|facts| json!(facts)), offsets }
            }
            Self::Messages(id) => {
                let Snapshot { value, offsets } = postgres.messages(*id, PAGE, None);
                Snapshot { value: Some(json!(value.items)), offsets }
            }
            Self::Conversation(id, user) => {
                let Snapshot { value, offsets } =
                    postgres.conversation(*id, user, i32::try_from(PARTICIPANTS).unwrap(), 0);
                Snapshot { value: value.map(|page| json!(page.view)), offsets }
            }
            Self::Memberships(user) => {
                let Snapshot { value, offsets } = postgres.memberships(user);
                Snapshot { value: Some(json!(value)), offsets }
            }
            Self::Conversations(user) => {
                let Snapshot { value, offsets } = postgres.conversations(user, PAGE, None);
                Snapshot { value: Some(json!(value.items)), offsets }
            }
        }
    }

    /// Checks that a view is what the fold of the log gave at some offsets between these.
    pub(super) fn check(&self, view: Option<&Value>, expected: &Expected, between: &Between<'_>) -> Result<(), String> {
        let (conversation, at): (ConversationId, Box<dyn Fn(i64) -> Option<Value> + '_>) = match self {
            Self::Message(id) | Self::MessageFacts(id) => {
                // Which of two messages with the same id a read finds is undefined.
                let Some(home) = expected.home_of(*id) else { return Ok(()) };
                let is_facts = matches!(self, Self::MessageFacts(_));
                let at = move |next| {
                    let conversation = expected.conversation(home, next)?;
                    if is_facts {
                        conversation.facts(home, *id).map(|facts| json!(facts))
                    } else {
                        conversation.message(home, *id).map(|view| json!(view))
                    }
                };
                (home, Box::new(at))
            }
            Self::Messages(id) => {
                let at = |next| {
                    let messages = expected.conversation(*id, next).map(|it| it.messages(*id)).unwrap_or_default();
                    Some(json!(messages.into_iter().take(PAGE).collect::<Vec<MessageView>>()))
                };
                (*id, Box::new(at))
            }
            Self::Conversation(id, user) => {
                let at = |next| Some(json!(expected.conversation(*id, next)?.view(*id, user, PARTICIPANTS)?));
                (*id, Box::new(at))
            }
            Self::Memberships(user) => return check_memberships(user, view, expected, between),
            Self::Conversations(user) => return check_list(user, view, expected, between),
        };
        let (least, most) = between.of(conversation);
        let mut candidates = expected.offsets_between(conversation, least, most);
        if candidates.any(|next| at(next).as_ref() == view) {
            return Ok(());
        }
        Err(format!(
            "is {}\nat {least}: {}\nat {most}: {}",
            text(view),
            text(at(least).as_ref()),
            text(at(most).as_ref())
        ))
    }
}

fn text(view: Option<&Value>) -> String {
    view.map_or_else(|| "missing".to_owned(), Value::to_string)
}

fn check_memberships(
    user: &UserId,
    view: Option<&Value>,
    expected: &Expected,
    between: &Between<'_>,
) -> Result<(), String> {
    let listed: Vec<Membership> =
        serde_json::from_value(view.cloned().unwrap_or_default()).map_err(|it| it.to_string())?;
    let ids: BTreeSet<ConversationId> = listed.iter().map(|it| it.conversation_id).collect();
    check_set(user, &ids, expected, between, usize::MAX)
}

/// Checks that a list has all conversations of the lower offsets and none beyond the higher ones.
fn check_set(
    user: &UserId,
    listed: &BTreeSet<ConversationId>,
    expected: &Expected,
    between: &Between<'_>,
    limit: usize,
) -> Result<(), String> {
    let least = expected.conversations_of(user, |id| between.of(id).0);
    let most = expected.conversations_of(user, |id| between.of(id).1);
    let is_complete = listed.len() >= limit || least.is_subset(listed);
    if is_complete && listed.is_subset(&most) {
        return Ok(());
    }
    Err(format!("lists {listed:?}\nat least {least:?}\nat most {most:?}"))
}

fn check_list(user: &UserId, view: Option<&Value>, expected: &Expected, between: &Between<'_>) -> Result<(), String> {
    let listed: Vec<ConversationView> =
        serde_json::from_value(view.cloned().unwrap_or_default()).map_err(|it| it.to_string())?;
    let ids = listed.iter().map(|it| it.id).collect();
    check_set(user, &ids, expected, between, PAGE)?;
    let places: Vec<_> = listed.iter().map(|it| (it.updated_at, it.id)).collect();
    if !places.is_sorted_by(|one, other| one > other) {
        return Err(format!("is not in order: {places:?}"));
    }
    for item in &listed {
        let (least, most) = between.of(item.id);
        let at = |next| expected.conversation(item.id, next)?.view(item.id, user, 50);
        if !expected.offsets_between(item.id, least, most).any(|next| at(next).as_ref() == Some(item)) {
            return Err(format!("has {item:?}\nat {least}: {:?}\nat {most}: {:?}", at(least), at(most)));
        }
    }
    // Whoever is missing from a full page was less recently active than everyone on it.
    let last = places.last().copied();
    for id in expected.conversations_of(user, |id| between.of(id).0) {
        let active_at = expected.conversation(id, between.of(id).0).and_then(|it| it.active_at());
        if !ids_contain(&listed, id) && active_at.map(|at| (at, id)) > last {
            return Err(format!("lacks {id}, which was active at {active_at:?}"));
        }
    }
    Ok(())
}

fn ids_contain(listed: &[ConversationView], id: ConversationId) -> bool {
    listed.iter().any(|it| it.id == id)
}
