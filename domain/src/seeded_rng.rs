//! Random numbers from a seed, for histories that must be the same on every machine. Nothing that a user does may depend
//! on them.

use uuid::{Builder, Uuid};

/// A random number generator: `SplitMix64`, which is small, fast, and the same on every machine.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// A generator with this seed. All seeds are equally good.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 when `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % (end.max(1) as u64)) as usize
    }

    /// True with this probability, in percent.
    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// A random item; none if there are no items.
    pub fn pick<T: Clone>(&mut self, items: &[T]) -> Option<T> {
        let index = self.below(items.len());
        items.get(index).cloned()
    }

    /// A random UUID (version 4).
    pub fn uuid(&mut self) -> Uuid {
        let bits = u128::from(self.bits()) << 64 | u128::from(self.bits());
        Builder::from_random_bytes(bits.to_be_bytes()).into_uuid()
    }

    /// A UUID of this moment, in Unix milliseconds (version 7).
    pub fn uuid_at(&mut self, unix_ms: u64) -> Uuid {
        let [_, _, _, _, _, _, random @ ..] = self.uuid().into_bytes();
        Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid()
    }
}
