//! The inodes that the kernel knows, and how to get at their nodes again.
//!
//! Every node has an identity of 128 bits: its key, or the hash of its directory's identity and its name. Its low half
//! is the inode number, so numbers are the same after a remount; where a live inode of another identity has that
//! number, it hops on. What the kernel forgets leaves the table.
//!
//! A million inodes of one listing must stay small: an entry is 40 bytes with its number, and refers to its place, the
//! directory and position it was listed at, instead of holding its node.

use std::collections::HashMap;
use std::collections::hash_map::{Entry as Slot, RandomState};
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::forgotten::{Forgotten, How, LastForgotten};
use super::trails::Trail;
use crate::error::{Error, Kind};
use crate::tree::{Cookie, Dir, FileType, Identity, Node, Step};

/// The inode number of the root.
pub(super) const ROOT: u64 = 1;

const SHARDS: usize = 16;
/// Odd, so that hopping visits every number before it comes round.
const HOP: u64 = 0x9e37_79b9_7f4a_7c15;

/// How the node of an inode is had again. Shared by all entries of one listing.
pub(super) enum Origin {
    /// It was listed with its attributes: the entry's position finds it.
    Listed {
        /// Number of the directory.
        parent: u64,
        /// The directory.
        dir: Arc<dyn Dir>,
        /// As in the directory's lineage.
        apart: Option<u128>,
    },
    /// It was listed without attributes: its name finds it.
    Named {
        /// Number of the directory.
        parent: u64,
        /// The directory.
        dir: Arc<dyn Dir>,
        /// As in the directory's lineage.
        apart: Option<u128>,
        /// Its name there.
        name: Box<[u8]>,
    },
    /// It was looked up.
    Held {
        /// Number of the directory.
        parent: u64,
        /// Its name there; `None` for what was listed before.
        name: Option<Box<[u8]>>,
        /// The node itself.
        node: Node,
    },
}

impl Origin {
    /// The directory that it was last found in.
    fn parent(&self) -> u64 {
        match self {
            Origin::Listed { parent, .. } | Origin::Named { parent, .. } | Origin::Held { parent, .. } => {
                *parent
            }
        }
    }

    /// Its name in there, where that is kept.
    fn name(&self) -> Option<&[u8]> {
        match self {
            Origin::Listed { .. } => None,
            Origin::Named { name, .. } => Some(name),
            Origin::Held { name, .. } => name.as_deref(),
        }
    }
}

/// Where a node was found.
#[derive(Clone)]
pub(super) struct Place {
    /// How to find it.
    pub origin: Arc<Origin>,
    /// Its position, where the origin is a listing.
    pub at: Cookie,
    /// Known to answer to no extended attribute.
    pub plain: bool,
}

impl Place {
    /// The node there, fetched again if need be. Errors: `Stale` when what is there now is not of `identity`.
    fn node(&self, identity: u128) -> Step<Node> {
        let gone = || Error::new(Kind::Stale, "no longer where it was");
        let same = move |node: &Node, apart| match node.meta.identity {
            // It lies where it lay.
            Identity::Path => true,
            key @ Identity::Key(_) => {
                resolve(key, node.meta.kind, Lineage { identity: 0, apart }, b"") == identity
            }
        };
        match &*self.origin {
            Origin::Held { node, .. } => Step::ok(node.clone()),
            Origin::Listed { dir, apart, .. } => {
                let (at, apart) = (self.at, *apart);
                dir.listing()
                    .map(move |listing| listing.node(at).filter(|node| same(node, apart)).ok_or_else(gone))
            }
            Origin::Named { dir, apart, name, .. } => {
                let apart = *apart;
                dir.lookup(name).map(move |node| node.filter(|node| same(node, apart)).ok_or_else(gone))
            }
        }
    }
}

/// What the table knows of one inode.
pub(super) struct Known {
    /// The 128 bits that its entries' identities chain from.
    pub identity: u128,
    /// Where it was last found.
    pub place: Place,
    // Where it was found in another directory before.
    elsewhere: Option<Place>,
}

impl Known {
    /// The directory that it was last found in.
    pub fn parent(&self) -> u64 {
        self.place.origin.parent()
    }

    /// Its node. Errors: `Stale` when it is no longer where it was.
    pub fn node(&self) -> Step<Node> {
        self.place.node(self.identity)
    }

