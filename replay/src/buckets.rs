//! Buckets: entries of bytes, shared out by a hash. A bounded number of bytes stays in memory; the others go to a
//! temporary file.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::spill_file::{Extent, SpillError, SpillFile, SpillReader};

/// About how many bytes a block has: what is compressed, written and read at a time. An entry that is larger has a block
/// of its own.
const BLOCK_BYTES: usize = 256 << 10;
/// How many bytes of entries stay in memory by default.
const MEMORY_MAX: usize = 192 << 20;
/// How many bytes a bucket may have before it is divided, by default.
const BUCKET_MAX: u64 = 16 << 20;
/// How many bits of the hash choose one of the buckets.
const BITS: u32 = 8;

domain::limit_rows! {
    Memory, "records, or rows, that are sorted by conversation", Bytes MEMORY_MAX, "the others go to a temporary file", "memory";
    Memory, "of them, those that are folded or compared together, unless one conversation has more", Bytes BUCKET_MAX, "they are divided further", "memory";
}

/// Where entries may be, and how many.
#[derive(Debug, Clone)]
pub struct SortBudget {
    /// The folder of the temporary file.
    pub folder: PathBuf,
    /// How many bytes of entries stay in memory.
    pub memory_max: usize,
    /// How many bytes a bucket may have before it is divided.
    pub bucket_max: u64,
}

impl SortBudget {
    /// The usual numbers, with the temporary file in this folder.
    pub fn in_folder(folder: PathBuf) -> Self {
        Self { folder, memory_max: MEMORY_MAX, bucket_max: BUCKET_MAX }
    }
}

/// The hash by which entries are shared out. It differs between versions of the program, so nothing may store it.
pub fn hash_of(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[derive(Debug)]
enum Block {
    InMemory(Vec<u8>),
    InFile(Extent),
}

/// Which hashes the entries of a bucket have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hashes {
    None,
    One(u64),
    Several,
}

/// The entries of a bucket while it grows.
#[derive(Debug)]
struct Growing {
    blocks: Vec<Block>,
    /// The block that the next entry goes to.
    open: Vec<u8>,
    /// How many bytes the blocks in memory and the open one occupy.
    in_memory: usize,
    bytes: u64,
    hashes: Hashes,
}

impl Growing {
    fn push(&mut self, hash: u64, entry: &[u8]) {
        let length = entry.len() as u64;
        let before = self.open.capacity();
        self.open.extend_from_slice(&hash.to_le_bytes());
        self.open.extend_from_slice(&length.to_le_bytes());
        self.open.extend_from_slice(entry);
        self.in_memory += self.open.capacity() - before;
        self.bytes += length;
        self.hashes = match self.hashes {
            Hashes::None => Hashes::One(hash),
            Hashes::One(known) if known == hash => Hashes::One(known),
            Hashes::One(_) | Hashes::Several => Hashes::Several,
        };
        if self.open.len() >= BLOCK_BYTES {
            self.close_block();
        }
    }

    fn close_block(&mut self) {
        if !self.open.is_empty() {
            self.blocks.push(Block::InMemory(std::mem::take(&mut self.open)));
        }
    }

    fn spill(&mut self, file: &mut SpillFile) -> Result<(), SpillError> {
        self.close_block();
        for block in &mut self.blocks {
            if let Block::InMemory(bytes) = block {
                *block = Block::InFile(file.append(bytes)?);
            }
        }
        self.in_memory = 0;
        Ok(())
    }
}

/// Shares entries out to buckets.
#[derive(Debug)]
pub struct Buckets {
    growing: Vec<Growing>,
    file: SpillFile,
    memory_max: usize,
    in_memory: usize,
    /// How many bits of the hash are used up already.
    used_bits: u32,
}

impl Buckets {
    /// Begins without entries.
    pub fn new(budget: &SortBudget) -> Self {
        Self::dividing(&budget.folder, budget.memory_max, 0)
    }

    fn dividing(folder: &Path, memory_max: usize, used_bits: u32) -> Self {
        let empty = || Growing { blocks: Vec::new(), open: Vec::new(), in_memory: 0, bytes: 0, hashes: Hashes::None };
        let growing = std::iter::repeat_with(empty).take(1 << BITS).collect();
        Self { growing, file: SpillFile::new(folder), memory_max, in_memory: 0, used_bits }
    }

    /// Adds an entry. Entries with the same hash stay together, in the order in which they are added.
    ///
    /// # Errors
    /// When the temporary file can't be written, for example because the disk is full.
    pub fn push(&mut self, hash: u64, entry: &[u8]) -> Result<(), SpillError> {
        let index = (hash >> self.used_bits) as usize % self.growing.len();
        let growing = &mut self.growing[index];
        let before = growing.in_memory;
        growing.push(hash, entry);
        self.in_memory += growing.in_memory - before;
        while self.in_memory > self.memory_max {
            let Some(largest) = self.growing.iter_mut().max_by_key(|bucket| bucket.in_memory) else { break };
            self.in_memory -= largest.in_memory;
            largest.spill(&mut self.file)?;
        }
        Ok(())
    }

    /// How many bytes of memory the entries occupy.
    pub fn bytes_in_memory(&self) -> usize {
        self.in_memory
    }

