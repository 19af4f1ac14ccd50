//! Sets, dates, `latest`, `current`, `at`: the directories around the backups.
//!
//! Sources list snapshots; each is placed (`place`: which set, which name), and all together become a [`state`] that
//! never changes (`build`), while a book keeps what names meant before. Directories (`dirs`) are light handles that work
//! on the state of the moment; what lies inside a date is the source's own (`date`). When a source has something new
//! (`refresh`), a new state takes the old one's place and the difference (`diff`) is told to the kernel.
//!
//! Nothing here reads a store: all comes through [`Source`](crate::tree::Source), and listing the root or a set opens
//! no tree.

mod build;
mod calendar;
mod clock;
mod coverage;
mod date;
mod diff;
mod dirs;
mod exposition;
#[cfg(test)]
#[path = "../../tests/harness/fake_source.rs"]
pub(crate) mod fake;
mod filter;
mod generated;
mod group;
mod group_dirs;
#[cfg(test)]
mod group_tests;
mod guard;
mod labels;
mod moment;
mod name;
mod options;
mod place;
mod refresh;
mod report;
mod seat;
mod setname;
mod state;
mod survey;
#[cfg(test)]
mod testbed;
mod view;

pub use calendar::zone;
pub use clock::{Clock, SystemClock};
pub use options::{Access, EXPECT_EVERY, Filter, Member, Members, Options, Rename, TimeStyle};

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, Weak};

use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::tz::TimeZone;
use tokio::runtime::Handle;

use crate::error::{Error, Kind, Result};
use crate::tree::{Ancestor, Change, ChangeSink, Cookie, Identity, Node, Opened, Snapshot, Step, Time};
use build::{Book, Contribution};
use calendar::Calendar;
use date::{Candidate, open_first};
use group::Group;
use place::Placement;
use seat::{Seat, Seated};
use setname::Renames;
use state::{Date, Set, State, at};

/// How many dates of a set may be damaged before nobody but root may enter it.
const TRIES: usize = 8;

/// The shown tree over all sources.
pub struct Namespace {
    /// By number. A number is never given twice: what was let go of leaves its place empty.
    seats: ArcSwap<Vec<Option<Arc<Seat>>>>,
    renames: Arc<Renames>,
    calendar: Calendar,
    local: TimeZone,
    options: Options,
    /// Members of their own, many of them.
    groups: ArcSwap<Vec<Arc<Group>>>,
    /// Where this tree is shown, when it is a member's.
    above: Option<Above>,
    clock: Arc<dyn Clock>,
    started: Time,
    state: ArcSwap<State>,
    desk: Mutex<Desk>,
    /// What set directories of a shared mount show; fixed at the first look, because dates rely on it.
    guards: Mutex<HashMap<Arc<[u8]>, Ancestor>>,
    sink: ArcSwapOption<ChangeSink>,
    /// When the sources were asked last, as [`Namespace::age`].
    asked: AtomicU64,
    runtime: OnceLock<Handle>,
    /// Counts generated files.
    serial: AtomicU64,
}

/// Where in another tree a tree is shown.
struct Above {
    tree: Weak<Namespace>,
    /// The names that lead here.
    path: Vec<Vec<u8>>,
}

/// What a tree is made of.
struct Parts {
    members: Vec<Member>,
    groups: Vec<Arc<dyn Members>>,
    above: Option<Above>,
    options: Options,
    renames: Arc<Renames>,
    clock: Arc<dyn Clock>,
    local: TimeZone,
}

/// Positions of groups in the root: behind those of sets.
const GROUPS: Cookie = 1 << 40;

/// What building the next state needs.
struct Desk {
    book: Book,
    contributions: Vec<Contribution>,
    /// Warnings given already.
    told: HashSet<String>,
}

