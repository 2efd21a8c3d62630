//! What differs between the read model and the fold of the log.

use std::collections::BTreeMap;
use std::fmt;

use domain::Position;

use super::table::{DerivedRow, DerivedTable};

/// How many differences are kept in full. The others only count.
const DIFFERENCES_MAX: usize = 20;
/// How many characters of a value are shown.
const SHOWN_CHARACTERS_MAX: usize = 160;
/// How many of them come before the first one that differs, in a value that is too long.
const CHARACTERS_BEFORE: usize = 40;
/// The table of the dead letters, as its differences name it.
const DEAD_LETTERS: &str = "dead_letters";

domain::limit_rows! {
    Memory, "differences that `verify` shows", Count DIFFERENCES_MAX, "the others only count", "operators, who read them";
    Memory, "characters that it shows of a value", Count SHOWN_CHARACTERS_MAX, "it shows those around the first one that differs", "operators, who read them";
}

/// How a row differs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum DifferenceKind {
    /// The log demands it, and Postgres doesn't have it.
    Missing,
    /// Postgres has it, and the log doesn't demand it.
    Added,
    /// A value differs.
    Changed {
        /// The column of the value.
        column: &'static str,
        /// What the log demands; none for NULL.
        demanded: Option<String>,
        /// What Postgres has; none for NULL.
        stored: Option<String>,
    },
    /// The record can't be decoded, and no dead letter says so.
    NotParked {
        /// Why it can't be decoded.
        reason: String,
    },
}

/// A row that isn't as the log demands it, or one value of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// The table's name.
    pub table: &'static str,
    /// The columns of the row's primary key, with their values.
    pub key: Vec<(&'static str, String)>,
    /// How the row differs.
    pub kind: DifferenceKind,
}

/// What says which row of all tables a row is.
fn primary_key(row: &DerivedRow) -> (DerivedTable, Vec<Option<String>>) {
    (row.table, row.values.iter().take(row.table.key_length()).cloned().collect())
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.table)?;
        for (column, value) in &self.key {
            write!(f, " {column}={value}")?;
        }
        match &self.kind {
            DifferenceKind::Missing => f.write_str(": the row is missing"),
            DifferenceKind::Added => f.write_str(": the row must not exist"),
            DifferenceKind::Changed { column, demanded, stored } => {
                let (demanded, stored) = shown(demanded.as_deref(), stored.as_deref());
                write!(f, ": {column} is {stored}, must be {demanded}")
            }
            DifferenceKind::NotParked { reason } => {
                write!(f, ": the row is missing; the record can't be read: {reason}")
            }
        }
    }
}

/// Two values that differ, as people read them: of long ones, the part around the first character that differs.
fn shown(one: Option<&str>, other: Option<&str>) -> (String, String) {
    let both = one.unwrap_or_default().chars().zip(other.unwrap_or_default().chars());
    let same = both.take_while(|(one, other)| one == other).count();
    let part = |value: Option<&str>| {
        let Some(text) = value else { return "NULL".to_owned() };
        let length = text.chars().count();
        if length <= SHOWN_CHARACTERS_MAX {
            return format!("\"{text}\"");
        }
        let from = same.saturating_sub(CHARACTERS_BEFORE);
        let part: String = text.chars().skip(from).take(SHOWN_CHARACTERS_MAX).collect();
        let before = if from > 0 { "…" } else { "" };
        let after = if from + SHOWN_CHARACTERS_MAX < length { "…" } else { "" };
        format!("\"{before}{part}{after}\"")
    };
    (part(one), part(other))
}

/// How many rows of a table differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TableCounts {
    /// Rows that the log demands, and Postgres doesn't have.
    pub missing: u64,
    /// Rows that Postgres has, and the log doesn't demand.
    pub added: u64,
    /// Rows with another value in at least one column.
    pub changed: u64,
}

/// All differences: how many there are, and the first of them in full.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// The first ones.
    pub first: Vec<Difference>,
    /// How many rows differ, by table.
    pub counts: BTreeMap<&'static str, TableCounts>,
    /// How many conversations have rows that differ.
    pub conversations: u64,
}

impl Differences {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// How many rows differ.
    pub fn rows(&self) -> u64 {
        self.counts.values().map(|counts| counts.missing + counts.added + counts.changed).sum()
    }

    /// The differences between the rows that the log demands of one conversation, and those that Postgres has.
    pub fn of_conversation(demanded: Vec<DerivedRow>, stored: &[DerivedRow]) -> Self {
        let mut differences = Self::default();
        let mut demanded: BTreeMap<_, _> = demanded.into_iter().map(|row| (primary_key(&row), row)).collect();
        for stored in stored {
            match demanded.remove(&primary_key(stored)) {
                Some(demanded) if demanded.values == stored.values => {}
                Some(demanded) => differences.add_changed(&demanded, stored),
                None => differences.add_added(stored),
            }
        }
        demanded.values().for_each(|row| differences.add_missing(row));
        differences.conversations = u64::from(!differences.is_empty());
        differences
    }

