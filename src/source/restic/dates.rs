//! Opening the dates of a set one after the other, as `ls SET/*/a/b/c/file` does: the following ones are opened ahead,
//! together, along the way that was gone in the last one.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::repository::Repository;
use super::resolve::RecordedPath;
use super::snapshots::Held;
use super::view::{Place, View};
use crate::source::chunked::Id;
use crate::tree::{Snapshot, SnapshotId, Time};

/// So many dates opened in order are taken for a sequence.
const SEQUENCE: u32 = 2;

/// Dates that are opened ahead: at first, and at most.
const FIRST: usize = 8;
const MOST: usize = 64;

/// How the snapshots of a repository are being opened.
#[derive(Default)]
pub(super) struct Dates(Mutex<Option<Last>>);

/// The date opened last.
struct Last {
    snapshot: SnapshotId,
    time: Time,
    path: Arc<[u8]>,
    host: Option<Arc<str>>,
    /// Names from the path to what was looked up last.
    trail: Vec<Box<[u8]>>,
    /// Whether they go from older to newer, and how many went so.
    onwards: bool,
    run: u32,
    /// How many were opened ahead the last time, how many of them are left, and the time of the last.
    window: usize,
    ahead: usize,
    until: Time,
}

/// What to open ahead.
struct Plan {
    /// Snapshots after this one.
    from: Time,
    onwards: bool,
    count: usize,
    trail: Vec<Box<[u8]>>,
}

impl Dates {
    /// Notes a look-up in a date.
    pub(super) fn looked_up(&self, place: &Place, name: &[u8]) {
        if let Some(last) = self.last().as_mut().filter(|last| last.snapshot == place.view.snapshot) {
            last.trail = place.names(name);
        }
    }

    /// Notes that a snapshot is opened.
    fn opened(&self, snapshot: &Snapshot, path: &Arc<[u8]>) -> Option<Plan> {
        let mut last = self.last();
        if last.as_ref().is_some_and(|last| last.snapshot == snapshot.id && last.path == *path) {
            return None;
        }
        let time = snapshot.time.instant;
        let before = last.take().filter(|last| last.path == *path && last.host == snapshot.host);
        let mut now = Last {
            snapshot: Arc::clone(&snapshot.id),
            time,
            path: Arc::clone(path),
            host: snapshot.host.clone(),
            trail: Vec::new(),
            onwards: true,
            run: 0,
            window: 0,
            ahead: 0,
            until: time,
        };
        if let Some(before) = before {
            now.onwards = time > before.time;
            if before.run == 0 || before.onwards == now.onwards {
                now.run = before.run + 1;
                now.trail = before.trail;
                (now.window, now.ahead) = (before.window, before.ahead.saturating_sub(1));
                now.until = if now.ahead > 0 { before.until } else { time };
            }
        }
        let now = last.insert(now);
        if now.run < SEQUENCE || now.ahead > now.window / 2 {
            return None;
        }
        now.window = (now.window * 2).clamp(FIRST, MOST);
        Some(Plan { from: now.until, onwards: now.onwards, count: now.window, trail: now.trail.clone() })
    }

    /// Notes what was planned: so many snapshots, up to this time.
    fn planned(&self, count: usize, until: Option<Time>) {
        if let Some((last, until)) = self.last().as_mut().zip(until) {
            last.ahead += count;
            last.until = until;
        }
    }

    fn last(&self) -> MutexGuard<'_, Option<Last>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Repository {
    /// Notes that a snapshot's `path` is opened, and opens the following ones ahead when it was not the first in order.
    pub(super) fn opens(self: &Arc<Self>, held: &Arc<Held>, path: &Arc<[u8]>) {
        let Some(plan) = self.dates.opened(&held.snapshot, path) else { return };
        let list = self.catalogue.snapshots();
        let all = list.all();
        let following = plan.choose(&all, &held.snapshot, path);
        self.dates.planned(following.len(), following.last().map(|snapshot| snapshot.time.instant));
        let roots = following.iter().filter_map(|snapshot| list.get(&snapshot.id)).map(|held| held.tree);
        let roots: Vec<Id> = roots.collect();
        let Some(first) = following.first() else { return };
        let place = Place::root(View::new(Arc::clone(self), Arc::clone(&first.id), 0, Arc::clone(path)));
        let (repository, path) = (Arc::clone(self), Arc::clone(path));
        self.loader.runtime().spawn(async move {
            let recorded = RecordedPath::new(&path);
            let trail = plan.trail.iter().map(|name| &**name);
            let names: Vec<&[u8]> = recorded.components.iter().copied().chain(trail).collect();
            repository.follow(roots, &names, &place).await;
        });
    }

    /// Reads the directories on the way `names` below each of `roots`, one level of all of them at a time: equal ones are
    /// read once.
    async fn follow(self: &Arc<Self>, roots: Vec<Id>, names: &[&[u8]], place: &Arc<Place>) {
        let mut level = roots;
        for name in names {
            let mut known = HashSet::new();
            level.retain(|tree| known.insert(*tree));
            self.read_together(level.iter().map(|tree| (*tree, Arc::clone(place))).collect()).await;
            let below = |tree: &Id| {
                let parsed = self.parsed(tree)?;
                parsed.entry(parsed.find(name)?)?.subtree()
            };
            level = level.iter().filter_map(below).collect();
            if level.is_empty() {
                return;
            }
        }
        self.read_together(level.into_iter().map(|tree| (tree, Arc::clone(place))).collect()).await;
    }
}

impl Plan {
    /// The snapshots of the same host and path that come next.
    fn choose<'a>(&self, all: &'a [Snapshot], opened: &Snapshot, path: &[u8]) -> Vec<&'a Snapshot> {
        let is_next = |snapshot: &&Snapshot| {
            let time = snapshot.time.instant;
            let beyond = if self.onwards { time > self.from } else { time < self.from };
            beyond && snapshot.host == opened.host && snapshot.paths.iter().any(|own| **own == *path)
        };
        let mut next: Vec<&Snapshot> = all.iter().filter(is_next).collect();
        next.sort_by_key(|snapshot| snapshot.time.instant);
        if !self.onwards {
            next.reverse();
        }
        next.truncate(self.count);
        next
    }
}
