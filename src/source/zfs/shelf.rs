//! The snapshots that can be looked at now: opened at the first look, kept while somebody uses them and a while longer.
//!
//! A clone costs the pool something, so there are a number of them at a time, and the one that was used longest ago goes
//! for a new one. Lock order: a slot's state, then the table of slots, then what lingers; the last two are never held
//! while something is waited for.

use std::collections::HashMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::hands::{self, Hands};
use super::name::SnapshotName;
use super::own::full;
use super::snapdir;
use crate::error::{Error, Kind, Result};

/// Who needs a clone when all are in use waits so long for one.
const WAIT: Duration = Duration::from_secs(3);

/// How often it is tried meanwhile.
const PAUSE: Duration = Duration::from_millis(20);

/// What is still in use at the end is waited for so long.
const END: Duration = Duration::from_secs(5);

/// How often it is looked what is idle: within these bounds.
const ROUNDS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(15));

/// A snapshot that can be looked at. It stays so while anybody has this.
pub(super) struct Held {
    /// Its top directory.
    pub top: OwnedFd,
    way: Way,
}

/// How it came to be seen.
enum Way {
    /// By a clone of this name, which counts among those there may be.
    Cloned(String, OwnedSemaphorePermit),
    /// ZFS shows it; with a hold or without.
    Shown { is_held: bool },
}

#[derive(Default)]
struct Slot {
    state: tokio::sync::Mutex<Option<Arc<Held>>>,
    used: Mutex<Option<Instant>>,
}

/// All of them.
pub(super) struct Shelf {
    hands: Arc<dyn Hands>,
    /// In which clones are mounted, by the last components of their names.
    folder: PathBuf,
    idle: Duration,
    most: usize,
    room: Arc<Semaphore>,
    slots: Mutex<HashMap<SnapshotName, Arc<Slot>>>,
    /// Clones that could not be destroyed yet.
    lingering: Mutex<Vec<(String, OwnedSemaphorePermit)>>,
    has_ended: AtomicBool,
    /// Nothing is kept for the next look any more.
    is_retired: AtomicBool,
    /// That holds are not allowed was told.
    is_told: AtomicBool,
    /// Has those close what is open who only keep it for the next look.
    rest: Box<dyn Fn() + Send + Sync>,
}

