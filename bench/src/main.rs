//! Measures the system.
fn main() {}