    /// Asks its node. A file that several snapshots share is found through the one that showed it last; where that
    /// snapshot has been removed meanwhile, through the one before.
    pub fn ask<T: Send + 'static>(
        self,
        question: impl Fn(Node) -> Step<T> + Clone + Send + 'static,
    ) -> Step<T> {
        let answer = self.node().then(question.clone());
        let Some(elsewhere) = self.elsewhere else { return answer };
        let again = move || elsewhere.node(self.identity).then(question);
        match answer {
            Step::Ready(Err(error)) if is_removal(&error) => match again() {
                Step::Ready(answer) => Step::Ready(answer.map_err(|_| error)),
                Step::Wait(wait) => Step::wait(async move { wait.await.map_err(|_| error) }),
            },
            Step::Wait(wait) => Step::wait(async move {
                match wait.await {
                    Err(error) if is_removal(&error) => again().resolve().await.map_err(|_| error),
                    answer => answer,
                }
            }),
            answer => answer,
        }
    }
}

/// Whether this is what is left of a directory whose snapshot was removed.
fn is_removal(error: &Error) -> bool {
    matches!(error.kind(), Kind::Stale | Kind::Corrupt | Kind::NotFound)
}

struct Entry {
    // The low half follows from the number and the hops.
    high: u64,
    at: Cookie,
    origin: Arc<Origin>,
    lookups: u32,
    hops: u8,
    plain: bool,
}

impl Entry {
    fn is(&self, high: u64, hops: u8) -> bool {
        (self.high, self.hops) == (high, hops)
    }

    /// Takes note of where it was found; where it was before, if that is another directory.
    fn found(&mut self, place: Place) -> Option<Place> {
        let before = Place {
            origin: std::mem::replace(&mut self.origin, place.origin),
            at: std::mem::replace(&mut self.at, place.at),
            plain: std::mem::replace(&mut self.plain, place.plain),
        };
        (before.origin.parent() != self.origin.parent()).then_some(before)
    }
}

#[derive(Default)]
struct Shard {
    entries: HashMap<u64, Entry, Mixing>,
    // Second places, of the inodes that were met in several directories.
    elsewhere: HashMap<u64, Place>,
    // How they were found, where opens are told of.
    trails: HashMap<u64, Trail, Mixing>,
    forgotten: LastForgotten,
}

/// Hashes inode numbers, which are hashes already: one multiplication by a secret of the table, so that nobody can choose
/// numbers that meet in one place of it.
#[derive(Clone)]
struct Mixing(u64);

struct Mixed {
    secret: u64,
    hash: u64,
}

impl Default for Mixing {
    fn default() -> Self {
        Mixing(RandomState::new().hash_one(HOP) | 1)
    }
}

impl BuildHasher for Mixing {
    type Hasher = Mixed;

    fn build_hasher(&self) -> Mixed {
        Mixed { secret: self.0, hash: 0 }
    }
}

impl Hasher for Mixed {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        // The upper half depends on all bits of the number, the lower spreads neighbours.
        let (low, high) = halves(u128::from(self.hash ^ number ^ self.secret) * u128::from(self.secret));
        self.hash = low ^ high;
    }

    fn finish(&self) -> u64 {
        self.hash
    }
}

/// The table. Its locks are held for one entry at a time and never while a node is asked.
pub(super) struct Inodes {
    shards: [Mutex<Shard>; SHARDS],
    // Most hops that any entry ever needed: nearly always none.
    deepest: AtomicU8,
    // Of the root.
    root: u128,
}

