//! How the code describes its limits: `docs/limits.md` is made of these rows. Each stands next to the constant that it
//! names, so a limit can't change without its row.

use std::time::Duration;

/// The section of the document in which a limit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitGroup {
    /// What a command may contain.
    Contents,
    /// What a user may do in a window.
    Rates,
    /// HTTP requests, and their connections.
    Requests,
    /// What a query reads and shows.
    Queries,
    /// Sockets, and what they are sent.
    Sockets,
    /// The projector's batches.
    Projector,
    /// What a process keeps in memory.
    Memory,
    /// How long Redis keeps what.
    Redis,
    /// Waits for other services, and for the end of a process.
    Services,
}

/// How much is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitValue {
    /// A number of the things that the row names.
    Count(u64),
    /// A number of bytes.
    Bytes(u64),
    /// For how long something may go on.
    Time(Duration),
    /// The default of the setting in this variable.
    Setting(&'static str),
}

/// A limit, as the document lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitRow {
    /// The section.
    pub group: LimitGroup,
    /// What is limited.
    pub what: &'static str,
    /// How much of it is allowed.
    pub value: LimitValue,
    /// What happens beyond it.
    pub beyond: &'static str,
    /// Who or what would suffer without it.
    pub protects: &'static str,
}

/// Describes the limits of a module, a row each: `Group, "what is limited", Kind CONSTANT, "what happens beyond it",
/// "what it protects";`. The crate's `LIMITS` lists the result.
#[macro_export]
macro_rules! limit_rows {
    ($($group:ident, $what:literal, $kind:ident $value:expr, $beyond:literal, $protects:literal;)+) => {
        /// The limits of this module, for `docs/limits.md`.
        pub(crate) const LIMIT_ROWS: &[$crate::limit_rows::LimitRow] = &[$($crate::limit_rows::LimitRow {
            group: $crate::limit_rows::LimitGroup::$group,
            what: $what,
            value: $crate::limit_rows::LimitValue::$kind($value as _),
            beyond: $beyond,
            protects: $protects,
        }),+];
    };
}
