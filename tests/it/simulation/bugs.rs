//! Bugs that a simulation can be run with. Each stands at a seam between the product's code and the models: none is in
//! the product.

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    /// The projector publishes a batch's progress before its commit.
    PublishesBeforeCommit,
    /// The projector publishes a batch's progress before it changes the versions of what the batch changed.
    PublishesBeforeInvalidation,
    /// Postgres commits whatever the offset is.
    CommitIgnoresOffset,
    /// A batch moves its offset past a record that it doesn't have.
    AdvancesTooFar,
    /// The projector doesn't load which events are folded already.
    ForgetsFoldedEvents,
    /// The projector doesn't load which idempotency keys are used.
    ForgetsUsedKeys,
    /// The projector doesn't invalidate the lists of a changed conversation's participants.
    ForgetsParticipants,
    /// The projector doesn't invalidate the memberships of a new conversation's participants.
    ForgetsMemberships,
    /// The projector skips a page of what it has to invalidate when Redis is behind.
    RepairSkipsPage,
    /// A reader takes the versions of a view after it has read the values, and stores the view whatever it includes.
    VersionsAfterValues,
    /// A reader reads the offsets of its values after the values, not in the same transaction.
    OffsetsAfterValues,
    /// A reader takes a view from the cache although it is older than what the client demands.
    IgnoresDemand,
    /// A reader answers from Postgres although Postgres is behind what the client demands.
    ConcludesTooEarly,
}

/// All of them.
pub(super) const ALL: [Bug; 13] = [
    Bug::PublishesBeforeCommit,
    Bug::PublishesBeforeInvalidation,
    Bug::CommitIgnoresOffset,
    Bug::AdvancesTooFar,
    Bug::ForgetsFoldedEvents,
    Bug::ForgetsUsedKeys,
    Bug::ForgetsParticipants,
    Bug::ForgetsMemberships,
    Bug::RepairSkipsPage,
    Bug::VersionsAfterValues,
    Bug::OffsetsAfterValues,
    Bug::IgnoresDemand,
    Bug::ConcludesTooEarly,
];
