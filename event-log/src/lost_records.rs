//! The records that the log no longer has: somebody deleted them, or a retention limit did.

use std::fmt;

use domain::PositionVector;

/// The records of each partition that are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostRecords(Vec<LostRange>);

/// Lost offsets of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LostRange {
    partition: i32,
    from: i64,
    /// The first offset that the log still has.
    beginning: i64,
}

impl LostRecords {
    /// What a reader that needs these next offsets can't read, because the log begins later. None if it lacks nothing.
    pub fn between(next: &PositionVector, beginning: &PositionVector) -> Option<Self> {
        let ranges = (0..).zip(&beginning.0).map(|(partition, beginning)| LostRange {
            partition,
            from: next.next(partition),
            beginning: *beginning,
        });
        let lost: Vec<LostRange> = ranges.filter(|range| range.from < range.beginning).collect();
        (!lost.is_empty()).then_some(Self(lost))
    }
}

impl fmt::Display for LostRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, LostRange { partition, from, beginning }) in self.0.iter().enumerate() {
            let separator = if index > 0 { ", " } else { "" };
            let count = beginning - from;
            write!(f, "{separator}partition {partition} lost {count} records from offset {from} on")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_records_that_are_still_needed_are_lost() {
        let beginning = PositionVector(vec![0, 7, 5]);
        let lost = LostRecords::between(&PositionVector(vec![0, 4, 5]), &beginning).unwrap();
        assert_eq!(lost.to_string(), "partition 1 lost 3 records from offset 4 on");
        assert_eq!(LostRecords::between(&beginning, &beginning), None);
    }

    #[test]
    fn an_empty_read_model_needs_every_record() {
        let lost = LostRecords::between(&PositionVector::default(), &PositionVector(vec![2, 0, 1])).unwrap();
        let named = "partition 0 lost 2 records from offset 0 on, partition 2 lost 1 records from offset 0 on";
        assert_eq!(lost.to_string(), named);
    }
}