impl Inodes {
    /// A table that knows the root.
    pub fn new(root: Node) -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        let identity = match root.meta.identity {
            Identity::Path => chain(0, b""),
            Identity::Key(key) => key,
        };
        let inodes = Inodes { shards, deepest: AtomicU8::new(0), root: identity };
        let (low, high) = halves(identity);
        let entry = Entry {
            high,
            // The root's number does not follow from its identity, so the low half is kept where a position would be.
            at: low,
            origin: Arc::new(Origin::Held { parent: ROOT, name: None, node: root }),
            lookups: u32::MAX,
            hops: 0,
            plain: false,
        };
        inodes.shard(ROOT).entries.insert(ROOT, entry);
        inodes
    }

    /// What is known of `ino`, or `None` when the kernel should not know it.
    pub fn get(&self, ino: u64) -> Option<Known> {
        let shard = self.shard(ino);
        let entry = shard.entries.get(&ino)?;
        let place = Place { origin: entry.origin.clone(), at: entry.at, plain: entry.plain };
        Some(Known { identity: identity(ino, entry), place, elsewhere: shard.elsewhere.get(&ino).cloned() })
    }

    /// What was known of `ino`, which the kernel has forgotten. `None` for numbers that nobody ever had, and for those that
    /// were forgotten long ago.
    pub fn recall(&self, ino: u64) -> Option<Forgotten> {
        self.shard(ino).forgotten.get(ino).cloned()
    }

    /// Whether `ino` is known to answer to no extended attribute.
    pub fn is_plain(&self, ino: u64) -> bool {
        self.shard(ino).entries.get(&ino).is_some_and(|entry| entry.plain)
    }

    /// The number that a node of `identity` has, or would have if it came now.
    pub fn number(&self, identity: u128) -> u64 {
        let (low, high) = halves(identity);
        let mut hops = self.settled(identity).unwrap_or(0);
        loop {
            let ino = hopped(low, hops);
            if ino > ROOT && self.shard(ino).entries.get(&ino).is_none_or(|e| e.is(high, hops)) {
                return ino;
            }
            hops = hops.wrapping_add(1);
        }
    }

    /// Whether the kernel knows a node of `identity`: then its number.
    pub fn live(&self, identity: u128) -> Option<u64> {
        let ino = self.number(identity);
        self.shard(ino).entries.contains_key(&ino).then_some(ino)
    }

    /// Counts one look-up of the node of `identity` and returns its number. The newest place comes before an older one,
    /// which may be in a snapshot that goes first. `trail` is kept as long as the inode is known.
    pub fn enter(&self, identity: u128, place: Place, trail: Option<Trail>) -> u64 {
        if identity == self.root {
            // Found from below.
            return ROOT;
        }
        let (low, high) = halves(identity);
        let mut hops = self.settled(identity).unwrap_or(0);
        loop {
            let ino = hopped(low, hops);
            if ino > ROOT {
                let Shard { entries, elsewhere, trails, .. } = &mut *self.shard(ino);
                match entries.entry(ino) {
                    Slot::Vacant(slot) => {
                        let Place { origin, at, plain } = place;
                        slot.insert(Entry { high, at, origin, lookups: 1, hops, plain });
                        self.deepest.fetch_max(hops, Ordering::Relaxed);
                        trails.extend(trail.map(|trail| (ino, trail)));
                        return ino;
                    }
                    Slot::Occupied(mut slot) if slot.get().is(high, hops) => {
                        let entry = slot.get_mut();
                        entry.lookups = entry.lookups.saturating_add(1);
                        if let Some(before) = entry.found(place) {
                            elsewhere.insert(ino, before);
                        }
                        trails.extend(trail.map(|trail| (ino, trail)));
                        return ino;
                    }
                    Slot::Occupied(_) => {}
                }
            }
            hops = hops.wrapping_add(1);
        }
    }

    /// Takes back `count` look-ups; true when none is left and the inode is no longer known. A count that ever reached
    /// its limit is no longer exact, and its entry stays.
    pub fn forget(&self, ino: u64, count: u64) -> bool {
        let Shard { entries, elsewhere, trails, forgotten } = &mut *self.shard(ino);
        let Slot::Occupied(mut slot) = entries.entry(ino) else { return false };
        if slot.get().lookups == u32::MAX {
            return false;
        }
        match u32::try_from(count).ok().and_then(|count| slot.get().lookups.checked_sub(count)) {
            Some(rest) if rest > 0 => {
                slot.get_mut().lookups = rest;
                false
            }
            _ => {
                let entry = slot.remove();
                elsewhere.remove(&ino);
                // Where files are told apart by their trees, a number alone does not tell which it was.
                if trails.remove(&ino).is_none() {
                    let how = entry.origin.name().map_or(How::At(entry.at), |name| How::Called(name.into()));
                    let identity = identity(ino, &entry);
                    forgotten.keep(ino, Forgotten { identity, parent: entry.origin.parent(), how });
                }
                true
            }
        }
    }

    /// Replaces the node of an inode whose attributes changed, if it is still known.
    pub fn renew(&self, ino: u64, node: Node) {
        if let Some(entry) = self.shard(ino).entries.get_mut(&ino) {
            let (parent, name) = (entry.origin.parent(), entry.origin.name().map(Box::from));
            entry.origin = Arc::new(Origin::Held { parent, name, node });
        }
    }

    /// Reads how `ino` was found, if that is kept.
    pub fn trail<T>(&self, ino: u64, read: impl FnOnce(&Trail) -> T) -> Option<T> {
        self.shard(ino).trails.get(&ino).map(read)
    }

    /// After how many hops `identity` lives. A number before that may have become free since.
    fn settled(&self, identity: u128) -> Option<u8> {
        let (low, high) = halves(identity);
        let deepest = self.deepest.load(Ordering::Relaxed);
        (1..=deepest).find(|&hops| {
            let ino = hopped(low, hops);
            ino > ROOT && self.shard(ino).entries.get(&ino).is_some_and(|e| e.is(high, hops))
        })
    }

    fn shard(&self, ino: u64) -> std::sync::MutexGuard<'_, Shard> {
        #[allow(clippy::cast_possible_truncation, clippy::indexing_slicing, reason = "below SHARDS")]
        let shard = &self.shards[(ino % SHARDS as u64) as usize];
        // Nothing that can panic runs under the lock.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The identity of an entry called `name` in the directory of identity `parent`. A cryptographic hash: in a shared
