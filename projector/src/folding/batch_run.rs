//! What a batch needs, step by step, until it is published. The caller fulfils one request after the other and replies;
//! the order of the requests is what keeps the promises: nothing is published that isn't committed, and no progress
//! before the versions of what it includes have changed.

use std::collections::{HashSet, VecDeque};

use cache::{Dependency, PublishOutcome};
use domain::state::{Changes, State, Touched};
use domain::{ConversationId, OffsetAdvance, UserId};
use read_model::{ChangedEntities, ChangesCursor, ParkedRecord};

use super::batch::Batch;

/// How many dependencies one call of Redis invalidates at most. Redis serves nobody else meanwhile.
const DEPENDENCIES_PER_CALL: usize = 1_000;

domain::limit_rows! {
    Projector, "views that one call of Redis invalidates", Count DEPENDENCIES_PER_CALL, "another call invalidates the others", "whoever else uses Redis";
}

/// What one call of Redis publishes: dependencies whose versions change, and then progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// What has changed.
    pub dependencies: Vec<Dependency>,
    /// How far the partitions have come. Empty unless this is the last call.
    pub advances: Vec<OffsetAdvance>,
}

/// What a run needs next.
#[derive(Debug)]
pub enum Request<'a> {
    /// Load the state that the batch can touch. Reply with [`Reply::Loaded`].
    Load(Touched),
    /// Commit the rows that changed with the offsets, all or nothing. Reply with [`Reply::Committed`].
    Commit {
        /// The state after the fold.
        state: &'a State,
        /// What the fold changed in it.
        changes: &'a Changes,
        /// The records that can't be folded.
        parked: Vec<ParkedRecord>,
        /// How far the batch moves the offsets.
        advances: Vec<OffsetAdvance>,
    },
    /// List the members of those of these conversations that are small. Reply with [`Reply::Members`].
    MembersOfSmall(&'a [ConversationId]),
    /// Publish. Reply with [`Reply::Published`].
    Publish(&'a Publication),
    /// List what has changed, from this cursor on. Reply with [`Reply::Changed`].
    ListChanges(&'a ChangesCursor),
}

/// The answer to a [`Request`].
#[derive(Debug)]
pub enum Reply {
    /// What the read model has of it.
    Loaded(State),
    /// Postgres has committed.
    Committed,
    /// The members of the small ones among the conversations.
    Members(Vec<UserId>),
    /// What Redis answered.
    Published(PublishOutcome),
    /// A page of what has changed.
    Changed(ChangedEntities),
}

#[derive(Debug)]
enum Phase {
    Loading,
    Committing {
        state: Box<State>,
        changes: Changes,
    },
    ListingMembers {
        conversations: Vec<ConversationId>,
        changes: Changes,
    },
    Publishing,
    /// Everything from a cursor on is invalidated, in pages, before the advance is published, if there is one.
    Repairing {
        missed: Option<OffsetAdvance>,
        cursor: Option<ChangesCursor>,
    },
    Done,
}

/// A batch on its way.
#[derive(Debug)]
pub struct BatchRun {
    batch: Option<Batch>,
    phase: Phase,
    /// The rows that the batch costs, once it is loaded.
    cost: usize,
    publications: VecDeque<Publication>,
    /// The partitions on which Redis is behind, from the offset that it knows.
    repairs: Vec<OffsetAdvance>,
}

impl BatchRun {
    /// Begins with a batch.
    pub fn new(batch: Batch) -> Self {
        Self { batch: Some(batch), phase: Phase::Loading, cost: 0, publications: VecDeque::new(), repairs: Vec::new() }
    }

    /// Begins with progress that is committed already. A projector may have died between its commit and its
    /// publication, and Redis may have been down, or have lost everything.
    pub fn republish(advances: Vec<OffsetAdvance>) -> Self {
        let publications = VecDeque::from([Publication { dependencies: Vec::new(), advances }]);
        Self { batch: None, phase: Phase::Publishing, cost: 0, publications, repairs: Vec::new() }
    }

    /// Begins to invalidate everything in a conversation, and publishes no progress.
    pub fn invalidate(partition: i32, conversation: ConversationId) -> Self {
        let cursor = ChangesCursor::of_conversation(partition, conversation);
        let dependencies = vec![Dependency::Conversation(conversation)];
        let publications = VecDeque::from([Publication { dependencies, advances: Vec::new() }]);
        let phase = Phase::Repairing { missed: None, cursor: Some(cursor) };
        Self { batch: None, phase, cost: 0, publications, repairs: Vec::new() }
    }

    /// The batch, as far as it fits the budget.
    pub fn batch(&self) -> Option<&Batch> {
        self.batch.as_ref()
    }

    /// The rows that the batch costs; 0 before it is loaded.
    pub fn cost(&self) -> usize {
        self.cost
    }

    /// Whether the batch is committed. What follows only concerns Redis.
    pub fn is_committed(&self) -> bool {
        !matches!(self.phase, Phase::Loading | Phase::Committing { .. })
    }

    /// What the run needs next; none when it is done.
    pub fn request(&self) -> Option<Request<'_>> {
        match &self.phase {
            Phase::Loading => Some(Request::Load(self.batch.as_ref()?.touched())),
            Phase::Committing { state, changes } => {
                let batch = self.batch.as_ref()?;
                Some(Request::Commit { state, changes, parked: batch.parked(), advances: batch.advances() })
            }
            Phase::ListingMembers { conversations, .. } => Some(Request::MembersOfSmall(conversations)),
            Phase::Publishing => self.publications.front().map(Request::Publish),
            Phase::Repairing { cursor, .. } => {
                self.publications.front().map(Request::Publish).or(cursor.as_ref().map(Request::ListChanges))
            }
            Phase::Done => None,
        }
    }

    /// Takes the answer to the request. Ignores one that doesn't belong to it.
    pub fn reply(&mut self, reply: Reply) {
        let phase = std::mem::replace(&mut self.phase, Phase::Done);
        self.phase = match (phase, reply) {
            (Phase::Loading, Reply::Loaded(state)) => self.fold(state),
            (Phase::Committing { changes, .. }, Reply::Committed) => self.list_members(changes),
            (Phase::ListingMembers { changes, .. }, Reply::Members(members)) => self.publish_changes(&changes, members),
            (phase @ (Phase::Publishing | Phase::Repairing { .. }), Reply::Published(outcome)) => {
                self.published(phase, outcome)
            }
            (Phase::Repairing { missed, .. }, Reply::Changed(page)) => self.repair(missed, page),
            (phase, _) => phase,
        };
    }

    fn fold(&mut self, mut state: State) -> Phase {
        let Some(batch) = &mut self.batch else { return Phase::Done };
        self.cost = batch.trim(&state);
        let changes = batch.fold(&mut state);
        Phase::Committing { state: Box::new(state), changes }
    }

    fn list_members(&mut self, changes: Changes) -> Phase {
        let created: HashSet<_> = changes.created.iter().map(|(id, _)| *id).collect();
        // The changes name the participants of new conversations.
        let conversations: Vec<_> = changes.conversations.iter().filter(|id| !created.contains(id)).copied().collect();
        if conversations.is_empty() {
            return self.publish_changes(&changes, Vec::new());
        }
        Phase::ListingMembers { conversations, changes }
    }

    fn publish_changes(&mut self, changes: &Changes, members: Vec<UserId>) -> Phase {
        let advances = self.batch.as_ref().map(Batch::advances).unwrap_or_default();
        self.publish(dependencies(changes, members), advances);
        Phase::Publishing
    }

    /// Queues calls of Redis: the progress comes with the last.
    fn publish(&mut self, dependencies: Vec<Dependency>, advances: Vec<OffsetAdvance>) {
        let calls = dependencies.chunks(DEPENDENCIES_PER_CALL);
        let calls = calls.map(|chunk| Publication { dependencies: chunk.to_vec(), advances: Vec::new() });
        self.publications.extend(calls);
        match self.publications.back_mut() {
            Some(last) => last.advances = advances,
            None => self.publications.push_back(Publication { dependencies, advances }),
        }
    }

    fn published(&mut self, phase: Phase, outcome: PublishOutcome) -> Phase {
        let advances = self.publications.pop_front().map(|publication| publication.advances).unwrap_or_default();
        if let PublishOutcome::Behind(behind) = outcome {
            let missed = behind.into_iter().filter_map(|(partition, known)| {
                let advance = advances.iter().find(|advance| advance.partition == partition)?;
                Some(OffsetAdvance { from: known, ..*advance })
            });
            self.repairs.extend(missed);
        }
        match phase {
            Phase::Repairing { cursor: Some(_), .. } => phase,
            phase if !self.publications.is_empty() => phase,
            _ => self.repairs.pop().map_or(Phase::Done, |missed| Phase::Repairing {
                cursor: Some(ChangesCursor::since(missed.partition, missed.from)),
                missed: Some(missed),
            }),
        }
    }

    fn repair(&mut self, missed: Option<OffsetAdvance>, page: ChangedEntities) -> Phase {
        let mut dependencies: Vec<Dependency> = page.conversations.into_iter().map(Dependency::Conversation).collect();
        dependencies.extend(page.messages.into_iter().map(Dependency::Message));
        // One of the conversations may be new.
        dependencies.extend(page.users.into_iter().flat_map(lists_of));
        let advances = missed.filter(|_| page.next.is_none()).into_iter().collect();
        // An empty page that isn't the last has nothing to publish.
        if page.next.is_none() || !dependencies.is_empty() {
            self.publish(dependencies, advances);
        }
        Phase::Repairing { missed, cursor: page.next }
    }
}

/// The dependencies of cached views that a commit changed, given the members of the small conversations among them.
fn dependencies(changes: &Changes, members: Vec<UserId>) -> Vec<Dependency> {
    let mut dependencies: Vec<Dependency> =
        changes.conversations.iter().copied().map(Dependency::Conversation).collect();
    dependencies.extend(changes.messages.iter().map(|(_, message)| Dependency::Message(*message)));
    // A new conversation changes the lists of all its participants, also of a large one. A later change in a large
    // conversation doesn't: the lists depend on the conversation itself.
    dependencies.extend(changes.created.iter().flat_map(|(_, users)| users.iter().cloned().flat_map(lists_of)));
    dependencies.extend(members.into_iter().map(Dependency::User));
    dependencies.sort_unstable();
    dependencies.dedup();
    dependencies
}

/// What a new conversation changes for a participant.
fn lists_of(user: UserId) -> [Dependency; 2] {
    [Dependency::Memberships(user.clone()), Dependency::User(user)]
}
