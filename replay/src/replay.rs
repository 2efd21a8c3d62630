//! Replaying a part of the log: reading it, and writing its records in another form.

use std::io::{self, ErrorKind, Write};

use domain::PositionVector;
use event_log::{LogConsumer, LogRecord};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::range::LogRange;
use crate::read::{ReadLogError, ReadProgress, WAITING_MAX, count, follow_log, read_log};
use crate::record_writer::{RecordWriter, ReplayFormat};
use crate::replayed_record::{RecordChoice, ReplayedRecord};

/// What is replayed, and how.
#[derive(Debug, Clone)]
pub struct ReplayPlan {
    /// The part of the log.
    pub range: LogRange,
    /// The records of it.
    pub choice: RecordChoice,
    /// The form.
    pub format: ReplayFormat,
    /// Whether the records that come after the part follow, until somebody stops it.
    pub follows: bool,
}

/// What was replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplaySummary {
    /// How many records were written.
    pub written: u64,
    /// How many of these are no events.
    pub undecodable: u64,
    /// How many were read, and weren't wanted.
    pub filtered: u64,
    /// Whether the reader of the output has closed it. Then not everything was written.
    pub is_closed: bool,
}

/// Why a replay failed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The log can't be read.
    #[error(transparent)]
    Read(#[from] ReadLogError),
    /// The output can't be written.
    #[error("writing the output failed: {0}")]
    Write(#[from] io::Error),
    /// The conversation's state would take too much memory.
    #[error("the conversation has more than {} MiB of events; without --fold, replay writes the events", .0 >> 20)]
    TooLarge(usize),
    /// It was stopped before the end.
    #[error("stopped before the end")]
    Stopped,
}

/// Writes the records of a part of the log: those of a partition in their order, and one partition after the other. The same
/// part therefore always gives the same bytes. Ends when the reader of the output closes it. If records follow, those come
/// as Kafka sends them, each partition's in its order, until `shutdown`.
///
/// # Errors
/// When Kafka doesn't answer, the output can't be written, or `shutdown` comes before the end of the part.
pub async fn replay(
    log: &LogConsumer,
    plan: ReplayPlan,
    out: impl Write + Send + 'static,
    shutdown: &CancellationToken,
    report: impl Fn(ReadProgress),
) -> Result<ReplaySummary, ReplayError> {
    let (sender, records) = mpsc::channel(WAITING_MAX);
    let LogRange { from, to, .. } = plan.range.clone();
    let follows = plan.follows;
    let writing = tokio::task::spawn_blocking(move || write_records(records, &plan, out));
    let reading = async {
        let ended = shutdown.run_until_cancelled(read_range(log, &from, &to, &sender, report)).await;
        ended.ok_or(ReplayError::Stopped)??;
        if follows && let Some(ended) = shutdown.run_until_cancelled(follow_log(log, &to, &sender)).await {
            ended?;
        }
        Ok::<(), ReplayError>(())
    };
    tokio::select! {
        ended = reading => ended?,
        // The thread that writes has ended early. Reading would notice it only with the next record.
        () = sender.closed() => {}
    }
    drop(sender);
    writing.await.map_err(|_| ReplayError::Stopped)?
}

/// Sends the records of one partition after the other.
async fn read_range(
    log: &LogConsumer,
    from: &PositionVector,
    to: &PositionVector,
    sender: &mpsc::Sender<Vec<LogRecord>>,
    report: impl Fn(ReadProgress),
) -> Result<(), ReadLogError> {
    let (mut begin, mut end) = (from.clone(), from.clone());
    let total = count(to) - count(from);
    for (partition, next) in (0..).zip(&to.0) {
        end.advance(partition, *next);
        let done = count(&begin) - count(from);
        let report = |progress: ReadProgress| report(ReadProgress { done: done + progress.done, total });
        read_log(log, &begin, &end, sender, report).await?;
        begin.clone_from(&end);
    }
    Ok(())
}

/// Writes records until no more come, or nobody reads the output any more.
fn write_records(
    records: mpsc::Receiver<Vec<LogRecord>>,
    plan: &ReplayPlan,
    out: impl Write + Send,
) -> Result<ReplaySummary, ReplayError> {
    let mut summary = ReplaySummary::default();
    match write_all(records, &plan.choice, plan.format, plan.follows, out, &mut summary) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => summary.is_closed = true,
        ended => ended?.flush()?,
    }
    Ok(summary)
}