/// mount nobody must be able to choose names whose inode is somebody else's.
pub(super) fn chain(parent: u128, name: &[u8]) -> u128 {
    let hash = Sha256::new().chain_update(parent.to_le_bytes()).chain_update(name).finalize();
    let mut half = [0; 16];
    half.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    u128::from_le_bytes(half)
}

/// What the identities of a directory's entries derive from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lineage {
    /// The directory's own.
    pub identity: u128,
    /// That of the top of its tree, where files are not shared with other trees.
    pub apart: Option<u128>,
}

/// The 128 bits of a node found in a directory.
pub(super) fn resolve(identity: Identity, kind: FileType, parent: Lineage, name: &[u8]) -> u128 {
    match (identity, parent.apart) {
        (Identity::Path, _) => chain(parent.identity, name),
        (Identity::Key(key), Some(top)) if kind == FileType::File => chain(top, &key.to_le_bytes()),
        (Identity::Key(key), _) => key,
    }
}

#[allow(clippy::cast_possible_truncation, reason = "splits in two halves")]
fn halves(identity: u128) -> (u64, u64) {
    (identity as u64, (identity >> 64) as u64)
}

fn hopped(low: u64, hops: u8) -> u64 {
    low.wrapping_add(HOP.wrapping_mul(u64::from(hops)))
}

