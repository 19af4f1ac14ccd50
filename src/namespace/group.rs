//! A directory of many members, each with a tree of its own that is opened when somebody looks into it.
//!
//! Only names are kept of members: listing them opens none, and the directory of one answers `stat` without opening it.
//! What was opened is closed when nobody looked for a while, or when too many are open; the kernel is told to forget
//! what it knows of it, so that nothing keeps the repository in memory. What is in use below goes on working: the nodes
//! themselves hold what they need.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::{Mutex as AsyncMutex, Semaphore};

use super::options::{Access, Members};
use super::survey::Survey;
use super::{Namespace, guard};
use crate::error::{Error, Kind, Result};
use crate::tree::{Ancestor, Change, Cookie, Step, Time};

/// Members that are being opened at a time: each costs a key derivation and a few round trips.
const OPENINGS: usize = 16;

/// Members that stay open.
const OPEN: usize = 128;

/// A member nobody looked at for so long is closed.
const IDLE: Duration = Duration::from_secs(300);

/// What could not be opened is not tried again for so long.
const PAUSE: Duration = Duration::from_secs(5);

/// One group.
pub(super) struct Group {
    pub(super) members: Arc<dyn Members>,
    /// Its position in the root.
    pub at: Cookie,
    above: Weak<Namespace>,
    roster: ArcSwapOption<Roster>,
    listing: AsyncMutex<()>,
    failing: AtomicBool,
    slots: Mutex<HashMap<Arc<str>, Arc<Slot>>>,
    openings: Semaphore,
    pub(super) survey: Survey,
}

/// The names of a complete listing.
pub(super) struct Roster {
    /// By name.
    names: Vec<(Arc<str>, Cookie)>,
    /// Indexes into `names` by position.
    by_cookie: Vec<u32>,
    next: Cookie,
    /// When it changed last.
    pub changed: Time,
}

/// A member somebody looked at.
struct Slot {
    used: AtomicU64,
    phase: Mutex<Phase>,
}

enum Phase {
    Closed,
    Opening(Shared<BoxFuture<'static, Result<Arc<Namespace>>>>),
    Open(Arc<Namespace>),
    /// Since when it fails, as [`Namespace::age`].
    Failed(u64, Error),
}

impl Roster {
    fn new(names: &[Arc<str>], old: Option<&Roster>, now: Time) -> Self {
        let mut next = old.map_or(0, |old| old.next);
        let mut place = |name: &Arc<str>| match old.and_then(|old| old.find(name)) {
            // The name that is known takes the place of an equal one.
            Some((known, at)) => (known.clone(), at),
            None => {
                next += 1;
                (name.clone(), next - 1)
            }
        };
        let mut all: Vec<(Arc<str>, Cookie)> = names.iter().map(&mut place).collect();
        all.sort_unstable();
        all.dedup_by(|one, other| one.0 == other.0);
        let mut by_cookie: Vec<u32> = (0u32..).take(all.len()).collect();
        by_cookie.sort_unstable_by_key(|i| all.get(super::state::at(*i)).map(|(_, at)| *at));
        Roster { names: all, by_cookie, next, changed: now }
    }

    fn find(&self, name: &str) -> Option<(&Arc<str>, Cookie)> {
        let found = self.names.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        self.names.get(found).map(|(name, at)| (name, *at))
    }

    /// The members from position `from` on, by position.
    pub(super) fn from(&self, from: Cookie) -> impl Iterator<Item = &(Arc<str>, Cookie)> {
        let entry = |i: &u32| self.names.get(super::state::at(*i));
        let start = self.by_cookie.partition_point(|i| entry(i).is_some_and(|(_, at)| *at < from));
        self.by_cookie.iter().skip(start).filter_map(entry)
    }

    /// The names that are in only one of two.
    fn difference(&self, other: &Roster) -> Vec<Vec<u8>> {
        let missing = |one: &Roster, from: &Roster| {
            let lost = one.names.iter().filter(|(name, _)| from.find(name).is_none());
            lost.map(|(name, _)| name.as_bytes().to_vec()).collect::<Vec<_>>()
        };
        let mut names = missing(self, other);
        names.extend(missing(other, self));
        names.sort_unstable();
        names
    }
}

impl Group {
    pub(super) fn new(members: Arc<dyn Members>, at: Cookie, above: Weak<Namespace>, now: Time) -> Arc<Self> {
        let names = members.names();
        let roster = names.map(|names| Arc::new(Roster::new(&names, None, now)));
        Arc::new(Group {
            members,
            at,
            above,
            roster: ArcSwapOption::new(roster),
            listing: AsyncMutex::new(()),
            failing: AtomicBool::new(false),
            slots: Mutex::default(),
            openings: Semaphore::new(OPENINGS),
            survey: Survey::default(),
        })
    }

