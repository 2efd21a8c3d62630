//! The expected read model: the fold of the log.

use domain::envelope::decode;
use domain::fold::fold;
use domain::state::{Changes, State};
use domain::{Event, Position, PositionVector};
use event_log::partition_for;
use read_model::ReadModel;

use super::log::Record;
use super::system::{PARTITIONS, eventually};

/// Folds events at their positions.
pub(crate) fn folded<'a>(log: impl IntoIterator<Item = (Position, &'a Event)>) -> State {
    let mut state = State::default();
    for (position, event) in log {
        fold(&mut state, &mut Changes::default(), event, position);
    }
    state
}

/// Folds records in the order of the list. Skips, as the projector does, a record that isn't a valid event, and a
/// record that isn't in the partition of its conversation.
pub(crate) fn folded_records(records: &[Record]) -> State {
    let partitions = usize::try_from(PARTITIONS).unwrap();
    let events = records.iter().filter_map(|record| {
        let event = decode(&record.bytes).ok()?;
        let expected_partition = partition_for(event.conversation_id.to_string().as_bytes(), partitions);
        (record.partition == expected_partition)
            .then_some((Position { partition: record.partition, offset: record.offset }, event))
    });
    let events: Vec<_> = events.collect();
    folded(events.iter().map(|(position, event)| (*position, event)))
}

/// Waits until the read model includes these records, and asserts that it equals their fold.
pub(crate) async fn assert_folded(read_model: &ReadModel, records: &[Record]) {
    let partitions = records.iter().map(|record| record.partition).max().unwrap_or(0) + 1;
    let mut end = PositionVector::zero(usize::try_from(partitions).unwrap());
    for record in records {
        end.advance(record.partition, record.offset + 1);
    }
    eventually("the read model reaches the log's end", async || {
        read_model.offsets().await.unwrap().covers(&end).then_some(())
    })
    .await;
    assert_eq!(read_model.export_state().await.unwrap(), folded_records(records));
}