    /// The buckets, always as many, in an order that depends on the hashes only.
    pub fn finish(self) -> Vec<Bucket> {
        let file = self.file.reader();
        let (memory_max, used_bits) = (self.memory_max, self.used_bits + BITS);
        let finish = |mut growing: Growing| {
            growing.close_block();
            Bucket {
                blocks: growing.blocks.into_iter(),
                bytes: growing.bytes,
                hashes: growing.hashes,
                file: file.clone(),
                memory_max,
                used_bits,
            }
        };
        self.growing.into_iter().map(finish).collect()
    }
}

/// The entries with some hashes.
#[derive(Debug)]
pub struct Bucket {
    blocks: std::vec::IntoIter<Block>,
    bytes: u64,
    hashes: Hashes,
    file: SpillReader,
    memory_max: usize,
    used_bits: u32,
}

impl Bucket {
    /// How many bytes the bucket's entries have together.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the bucket can be divided: it has entries with several hashes.
    pub fn is_divisible(&self) -> bool {
        self.hashes == Hashes::Several && self.used_bits + BITS <= u64::BITS
    }

    /// Divides the bucket by further bits of the hash, as [`Buckets::finish`] does: two buckets of the same hashes are
    /// divided alike.
    ///
    /// # Errors
    /// When the temporary file can't be read, or another one can't be written.
    pub fn divide(mut self) -> Result<Vec<Self>, SpillError> {
        let mut buckets = Buckets::dividing(self.file.folder(), self.memory_max, self.used_bits % u64::BITS);
        while let Some(block) = self.next_block()? {
            for entry in block.entries() {
                buckets.push(entry.hash, entry.bytes)?;
            }
        }
        Ok(buckets.finish())
    }

    /// The next entries; none after the last.
    ///
    /// # Errors
    /// When the temporary file can't be read.
    pub fn next_block(&mut self) -> Result<Option<EntryBlock>, SpillError> {
        Ok(match self.blocks.next() {
            None => None,
            Some(Block::InMemory(bytes)) => Some(EntryBlock(bytes)),
            Some(Block::InFile(extent)) => Some(EntryBlock(self.file.read(extent)?)),
        })
    }
}

/// Some entries of a bucket, in order.
#[derive(Debug)]
pub struct EntryBlock(Vec<u8>);

/// Some bytes, with the hash that chose their bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketEntry<'a> {
    /// Entries with the same hash stay together.
    pub hash: u64,
    /// What was added under the hash.
    pub bytes: &'a [u8],
}

impl EntryBlock {
    /// Takes the block apart.
    pub fn entries(&self) -> impl Iterator<Item = BucketEntry<'_>> {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            let (hash, after) = rest.split_first_chunk()?;
            let (length, after) = after.split_first_chunk()?;
            let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
            let (bytes, after) = after.split_at_checked(length)?;
            rest = after;
            Some(BucketEntry { hash: u64::from_le_bytes(*hash), bytes })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(memory_max: usize) -> SortBudget {
        SortBudget { folder: std::env::temp_dir(), memory_max, bucket_max: 0 }
    }

    fn entries(mut bucket: Bucket) -> Vec<(u64, Vec<u8>)> {
        let mut found = Vec::new();
        while let Some(block) = bucket.next_block().unwrap() {
            found.extend(block.entries().map(|entry| (entry.hash, entry.bytes.to_vec())));
        }
        found
    }

    #[test]
    fn entries_of_a_hash_come_back_together_and_in_order_wherever_they_were_kept() {
        for memory_max in [0, 1_000, 1 << 20] {
            let mut buckets = Buckets::new(&budget(memory_max));
            for number in 0..10_000_u64 {
                buckets.push(hash_of(number % 700), format!("{number}").as_bytes()).unwrap();
                assert!(buckets.bytes_in_memory() <= memory_max, "the budget is a bound");
            }
            let mut found: Vec<(u64, Vec<u8>)> = buckets.finish().into_iter().flat_map(entries).collect();
            found.sort_by_key(|(hash, _)| *hash);
            let mut expected: Vec<(u64, Vec<u8>)> =
                (0..10_000).map(|it: u64| (hash_of(it % 700), format!("{it}").into_bytes())).collect();
            expected.sort_by_key(|(hash, _)| *hash);
            assert!(found == expected, "with {memory_max} bytes in memory");
        }
    }

    #[test]
    fn a_bucket_is_divided_until_it_has_one_hash() {
        let mut buckets = Buckets::new(&budget(0));
        let hashes = [5, 5 + (1 << 8), 5 + (1 << 63), 5 + (1 << 8)];
        for hash in hashes {
            buckets.push(hash, b"x").unwrap();
        }
        let mut open = buckets.finish();
        let mut whole = Vec::new();
        while let Some(bucket) = open.pop() {
            match bucket.is_divisible() {
                true => open.extend(bucket.divide().unwrap()),
                false => whole.extend(Some(entries(bucket)).filter(|it| !it.is_empty())),
            }
        }
        let mut sizes: Vec<(u64, usize)> = whole.iter().map(|bucket| (bucket[0].0, bucket.len())).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [(5, 1), (5 + (1 << 8), 2), (5 + (1 << 63), 1)]);
    }

    #[test]
    fn nothing_stays_in_the_folder_whenever_the_process_ends() {
        let folder = tempfile::tempdir().unwrap();
        let mut buckets = Buckets::new(&SortBudget { folder: folder.path().to_owned(), ..budget(0) });
        buckets.push(1, b"spilled").unwrap();
        assert_eq!(buckets.bytes_in_memory(), 0);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "a process that dies now leaves nothing");
    }
}
