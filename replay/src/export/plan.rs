//! The documents of an export: what it is of, what each run writes, and what it has written.

use std::collections::BTreeMap;

use domain::PositionVector;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::range::LogRange;
use crate::record_writer::ReplayFormat;
use crate::replayed_record::{ContentChoice, RecordFilter};

/// What an export is of. All its files have the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportSettings {
    /// The name of the topic.
    pub topic: String,
    /// The topic's id (KIP-516). A topic that is made anew under the same name has another one.
    pub topic_id: Uuid,
    /// The number of its partitions.
    pub partitions: usize,
    /// The form of the files.
    pub format: ReplayFormat,
    /// Which records they have.
    pub filter: RecordFilter,
    /// How much of what people wrote.
    pub content: ContentChoice,
    /// How many offsets of a partition a file has at most: files end at the multiples of it.
    pub file_records: u64,
}

impl ExportSettings {
    /// Compares them with those of an export that exists. Returns the first setting that differs, with its value there.
    pub(super) fn difference(&self, existing: &Map<String, Value>) -> Option<(String, Value)> {
        let Ok(Value::Object(settings)) = serde_json::to_value(self) else { return None };
        let there = |name: &str| existing.get(name).cloned().unwrap_or_default();
        settings
            .into_iter()
            .map(|(name, value)| (there(&name), name, value))
            .find_map(|(there, name, value)| (there != value).then_some((name, there)))
    }
}

/// What one run writes. It is published before the first file, and never changes: whoever carries it out writes the same
/// files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ExportPlan {
    /// The first offset of each partition.
    pub(super) from: Vec<i64>,
    /// The offset of each partition that comes after the last.
    pub(super) to: Vec<i64>,
    /// The partitions that end early, because an open transaction holds their later records back.
    pub(super) held: BTreeMap<i32, i64>,
    pub(super) files: Vec<PlannedFile>,
}

/// A file, and which part of a partition it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PlannedFile {
    pub(super) name: String,
    pub(super) partition: i32,
    /// Its first offset.
    pub(super) from: i64,
    /// The offset after its last one.
    pub(super) to: i64,
}

impl ExportPlan {
    /// Plans the files of a part of the log.
    pub(super) fn of(range: &LogRange, settings: &ExportSettings) -> Self {
        let (LogRange { from, to, held, .. }, records) = (range, settings.file_records);
        let records = i64::try_from(records).unwrap_or(i64::MAX).max(1);
        let parts = (0..).zip(from.0.iter().zip(&to.0));
        let files =
            parts.flat_map(|(partition, (&from, &to))| cuts(from, to, records).map(move |cut| (partition, cut)));
        let files = files.map(|(partition, (from, to))| PlannedFile {
            name: format!("p{partition:04}_{from:020}_{to:020}.{}", settings.format.extension()),
            partition,
            from,
            to,
        });
        Self { from: from.0.clone(), to: to.0.clone(), held: held.clone(), files: files.collect() }
    }

    /// How many offsets its files have together.
    pub(super) fn offsets(&self) -> u64 {
        self.files.iter().map(PlannedFile::offsets).sum()
    }

    /// The offset of each partition that the next plan begins with.
    pub(super) fn next(&self) -> PositionVector {
        PositionVector(self.to.clone())
    }
}

impl PlannedFile {
    pub(super) fn offsets(&self) -> u64 {
        self.to.abs_diff(self.from)
    }
}

/// Cuts a range of offsets at the multiples of a number.
fn cuts(from: i64, to: i64, multiple: i64) -> impl Iterator<Item = (i64, i64)> {
    let mut next = from;
    std::iter::from_fn(move || {
        let begin = next;
        next = ((begin / multiple).saturating_add(1)).saturating_mul(multiple).min(to);
        (begin < to).then_some((begin, next))
    })
}

/// What a plan has led to: published once all its files are there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DonePlan {
    pub(super) files: Vec<DoneFile>,
}

/// A file that is complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DoneFile {
    pub(super) name: String,
    /// How many records it has.
    pub(super) rows: u64,
    /// How many bytes.
    pub(super) bytes: u64,
    /// The SHA-256 of these, in hex.
    pub(super) sha256: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_end_at_multiples_wherever_a_plan_begins() {
        let cut = |from, to| cuts(from, to, 100).collect::<Vec<_>>();
        assert_eq!(cut(0, 250), [(0, 100), (100, 200), (200, 250)]);
        assert_eq!(cut(250, 300), [(250, 300)]);
        assert_eq!(cut(250, 301), [(250, 300), (300, 301)]);
        assert_eq!(cut(300, 300), []);
        assert_eq!(cuts(7, i64::MAX, i64::MAX).collect::<Vec<_>>(), [(7, i64::MAX)]);
    }

    #[test]
    fn another_exports_settings_are_told_apart_by_name() {
        let settings = ExportSettings {
            topic: "messages".to_owned(),
            topic_id: Uuid::nil(),
            partitions: 3,
            format: ReplayFormat::Parquet,
            filter: RecordFilter::default(),
            content: ContentChoice::Kept,
            file_records: 10,
        };
        let existing = |settings: &ExportSettings| match serde_json::to_value(settings).unwrap() {
            Value::Object(existing) => existing,
            other => panic!("{other}"),
        };
        assert_eq!(settings.difference(&existing(&settings)), None);
        let other = ExportSettings { format: ReplayFormat::Csv, ..settings.clone() };
        assert_eq!(settings.difference(&existing(&other)), Some(("format".to_owned(), Value::from("csv"))));
        let other = ExportSettings { file_records: 11, ..settings.clone() };
        assert_eq!(settings.difference(&existing(&other)), Some(("fileRecords".to_owned(), Value::from(11))));
        assert!(settings.difference(&Map::new()).is_some());
    }
}