    /// Its directory's name.
    pub(super) fn name(&self) -> &str {
        self.members.name()
    }

    /// How often its members are to be listed, if that was said.
    pub(super) fn period(&self) -> Option<Duration> {
        self.members.refresh()
    }

    /// The members that were listed last.
    pub(super) fn member_names(&self) -> Vec<Arc<str>> {
        self.roster.load().iter().flat_map(|roster| &roster.names).map(|(name, _)| name.clone()).collect()
    }

    /// The tree of `member` while it is open.
    pub(super) fn open_tree(&self, member: &str) -> Option<Arc<Namespace>> {
        let slot = self.slots().get(member)?.clone();
        match &*slot.phase() {
            Phase::Open(tree) => Some(tree.clone()),
            _ => None,
        }
    }

    /// How many members were listed, how many are open, and why the last listing failed.
    pub(super) fn state(&self) -> (Option<usize>, usize, Option<Error>) {
        let open = self.slots().values().filter(|slot| matches!(*slot.phase(), Phase::Open(_))).count();
        (self.roster.load().as_ref().map(|roster| roster.names.len()), open, self.members.failure())
    }

    /// When the list of members changed last.
    pub(super) fn changed(&self) -> Option<Time> {
        self.roster.load().as_ref().map(|roster| roster.changed)
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn above(&self) -> Result<Arc<Namespace>> {
        self.above.upgrade().ok_or_else(|| Error::new(Kind::Stale, "the tree is gone"))
    }

    /// The last complete list of members; waits for the first. Errors: why there is none.
    pub(super) fn roster(self: &Arc<Self>) -> Step<Arc<Roster>> {
        if let Some(roster) = self.roster.load_full() {
            return Step::ok(roster);
        }
        let group = self.clone();
        Step::wait(async move {
            let _turn = group.listing.lock().await;
            if group.roster.load().is_none() {
                group.list().await?;
            }
            let none = || Error::new(Kind::Unavailable, format!("{}: not listed yet", group.name()));
            group.roster.load_full().ok_or_else(none)
        })
    }

    /// Lists again, tells what changed, and closes whom nobody looks at.
    pub(super) async fn refresh(self: &Arc<Self>) {
        let Ok(_turn) = self.listing.try_lock() else { return };
        let result = self.list().await;
        let failed = self.failing.swap(result.is_err(), Ordering::Relaxed);
        match result {
            Err(error) if !failed => {
                tracing::warn!(group = self.name(), %error, "no news: showing what was listed last");
            }
            Ok(()) if failed => tracing::info!(group = self.name(), "listing works again"),
            _ => {}
        }
        self.close_idle();
    }

    async fn list(&self) -> Result<()> {
        let names = self.members.list().await?;
        let above = self.above()?;
        let old = self.roster.load_full();
        if old.as_ref().is_some_and(|old| old.names.iter().map(|(name, _)| name).eq(names.iter())) {
            return Ok(());
        }
        let new = Arc::new(Roster::new(&names, old.as_deref(), above.clock.now()));
        self.roster.store(Some(new.clone()));
        if let Some(old) = old {
            let changed = new.difference(&old);
            self.slots().retain(|name, _| new.find(name).is_some());
            above.tell(Change { dir: vec![self.name().as_bytes().to_vec()], names: changed });
        }
        Ok(())
    }

    /// Whether `name` is a member, as it is kept.
    pub(super) fn member(&self, roster: &Roster, name: &[u8]) -> Option<Arc<str>> {
        roster.find(std::str::from_utf8(name).ok()?).map(|(name, _)| name.clone())
    }

    /// Owner and mode of every member's directory, where they are the same.
    pub(super) fn known_guard(&self, shared: bool) -> Option<Ancestor> {
        match shared {
            false => Some(guard::OPEN),
            true if !self.members.has_access() => Some(guard::ROOT_ONLY),
            true => None,
        }
    }

    /// Owner and mode of the directory of `member`. Asks the machine who a user is, which may take its time.
    pub(super) fn guard(self: &Arc<Self>, member: &Arc<str>, shared: bool) -> Step<Ancestor> {
        if let Some(known) = self.known_guard(shared) {
            return Step::ok(known);
        }
        let shown = |Access { uid, gid, perm }: Access| Ancestor { uid, gid, perm };
        let guard = move |access: Option<Access>| access.map_or(guard::ROOT_ONLY, shown);
        if let Some(access) = self.members.known_access(member) {
            return Step::ok(guard(access));
        }
        let (members, member) = (self.members.clone(), member.clone());
        Step::wait(async move {
            let ask = tokio::task::spawn_blocking(move || members.access(&member));
            let access = ask.await.map_err(|e| Error::caused_by(Kind::Internal, "asking for a user", e))?;
            Ok(guard(access))
        })
    }

    /// The error of a name that is not listed, where it may be a member's all the same.
    pub(super) fn gap(&self) -> Option<Error> {
        self.members.gap()
    }

    /// The tree of `member`, opened if it is not. Errors, which name it: why it cannot be.
    pub(super) fn tree(self: &Arc<Self>, member: &Arc<str>) -> Step<Arc<Namespace>> {
        let above = match self.above() {
            Ok(above) => above,
            Err(error) => return Step::err(error),
        };
        let now = above.age();
        let slot = self.slot(member, now);
        let phase = slot.phase();
        match &*phase {
            Phase::Open(tree) => return Step::ok(tree.clone()),
            Phase::Failed(since, error) if now.saturating_sub(*since) < millis(PAUSE) => {
                return Step::err(error.clone());
            }
            Phase::Closed | Phase::Opening(_) | Phase::Failed(..) => {}
        }
        drop(phase);
        let (group, member) = (self.clone(), member.clone());
        Step::wait(async move { group.opening(&slot, member).await })
    }

    fn slot(&self, member: &Arc<str>, now: u64) -> Arc<Slot> {
        let mut slots = self.slots();
        let new = || Arc::new(Slot { used: AtomicU64::new(now), phase: Mutex::new(Phase::Closed) });
        let slot = slots.entry(member.clone()).or_insert_with(new);
        slot.used.store(now, Ordering::Relaxed);
        slot.clone()
    }

    /// Opens on a task of its own, once for all who wait: whoever gives up harms nobody.
    fn opening(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        member: Arc<str>,
    ) -> BoxFuture<'static, Result<Arc<Namespace>>> {
        let mut phase = slot.phase();
        match &*phase {
            Phase::Open(tree) => return std::future::ready(Ok(tree.clone())).boxed(),
            Phase::Opening(opening) => return opening.clone().boxed(),
            Phase::Closed | Phase::Failed(..) => {}
        }
        let (group, own) = (self.clone(), slot.clone());
        let task = tokio::spawn(async move {
            let opened = group.open(&member).await;
            let now = group.above().map_or(0, |above| above.age());
            *own.phase() = match &opened {
                Ok(tree) => Phase::Open(tree.clone()),
                Err(error) => Phase::Failed(now, error.clone()),
            };
            group.close_surplus(&member);
            opened
        });
        let ended = |e| Error::caused_by(Kind::Internal, "opening ended", e);
        let opening = task.map(move |joined| joined.unwrap_or_else(|e| Err(ended(e)))).boxed().shared();
        *phase = Phase::Opening(opening.clone());
        opening.boxed()
    }

