//! Counts what the process allocates on the heap, for the metrics.
//!
//! Each thread counts in a slot of its own, so counting costs about a nanosecond and threads never wait for one another.
//! The counts leave out the memory that C code allocates by itself, such as librdkafka.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How many threads get a slot of their own: the first ones of the process, which do most of its work. A process starts
/// more only in the course of days, because the runtime replaces its threads for blocking calls.
const OWN_SLOTS: usize = 512;
/// The slot of all later threads.
const SHARED_SLOT: usize = OWN_SLOTS;
/// The slot of a thread that has not allocated yet.
const NO_SLOT: usize = usize::MAX;

/// What some threads have allocated. As large as what processors fetch at once, so no two slots share a cache line.
#[repr(align(128))]
struct Slot {
    allocations: AtomicU64,
    bytes: AtomicU64,
}

static SLOTS: [Slot; OWN_SLOTS + 1] =
    [const { Slot { allocations: AtomicU64::new(0), bytes: AtomicU64::new(0) } }; OWN_SLOTS + 1];
static NEXT_SLOT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    // Constant and without a destructor, so a thread can use it from its first allocation to its last: reading it never
    // allocates, and it never goes away.
    static OWN_SLOT: Cell<usize> = const { Cell::new(NO_SLOT) };
}

/// An allocator that counts what the process allocates, and leaves the work to another allocator.
#[derive(Debug)]
pub struct CountingAllocator<A>(pub A);

// SAFETY: every method passes its arguments to the inner allocator unchanged and returns that one's result, so the inner
// allocator's guarantees hold. Counting neither allocates nor panics.
unsafe impl<A: GlobalAlloc> GlobalAlloc for CountingAllocator<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`, which is also the inner allocator's.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as in `alloc`.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size);
        // SAFETY: as in `alloc`. The pointer came from the inner allocator, because every pointer of this one does.
        unsafe { self.0.realloc(pointer, layout, new_size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as in `realloc`.
        unsafe { self.0.dealloc(pointer, layout) }
    }
}

/// Counts one allocation of this thread.
fn count(bytes: usize) {
    let index = OWN_SLOT.get();
    let index = if index == NO_SLOT { take_slot() } else { index };
    let slot = &SLOTS[index];
    let bytes = bytes as u64;
    if index == SHARED_SLOT {
        slot.allocations.fetch_add(1, Ordering::Relaxed);
        slot.bytes.fetch_add(bytes, Ordering::Relaxed);
    } else {
        // No other thread writes to this slot. A load and a store cost a fifth of an atomic addition.
        slot.allocations.store(slot.allocations.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        slot.bytes.store(slot.bytes.load(Ordering::Relaxed).wrapping_add(bytes), Ordering::Relaxed);
    }
}

#[cold]
fn take_slot() -> usize {
    let index = NEXT_SLOT.fetch_add(1, Ordering::Relaxed).min(SHARED_SLOT);
    OWN_SLOT.set(index);
    index
}

/// Brings the metrics of allocations up to date. They stay at zero in a program without a [`CountingAllocator`].
pub(crate) fn publish() {
    let (mut allocations, mut bytes) = (0_u64, 0_u64);
    for slot in &SLOTS {
        allocations = allocations.wrapping_add(slot.allocations.load(Ordering::Relaxed));
        bytes = bytes.wrapping_add(slot.bytes.load(Ordering::Relaxed));
    }
    metrics::counter!("allocations_total").absolute(allocations);
    metrics::counter!("allocated_bytes_total").absolute(bytes);
}

#[cfg(test)]
mod tests {
    use std::alloc::System;

    use super::*;

    static ALLOCATOR: CountingAllocator<System> = CountingAllocator(System);

    fn counted() -> (u64, u64) {
        let slots = SLOTS.iter();
        slots.fold((0, 0), |(allocations, bytes), slot| {
            let counted = (slot.allocations.load(Ordering::Relaxed), slot.bytes.load(Ordering::Relaxed));
            (allocations + counted.0, bytes + counted.1)
        })
    }

    /// Allocates 8 bytes, and then 24 in their place.
    fn allocate() {
        let layout = Layout::new::<u64>();
        // SAFETY: the layout is not empty, and describes what each pointer points to.
        unsafe {
            let pointer = ALLOCATOR.alloc(layout);
            let pointer = ALLOCATOR.realloc(pointer, layout, 24);
            ALLOCATOR.dealloc(pointer, Layout::from_size_align(24, layout.align()).unwrap());
        }
    }

    #[test]
    fn allocations_of_all_threads_count_also_of_those_without_a_slot_of_their_own() {
        let before = counted();
        let threads = OWN_SLOTS as u64 + 8;
        for _ in 0..threads {
            std::thread::spawn(allocate).join().unwrap();
        }
        let after = counted();
        assert_eq!((after.0 - before.0, after.1 - before.1), (threads * 2, threads * 32));
    }
}
