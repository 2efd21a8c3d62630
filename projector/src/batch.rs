//! A batch of records: decoded, and folded into a state. A record that can't be decoded must never stop the batch.

use std::collections::BTreeMap;

use domain::event::Event;
use domain::state::{Changes, State, Touched};
use domain::{OffsetAdvance, Position};
use event_log::LogRecord;
use read_model::ParkedRecord;

/// Records of owned partitions, in the order of each partition.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) events: Vec<(Position, Event)>,
    /// The records that can't be decoded as events.
    pub(crate) parked: Vec<ParkedRecord>,
    /// How far the batch moves the partitions' offsets.
    pub(crate) advances: Vec<OffsetAdvance>,
}

impl Batch {
    /// Decodes the records that come next on the partitions in `owned`, a map of partitions to next offsets. Skips the
    /// records that the read model includes already, and those of partitions that the projector no longer owns.
    pub(crate) fn new(records: &[LogRecord], owned: &BTreeMap<i32, i64>, partitions: usize) -> Self {
        let mut batch = Self::default();
        let mut next = owned.clone();
        for record in records {
            let Some(expected) = next.get_mut(&record.position.partition) else { continue };
            if record.position.offset < *expected {
                continue;
            }
            *expected = record.position.offset + 1;
            let position = record.position;
            match record.event(partitions) {
                Ok(event) => batch.events.push((position, event)),
                Err(error) => {
                    metrics::counter!("projector_undecodable_total").increment(1);
                    tracing::error!(
                        %position,
                        %error,
                        "parked a record that can't be decoded; see messages dead-letters list"
                    );
                    batch.parked.push(ParkedRecord { position, reason: error.to_string() });
                }
            }
        }
        let moved = next.iter().filter_map(|(partition, to)| {
            let from = *owned.get(partition)?;
            (from < *to).then_some(OffsetAdvance { partition: *partition, from, to: *to })
        });
        batch.advances = moved.collect();
        batch
    }

    /// Everything that the batch can touch: what to load before it is folded.
    pub(crate) fn touched(&self) -> Touched {
        Touched::by(self.events.iter().map(|(_, event)| event))
    }

    /// Folds the batch's events into a state that holds what it can touch. Returns what changed.
    pub(crate) fn fold(&self, state: &mut State) -> Changes {
        fold(&self.events, state)
    }
}

/// Folds events into a state. Returns what changed.
pub(crate) fn fold(events: &[(Position, Event)], state: &mut State) -> Changes {
    let mut changes = Changes::default();
    for (position, event) in events {
        domain::fold::fold(state, &mut changes, event, *position);
    }
    changes
}
