//! What all chunk repositories of one process share: memory, processors, the cache directory.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{Id, Pages, Pool};
use crate::cache::{Budget, Folder, Weighed};

/// A blob or a directory of one of the repositories, which are numbered as they open.
pub type Key = (u32, Id);

/// A parsed directory: each kind of repository has its own form.
pub type Directory = Arc<dyn Any + Send + Sync>;

/// What is under way in bytes, stored and decoded together: a floor and a ceiling around a share of the budget.
const IN_FLIGHT: std::ops::RangeInclusive<u64> = 16 << 20..=128 << 20;

/// The shares of the budget for decoded blobs that are under way, and that all readers together may read ahead.
const IN_FLIGHT_SHARE: u64 = 4;
const AHEAD_SHARE: u64 = 4;

/// The unit in which bytes under way are counted.
const UNIT: u64 = 1024;

/// What all chunk repositories of a process share.
pub struct Shared {
    /// Decoded data blobs.
    pub blobs: Weighed<Key, Bytes>,
    /// Parsed directories.
    pub directories: Weighed<Key, Directory>,
    /// Processors.
    pub pool: Pool,
    /// Where indexes are kept for later; `None` for memory only.
    pub cache: Option<Folder>,
    /// Pages of blob indexes on disk.
    pub pages: Arc<Pages>,
    /// Held while a directory too large for comfort is decoded: one at a time.
    pub huge: Semaphore,
    budget: Budget,
    repositories: AtomicU32,
    streams: AtomicUsize,
    in_flight: Semaphore,
    in_flight_units: u32,
}

impl Shared {
    /// Caches within `budget` and a decoding pool of one thread per core; nothing on disk.
    pub fn new(budget: Budget) -> Arc<Self> {
        Shared::with_cache(budget, None)
    }

    /// The same with a cache directory.
    pub fn with_cache(budget: Budget, cache: Option<Folder>) -> Arc<Self> {
        let in_flight = (budget.blobs / IN_FLIGHT_SHARE).clamp(*IN_FLIGHT.start(), *IN_FLIGHT.end()) / UNIT;
        let in_flight_units = u32::try_from(in_flight).unwrap_or(u32::MAX);
        Arc::new(Shared {
            blobs: Weighed::new(budget.blobs),
            directories: Weighed::new(budget.directories),
            pool: Pool::default(),
            cache,
            pages: Arc::default(),
            huge: Semaphore::new(1),
            budget,
            repositories: AtomicU32::new(0),
            streams: AtomicUsize::new(0),
            in_flight: Semaphore::new(in_flight_units as usize),
            in_flight_units,
        })
    }

    /// A number for a repository that opens.
    pub(super) fn number(&self) -> u32 {
        self.repositories.fetch_add(1, Ordering::Relaxed)
    }

    /// Waits until `bytes` more may be under way. More than all there is counts as all there is: then it is alone.
    pub async fn room_for(&self, bytes: u64) -> Option<SemaphorePermit<'_>> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.in_flight_units);
        self.in_flight.acquire_many(units).await.ok()
    }

    /// How far one of the readers that stream now may read ahead.
    pub(super) fn window(&self) -> u64 {
        self.budget.blobs / AHEAD_SHARE / self.streams.load(Ordering::Relaxed).max(1) as u64
    }

    /// How many bytes of decoded blobs can be kept.
    pub fn kept_bytes(&self) -> u64 {
        self.budget.blobs
    }

    /// Counts a reader that begins to stream until the guard is dropped.
    pub(super) fn stream(self: &Arc<Self>) -> Stream {
        self.streams.fetch_add(1, Ordering::Relaxed);
        Stream(Arc::clone(self))
    }
}

/// A reader that streams.
pub(super) struct Stream(Arc<Shared>);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_larger_than_all_room_gets_all_of_it() {
        let shared = Shared::new(Budget::of(1 << 20));
        let all = shared.room_for(u64::MAX).await.unwrap();
        assert_eq!(shared.in_flight.available_permits(), 0);
        drop(all);
        let _some = shared.room_for(1).await.unwrap();
        assert_eq!(shared.in_flight.available_permits(), shared.in_flight_units as usize - 1);
    }

    #[test]
    fn readers_that_stream_share_the_window() {
        let shared = Shared::new(Budget { blobs: 64 << 20, directories: 0 });
        assert_eq!(shared.window(), 16 << 20);
        let streams: Vec<Stream> = (0..4).map(|_| shared.stream()).collect();
        assert_eq!(shared.window(), 4 << 20);
        drop(streams);
        assert_eq!(shared.window(), 16 << 20);
    }
}