/// One snapshot as `backupfs snapshots` prints it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct SnapshotRow {
    /// Name of the set directory.
    pub set: String,
    /// Name of the date directory.
    pub date: String,
    /// Snapshot id in its source.
    pub id: String,
    /// Name of the source it is read from.
    pub source: String,
    /// RFC 3339 time with the recorded offset.
    pub time: String,
    /// Host as recorded.
    pub host: Option<String>,
    /// User as recorded.
    pub user: Option<String>,
    /// Path as recorded, lossy.
    pub path: String,
    /// Tags.
    pub tags: Vec<String>,
}

impl Namespace {
    /// Builds the tree from what the members' sources have listed so far, with the groups beside. Errors: `Usage` for a
    /// template, zone, time format or rename rule that is wrong or yields a reserved name.
    pub fn new(
        members: Vec<Member>,
        groups: Vec<Arc<dyn Members>>,
        options: Options,
    ) -> Result<Arc<Namespace>> {
        Namespace::with(members, groups, options, Arc::new(SystemClock::new()), TimeZone::system())
    }

    /// Like [`Namespace::new`] with another clock, in another local time zone.
    pub fn with(
        members: Vec<Member>,
        groups: Vec<Arc<dyn Members>>,
        options: Options,
        clock: Arc<dyn Clock>,
        local: TimeZone,
    ) -> Result<Arc<Namespace>> {
        let renames = Arc::new(Renames::new(&options.rename)?);
        Namespace::build(Parts { members, groups, above: None, options, renames, clock, local })
    }

    /// The tree of a member of a group: shown as `group/member` in this one, under the same rules.
    fn below(self: &Arc<Self>, group: &str, member: &str, members: Vec<Member>) -> Result<Arc<Namespace>> {
        let path = vec![group.as_bytes().to_vec(), member.as_bytes().to_vec()];
        let tree = Namespace::build(Parts {
            members,
            groups: Vec::new(),
            above: Some(Above { tree: Arc::downgrade(self), path }),
            options: self.options.clone(),
            renames: self.renames.clone(),
            clock: self.clock.clone(),
            local: self.local.clone(),
        })?;
        // From now on it is asked for news whenever somebody looks and what is shown is old.
        if let Some(runtime) = self.runtime.get() {
            let _ = tree.runtime.set(runtime.clone());
        }
        Ok(tree)
    }

    fn build(parts: Parts) -> Result<Arc<Namespace>> {
        let Parts { members, groups, above, options, renames, clock, local } = parts;
        let calendar = Calendar::new(options.time, &options.time_format, local.clone())?;
        let started = clock.now();
        let seated = members.into_iter().map(|member| seat::take(member, &renames, &calendar));
        let (seats, contributions): (Vec<_>, Vec<_>) =
            seated.collect::<Result<Vec<_>>>()?.into_iter().unzip();
        let mut book = Book::default();
        let state = book.build(&contributions, None, started);
        Ok(Arc::new_cyclic(|own: &Weak<Namespace>| Namespace {
            groups: ArcSwap::from_pointee(
                (GROUPS..)
                    .zip(groups)
                    .map(|(at, group)| Group::new(group, at, own.clone(), started))
                    .collect(),
            ),
            above,
            asked: AtomicU64::new(u64::try_from(clock.elapsed().as_millis()).unwrap_or(0)),
            state: ArcSwap::from_pointee(state),
            desk: Mutex::new(Desk { book, contributions, told: HashSet::new() }),
            guards: Mutex::default(),
            sink: ArcSwapOption::empty(),
            runtime: OnceLock::new(),
            serial: AtomicU64::new(0),
            seats: ArcSwap::from_pointee(seats.into_iter().map(Some).collect()),
            renames,
            calendar,
            local,
            options,
            clock,
            started,
        }))
    }

    /// Tells that a directory of this tree changed.
    fn tell(&self, change: Change) {
        let Some(Above { tree, path }) = &self.above else {
            if let Some(sink) = self.sink.load_full() {
                sink(change);
            }
            return;
        };
        if let Some(above) = tree.upgrade() {
            let dir = path.iter().cloned().chain(change.dir).collect();
            above.tell(Change { dir, names: change.names });
        }
    }

