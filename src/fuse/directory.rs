//! Open directories, and what readdir makes of their listings.
//!
//! Positions given to the kernel are the listing's own plus two: 0 begins with `.`, 1 goes on with `..`, and what
//! comes after an entry is where its `next` says.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::attr;
use super::inodes::{Lineage, Origin};
use crate::error::{Error, Kind, Result};
use crate::tree::{Content, Dir, Entry, Listing, Node, Step, Validity};

const DOTS: u64 = 2;
/// Listings pinned by half-read directories at a time.
const PINNED: usize = 4;

/// A directory that somebody has open.
pub(super) struct OpenDir {
    /// Its number.
    pub ino: u64,
    /// What its entries' identities derive from.
    pub lineage: Lineage,
    /// The directory.
    pub dir: Arc<dyn Dir>,
    /// Where its entries are found again.
    pub origin: Arc<Origin>,
    /// Whether what the kernel read of it may be kept.
    pub unchanging: bool,
    /// How long names in it may be kept.
    pub ttl: Duration,
    parent: u64,
    pinned: Mutex<Option<Arc<dyn Listing>>>,
}

/// One line of a listing.
pub(super) struct Line<'a> {
    /// Where to go on after it.
    pub next: u64,
    /// What it is.
    pub what: What<'a>,
}

/// `.` and `..` with their numbers, or an entry.
pub(super) enum What<'a> {
    /// A directory that is not an entry.
    Dots(&'static str, u64),
    /// An entry.
    Entry(&'a Entry<'a>),
}

impl OpenDir {
    /// Opens the directory that `node`, known as `ino` and found in the directory `parent`, is.
    pub fn open(ino: u64, lineage: Lineage, parent: u64, node: &Node) -> Result<OpenDir> {
        let dir = directory(node)?;
        let origin = Arc::new(Origin::Listed { parent: ino, dir: dir.clone(), apart: lineage.apart });
        Ok(OpenDir {
            ino,
            lineage,
            dir,
            origin,
            unchanging: node.meta.validity == Validity::Forever,
            ttl: attr::ttl(node.meta.validity),
            parent,
            pinned: Mutex::default(),
        })
    }

    /// Its listing: the one being read, or a fresh one at the beginning.
    pub fn listing(&self, offset: u64) -> Step<Arc<dyn Listing>> {
        match self.pinned().take().filter(|_| offset > 0) {
            Some(listing) => Step::ok(listing),
            None => self.dir.listing(),
        }
    }

