//! The table of `make proof`: each proof adds its rows as soon as it has them.

use std::fs::File;
use std::io::Write;
use std::time::Instant;

/// A size of a proof, as `make proof` scales it: a small proof finds mistakes in the proof itself.
pub(super) fn scaled(size: usize) -> usize {
    let scale: f64 = std::env::var("MESSAGES_PROOF_SCALE").map_or(1.0, |scale| scale.parse().unwrap());
    (size as f64 * scale).ceil() as usize
}

/// A number with commas between the thousands.
pub(super) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A figure next to its bound.
#[derive(Debug)]
pub(super) struct Row {
    /// What was done, with its size.
    pub(super) what: String,
    pub(super) figure: String,
    pub(super) bound: &'static str,
    /// Whether the figure keeps the bound.
    pub(super) holds: bool,
}

/// A proof that is under way. If it panics, its last row says so.
pub(super) struct Proof {
    name: &'static str,
    began: Instant,
    broken: Vec<Row>,
    ended: bool,
}

impl Proof {
    /// Begins a proof. `name` is that of its module.
    pub(super) fn begin(name: &'static str) -> Self {
        let proof = Self { name, began: Instant::now(), broken: Vec::new(), ended: false };
        proof.progress("began");
        proof
    }

    /// Shows how far the proof is.
    pub(super) fn progress(&self, what: &str) {
        println!("· {} {:>4} s: {what}", self.name, self.began.elapsed().as_secs());
    }

    /// How long the proof has taken so far, in words.
    pub(super) fn took(&self) -> String {
        let seconds = self.began.elapsed().as_secs();
        if seconds < 100 { format!("{seconds} s") } else { format!("{} min", (seconds + 30) / 60) }
    }

    /// Adds a row to the table.
    pub(super) fn row(&mut self, row: Row) {
        self.write(&row);
        if !row.holds {
            self.broken.push(row);
        }
    }

    /// Ends the proof. Panics when a figure doesn't keep its bound.
    pub(super) fn end(mut self) {
        self.ended = true;
        assert!(self.broken.is_empty(), "these figures don't keep their bounds: {:#?}", self.broken);
    }

    /// Appends a row to the file that `scripts/proof` makes the table of.
    fn write(&self, row: &Row) {
        let Row { what, figure, bound, holds } = row;
        let line = format!("| {} | {what} | {figure} | {bound} | {} |", self.name, if *holds { "✓" } else { "✗" });
        println!("{line}");
        if let Ok(path) = std::env::var("MESSAGES_PROOF_ROWS") {
            let mut file = File::options().create(true).append(true).open(path).unwrap();
            writeln!(file, "{line}").unwrap();
        }
    }
}

impl Drop for Proof {
    fn drop(&mut self) {
        if !self.ended {
            let what = format!("failed after {}", self.took());
            self.write(&Row { what, figure: "see the output".to_owned(), bound: "no failure", holds: false });
        }
    }
}
