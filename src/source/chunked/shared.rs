//! What all sources of one process share: memory, and for chunk repositories processors and the cache directory.

use std::any::Any;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::near::Near;
use super::{Id, Pages, Pool};
use crate::cache::{Budget, Folder, Weighed};

/// A blob or a directory of one of the sources, which are numbered as they open.
pub type Key = (u32, Id);

/// A parsed directory: each kind of source has its own form.
pub type Directory = Arc<dyn Any + Send + Sync>;

/// What may be under way for those who wait, in bytes: a third of its part of the budget, within bounds that keep a few
/// large blobs moving. The rest is for reading ahead, from afar above all.
const UNDER_WAY: std::ops::RangeInclusive<u64> = 6 << 20..=128 << 20;

/// The part of the blobs that are kept which may be spent.
const SPENT: u64 = 8;

/// The unit in which bytes under way are counted.
const UNIT: u64 = 1024;

/// Whoever waits longer than this for a store lends the room that all repositories share to those who have none.
const LENT: Duration = Duration::from_secs(1);

/// Room for bytes under way, given back when dropped.
pub struct Room {
    /// Of what all repositories share, until it is lent.
    all: Mutex<Option<OwnedSemaphorePermit>>,
    /// Of what one repository may have.
    _own: Option<OwnedSemaphorePermit>,
}

/// The part of one repository in what is under way. It may have everything, so that one alone is as fast as can be, but
/// what its store leaves unanswered is in nobody's way: see [`Room::lent`].
pub struct Part {
    shared: Arc<Shared>,
    own: Budgeted,
}

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

    async fn take(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).acquire_many_owned(self.units(bytes)).await.ok()
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

    /// A number for a source that opens: what it keeps in the caches is told apart by it.
    pub fn number(&self) -> u32 {
        self.repositories.fetch_add(1, Ordering::Relaxed)
    }

    /// The part of a repository.
    pub fn part(self: &Arc<Self>) -> Part {
        let free = Arc::new(Semaphore::new(self.in_flight.units as usize));
        Part { shared: Arc::clone(self), own: Budgeted { free, units: self.in_flight.units } }
    }

    /// Waits until `bytes` more may be under way, which come from this machine. More than all there is counts as all there
    /// is: then it is alone.
    pub(super) async fn room_for(&self, bytes: u64) -> Room {
        Room { all: Mutex::new(self.in_flight.take(bytes).await), _own: None }
    }

    /// Room for `bytes` read ahead, if there is any now: never what somebody waits for has to wait for.
    pub fn room_ahead(&self, bytes: u64) -> Option<Room> {
        let permit = Arc::clone(&self.ahead.free).try_acquire_many_owned(self.ahead.units(bytes)).ok()?;
        Some(Room { all: Mutex::new(Some(permit)), _own: None })
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
    pub fn window(&self) -> u64 {
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
    pub fn stream(self: &Arc<Self>) -> Stream {
        self.streams.fetch_add(1, Ordering::Relaxed);
        Stream(Arc::clone(self))
    }
}

impl Part {
    /// Waits until `bytes` more may come from the repository's store: first for those of the same repository, so that no
    /// more of them queue for what all share than could be lent.
    pub async fn room_for(&self, bytes: u64) -> Room {
        let own = self.own.take(bytes).await;
        Room { _own: own, ..self.shared.room_for(bytes).await }
    }
}

impl Room {
    /// What a store answers. When that takes long, others may have what all share meanwhile; what came by then is still
    /// counted as the repository's own.
    pub async fn lent<T>(&self, answer: impl Future<Output = T>) -> T {
        let mut answer = pin!(answer);
        match tokio::time::timeout(LENT, &mut answer).await {
            Ok(answer) => answer,
            Err(_) => {
                drop(self.all.lock().unwrap_or_else(PoisonError::into_inner).take());
                answer.await
            }
        }
    }
}

/// A reader that streams.
pub struct Stream(Arc<Shared>);

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
        let all = shared.room_for(u64::MAX).await;
        assert_eq!(shared.in_flight.free.available_permits(), 0);
        drop(all);
        let _some = shared.room_for(1).await;
        assert_eq!(shared.in_flight.free.available_permits(), shared.in_flight.units as usize - 1);
    }

    #[tokio::test]
    async fn reading_ahead_never_takes_the_room_of_those_who_wait() {
        let shared = Shared::new(Budget::of(1 << 20));
        let all = shared.room_ahead(u64::MAX).unwrap();
        assert!(shared.room_ahead(1).is_none());
        assert_eq!(shared.free_ahead(), 0);
        let _awaited = shared.room_for(1 << 20).await;
        drop(all);
        assert!(shared.room_ahead(1).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_does_not_answer_keeps_its_room_from_its_own_repository_only() {
        let shared = Shared::new(Budget::of(1 << 20));
        let (dead, healthy) = (shared.part(), shared.part());
        let hanging = async {
            let room = dead.room_for(u64::MAX).await;
            room.lent(std::future::pending::<()>()).await;
        };
        // They come before the others do.
        let queued = async {
            let waiting = (0..100).map(|_| dead.room_for(u64::MAX));
            futures_util::future::join_all(waiting).await;
        };
        let others = async {
            tokio::task::yield_now().await;
            let begun = tokio::time::Instant::now();
            for _ in 0..100 {
                healthy.room_for(u64::MAX).await.lent(std::future::ready(())).await;
            }
            assert_eq!(begun.elapsed(), LENT);
        };
        tokio::select! {
            biased;
            () = hanging => panic!("it hangs"),
            _ = queued => panic!("its room is not free"),
            () = others => {}
        }
        assert!(shared.is_idle(), "given back");
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