/// Writes records until no more come. Returns the output. If others follow, each part that comes is written at once.
pub(crate) fn write_all<W: Write + Send>(
    mut records: mpsc::Receiver<Vec<LogRecord>>,
    choice: &RecordChoice,
    format: ReplayFormat,
    follows: bool,
    out: W,
    summary: &mut ReplaySummary,
) -> io::Result<W> {
    let mut writer = RecordWriter::begin(format, out)?;
    while let Some(records) = records.blocking_recv() {
        for record in records {
            let record = ReplayedRecord::new(record, choice.partitions);
            if !choice.filter.includes(&record) {
                summary.filtered += 1;
                continue;
            }
            writer.write(&record, choice.content)?;
            summary.written += 1;
            summary.undecodable += u64::from(record.event.is_err());
        }
        if follows {
            writer.flush()?;
        }
    }
    writer.finish()
}

#[cfg(test)]
mod tests {
    use domain::testing::random_history;
    use domain::{Event, Position, envelope};
    use event_log::partition_of;
    use serde_json::{Value, json};

    use super::*;
    use crate::replayed_record::{ContentChoice, RecordFilter};

    const PARTITIONS: usize = 3;

    fn record(offset: i64, value: Vec<u8>, partition: i32) -> LogRecord {
        let position = Position { partition, offset };
        let (key, timestamp_ms) = (b"key".to_vec(), 1_000 + offset);
        LogRecord { position, timestamp_ms, key, event_id: None, event_type: None, traceparent: None, value }
    }

    fn of_event(event: &Event, offset: i64) -> LogRecord {
        record(offset, envelope::encode(event), partition_of(event.conversation_id, PARTITIONS))
    }

