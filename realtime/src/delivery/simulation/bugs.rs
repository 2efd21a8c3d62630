//! Bugs that a simulation can be run with: none is in the product.

/// A bug that stands between the simulation and the product's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    /// The relay doesn't remember which events it has relayed.
    ForgetsEventIds,
    /// A socket enters the rooms after it has looked up its memberships.
    EntersLate,
    /// A socket doesn't join the conversations that the tail has and its memberships lack.
    IgnoresCreations,
    /// The token of `connection:ready` includes more than where the tail's reader starts.
    PromisesTooMuch,
    /// The relay delivers to a socket that still reads the tail.
    GoesLiveTooEarly,
    /// The relay delivers to a socket only from a while after the end of its tail.
    GoesLiveLate,
    /// A socket doesn't get the tail.
    SkipsTail,
}

/// All of them.
pub(super) const BUGS: [Bug; 7] = [
    Bug::ForgetsEventIds,
    Bug::EntersLate,
    Bug::IgnoresCreations,
    Bug::PromisesTooMuch,
    Bug::GoesLiveTooEarly,
    Bug::GoesLiveLate,
    Bug::SkipsTail,
];

/// What a simulation found to be wrong.
pub(super) type Violation = String;