    /// Adds those of other conversations.
    pub fn merge(&mut self, other: Self) {
        self.first.extend(other.first);
        self.first.sort_unstable();
        self.first.truncate(DIFFERENCES_MAX);
        for (table, more) in other.counts {
            let counts = self.counts.entry(table).or_default();
            counts.missing += more.missing;
            counts.added += more.added;
            counts.changed += more.changed;
        }
        self.conversations += other.conversations;
    }

    /// Adds a row that the log demands, and Postgres doesn't have.
    pub fn add_missing(&mut self, row: &DerivedRow) {
        self.counts.entry(row.table.name()).or_default().missing += 1;
        self.keep(row, DifferenceKind::Missing);
    }

    /// Adds a row that Postgres has, and the log doesn't demand.
    pub fn add_added(&mut self, row: &DerivedRow) {
        self.counts.entry(row.table.name()).or_default().added += 1;
        self.keep(row, DifferenceKind::Added);
    }

    /// Adds a row of which some values differ.
    pub fn add_changed(&mut self, demanded: &DerivedRow, stored: &DerivedRow) {
        self.counts.entry(stored.table.name()).or_default().changed += 1;
        let values = demanded.values.iter().zip(&stored.values);
        for (column, (demanded, stored_value)) in stored.table.columns().iter().zip(values) {
            if demanded != stored_value {
                let (demanded, stored_value) = (demanded.clone(), stored_value.clone());
                self.keep(stored, DifferenceKind::Changed { column, demanded, stored: stored_value });
            }
        }
    }

    /// Adds a record that can't be decoded, and that isn't parked.
    pub fn add_not_parked(&mut self, position: Position, reason: String) {
        self.counts.entry(DEAD_LETTERS).or_default().missing += 1;
        let key = vec![("partition", position.partition.to_string()), ("position", position.offset.to_string())];
        self.keep_all(Difference { table: DEAD_LETTERS, key, kind: DifferenceKind::NotParked { reason } });
    }

    fn keep(&mut self, row: &DerivedRow, kind: DifferenceKind) {
        let columns: &[&'static str] = DerivedTable::columns(row.table);
        let key = columns.iter().zip(&row.values).take(row.table.key_length());
        let key = key.map(|(column, value)| (*column, value.clone().unwrap_or_default())).collect();
        self.keep_all(Difference { table: row.table.name(), key, kind });
    }

    fn keep_all(&mut self, difference: Difference) {
        if self.first.len() < DIFFERENCES_MAX {
            self.first.push(difference);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_table_key_column_and_both_values() {
        let text = |text: &str| Some(text.to_owned());
        let row = |emoji: &str, label: Option<String>| DerivedRow {
            table: DerivedTable::Reactions,
            values: vec![text("c"), text("m"), text("0"), text(emoji), label, text("[]")],
        };
        let mut differences = Differences::default();
        differences.add_changed(&row("👍", None), &row("👎", text("NULL")));
        let printed: Vec<String> = differences.first.iter().map(Difference::to_string).collect();
        let key = "reactions conversation_id=c message_id=m ordinal=0";
        assert_eq!(
            printed,
            [format!("{key}: emoji is \"👎\", must be \"👍\""), format!("{key}: label is \"NULL\", must be NULL")]
        );
        assert_eq!((differences.rows(), differences.counts["reactions"].changed), (1, 1));
    }

    #[test]
    fn the_rows_of_a_conversation_differ_in_both_directions() {
        let row = |user: &str, ordinal: &str| DerivedRow {
            table: DerivedTable::Members,
            values: ["c", user, ordinal].map(|text| Some(text.to_owned())).to_vec(),
        };
        let demanded = vec![row("alice", "0"), row("bob", "1"), row("carol", "2")];
        let stored = [row("alice", "0"), row("bob", "7"), row("mallory", "2")];
        let differences = Differences::of_conversation(demanded, &stored);
        let printed: Vec<String> = differences.first.iter().map(Difference::to_string).collect();
        let member = |user: &str| format!("members conversation_id=c user_id={user}");
        let expected = [
            format!("{}: ordinal is \"7\", must be \"1\"", member("bob")),
            format!("{}: the row must not exist", member("mallory")),
            format!("{}: the row is missing", member("carol")),
        ];
        assert_eq!((printed, differences.conversations), (expected.to_vec(), 1));
    }

    #[test]
    fn the_part_of_a_long_value_that_differs_is_shown() {
        let long = |end: &str| format!("{}{end}{}", "a".repeat(1_000), "z".repeat(1_000));
        let (one, other) = shown(Some(&long("1")), Some(&long("2")));
        let before = "a".repeat(CHARACTERS_BEFORE);
        assert!(one.starts_with(&format!("\"…{before}1z")) && one.ends_with("z…\""), "{one}");
        assert!(other.starts_with(&format!("\"…{before}2z")), "{other}");
    }
}
