//! What all chunk repositories of one process share: memory, processors, the cache directory.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::near::Near;
use super::{Id, Pages, Pool};
use crate::cache::{Budget, Folder, Weighed};

/// A blob or a directory of one of the repositories, which are numbered as they open.
pub type Key = (u32, Id);

/// A parsed directory: each kind of repository has its own form.
pub type Directory = Arc<dyn Any + Send + Sync>;

/// What may be under way for those who wait, in bytes: a third of its part of the budget, within bounds that keep a few
/// large blobs moving. The rest is for reading ahead, from afar above all.
const UNDER_WAY: std::ops::RangeInclusive<u64> = 6 << 20..=128 << 20;

/// The part of the blobs that are kept which may be spent.
const SPENT: u64 = 8;

/// The unit in which bytes under way are counted.
const UNIT: u64 = 1024;

/// Room for bytes under way, given back when dropped.
pub type Room = OwnedSemaphorePermit;

/// What all chunk repositories of a process share.
pub struct Shared {
    /// Decoded data blobs.
    pub blobs: Weighed<Key, Bytes>,
    /// Those that were read whole and that the kernel keeps: only a file of equal content will want them.
    pub spent: Weighed<Key, Bytes>,
    /// What lies before directories that were read from afar.
    pub(super) near: Near,
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
    in_flight: Budgeted,
    ahead: Budgeted,
}

/// Bytes that may be under way.
struct Budgeted {
    free: Arc<Semaphore>,
    units: u32,
}

impl Budgeted {
    fn new(bytes: u64) -> Self {
        let units = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX);
        Budgeted { free: Arc::new(Semaphore::new(units as usize)), units }
    }

    /// More than all there is counts as all there is.
    fn units(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.units)
    }
}

impl Shared {
    /// Caches within `budget` and a decoding pool of one thread per core; nothing on disk.
    pub fn new(budget: Budget) -> Arc<Self> {
        Shared::with_cache(budget, None)
    }

    /// The same with a cache directory.
    pub fn with_cache(budget: Budget, cache: Option<Folder>) -> Arc<Self> {
        let awaited = (budget.under_way / 3).clamp(*UNDER_WAY.start(), *UNDER_WAY.end());
        let ahead = (budget.under_way - budget.under_way / 3).clamp(*UNDER_WAY.start(), *UNDER_WAY.end());
        Arc::new(Shared {
            blobs: Weighed::new(budget.blobs - budget.blobs / SPENT),
            spent: Weighed::new(budget.blobs / SPENT),
            near: Near::default(),
            directories: Weighed::new(budget.directories),
            pool: Pool::default(),
            cache,
            pages: Arc::default(),
            huge: Semaphore::new(1),
            budget,
            repositories: AtomicU32::new(0),
            streams: AtomicUsize::new(0),
            in_flight: Budgeted::new(awaited),
            ahead: Budgeted::new(ahead),
        })
    }

    /// A number for a repository that opens.
    pub(super) fn number(&self) -> u32 {
        self.repositories.fetch_add(1, Ordering::Relaxed)
    }

    /// Waits until `bytes` more may be under way. More than all there is counts as all there is: then it is alone.
    pub async fn room_for(&self, bytes: u64) -> Option<Room> {
        let units = self.in_flight.units(bytes);
        Arc::clone(&self.in_flight.free).acquire_many_owned(units).await.ok()
    }

    /// Room for `bytes` read ahead, if there is any now: never what somebody waits for has to wait for.
    pub(super) fn room_ahead(&self, bytes: u64) -> Option<Room> {
        Arc::clone(&self.ahead.free).try_acquire_many_owned(self.ahead.units(bytes)).ok()
    }

    /// How many bytes could be read ahead now.
    pub(super) fn free_ahead(&self) -> u64 {
        self.ahead.free.available_permits() as u64 * UNIT
    }

    /// Whether anything is being read ahead.
    pub(super) fn is_ahead(&self) -> bool {
        self.ahead.free.available_permits() < self.ahead.units as usize
    }

    /// How far one of the readers that stream now may read ahead, in bytes of the file.
    pub(super) fn window(&self) -> u64 {
        // What is under way counts twice, stored and decoded.
        u64::from(self.ahead.units) * UNIT / 2 / self.streams.load(Ordering::Relaxed).max(1) as u64
    }

    /// How many bytes of decoded blobs can be kept.
    pub fn kept_bytes(&self) -> u64 {
        self.budget.blobs
    }

    /// Whether nothing is under way and nobody streams.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        let free = |of: &Budgeted| of.free.available_permits() == of.units as usize;
        free(&self.in_flight) && free(&self.ahead) && self.streams.load(Ordering::Relaxed) == 0
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
        assert_eq!(shared.in_flight.free.available_permits(), 0);
        drop(all);
        let _some = shared.room_for(1).await.unwrap();
        assert_eq!(shared.in_flight.free.available_permits(), shared.in_flight.units as usize - 1);
    }

    #[tokio::test]
    async fn reading_ahead_never_takes_the_room_of_those_who_wait() {
        let shared = Shared::new(Budget::of(1 << 20));
        let all = shared.room_ahead(u64::MAX).unwrap();
        assert!(shared.room_ahead(1).is_none());
        assert_eq!(shared.free_ahead(), 0);
        assert!(shared.room_for(1 << 20).await.is_some());
        drop(all);
        assert!(shared.room_ahead(1).is_some());
    }

    #[test]
    fn readers_that_stream_share_the_window() {
        let shared = Shared::new(Budget::of(512 << 20));
        assert_eq!(shared.window(), 64 << 20);
        let streams: Vec<Stream> = (0..4).map(|_| shared.stream()).collect();
        assert_eq!(shared.window(), 16 << 20);
        drop(streams);
        assert_eq!(shared.window(), 64 << 20);
    }
}
