//! How fresh the read model is, and where it makes no progress: what the projector reports to all processes.
//!
//! A partition's *as-of* is a time by Redis' clock at which the projector asked for the end of the log, and which it has
//! now folded: every event that was on the log at that time is in the read model.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;

use crate::connection::{Cache, CacheError};
use crate::keys::{self, Keys};

static PUBLISH_AS_OF: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/publish_as_of.lua")));

/// How old the as-of of a partition may be while cached views that depend on the partition count: four times as long as
/// the pause between two looks of the projector at the end of the log.
pub const AS_OF_MAX_AGE: Duration = Duration::from_secs(2);
/// A partition that has not moved for this long makes no progress. While nothing happens on the log, the projector
/// reports every half second that it has folded its end.
pub const STALL_AFTER: Duration = Duration::from_secs(10);
/// How long a report of a partition without progress counts. The projector repeats it more often.
const STALL_TTL: Duration = Duration::from_secs(10);

domain::limit_rows! {
    Redis, "age of the last sign that Redis knows all changes of a partition", Time AS_OF_MAX_AGE, "Postgres answers, not a cached view", "readers, who would see old views";
}

/// The as-of of a partition, and what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsOf {
    /// The partition's number.
    pub partition: i32,
    /// The next offset at that time. The as-of counts once the partition has come as far.
    pub end: i64,
    /// The time in Unix milliseconds, by Redis' clock.
    pub at_ms: i64,
}

/// The partitions whose as-of is recent: for a cached view, at most [`AS_OF_MAX_AGE`] old. Of the others, nobody knows
/// whether Redis has learned of every change: a projector may be stuck, or may not reach Redis.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CurrentPartitions(pub(crate) Vec<i32>);

impl CurrentPartitions {
    /// Whether this partition is among them.
    pub fn contains(&self, partition: i32) -> bool {
        self.0.contains(&partition)
    }

    /// Whether all partitions of a topic with so many partitions are among them.
    pub fn are_all(&self, partitions: usize) -> bool {
        self.0.len() >= partitions
    }
}

impl Cache {
    /// The time by the clock of the Redis that has the as-ofs, in Unix milliseconds.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn time_ms(&self) -> Result<i64, CacheError> {
        let (seconds, micros): (i64, i64) =
            redis::cmd("TIME").query_async(&mut self.evictable_connection("time")).await?;
        Ok(seconds * 1_000 + micros / 1_000)
    }

    /// The partitions whose as-of is at most so old.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn current_within(&self, max_age: Duration) -> Result<CurrentPartitions, CacheError> {
        let mut read = redis::pipe();
        read.cmd("TIME").hgetall(self.keys().as_of());
        let ((seconds, micros), as_ofs): ((i64, i64), Vec<(i32, i64)>) =
            read.query_async(&mut self.evictable_connection("current_within")).await?;
        let oldest = seconds * 1_000 + micros / 1_000 - keys::millis(max_age);
        Ok(CurrentPartitions(as_ofs.into_iter().filter(|(_, at_ms)| *at_ms >= oldest).map(|(it, _)| it).collect()))
    }

    /// Publishes the as-ofs of partitions whose progress is published already.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn publish_as_of(&self, generation: i64, as_ofs: &[AsOf]) -> Result<(), CacheError> {
        let keys = Keys { generation, ..self.keys() };
        let mut call = PUBLISH_AS_OF.prepare_invoke();
        call.key(keys.progress()).key(keys.as_of()).arg(keys.progress_channel()).arg(generation);
        for as_of in as_ofs {
            call.arg(as_of.partition).arg(as_of.end).arg(as_of.at_ms);
        }
        call.invoke_async::<i64>(&mut self.evictable_connection("publish_as_of")).await?;
        Ok(())
    }

    /// Reports the partitions of one projector that make no progress, with the reasons. Repeat it while there are any.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn report_stalls(&self, owner: &str, stalls: &BTreeMap<i32, String>) -> Result<(), CacheError> {
        let mut set = redis::pipe();
        let key = self.keys().stalls();
        // A map with text values always has a JSON form.
        set.hset(&key, owner, serde_json::to_string(stalls).unwrap_or_default()).ignore();
        set.expire(&key, keys::seconds(STALL_TTL)).ignore();
        Ok(set.query_async(&mut self.evictable_connection("report_stalls")).await?)
    }

    /// The partitions that projectors have lately reported, with the reasons.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn read_stalls(&self) -> Result<BTreeMap<i32, String>, CacheError> {
        let mut read = redis::cmd("HVALS");
        let reports = read.arg(self.keys().stalls()).query_async(&mut self.evictable_connection("read_stalls")).await?;
        Ok(merge_stalls(reports))
    }
}

/// All reports in one. Skips one that another version of this program wrote in another form.
pub(crate) fn merge_stalls(reports: Vec<String>) -> BTreeMap<i32, String> {
    let reports = reports.iter().filter_map(|report| serde_json::from_str::<BTreeMap<i32, String>>(report).ok());
    reports.flatten().collect()
}
