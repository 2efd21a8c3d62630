//! CPU time and memory of one process.

use std::fs;

/// A tick of `/proc/PID/stat` in milliseconds: Linux reports CPU time in hundredths of a second on every machine.
const TICK_MS: f64 = 10.0;

/// The times in `/proc/PID/stat`, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Stat {
    pub(crate) parent: u32,
    /// Of the process or thread itself, in user mode and in the kernel.
    pub(crate) own_ms: f64,
    /// Of its children that have ended.
    pub(crate) ended_children_ms: f64,
}

/// CPU time by the purpose of the thread, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct ThreadTimes {
    pub(crate) tokio_ms: f64,
    pub(crate) librdkafka_ms: f64,
    pub(crate) other_ms: f64,
}

/// Parses `/proc/PID/stat` or `/proc/PID/task/TID/stat`.
fn parse(stat: &str) -> Option<(&str, Stat)> {
    // The name in parentheses may contain spaces and parentheses itself.
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // Counted from the state, which is field 3 in proc(5).
    let ticks = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    let parent = fields.get(1)?.parse().ok()?;
    let own_ms = (ticks(14)? + ticks(15)?) * TICK_MS;
    Some((name, Stat { parent, own_ms, ended_children_ms: (ticks(16)? + ticks(17)?) * TICK_MS }))
}

/// The times of a process; none once it has ended.
pub(crate) fn of_process(pid: u32) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?).map(|(_, stat)| stat)
}

/// The ids of all processes.
pub(crate) fn processes() -> Vec<u32> {
    let Ok(folders) = fs::read_dir("/proc") else { return Vec::new() };
    folders.flatten().filter_map(|folder| folder.file_name().to_str()?.parse().ok()).collect()
}

/// The times of a process's threads. Threads that have ended don't count.
pub(crate) fn of_threads(pid: u32) -> ThreadTimes {
    let mut times = ThreadTimes::default();
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return times };
    for thread in threads.flatten() {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        if let Some((name, stat)) = parse(&stat) {
            *times.group(name) += stat.own_ms;
        }
    }
    times
}

impl ThreadTimes {
    /// The group of a thread, by the 15 bytes of its name that the kernel keeps.
    fn group(&mut self, name: &str) -> &mut f64 {
        if name.starts_with("tokio") {
            &mut self.tokio_ms
        } else if name.starts_with("rdk:") || name.starts_with("producer pollin") {
            &mut self.librdkafka_ms
        } else {
            &mut self.other_ms
        }
    }
}

/// The memory of a process that is in RAM, in KiB.
pub(crate) fn resident_kib(pid: u32) -> Option<f64> {
    resident_in(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn resident_in(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let line = "31824 (a (b) c) S 7 31824 31824 0 -1 4194304 1 2 3 4 120 30 11 22 20 0 90 0 5 1 1";
        let (name, stat) = parse(line).unwrap();
        assert_eq!(name, "a (b) c");
        assert_eq!(stat, Stat { parent: 7, own_ms: 1_500.0, ended_children_ms: 330.0 });
        assert_eq!(parse("31824 (short) S 7"), None);
    }

    #[test]
    fn threads_are_grouped_by_their_names() {
        let mut times = ThreadTimes::default();
        for name in ["tokio-rt-worker", "rdk:broker1", "rdk:main", "producer pollin", "messages"] {
            *times.group(name) += 1.0;
        }
        assert_eq!(times, ThreadTimes { tokio_ms: 1.0, librdkafka_ms: 3.0, other_ms: 1.0 });
    }

    #[test]
    fn resident_memory_is_read_from_the_status() {
        assert_eq!(resident_in("Name:\tx\nVmHWM:\t  9 kB\nVmRSS:\t    8124 kB\n"), Some(8_124.0));
        assert_eq!(resident_in("Name:\tx\n"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_times_and_memory() {
        let pid = std::process::id();
        assert!(of_process(pid).is_some() && resident_kib(pid).unwrap() > 0.0 && processes().contains(&pid));
    }
}