    async fn open(&self, member: &Arc<str>) -> Result<Arc<Namespace>> {
        let _turn = self.openings.acquire().await;
        let members = self.members.open(member).await?;
        self.above()?.below(self.name(), member, members)
    }

    /// Closes those that were looked at least recently while too many are open.
    fn close_surplus(&self, but: &str) {
        let mut open: Vec<(u64, Arc<str>)> = {
            let slots = self.slots();
            let open = slots.iter().filter(|(_, slot)| matches!(*slot.phase(), Phase::Open(_)));
            open.map(|(name, slot)| (slot.used.load(Ordering::Relaxed), name.clone())).collect()
        };
        let Some(surplus) = open.len().checked_sub(OPEN).filter(|surplus| *surplus > 0) else { return };
        open.sort_unstable();
        let least = open.into_iter().map(|(_, name)| name).filter(|name| **name != *but);
        self.close(least.take(surplus).collect());
    }

    fn close_idle(&self) {
        let Ok(above) = self.above() else { return };
        let now = above.age();
        let idle = |slot: &Slot| {
            let waits = matches!(*slot.phase(), Phase::Opening(_));
            !waits && now.saturating_sub(slot.used.load(Ordering::Relaxed)) >= millis(IDLE)
        };
        let names =
            self.slots().iter().filter(|(_, slot)| idle(slot)).map(|(name, _)| name.clone()).collect();
        self.close(names);
    }

    fn close(&self, names: Vec<Arc<str>>) {
        if names.is_empty() {
            return;
        }
        let closed: Vec<_> = {
            let mut slots = self.slots();
            names.iter().filter_map(|name| slots.remove(name)).collect()
        };
        // Ended outside the lock: what they hold may take a while to go.
        drop(closed);
        if let Ok(above) = self.above() {
            let names = names.iter().map(|name| name.as_bytes().to_vec()).collect();
            above.tell(Change { dir: vec![self.name().as_bytes().to_vec()], names });
        }
    }
}

impl Slot {
    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