    /// Visits what lies at `offset` and after it until `add` says that there is no more room. True when nothing is
    /// left.
    pub fn visit(&self, listing: &dyn Listing, offset: u64, mut add: impl FnMut(Line<'_>) -> bool) -> bool {
        if offset == 0 && add(Line { next: 1, what: What::Dots(".", self.ino) }) {
            return false;
        }
        if offset < DOTS && add(Line { next: DOTS, what: What::Dots("..", self.parent) }) {
            return false;
        }
        let mut full = false;
        listing.visit(offset.saturating_sub(DOTS), &mut |entry: &Entry<'_>| {
            full = showable(entry.name)
                && add(Line { next: entry.next.saturating_add(DOTS), what: What::Entry(entry) });
            if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        !full
    }

    fn pinned(&self) -> std::sync::MutexGuard<'_, Option<Arc<dyn Listing>>> {
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The directory that `node` is. Errors: `NotDirectory`.
pub(super) fn directory(node: &Node) -> Result<Arc<dyn Dir>> {
    match &node.content {
        Content::Dir(dir) => Ok(dir.clone()),
        _ => Err(Error::new(Kind::NotDirectory, "not a directory")),
    }
}

/// A name that breaks the contract of listings would make the kernel drop all that follows it.
fn showable(name: &[u8]) -> bool {
    let fits = (1..=255).contains(&name.len()) && name != b"." && name != b"..";
    fits && !name.iter().any(|&b| b == b'/' || b == 0)
}

/// The listings of directories that are being read. Each stays with its directory from one request to the next, because
/// a directory may be too large to stay in a cache; abandoned readers keep only a few.
#[derive(Default)]
pub(super) struct Pins(Mutex<VecDeque<Weak<OpenDir>>>);

impl Pins {
    /// Keeps `listing` for the next request.
    pub fn keep(&self, dir: &Arc<OpenDir>, listing: Arc<dyn Listing>) {
        *dir.pinned() = Some(listing);
        let mut pins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let this = Arc::downgrade(dir);
        pins.retain(|pin| !pin.ptr_eq(&this) && pin.strong_count() > 0);
        pins.push_back(this);
        if pins.len() > PINNED
            && let Some(oldest) = pins.pop_front().and_then(|pin| pin.upgrade())
        {
            drop(oldest.pinned().take());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::fuse::inodes::ROOT;
    use crate::tree::{Cookie, FileType, Identity, Meta, Time};

    struct Names(Vec<&'static [u8]>);

    impl Listing for Names {
        fn visit(&self, from: Cookie, sink: &mut dyn crate::tree::Sink) {
            for (at, name) in self.0.iter().enumerate().skip(usize::try_from(from).unwrap()) {
                let entry = Entry {
                    at: at as u64,
                    next: at as u64 + 1,
                    name,
                    kind: FileType::File,
                    identity: Identity::Path,
                    meta: None,
                };
                if sink.entry(&entry).is_break() {
                    return;
                }
            }
        }
        fn node(&self, _: Cookie) -> Option<Node> {
            None
        }
    }

    struct Counting(AtomicUsize, Vec<&'static [u8]>);

    impl Dir for Counting {
        fn lookup(&self, _: &[u8]) -> Step<Option<Node>> {
            Step::ok(None)
        }
        fn listing(&self) -> Step<Arc<dyn Listing>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Step::ok(Arc::new(Names(self.1.clone())))
        }
    }

    fn open(names: &[&'static [u8]]) -> (Arc<OpenDir>, Arc<Counting>) {
        let dir = Arc::new(Counting(AtomicUsize::new(0), names.to_vec()));
        let meta = Meta::directory(Time::default(), Validity::Forever);
        let node = Node { meta, content: Content::Dir(dir.clone()), xattrs: None };
        let lineage = Lineage { identity: 1, apart: None };
        (Arc::new(OpenDir::open(ROOT, lineage, ROOT, &node).unwrap()), dir)
    }

    fn listing(dir: &OpenDir, offset: u64) -> Arc<dyn Listing> {
        let Step::Ready(Ok(listing)) = dir.listing(offset) else { panic!("waits") };
        listing
    }

    fn names(dir: &OpenDir, mut offset: u64, room: usize) -> (Vec<String>, u64, bool) {
        let mut seen = Vec::new();
        let listing = listing(dir, offset);
        let end = dir.visit(&*listing, offset, |line| {
            if seen.len() == room {
                return true;
            }
            offset = line.next;
            seen.push(match line.what {
                What::Dots(name, _) => name.to_owned(),
                What::Entry(entry) => String::from_utf8_lossy(entry.name).into_owned(),
            });
            false
        });
        (seen, offset, end)
    }

    #[test]
    fn every_split_of_a_listing_shows_every_entry_once() {
        let (dir, _) = open(&[b"a", b"b", b"c", b"d", b"e"]);
        for room in 1..9 {
            let (mut all, mut offset, mut end) = (Vec::new(), 0, false);
            while !end {
                let (some, next, done) = names(&dir, offset, room);
                assert!(done || next > offset, "stuck at {offset} with room for {room}");
                all.extend(some);
                (offset, end) = (next, done);
            }
            assert_eq!(all, [".", "..", "a", "b", "c", "d", "e"], "room for {room}");
        }
    }

    #[test]
    fn a_name_that_the_kernel_cannot_take_costs_only_itself() {
        let (dir, _) = open(&[b"a", b"", b"x/y", b"n\0l", b".", b"..", &[b'z'; 256], b"last"]);
        assert_eq!(names(&dir, 2, 99).0, ["a", "last"]);
    }

    #[test]
    fn a_directory_being_read_is_loaded_once_and_afresh_from_the_beginning() {
        let (dir, counting) = open(&[b"a", b"b"]);
        let pins = Pins::default();
        for (offset, loads) in [(0, 1), (2, 1), (3, 1), (0, 2)] {
            let listing = listing(&dir, offset);
            pins.keep(&dir, listing);
            assert_eq!(counting.0.load(Ordering::Relaxed), loads, "at {offset}");
        }
    }

    #[test]
    fn abandoned_directories_keep_only_a_few_listings() {
        let pins = Pins::default();
        let dirs: Vec<_> = (0..PINNED + 3).map(|_| open(&[b"a"]).0).collect();
        for dir in &dirs {
            pins.keep(dir, listing(dir, 0));
        }
        assert_eq!(dirs.iter().filter(|dir| dir.pinned().is_some()).count(), PINNED);
        assert!(dirs[0].pinned().is_none() && dirs[PINNED + 2].pinned().is_some());
    }
}
