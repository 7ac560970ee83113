//! An allocator that counts, over all threads.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes that are live, and the most that were.
pub struct Count {
    live: AtomicUsize,
    peak: AtomicUsize,
}

/// Everything that is asked for.
pub static ASKED_FOR: Count = Count::new();

/// Without the bytes that no page ever backs: burn-flex makes an empty tensor from a zeroed vector of
/// bytes, which it copies to an aligned one at once.
pub static BACKED: Count = Count::new();

impl Count {
    const fn new() -> Self {
        Self {
            live: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
        }
    }

    fn add(&self, bytes: usize) {
        let live = self.live.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(live, Ordering::Relaxed);
    }

    fn subtract(&self, bytes: usize) {
        self.live.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes that are live now.
    pub fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// The result of `work`, and the most bytes that were live meanwhile. The caller holds [`alone`].
    pub fn peak_of<T>(&self, work: impl FnOnce() -> T) -> (T, usize) {
        self.peak.store(self.live(), Ordering::Relaxed);
        let result = work();
        (result, self.peak.load(Ordering::Relaxed))
    }
}

/// Keeps other tests waiting: memory is counted over the whole process.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Addresses of zeroed vectors of bytes that are not backed; 0 is a free slot.
static UNBACKED: Mutex<[usize; 64]> = Mutex::new([0; 64]);

/// Zeroed vectors below this are backed: the system has no fresh pages for them.
const UNBACKED_FROM: usize = 128 << 10;

fn replace_unbacked(old: usize, new: usize) -> bool {
    let mut slots = UNBACKED.lock().unwrap_or_else(PoisonError::into_inner);
    match slots.iter_mut().find(|slot| **slot == old) {
        Some(slot) => {
            *slot = new;
            true
        }
        None => false,
    }
}

fn is_bytes(layout: Layout) -> bool {
    layout.align() == 1 && layout.size() >= UNBACKED_FROM
}

struct Counting;

// SAFETY: every call is passed to the system's allocator unchanged; the counters touch nothing else.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED_FOR.add(layout.size());
        BACKED.add(layout.size());
        // SAFETY: the caller keeps GlobalAlloc's contract, which is also the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let address = unsafe { System.alloc_zeroed(layout) };
        ASKED_FOR.add(layout.size());
        if !(is_bytes(layout) && replace_unbacked(0, address as usize)) {
            BACKED.add(layout.size());
        }
        address
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        ASKED_FOR.subtract(layout.size());
        if !(is_bytes(layout) && replace_unbacked(address as usize, 0)) {
            BACKED.subtract(layout.size());
        }
        // SAFETY: as above.
        unsafe { System.dealloc(address, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
