//! Which part of the log is replayed: from one vector of offsets to another.

use std::collections::BTreeMap;
use std::str::FromStr;

use domain::{Position, PositionVector, Timestamp};
use event_log::{LogConsumer, LogError, LostRecords};

/// A point of the log, as people name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogPoint {
    /// Before the first record.
    Beginning,
    /// After the last record that readers get at present.
    Now,
    /// Before the first record that the log took at this time or later.
    Time(Timestamp),
    /// Before these offsets, by partition. Says nothing about other partitions.
    Offsets(BTreeMap<i32, i64>),
}

/// The text names no point of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be beginning, now, an RFC 3339 time such as 2026-11-23T09:00:00Z, or offsets by partition such as 0:1200,1:1187"
)]
pub struct NotALogPoint;

impl FromStr for LogPoint {
    type Err = NotALogPoint;
    fn from_str(text: &str) -> Result<Self, NotALogPoint> {
        match text {
            "beginning" => return Ok(Self::Beginning),
            "now" => return Ok(Self::Now),
            _ => {}
        }
        if let Ok(time) = text.parse() {
            return Ok(Self::Time(time));
        }
        let mut offsets = BTreeMap::new();
        for position in text.split(',') {
            let Position { partition, offset } = position.parse().map_err(|_| NotALogPoint)?;
            if offsets.insert(partition, offset).is_some() {
                return Err(NotALogPoint);
            }
        }
        Ok(Self::Offsets(offsets))
    }
}

/// Why a part of the log can't be replayed.
#[derive(Debug, thiserror::Error)]
pub enum RangeError {
    /// Kafka doesn't answer.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The topic has fewer partitions.
    #[error("the topic has no partition {0}")]
    UnknownPartition(i32),
    /// The records are deleted.
    #[error(
        "partition {partition} no longer has its records below offset {first}; to do without them, begin there: {partition}:{first}"
    )]
    Deleted {
        /// The number of the partition that lacks it.
        partition: i32,
        /// The offset of its first record.
        first: i64,
    },
    /// There are no such records yet, or nobody can read them before an open transaction ends.
    #[error("partition {partition} has records up to offset {readable} only")]
    BeyondEnd {
        /// The number of the partition that lacks it.
        partition: i32,
        /// The next offset after those that readers get.
        readable: i64,
    },
    /// The end is before the beginning.
    #[error("partition {partition}: the end, offset {to}, is before the beginning, offset {from}")]
    Backwards {
        /// The number of the partition that is meant.
        partition: i32,
        /// Its offset of the beginning.
        from: i64,
        /// Its offset of the end.
        to: i64,
    },
}

/// A part of the log. It has the same records for ever: a consistent cut over all partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRange {
    /// The first offset of each partition.
    pub from: PositionVector,
    /// The offset of each partition that comes after the last.
    pub to: PositionVector,
    /// The partitions that end earlier than was asked for, because an open transaction holds their later records back; each
    /// with the offset where it does.
    pub held: BTreeMap<i32, i64>,
    /// The records that the log had at its beginning, and has no longer, if that is where the part begins.
    pub lost: Option<LostRecords>,
}

/// What the log has at present.
struct LogEnds {
    first: PositionVector,
    /// Up to where readers get records.
    readable: PositionVector,
    end: PositionVector,
}

impl LogRange {
    /// Finds the offsets between two points.
    ///
    /// # Errors
    /// When the log doesn't have all records between them, or Kafka doesn't answer.
    pub async fn find(log: &LogConsumer, from: &LogPoint, to: &LogPoint) -> Result<Self, RangeError> {
        // The end comes first: what is appended meanwhile must not look as if it were held back.
        let end = log.end_offsets().await?;
        let (first, readable) = tokio::try_join!(log.beginning_offsets(), log.readable_end_offsets())?;
        let ends = LogEnds { first, readable, end };
        let lost = match from {
            LogPoint::Beginning => LostRecords::between(&PositionVector::zero(ends.first.0.len()), &ends.first),
            _ => None,
        };
        let from = ends.offsets(log, from, &ends.first).await?;
        let to = ends.offsets(log, to, &ends.readable).await?;
        for (partition, (from, to)) in (0..).zip(from.0.iter().zip(&to.0)) {
            if from > to {
                return Err(RangeError::Backwards { partition, from: *from, to: *to });
            }
        }
        let held = (0..).zip(to.0.iter().zip(ends.readable.0.iter().zip(&ends.end.0)));
        let held = held.filter(|(_, (to, (readable, end)))| to == readable && readable < end);
        let held = held.map(|(partition, (to, _))| (partition, *to)).collect();
        Ok(Self { from, to, held, lost })
    }
}

impl LogEnds {
    /// The offsets of a point. `others` has those of partitions of which it says nothing.
    async fn offsets(
        &self,
        log: &LogConsumer,
        point: &LogPoint,
        others: &PositionVector,
    ) -> Result<PositionVector, RangeError> {
        match point {
            LogPoint::Beginning => Ok(self.first.clone()),
            LogPoint::Now => Ok(self.readable.clone()),
            LogPoint::Time(time) => {
                let mut offsets = log.offsets_at(time.as_millis()).await?;
                for (offset, readable) in offsets.0.iter_mut().zip(&self.readable.0) {
                    *offset = (*offset).min(*readable);
                }
                Ok(offsets)
            }
            LogPoint::Offsets(named) => self.named(named, others),
        }
    }

    fn named(&self, named: &BTreeMap<i32, i64>, others: &PositionVector) -> Result<PositionVector, RangeError> {
        let mut offsets = others.clone();
        for (&partition, &named) in named {
            let index = usize::try_from(partition).ok();
            let offset = index.and_then(|index| offsets.0.get_mut(index));
            *offset.ok_or(RangeError::UnknownPartition(partition))? = named;
            let (first, readable) = (self.first.next(partition), self.readable.next(partition));
            if named < first {
                return Err(RangeError::Deleted { partition, first });
            }
            if named > readable {
                return Err(RangeError::BeyondEnd { partition, readable });
            }
        }
        Ok(offsets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_a_word_a_time_or_offsets() {
        assert_eq!("now".parse(), Ok(LogPoint::Now));
        let time = "2026-11-23T10:00:00+01:00".parse::<LogPoint>().unwrap();
        assert_eq!(time, LogPoint::Time("2026-11-23T09:00:00Z".parse().unwrap()));
        assert_eq!("3:7,0:12".parse(), Ok(LogPoint::Offsets(BTreeMap::from([(0, 12), (3, 7)]))));
        for wrong in ["", "yesterday", "3", "3:7,", "3:7,3:8", "-1:2", "2026-11-23"] {
            assert_eq!(wrong.parse::<LogPoint>(), Err(NotALogPoint), "{wrong}");
        }
    }

    #[test]
    fn only_offsets_that_the_log_has_can_be_named() {
        let vector = |offsets: [i64; 3]| PositionVector(offsets.to_vec());
        let ends = LogEnds { first: vector([0, 5, 0]), readable: vector([9, 9, 0]), end: vector([9, 12, 0]) };
        let named = |offsets: &[(i32, i64)]| ends.named(&offsets.iter().copied().collect(), &ends.first);
        assert_eq!(named(&[(0, 9)]).unwrap(), vector([9, 5, 0]));
        assert!(matches!(named(&[(1, 4)]), Err(RangeError::Deleted { partition: 1, first: 5 })));
        assert!(matches!(named(&[(1, 10)]), Err(RangeError::BeyondEnd { partition: 1, readable: 9 })));
        assert!(matches!(named(&[(3, 0)]), Err(RangeError::UnknownPartition(3))));
    }
}
