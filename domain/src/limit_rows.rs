//! How the code describes its limits: `docs/limits.md` is made of these rows. Each stands next to the constant that it
//! names, so a limit can't change without its row.

use std::time::Duration;

/// The section of the document in which a limit stands, in the order of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LimitGroup {
    /// What a user may do in a window.
    Rates,
    /// What a command may contain.
    Contents,
    /// What a query reads and shows.
    Queries,
    /// HTTP requests, and their connections.
    Requests,
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

impl LimitGroup {
    /// All of them, in the order of the document.
    pub const ALL: [Self; 9] = [
        Self::Rates,
        Self::Contents,
        Self::Queries,
        Self::Requests,
        Self::Sockets,
        Self::Projector,
        Self::Memory,
        Self::Redis,
        Self::Services,
    ];

    /// The title of the section.
    pub fn title(self) -> &'static str {
        match self {
            Self::Rates => "What a user may do in a window",
            Self::Contents => "What a command may contain",
            Self::Queries => "Queries",
            Self::Requests => "Requests and connections",
            Self::Sockets => "Sockets",
            Self::Projector => "The projector",
            Self::Memory => "Memory of a process",
            Self::Redis => "Redis",
            Self::Services => "Waiting for other services",
        }
    }
}

impl LimitValue {
    /// The value as people write it. `setting` knows what a variable is set to.
    pub fn in_words(self, setting: impl FnOnce(&'static str) -> String) -> String {
        match self {
            Self::Count(count) => grouped(count),
            Self::Bytes(bytes) => in_bytes(bytes),
            Self::Time(time) => in_time(time),
            Self::Setting(variable) => setting(variable),
        }
    }
}

/// A number with commas between the thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut written = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            written.push(',');
        }
        written.push(digit);
    }
    written
}

/// A number of bytes in the largest unit of which it is a multiple.
fn in_bytes(number: u64) -> String {
    let units = [(1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.iter().find(|(size, _)| number.is_multiple_of(*size));
    unit.map_or_else(
        || format!("{} bytes", grouped(number)),
        |(size, unit)| format!("{} {unit}", grouped(number / size)),
    )
}

/// A time in the largest unit of which it is a multiple.
fn in_time(time: Duration) -> String {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let units = [(86_400_000, "days"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
    // "1 day" would be another word.
    let fits = |size: u64| millis.is_multiple_of(size) && (size < 86_400_000 || millis > size);
    let (size, unit) = units.into_iter().find(|(size, _)| fits(*size)).unwrap_or((1, "ms"));
    format!("{} {unit}", grouped(millis / size))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_people_write_them() {
        assert_eq!([grouped(7), grouped(1_234), grouped(1_000_000)], ["7", "1,234", "1,000,000"]);
        assert_eq!([in_bytes(64 << 10), in_bytes(8 << 20), in_bytes(512)], ["64 KiB", "8 MiB", "512 bytes"]);
        let times = [500, 10_000, 120_000, 24 * 3_600_000, 90 * 86_400_000].map(Duration::from_millis).map(in_time);
        assert_eq!(times, ["500 ms", "10 s", "2 min", "24 h", "90 days"]);
    }
}