    fn written(records: Vec<LogRecord>, filter: RecordFilter, content: ContentChoice, format: ReplayFormat) -> String {
        let nothing = PositionVector::zero(PARTITIONS);
        let range =
            LogRange { from: nothing.clone(), to: nothing, held: std::collections::BTreeMap::default(), lost: None };
        let choice = RecordChoice { partitions: PARTITIONS, filter, content };
        let plan = ReplayPlan { range, choice, format, follows: false };
        let (sender, receiver) = mpsc::channel(1);
        sender.try_send(records).unwrap();
        drop(sender);
        let mut out = Vec::new();
        write_records(receiver, &plan, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn lines(text: &str) -> Vec<Value> {
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_json_line_is_the_value_behind_its_place_and_a_csv_row_has_the_same() {
        let events = random_history(3, 500);
        let records: Vec<LogRecord> = events.iter().zip(0..).map(|(event, offset)| of_event(event, offset)).collect();
        let all = |format| written(records.clone(), RecordFilter::default(), ContentChoice::Kept, format);
        let found = lines(&all(ReplayFormat::JsonLines));
        let csv = all(ReplayFormat::Csv);
        let mut rows = csv::Reader::from_reader(csv.as_bytes());
        let columns = rows.headers().unwrap().clone();
        let rows: Vec<csv::StringRecord> = rows.records().map(Result::unwrap).collect();
        assert_eq!((found.len(), rows.len()), (500, 500));
        for ((line, row), record) in found.iter().zip(&rows).zip(&records) {
            let mut expected: Value = serde_json::from_slice(&record.value).unwrap();
            expected["partition"] = json!(record.position.partition);
            expected["offset"] = json!(record.position.offset);
            expected["loggedAt"] = json!(format!("1970-01-01T00:00:01.{:03}Z", record.position.offset));
            assert_eq!(*line, expected);
            let cell = |name: &str| row.get(columns.iter().position(|column| column == name).unwrap()).unwrap();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            assert_eq!(cell("event_id"), text(&line["eventId"]));
            assert_eq!(cell("content"), text(&line["data"]["content"]));
            assert_eq!(cell("request_hash"), text(&line["requestHash"]));
            assert_eq!(cell("emoji"), text(&line["data"]["emoji"]));
        }
    }

    #[test]
    fn nothing_that_people_wrote_is_left_without_content() {
        let mut events = random_history(4, 500);
        let hidden = "SECRET";
        for event in &mut events {
            event.data = match event.data.clone() {
                domain::event::EventData::MessageSent(sent) => {
                    let content = hidden.to_owned();
                    domain::event::EventData::MessageSent(domain::event::MessageSent { content, ..sent })
                }
                domain::event::EventData::ReactionAdded { message_id, emoji, .. } => {
                    domain::event::EventData::ReactionAdded { message_id, emoji, label: Some(hidden.to_owned()) }
                }
                domain::event::EventData::ConversationCreated { kind, participant_ids, .. } => {
                    let title = Some(hidden.to_owned());
                    domain::event::EventData::ConversationCreated { kind, title, participant_ids }
                }
                other => other,
            };
        }
        let mut records: Vec<LogRecord> = events.iter().zip(0..).map(|(event, it)| of_event(event, it)).collect();
        records.push(record(500, format!(r#"{{"eventId": "{hidden}"}}"#).into_bytes(), 0));
        for format in [ReplayFormat::JsonLines, ReplayFormat::Csv] {
            let all = written(records.clone(), RecordFilter::default(), ContentChoice::Kept, format);
            assert!(all.contains(hidden) && all.to_ascii_lowercase().contains("hash"));
            let left = written(records.clone(), RecordFilter::default(), ContentChoice::LeftOut, format);
            assert_eq!(left.lines().count(), if format == ReplayFormat::Csv { 502 } else { 501 });
            assert!(!left.contains(hidden) && !left.contains("requestHash"), "{left}");
        }
    }

    #[test]
    fn a_filter_takes_events_that_meet_all_its_conditions() {
        let events = random_history(5, 500);
        let records: Vec<LogRecord> = events.iter().zip(0..).map(|(event, offset)| of_event(event, offset)).collect();
        let (conversation, actor) = (events[0].conversation_id, events[0].actor_id.clone());
        let filter = RecordFilter {
            types: [events[0].data.type_name().to_owned()].into(),
            conversations: [conversation].into(),
            actors: [actor.clone()].into(),
        };
        let found = lines(&written(records, filter.clone(), ContentChoice::Kept, ReplayFormat::JsonLines));
        let expected = events.iter().filter(|event| {
            filter.types.contains(event.data.type_name())
                && event.conversation_id == conversation
                && event.actor_id == actor
        });
        assert_eq!(found.len(), expected.count());
        assert_eq!(found[0]["eventId"], json!(events[0].event_id));
    }

    #[test]
    fn a_record_that_is_no_event_keeps_its_value_and_its_line() {
        let values = [b"no\nJSON".to_vec(), vec![0xff, 0xfe], Vec::new()];
        let records = values.into_iter().zip(0..).map(|(value, offset)| record(offset, value, 0)).collect();
        let found = lines(&written(records, RecordFilter::default(), ContentChoice::Kept, ReplayFormat::JsonLines));
        assert_eq!((&found[0]["value"], &found[1]["valueBase64"]), (&json!("no\nJSON"), &json!("//4=")));
        assert!(found.iter().all(|line| line["error"].is_string() && line["key"] == "key"), "{found:?}");
    }

    #[test]
    fn an_event_that_another_program_wrote_with_line_breaks_stays_one_line() {
        let event = &random_history(6, 1)[0];
        let pretty: Value = serde_json::from_slice(&envelope::encode(event)).unwrap();
        let mut record = of_event(event, 0);
        record.value = serde_json::to_vec_pretty(&pretty).unwrap();
        let text = written(vec![record], RecordFilter::default(), ContentChoice::Kept, ReplayFormat::JsonLines);
        assert_eq!(text.lines().count(), 1);
        assert_eq!(lines(&text)[0]["data"], pretty["data"]);
    }
}
