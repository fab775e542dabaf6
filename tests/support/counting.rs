//! An allocator that counts: for test binaries that make it their global one.

// Each test binary uses its own part of it.
#![allow(dead_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

/// Allocations made so far.
pub(crate) static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
/// Bytes in use.
pub(crate) static LIVE: AtomicI64 = AtomicI64::new(0);

thread_local! {
    static LARGEST: Cell<Option<&'static AtomicUsize>> = const { Cell::new(None) };
}

/// From here on the largest allocation of the calling thread, in bytes, is noted there.
pub(crate) fn watch_this_thread(largest: &'static AtomicUsize) {
    LARGEST.set(Some(largest));
}

/// The system's allocator, counted.
pub(crate) struct Counting;

impl Counting {
    fn count(size: usize, freed: usize) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        LIVE.fetch_add(size as i64 - freed as i64, Ordering::Relaxed);
        if let Ok(Some(largest)) = LARGEST.try_with(Cell::get) {
            largest.fetch_max(size, Ordering::Relaxed);
        }
    }
}

// SAFETY: every call is handed to the system's allocator as it is; counting allocates nothing.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Counting::count(layout.size(), 0);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`, and the pointer came from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Counting::count(size, layout.size());
        // SAFETY: the caller keeps the contract of `realloc`, and the pointer came from the system's allocator.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