impl Shelf {
    /// Empty. `hands` make clones in `folder`, at most `most` at a time; what nobody used for `idle` goes. `rest` has
    /// others close what they have open and do not need at the moment.
    pub(super) fn new(
        hands: Arc<dyn Hands>,
        folder: PathBuf,
        most: usize,
        idle: Duration,
        rest: impl Fn() + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Shelf {
            hands,
            folder,
            idle,
            most,
            room: Arc::new(Semaphore::new(most)),
            slots: Mutex::default(),
            lingering: Mutex::default(),
            has_ended: AtomicBool::new(false),
            is_retired: AtomicBool::new(false),
            is_told: AtomicBool::new(false),
            rest: Box::new(rest),
        })
    }

    /// Who makes the clones here.
    pub(super) fn hands(&self) -> &dyn Hands {
        &*self.hands
    }

    /// `snapshot`, by a clone unless ZFS shows it. Awaited where blocking is allowed, and to its end. Errors:
    /// `NotFound` when it is gone, `Denied` when rights are missing, `Unavailable` when all clones are in use.
    pub(super) async fn take(&self, snapshot: &SnapshotName, is_shown: bool) -> Result<Arc<Held>> {
        let slot = Arc::clone(lock(&self.slots).entry(snapshot.clone()).or_default());
        let mut state = slot.state.lock().await;
        slot.touch();
        if let Some(held) = &*state {
            return Ok(Arc::clone(held));
        }
        if self.has_ended.load(Ordering::Acquire) {
            return Err(Error::new(Kind::Unavailable, "the mount is ending"));
        }
        let held = if is_shown {
            self.look(snapshot).await?
        } else {
            let room = self.room().await?;
            let (clone, top) = hands::make(self.hands(), snapshot).await?;
            Held { top, way: Way::Cloned(clone, room) }
        };
        Ok(Arc::clone(state.insert(Arc::new(held))))
    }

    async fn look(&self, snapshot: &SnapshotName) -> Result<Held> {
        let (top, is_held) = hands::look(self.hands(), snapshot).await?;
        if !is_held && !self.is_told.swap(true, Ordering::Relaxed) {
            tracing::info!("{}", snapdir::unprotected(snapshot));
        }
        Ok(Held { top, way: Way::Shown { is_held } })
    }

    /// Room for one more clone.
    async fn room(&self) -> Result<OwnedSemaphorePermit> {
        let deadline = Instant::now() + WAIT;
        loop {
            if let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() {
                return Ok(permit);
            }
            (self.rest)();
            if !self.let_go_of_one().await {
                if Instant::now() >= deadline {
                    return Err(full(self.most));
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Destroys the clone that nobody uses and that was used longest ago. False when there is none.
    async fn let_go_of_one(&self) -> bool {
        let mut oldest: Option<(Option<Instant>, SnapshotName, Arc<Slot>)> = None;
        for (name, slot) in self.all() {
            let is_free = slot.state.try_lock().is_ok_and(|state| {
                state.as_ref().is_some_and(|held| held.is_clone() && Arc::strong_count(held) == 1)
            });
            let used = *lock(&slot.used);
            if is_free && oldest.as_ref().is_none_or(|(before, ..)| used < *before) {
                oldest = Some((used, name, slot));
            }
        }
        let Some((_, name, slot)) = oldest else { return false };
        let Ok(mut state) = slot.state.try_lock() else { return false };
        self.put_back(&name, &mut state).await
    }

    fn all(&self) -> Vec<(SnapshotName, Arc<Slot>)> {
        lock(&self.slots).iter().map(|(name, slot)| (name.clone(), Arc::clone(slot))).collect()
    }

    /// Closes what is in a slot unless somebody uses it. False when somebody does, or when it was empty.
    async fn put_back(&self, name: &SnapshotName, state: &mut Option<Arc<Held>>) -> bool {
        let held = match state.take().map(Arc::try_unwrap) {
            None => return false,
            Some(Err(held)) => {
                *state = Some(held);
                return false;
            }
            Some(Ok(held)) => held,
        };
        drop(held.top);
        match held.way {
            Way::Cloned(clone, room) => self.destroy(clone, room).await,
            Way::Shown { is_held: true } => {
                if let Err(error) = hands::release(self.hands(), name).await {
                    tracing::warn!(%error, "a hold stays");
                }
            }
            Way::Shown { is_held: false } => {}
        }
        true
    }

    async fn destroy(&self, clone: String, room: OwnedSemaphorePermit) {
        if let Err(error) = hands::unmake(self.hands(), &clone).await {
            tracing::debug!(%error, "a clone stays for now");
            lock(&self.lingering).push((clone, room));
        }
    }

    /// Keeps what somebody uses, and from the next [`Self::tidy`] on nothing for the next look.
    pub(super) fn retire(&self) {
        self.is_retired.store(true, Ordering::Release);
    }

    /// Closes what was idle for long enough, and what is no longer mounted. Awaited where blocking is allowed.
    pub(super) async fn tidy(&self) {
        let idle = if self.is_retired.load(Ordering::Acquire) { Duration::ZERO } else { self.idle };
        self.close(|held, used| {
            let is_gone = matches!(&held.way, Way::Cloned(clone, _) if !self.is_there(clone, &held.top));
            is_gone || used.is_none_or(|used| used.elapsed() >= idle)
        })
        .await;
    }

    /// Whether `top` is still mounted where `clone` was. Blocks.
    fn is_there(&self, clone: &str, top: &OwnedFd) -> bool {
        let found = fs::metadata(self.folder.join(clone)).ok().map(|found| found.dev());
        found == rustix::fs::fstat(top).ok().map(|top| top.st_dev)
    }

    /// Closes what nobody uses and of which `is_due` is true.
    async fn close(&self, is_due: impl Fn(&Held, Option<Instant>) -> bool) {
        for (name, slot) in self.all() {
            let is_due = match slot.state.try_lock().as_deref() {
                Ok(Some(held)) if Arc::strong_count(held) > 1 => {
                    slot.touch();
                    false
                }
                Ok(Some(held)) => is_due(held, *lock(&slot.used)),
                Ok(None) => true,
                Err(_) => false,
            };
            if is_due {
                self.put_back_from(&name, &slot).await;
            }
        }
        let lingering = std::mem::take(&mut *lock(&self.lingering));
        for (clone, room) in lingering {
            self.destroy(clone, room).await;
        }
    }

    /// Empties a slot unless somebody uses it, and forgets it.
    async fn put_back_from(&self, name: &SnapshotName, slot: &Arc<Slot>) {
        let Ok(mut state) = slot.state.try_lock() else { return };
        self.put_back(name, &mut state).await;
        drop(state);
        let mut slots = lock(&self.slots);
        // The table has it, and the caller. Whoever comes next has to take it from the table.
        if Arc::strong_count(slot) == 2 && slot.state.try_lock().is_ok_and(|state| state.is_none()) {
            slots.remove(name);
        }
    }

    /// Closes `snapshot` unless somebody uses it: it was only glanced at.
    pub(super) async fn let_go(&self, snapshot: &SnapshotName) {
        let slot = lock(&self.slots).get(snapshot).cloned();
        if let Some(slot) = slot {
            self.put_back_from(snapshot, &slot).await;
        }
    }

    /// Closes everything, and opens nothing from now on. What stays in use is left to the next start.
    pub(super) async fn end(&self) {
        self.has_ended.store(true, Ordering::Release);
        let deadline = Instant::now() + END;
        loop {
            (self.rest)();
            self.close(|_, _| true).await;
            let left = self.count();
            if left == 0 {
                return;
            }
            if Instant::now() >= deadline {
                tracing::warn!("{left} clones or holds are left; they go when backupfs starts again");
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// How many snapshots are open, or still have a clone.
    pub(super) fn count(&self) -> usize {
        let open = |slot: &Arc<Slot>| slot.state.try_lock().map_or(true, |state| state.is_some());
        lock(&self.slots).values().filter(|slot| open(slot)).count() + lock(&self.lingering).len()
    }

    /// Has it tidied up for as long as it lives. Called inside a runtime.
    pub(super) fn keep_tidy(self: &Arc<Self>) {
        let (shelf, round): (Weak<Shelf>, _) =
            (Arc::downgrade(self), (self.idle / 4).clamp(ROUNDS.0, ROUNDS.1));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(round).await;
                let Some(shelf) = shelf.upgrade() else { return };
                let runtime = tokio::runtime::Handle::current();
                // A dead file system may hang.
                let tidied = tokio::task::spawn_blocking(move || runtime.block_on(shelf.tidy()));
                if let Err(error) = tidied.await {
                    tracing::error!(%error, "tidying ended");
                }
            }
        });
    }
}

impl Held {
    fn is_clone(&self) -> bool {
        matches!(self.way, Way::Cloned(..))
    }
}

impl Slot {
    fn touch(&self) {
        *lock(&self.used) = Some(Instant::now());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Stage, names};
    use super::super::own::Own;
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn snapshot(label: &str) -> SnapshotName {
        SnapshotName::parse(&format!("tank/b@{label}")).unwrap()
    }

    fn shelf(stage: &Stage, most: usize, idle: Duration) -> Arc<Shelf> {
        Shelf::new(Arc::new(stage.own(most)), stage.folder(), most, idle, || ())
    }

    /// One where `labels` are shown, and the tag of its holds.
    fn seeing(stage: &Stage, labels: &[&str]) -> (Arc<Shelf>, String) {
        let own: Own = stage.own_seeing(4, Some(stage.shows(labels)));
        let tag = format!("backupfs:{}", own.clones.owner.text());
        (Shelf::new(Arc::new(own), stage.folder(), 4, Duration::ZERO, || ()), tag)
    }

    fn count(stage: &Stage, begins: &str) -> usize {
        stage.fake.asked().iter().filter(|call| call.starts_with(begins)).count()
    }

    #[tokio::test]
    async fn the_first_look_makes_a_clone_and_the_next_uses_it() {
        let Some(stage) = Stage::new() else { return };
        let shelf = shelf(&stage, 4, HOUR);
        let wanted = snapshot("s1");
        let (one, two) = (shelf.take(&wanted, false), shelf.take(&wanted, false));
        let (one, two) = futures_util::future::join(one, two).await;
        assert!(Arc::ptr_eq(&one.unwrap(), &two.unwrap()));
        shelf.tidy().await;
        let again = shelf.take(&snapshot("s1"), false).await.unwrap();
        assert_eq!(names(&again.top), ["a", "h@+x"]);
        assert_eq!(count(&stage, "clone"), 1);
        assert_eq!(shelf.count(), 1);
    }

    #[tokio::test]
    async fn what_is_idle_goes_and_what_is_used_stays() {
        let Some(stage) = Stage::new() else { return };
        let shelf = shelf(&stage, 4, Duration::ZERO);
        let used = shelf.take(&snapshot("s1"), false).await.unwrap();
        drop(shelf.take(&snapshot("s2"), false).await.unwrap());
        shelf.tidy().await;
        assert_eq!((shelf.count(), count(&stage, "destroy")), (1, 1));
        drop(used);
        shelf.tidy().await;
        assert_eq!((shelf.count(), count(&stage, "destroy")), (0, 2));
        assert!(lock(&shelf.slots).is_empty());
        assert_eq!(fs::read_dir(stage.folder()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_is_shown_no_more_keeps_what_is_used_and_nothing_else() {
        let Some(stage) = Stage::new() else { return };
        let shelf = shelf(&stage, 4, HOUR);
        let used = shelf.take(&snapshot("s1"), false).await.unwrap();
        drop(shelf.take(&snapshot("s2"), false).await.unwrap());
        shelf.tidy().await;
        assert_eq!(shelf.count(), 2, "kept for the next look");
        shelf.retire();
        shelf.tidy().await;
        assert_eq!(shelf.count(), 1);
        drop(shelf.take(&snapshot("s3"), false).await.unwrap());
        drop(used);
        shelf.tidy().await;
        assert_eq!((shelf.count(), count(&stage, "destroy")), (0, 3));
    }

    #[tokio::test]
    async fn for_a_new_clone_the_one_used_longest_ago_goes() {
        let Some(stage) = Stage::new() else { return };
        let shelf = shelf(&stage, 2, HOUR);
        for label in ["s1", "s2", "s1", "s3"] {
            drop(shelf.take(&snapshot(label), false).await.unwrap());
        }
        let there: Vec<_> = ["s1", "s2", "s3"]
            .iter()
            .filter(|s| lock(&shelf.slots)[&snapshot(s)].state.try_lock().unwrap().is_some())
            .collect();
        assert_eq!(there, [&"s1", &"s3"]);
    }

    #[tokio::test]
    async fn when_all_are_in_use_who_comes_is_told() {
        let Some(stage) = Stage::new() else { return };
        let shelf = shelf(&stage, 1, HOUR);
        let used = shelf.take(&snapshot("s1"), false).await.unwrap();
        let waiting = {
            let shelf = Arc::clone(&shelf);
            tokio::spawn(async move { shelf.take(&snapshot("s2"), false).await })
        };
        tokio::time::sleep(PAUSE).await;
        drop(used);
        drop(waiting.await.unwrap().unwrap());
        let _used = shelf.take(&snapshot("s2"), false).await.unwrap();
        let error = shelf.take(&snapshot("s3"), false).await.err().unwrap();
        assert_eq!(error.to_string(), "all 1 clones are in use (max-clones)");
    }

    #[tokio::test]
    async fn what_was_unmounted_from_outside_is_made_anew() {
        let Some(stage) = Stage::new() else { return };
        let shelf = shelf(&stage, 4, HOUR);
        drop(shelf.take(&snapshot("s1"), false).await.unwrap());
        let mounted = fs::read_dir(stage.folder()).unwrap().next().unwrap().unwrap().path();
        rustix::mount::unmount(&mounted, rustix::mount::UnmountFlags::DETACH).unwrap();
        shelf.tidy().await;
        assert_eq!(shelf.count(), 0);
        assert_eq!(names(&shelf.take(&snapshot("s1"), false).await.unwrap().top), ["a", "h@+x"]);
        assert_eq!((count(&stage, "clone"), count(&stage, "destroy")), (2, 1));
    }

    #[tokio::test]
    async fn a_clone_that_cannot_be_destroyed_is_tried_again() {
        let Some(stage) = Stage::new() else { return };
        let shelf = shelf(&stage, 4, Duration::ZERO);
        drop(shelf.take(&snapshot("s1"), false).await.unwrap());
        stage.refuse("destroy", "cannot destroy: out of space");
        shelf.tidy().await;
        assert_eq!((shelf.count(), shelf.room.available_permits()), (1, 3));
        stage.run("destroy", ":");
        shelf.tidy().await;
        assert_eq!((shelf.count(), shelf.room.available_permits()), (0, 4));
    }

    #[tokio::test]
    async fn the_end_closes_everything_and_nothing_is_opened_after_it() {
        let Some(stage) = Stage::new() else { return };
        let shelf = shelf(&stage, 4, HOUR);
        let used = shelf.take(&snapshot("s1"), false).await.unwrap();
        drop(shelf.take(&snapshot("s2"), false).await.unwrap());
        let ending = {
            let shelf = Arc::clone(&shelf);
            tokio::spawn(async move { shelf.end().await })
        };
        tokio::time::sleep(PAUSE).await;
        drop(used);
        ending.await.unwrap();
        assert_eq!((shelf.count(), count(&stage, "destroy")), (0, 2));
        let error = shelf.take(&snapshot("s2"), false).await.err().unwrap();
        assert_eq!(error.kind(), Kind::Unavailable);
    }

    #[tokio::test]
    async fn what_zfs_shows_is_held_while_it_is_used() {
        let Some(stage) = Stage::new() else { return };
        let (shelf, tag) = seeing(&stage, &["s1"]);
        stage.fake.answers(&format!("hold {tag} tank/b@s1"), "");
        stage.fake.answers(&format!("release {tag} tank/b@s1"), "");
        let held = shelf.take(&snapshot("s1"), true).await.unwrap();
        assert_eq!(names(&held.top), ["h@+x"]);
        assert_eq!((count(&stage, "hold"), count(&stage, "clone")), (1, 0));
        shelf.tidy().await;
        assert_eq!(count(&stage, "release"), 0, "in use");
        drop(held);
        shelf.tidy().await;
        assert_eq!((shelf.count(), count(&stage, "release")), (0, 1));
        let gone = shelf.take(&snapshot("s9"), true).await.err().unwrap();
        assert_eq!(gone.kind(), Kind::NotFound);
    }

    #[tokio::test]
    async fn without_the_right_to_hold_it_is_shown_all_the_same() {
        let Some(stage) = Stage::new() else { return };
        let (shelf, tag) = seeing(&stage, &["s1"]);
        stage.fake.refuses(&format!("hold {tag} tank/b@s1"), "cannot hold 'tank/b@s1': permission denied");
        drop(shelf.take(&snapshot("s1"), true).await.unwrap());
        shelf.tidy().await;
        assert_eq!((shelf.count(), count(&stage, "release")), (0, 0));
    }
}