    /// The identity of a node of this tree, which in another member's tree would be another node.
    fn own(&self, identity: Identity) -> Identity {
        match (identity, &self.above) {
            (Identity::Key(key), Some(Above { path, .. })) => {
                let mut parts: Vec<&[u8]> = path.iter().map(Vec::as_slice).collect();
                let key = key.to_be_bytes();
                parts.push(&key);
                Identity::Key(name::key(&parts))
            }
            (identity, _) => identity,
        }
    }

    /// The root directory.
    pub fn root(self: &Arc<Self>) -> Node {
        dirs::root(self)
    }

    fn place(&self, seat: &Seat, list: &[Snapshot]) -> Placement {
        seat.placer.place(&seat.member, list, &self.renames, &self.calendar)
    }

    /// The member that has this number, unless it was let go of.
    fn seat(&self, number: usize) -> Option<Arc<Seat>> {
        self.seats.load().get(number)?.clone()
    }

    /// Every member, by number.
    fn seated(&self) -> Seated {
        let seats = self.seats.load();
        seats.iter().enumerate().filter_map(|(number, seat)| Some((number, seat.clone()?))).collect()
    }

    /// Where a date can be read, in order.
    fn candidates(&self, state: &State, date: &Date) -> Vec<Candidate> {
        let candidate = |copy: &state::Copy| {
            let seat = self.seat(at(copy.member))?;
            let (member, snapshot) = (&seat.member, state.snapshot(*copy)?);
            let access = member.access.map(|Access { uid, gid, perm }| Ancestor { uid, gid, perm });
            let (source, snapshot) = (member.source.clone(), snapshot.clone());
            Some(Candidate { source, snapshot, path: at(copy.path), access })
        };
        date.copies.iter().filter_map(candidate).collect()
    }

    /// Owner and mode of a set directory, when no tree must be opened to tell.
    fn known_guard(&self, set: &Set) -> Option<Ancestor> {
        if !self.options.shared {
            return Some(guard::OPEN);
        }
        self.guards.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(&set.name).copied()
    }

    /// Owner and mode of a set directory: those of the strictest ancestor of its newest snapshot that can be opened.
    /// Errors: whatever kept the tree from being opened, when it may work later.
    fn guard(self: &Arc<Self>, state: &State, set: &Set) -> Step<Ancestor> {
        if let Some(known) = self.known_guard(set) {
            return Step::ok(known);
        }
        let dates: Vec<_> =
            set.dates.iter().rev().take(TRIES).map(|date| self.candidates(state, date)).collect();
        self.clone().guard_among(set.name.clone(), dates.into_iter())
    }

    fn guard_among(
        self: Arc<Self>,
        set: Arc<[u8]>,
        mut dates: std::vec::IntoIter<Vec<Candidate>>,
    ) -> Step<Ancestor> {
        let Some(newest) = dates.next() else { return Step::ok(guard::ROOT_ONLY) };
        let settle = move |result: Result<(Candidate, Opened)>| match result {
            Ok((candidate, opened)) => {
                let found = guard::strictest(&candidate.above(&opened.ancestors));
                let mut guards = self.guards.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                Step::ok(*guards.entry(set).or_insert(found))
            }
            Err(error) if damaged(&error) => self.guard_among(set, dates),
            Err(error) => Step::err(error),
        };
        match open_first(newest) {
            Step::Ready(result) => settle(result),
            Step::Wait(wait) => Step::wait(async move { settle(wait.await).resolve().await }),
        }
    }
}

/// Whether trying again is in vain.
fn damaged(error: &Error) -> bool {
    matches!(error.kind(), Kind::Corrupt | Kind::NotFound | Kind::Unsupported | Kind::Stale)
}
