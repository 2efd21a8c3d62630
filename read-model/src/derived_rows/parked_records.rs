//! Which records of the log the read model includes, although or because they were parked.

use std::collections::{BTreeMap, BTreeSet};

use domain::Position;

use super::table::{DerivedRow, DerivedTable};
use crate::parking::DeadLetterStatus;

/// The records that the projector parked.
#[derive(Debug, Default)]
pub struct ParkedRecords {
    statuses: BTreeMap<Position, DeadLetterStatus>,
    /// Those that are discarded, and folded nevertheless.
    folded_discards: BTreeSet<Position>,
}

impl ParkedRecords {
    /// Begins with dead letters of which no row is known.
    pub fn new(statuses: BTreeMap<Position, DeadLetterStatus>) -> Self {
        Self { statuses, folded_discards: BTreeSet::new() }
    }

    /// Takes note of a row of Postgres: it may be that of a discarded record.
    pub fn observe(&mut self, row: &DerivedRow) {
        if row.table != DerivedTable::AppliedEvents || self.statuses.is_empty() {
            return;
        }
        let value = |name: &str| {
            let index = row.table.columns().iter().position(|column| *column == name)?;
            row.values.get(index)?.as_deref()
        };
        let position = value("partition").zip(value("position"));
        let position = position.and_then(|(partition, offset)| {
            Some(Position { partition: partition.parse().ok()?, offset: offset.parse().ok()? })
        });
        self.folded_discards.extend(position.filter(|it| self.statuses.get(it) == Some(&DeadLetterStatus::Discarded)));
    }

    /// Whether the record at this position was ever parked.
    pub fn contains(&self, position: Position) -> bool {
        self.statuses.contains_key(&position)
    }

    /// Whether the record at this position is parked, and nobody has decided that it stays so.
    pub fn is_open(&self, position: Position) -> bool {
        let status = self.statuses.get(&position);
        matches!(status, Some(DeadLetterStatus::Parked | DeadLetterStatus::RetryRequested))
    }

    /// Whether the read model includes the record at this position, if the record is an event.
    pub fn includes(&self, position: Position) -> bool {
        let is_discarded = self.statuses.get(&position) == Some(&DeadLetterStatus::Discarded);
        !self.is_open(position) && (!is_discarded || self.folded_discards.contains(&position))
    }
}
