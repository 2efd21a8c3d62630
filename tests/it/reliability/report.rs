//! The report of a run, in Markdown.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::Size;

/// How long a fault may be felt after the dependency answers again: by commands, reads and sockets, and by the clients of
/// the library.
const FELT_MAX: Duration = Duration::from_secs(10);
const FELT_BY_LIBRARY_MAX: Duration = Duration::from_secs(30);

/// One fault, and how long it was felt after its end. None means until the end of the probe.
#[derive(Debug)]
pub(crate) struct Felt {
    pub(super) name: String,
    pub(super) lasted: Duration,
    /// The dependency that `/readyz` must name, and whether it did.
    pub(super) named: Option<(&'static str, bool)>,
    /// What the processes still named long after the end.
    pub(super) unhealthy: Vec<String>,
    pub(super) healthy_after: Duration,
    /// The commands that were sent, that were under way, and that were acknowledged during the fault.
    pub(super) sent: u64,
    pub(super) under_way: u64,
    pub(super) acknowledged: u64,
    pub(super) command: Option<Duration>,
    pub(super) read: Option<Duration>,
    pub(super) delivery: Option<Duration>,
    pub(super) library: Option<Duration>,
}

/// What happened in a run.
#[derive(Debug)]
pub(crate) struct Report {
    pub(super) size: Size,
    pub(super) took: Duration,
    /// The counters of the users.
    pub(super) counts: Value,
    /// The counters of the checker.
    pub(super) sizes: Value,
    pub(super) felt: Vec<Felt>,
    /// How often each dependency was named, and how often that ended.
    pub(super) states: BTreeMap<String, (usize, usize)>,
}

impl Report {
    /// Asserts that every fault overlapped commands under way, that `/readyz` named each that it must name, and that
    /// every state was left.
    pub(super) fn assert_complete(&self) {
        for felt in &self.felt {
            assert!(felt.sent + felt.under_way > 0, "this fault met no command: {felt}");
            assert!(felt.named.is_none_or(|(_, named)| named), "no process named what had failed: {felt}");
            assert!(felt.unhealthy.is_empty(), "a state wasn't left: {felt}");
        }
        for (name, (entered, left)) in &self.states {
            assert_eq!(entered, left, "the state {name} was entered and not left as often");
        }
    }

    /// The faults that were felt for longer than they may be.
    pub(crate) fn too_long(&self) -> Vec<&Felt> {
        self.felt.iter().filter(|felt| !felt.is_short()).collect()
    }

    /// How many commands over HTTP were acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        usize::try_from(self.counts["acknowledged"].as_u64().unwrap()).unwrap()
    }

    /// How many faults there were.
    pub(crate) fn faults(&self) -> usize {
        self.felt.len()
    }

    fn by_kind(&self) -> BTreeMap<&str, Vec<&Felt>> {
        let mut kinds: BTreeMap<&str, Vec<&Felt>> = BTreeMap::new();
        for felt in &self.felt {
            kinds.entry(&felt.name).or_default().push(felt);
        }
        kinds
    }
}

impl Felt {
    fn is_short(&self) -> bool {
        let by_users = [self.command, self.read, self.delivery];
        by_users.iter().all(|felt| felt.is_some_and(|felt| felt <= FELT_MAX))
            && self.library.is_some_and(|felt| felt <= FELT_BY_LIBRARY_MAX)
    }
}

/// Seconds with one digit after the point.
fn seconds(felt: Option<Duration>) -> String {
    felt.map_or("not in time".to_owned(), |felt| format!("{:.1}", felt.as_secs_f64()))
}

impl fmt::Display for Felt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, lasted, named, unhealthy, healthy_after, sent, under_way, acknowledged, .. } = self;
        write!(
            f,
            "{name}: {:.1} s, {sent} sent, {under_way} under way, {acknowledged} acknowledged",
            lasted.as_secs_f64()
        )?;
        write!(f, "; felt by commands {} s", seconds(self.command))?;
        write!(f, ", reads {} s, sockets {} s", seconds(self.read), seconds(self.delivery))?;
        write!(f, ", the library {} s", seconds(self.library))?;
        write!(f, "; healthy after {:.1} s; named: {named:?}; still named: {unhealthy:?}", healthy_after.as_secs_f64())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Size { seed, commands_per_second, crowd, .. } = &self.size;
        let (counts, sizes) = (&self.counts, &self.sizes);
        writeln!(
            f,
            "Seed {seed}, {commands_per_second} commands a second for {} s, {} users with sockets, {} with the client \
             library.\n",
            self.took.as_secs(),
            crowd.sockets,
            crowd.libraries
        )?;
        writeln!(f, "| | |\n|---|---|")?;
        let rows = [
            ("commands sent over HTTP", &counts["sent"]),
            ("acknowledged", &counts["acknowledged"]),
            ("refused", &counts["refused"]),
            ("unknown", &counts["unknown"]),
            ("retried", &counts["retried"]),
            ("attempts", &counts["attempts"]),
            ("commands of the client library", &counts["library"]["sent"]),
            ("of those, acknowledged", &counts["library"]["acknowledged"]),
            ("reads of one's own writes", &counts["reads"]),
            ("reads that had to be repeated", &counts["readRetries"]),
            ("frames", &counts["frames"]),
            ("records on the topic", &sizes["records"]),
            ("events in Postgres", &sizes["effects"]),
            ("messages in Postgres", &sizes["messages"]),
            ("answers compared", &sizes["answers"]),
            ("of those, from the cache", &sizes["hits"]),
        ];
        for (what, value) in rows {
            writeln!(f, "| {what} | {value} |")?;
        }
        writeln!(f, "\nHow long each fault was felt after the dependency answered again, at most, in seconds:\n")?;
        writeln!(
            f,
            "| Fault | Times | Commands sent | Under way | Commands | Reads | Sockets | Library | `/readyz` |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|")?;
        for (name, felt) in self.by_kind() {
            let sum = |count: fn(&Felt) -> u64| felt.iter().map(|felt| count(felt)).sum::<u64>();
            let longest = |of: fn(&Felt) -> Option<Duration>| {
                let all: Option<Vec<Duration>> = felt.iter().map(|felt| of(felt)).collect();
                seconds(all.and_then(|all| all.into_iter().max()))
            };
            writeln!(
                f,
                "| {name} | {} | {} | {} | {} | {} | {} | {} | {} |",
                felt.len(),
                sum(|felt| felt.sent),
                sum(|felt| felt.under_way),
                longest(|felt| felt.command),
                longest(|felt| felt.read),
                longest(|felt| felt.delivery),
                longest(|felt| felt.library),
                longest(|felt| Some(felt.healthy_after)),
            )?;
        }
        writeln!(f, "\n| `/readyz` named | Times entered | Times left |\n|---|---|---|")?;
        for (name, (entered, left)) in &self.states {
            writeln!(f, "| {name} | {entered} | {left} |")?;
        }
        Ok(())
    }
}
