//! What the read model has to be: the fold of the log.

use domain::envelope::decode;
use domain::fold::fold;
use domain::state::{Changes, State};
use domain::{Event, Position, PositionVector};
use event_log::partition_for;
use read_model::ReadModel;

use super::log::Record;
use super::system::{PARTITIONS, eventually};

/// The fold of events at their positions.
pub(crate) fn folded<'a>(log: impl IntoIterator<Item = (Position, &'a Event)>) -> State {
    let mut state = State::default();
    for (position, event) in log {
        fold(&mut state, &mut Changes::default(), event, position);
    }
    state
}

/// The fold of records as they were read; those that are no events, or not where their conversation's are, are passed
/// over.
pub(crate) fn folded_records(records: &[Record]) -> State {
    let partitions = usize::try_from(PARTITIONS).unwrap();
    let events = records.iter().filter_map(|record| {
        let event = decode(&record.bytes).ok()?;
        let here = partition_for(event.conversation_id.to_string().as_bytes(), partitions) == record.partition;
        here.then_some((Position { partition: record.partition, offset: record.offset }, event))
    });
    let events: Vec<_> = events.collect();
    folded(events.iter().map(|(position, event)| (*position, event)))
}

/// Waits until the read model includes these records, and asserts that it is the fold of them.
pub(crate) async fn assert_folded(read_model: &ReadModel, records: &[Record]) {
    let partitions = records.iter().map(|record| record.partition).max().unwrap_or(0) + 1;
    let mut end = PositionVector::zero(usize::try_from(partitions).unwrap());
    for record in records {
        end.advance(record.partition, record.offset + 1);
    }
    eventually("the read model is at the log's end", async || {
        read_model.offsets().await.unwrap().covers(&end).then_some(())
    })
    .await;
    assert_eq!(read_model.export_state().await.unwrap(), folded_records(records));
}