fn identity(ino: u64, entry: &Entry) -> u128 {
    let low = if ino == ROOT { entry.at } else { ino.wrapping_sub(HOP.wrapping_mul(u64::from(entry.hops))) };
    u128::from(entry.high) << 64 | u128::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Content, Listing, Meta, Time, Validity};

    fn node() -> Node {
        let meta = Meta::directory(Time::default(), Validity::Forever);
        Node { meta, content: Content::Special, xattrs: None }
    }

    fn place() -> Place {
        let origin = Origin::Held { parent: ROOT, name: None, node: node() };
        Place { origin: Arc::new(origin), at: 3, plain: false }
    }

    fn key(high: u64, low: u64) -> u128 {
        u128::from(high) << 64 | u128::from(low)
    }

    #[test]
    fn a_million_entries_of_one_listing_take_less_than_90_megabytes() {
        let inodes = Inodes::new(node());
        let place = place();
        for i in 0..1_000_000u64 {
            inodes.enter(key(i, HOP.wrapping_mul(i + 1)), place.clone(), None);
        }
        // A table of n places holds 7/8 n entries, with a byte of its own for each place.
        let places: usize = inodes.shards.iter().map(|s| s.lock().unwrap().entries.capacity() / 7 * 8).sum();
        let bytes = places * (size_of::<(u64, Entry)>() + 1);
        assert!(bytes < 90_000_000, "{bytes} bytes");
    }

    #[test]
    fn numbers_spread_over_the_table_whatever_they_have_in_common() {
        let mixing = Mixing::default();
        for shift in [0, 4, 20, 40] {
            let mut places = [0u32; 1024];
            for number in 0..16 * 1024u64 {
                let hash = mixing.hash_one(number << shift);
                places[usize::try_from(hash % 1024).unwrap()] += 1;
            }
            let most = places.iter().max().unwrap();
            assert!(*most < 100, "{most} of 16,384 in one of 1,024 places, shifted by {shift}");
        }
    }

    #[test]
    fn plain_is_what_was_said_to_be_and_is_still_known() {
        let inodes = Inodes::new(node());
        let plain = inodes.enter(key(1, 20), Place { plain: true, ..place() }, None);
        let other = inodes.enter(key(1, 21), place(), None);
        assert!(inodes.is_plain(plain) && !inodes.is_plain(other) && !inodes.is_plain(99));
        inodes.forget(plain, 1);
        assert!(!inodes.is_plain(plain));
    }

    #[test]
    fn numbers_are_the_low_half_and_never_0_or_1() {
        let inodes = Inodes::new(node());
        assert_eq!(inodes.enter(key(5, 77), place(), None), 77);
        assert_eq!(inodes.enter(key(5, 77), place(), None), 77);
        for low in [0, 1] {
            let ino = inodes.enter(key(9, low), place(), None);
            assert!(ino > 1);
            assert_eq!(inodes.get(ino).unwrap().identity, key(9, low));
        }
    }

    #[test]
    fn colliding_identities_get_numbers_of_their_own_and_keep_them() {
        let inodes = Inodes::new(node());
        let first = inodes.enter(key(1, 500), place(), None);
        let second = inodes.enter(key(2, 500), place(), None);
        let third = inodes.enter(key(3, 500), place(), None);
        assert!(first != second && second != third && first != third);
        for (ino, high) in [(first, 1), (second, 2), (third, 3)] {
            assert_eq!(inodes.number(key(high, 500)), ino);
            assert_eq!(inodes.live(key(high, 500)), Some(ino));
            assert_eq!(inodes.get(ino).unwrap().identity, key(high, 500));
        }
        assert_eq!(inodes.live(key(4, 500)), None);
    }

    #[test]
    fn a_gap_left_by_a_forgotten_inode_never_gives_a_live_one_a_second_number() {
        let inodes = Inodes::new(node());
        let first = inodes.enter(key(1, 500), place(), None);
        let second = inodes.enter(key(2, 500), place(), None);
        inodes.forget(first, 1);
        assert_eq!(inodes.number(key(2, 500)), second);
        assert_eq!(inodes.enter(key(2, 500), place(), None), second);
    }

    proptest::proptest! {
        /// Against a plain count of look-ups, with identities that collide far more than real ones.
        #[test]
        fn the_table_agrees_with_a_simple_model(
            steps in proptest::collection::vec((0u64..4, 0u64..6, 1u64..4, proptest::bool::ANY), 1..200)
        ) {
            let inodes = Inodes::new(node());
            let mut model: HashMap<u128, (u64, u64)> = HashMap::new();
            for (high, low, count, enters) in steps {
                let identity = key(high, low);
                if enters {
                    let ino = inodes.enter(identity, place(), None);
                    let known = model.entry(identity).or_insert((ino, 0));
                    assert_eq!(known.0, ino, "a number never changes while it is known");
                    known.1 += 1;
                } else if let Some((ino, lookups)) = model.get_mut(&identity) {
                    *lookups = lookups.saturating_sub(count);
                    assert_eq!(inodes.forget(*ino, count), *lookups == 0);
                    if *lookups == 0 {
                        model.remove(&identity);
                    }
                }
                let numbers: std::collections::HashSet<_> = model.values().map(|(ino, _)| *ino).collect();
                assert_eq!(numbers.len(), model.len(), "two nodes share a number");
                for (identity, (ino, _)) in &model {
                    assert!(*ino > ROOT);
                    assert_eq!(inodes.live(*identity), Some(*ino));
                    assert_eq!(inodes.get(*ino).unwrap().identity, *identity);
                }
            }
        }
    }

    #[test]
    fn an_inode_lives_until_every_lookup_is_forgotten() {
        let inodes = Inodes::new(node());
        let ino = inodes.enter(key(1, 20), place(), None);
        inodes.enter(key(1, 20), place(), None);
        assert!(!inodes.forget(ino, 1));
        assert!(inodes.get(ino).is_some());
        assert!(inodes.forget(ino, 1));
        assert!(inodes.get(ino).is_none());
        let forgotten = inodes.recall(ino).unwrap();
        assert_eq!((forgotten.identity, forgotten.parent), (key(1, 20), ROOT));
        assert!(matches!(forgotten.how, How::At(3)), "it was listed");
        assert!(inodes.recall(ino + 1).is_none());
        assert!(!inodes.forget(ino, 1));
        assert!(!inodes.forget(ROOT, u64::MAX));
        let root = inodes.get(ROOT).unwrap();
        assert_eq!(inodes.enter(root.identity, root.place, None), ROOT, "found from below");
        assert!(inodes.get(ROOT).is_some(), "the root is never forgotten");
    }

    #[test]
    fn identities_chain_along_the_path() {
        let a = chain(1, b"a");
        assert_eq!(a, chain(1, b"a"));
        assert_ne!(a, chain(2, b"a"));
        assert_ne!(chain(a, b"b"), chain(chain(1, b"b"), b"a"));
        assert_ne!(chain(a, b"bc"), chain(chain(a, b"b"), b"c"));
        let (file, shared) = (FileType::File, Lineage { identity: 1, apart: None });
        assert_eq!(resolve(Identity::Key(9), file, shared, b"a"), 9);
        assert_eq!(resolve(Identity::Path, file, shared, b"a"), a);
        // Apart from other trees: one for all names in this tree, and the tops of trees as ever.
        let [here, there] = [7, 8].map(|top| Lineage { apart: Some(top), ..shared });
        let linked = resolve(Identity::Key(9), file, here, b"a");
        assert_eq!(linked, resolve(Identity::Key(9), file, Lineage { identity: 2, ..here }, b"b"));
        assert!(linked != 9 && linked != resolve(Identity::Key(9), file, there, b"a"));
        assert_eq!(resolve(Identity::Path, file, here, b"a"), a);
        assert_eq!(resolve(Identity::Key(9), FileType::Dir, here, b"a"), 9);
        let root = Node { meta: Meta { identity: Identity::Key(1234), ..node().meta }, ..node() };
        assert_eq!(Inodes::new(root).get(ROOT).unwrap().identity, 1234);
    }

    /// The one node of a directory, by any name and at any position.
    #[derive(Clone)]
    struct One(Node);

    impl Dir for One {
        fn lookup(&self, _: &[u8]) -> Step<Option<Node>> {
            Step::ok(Some(self.0.clone()))
        }
        fn listing(&self) -> Step<Arc<dyn Listing>> {
            Step::ok(Arc::new(self.clone()))
        }
    }

    impl Listing for One {
        fn visit(&self, _: Cookie, _: &mut dyn crate::tree::Sink) {}
        fn node(&self, _: Cookie) -> Option<Node> {
            Some(self.0.clone())
        }
    }

    #[test]
    fn a_node_that_is_another_one_now_is_stale() {
        let file =
            |key, kind| Node { meta: Meta { identity: Identity::Key(key), kind, ..node().meta }, ..node() };
        for (kind, apart) in [
            (FileType::Dir, None),
            (FileType::File, None),
            (FileType::File, Some(7)),
            (FileType::Dir, Some(7)),
        ] {
            let lineage = Lineage { identity: 1, apart };
            let there = || Arc::new(One(file(5, kind)));
            let origins = [
                Origin::Named { parent: ROOT, dir: there(), apart, name: b"x"[..].into() },
                Origin::Listed { parent: ROOT, dir: there(), apart },
            ];
            for origin in origins.map(Arc::new) {
                let inodes = Inodes::new(node());
                let found = |key| {
                    let identity = resolve(Identity::Key(key), kind, lineage, b"x");
                    let ino = inodes.enter(identity, Place { origin: origin.clone(), ..place() }, None);
                    let Step::Ready(found) = inodes.get(ino).unwrap().node() else { panic!("waits") };
                    found.map(|node| node.meta.identity).map_err(|error| error.kind())
                };
                assert_eq!(found(4).unwrap_err(), Kind::Stale, "{kind:?} {apart:?}");
                assert_eq!(found(5).unwrap(), Identity::Key(5), "{kind:?} {apart:?}");
            }
        }
    }
}
