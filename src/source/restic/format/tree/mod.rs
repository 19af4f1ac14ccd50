//! Trees: one directory as one blob of JSON, read into a compact immutable form.
//!
//! Directories of 200,000 entries and 150 MB of JSON occur, so a [`Tree`] keeps fixed-size records and three shared
//! arenas (bytes, ids, what many nodes have in common) instead of a string per field. What cannot be shown is left out and reported
//! as a [`Flaw`]; every name, target and attribute that is listed can be handed to the kernel as it is.

mod build;
mod parse;
mod record;
mod scan;
mod xattr;

use std::fmt;

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use self::record::{Arenas, Class, Record};
use crate::error::{Context, Result};
use crate::source::chunked::Id;
use crate::tree::{FileType, Time};

/// Something in a tree that is left out or not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// The entry's name, made printable; empty when it could not be read.
    pub name: String,
    /// What is wrong, and whether the entry or a part of it is left out.
    pub reason: String,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.name, self.reason)
    }
}

/// One directory of a snapshot.
pub struct Tree {
    /// In tree order; names are unique.
    records: Vec<Record>,
    /// Positions in `records` by name; empty when they are in that order already, as current writers leave them.
    by_name: Vec<u32>,
    arenas: Arenas,
    /// Subtrees whose entries belong into this directory.
    splices: Vec<Id>,
    /// For each of `splices`, how many records come before its entries.
    splice_at: Vec<u32>,
}

impl Tree {
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether it has no entries.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The position of the entry called `name`.
    pub fn find(&self, name: &[u8]) -> Option<usize> {
        let name_of = |record: &Record| self.arenas.bytes(record.name, record.name_len.into());
        if self.by_name.is_empty() {
            return self.records.binary_search_by(|record| name_of(record).cmp(name)).ok();
        }
        let compare = |&at: &u32| self.records.get(at as usize).map(name_of).cmp(&Some(name));
        let found = self.by_name.binary_search_by(compare).ok()?;
        self.by_name.get(found).map(|&at| at as usize)
    }

    /// The entry at position `at`, in tree order.
    pub fn entry(&self, at: usize) -> Option<NodeRef<'_>> {
        let record = self.records.get(at)?;
        Some(NodeRef { tree: self, record, class: self.arenas.class(record.class)? })
    }

    /// Subtrees whose entries belong into this directory (old writers stored directories called `.` and `/`).
    pub fn splices(&self) -> &[Id] {
        &self.splices
    }

    /// This directory with the entries of `children`, the trees of [`splices`](Self::splices) in that order, in place.
    /// Of equal names the last in tree order stays.
    ///
    /// Splices of the children themselves are not followed: complete them first. `Unsupported` when the result is too
    /// large.
    pub fn spliced(self, children: Vec<Tree>) -> Result<Tree> {
        let Tree { records: own, mut arenas, splice_at, .. } = self;
        let mut records = Vec::with_capacity(own.len() + children.iter().map(Tree::len).sum::<usize>());
        let mut own = own.into_iter().enumerate().peekable();
        for (before, child) in splice_at.into_iter().zip(children) {
            while let Some((_, record)) = own.next_if(|(at, _)| *at < before as usize) {
                records.push(record);
            }
            let base = arenas.append(child.arenas).context(|| "directory with spliced entries")?;
            records.extend(child.records.into_iter().filter_map(|record| record.rebased(&base, &arenas)));
        }
        records.extend(own.map(|(_, record)| record));
        Ok(Tree::build(records, arenas, Vec::new(), &mut |_| ()))
    }

    /// Bytes of memory that it holds.
    pub fn memory(&self) -> usize {
        size_of::<Self>()
            + self.records.capacity() * size_of::<Record>()
            + (self.by_name.capacity() + self.splice_at.capacity()) * size_of::<u32>()
            + self.splices.capacity() * size_of::<Id>()
            + self.arenas.memory()
    }
}

/// An entry of a [`Tree`].
#[derive(Clone, Copy)]
pub struct NodeRef<'a> {
    tree: &'a Tree,
    record: &'a Record,
    class: &'a Class,
}

impl<'a> NodeRef<'a> {
    /// Its name: 1 to 255 bytes, no `/`, no NUL, not `.` or `..`.
    pub fn name(&self) -> &'a [u8] {
        self.tree.arenas.bytes(self.record.name, self.record.name_len.into())
    }

    /// Its type, from the recorded type and never from the mode.
    pub fn kind(&self) -> FileType {
        self.class.kind
    }

    /// Permissions with set-uid, set-gid and sticky (`0o7777`). When the access ACL is unusable and therefore hidden,
    /// without the group bits: they held the ACL's mask, not what the group may do.
    pub fn perm(&self) -> u16 {
        self.class.perm
    }

    /// Owner; 0 when not recorded.
    pub fn uid(&self) -> u32 {
        self.class.uid
    }

    /// Group; 0 when not recorded.
    pub fn gid(&self) -> u32 {
        self.class.gid
    }

    /// Number of hard links when it was saved, at least 1.
    pub fn links(&self) -> u32 {
        self.class.links
    }

    /// Device number of a device node in Linux's 32-bit encoding; 0 for everything else.
    pub fn rdev(&self) -> u32 {
        match self.class.kind {
            FileType::Block | FileType::Char => self.record.at,
            _ => 0,
        }
    }

    /// Last modification; the epoch when not recorded.
    pub fn mtime(&self) -> Time {
        let [time, ..] = self.record.times;
        time.into()
    }

    /// Last access; `mtime` when not recorded.
    pub fn atime(&self) -> Time {
        let [_, time, _] = self.record.times;
        time.into()
    }

    /// Last status change; `mtime` when not recorded.
    pub fn ctime(&self) -> Time {
        let [.., time] = self.record.times;
        time.into()
    }

    /// The recorded size in bytes, at most `i64::MAX`. What was saved may be more or less.
    pub fn recorded_size(&self) -> u64 {
        self.record.size
    }

    /// Blobs of a file, in order. Also empty when the list is missing though the file had bytes:
    /// [`is_damaged`](Self::is_damaged) tells.
    pub fn content(&self) -> &'a [Id] {
        match self.class.kind {
            FileType::File => self.tree.arenas.ids(self.record.at, self.record.count),
            _ => &[],
        }
    }

    /// The tree of a directory. `None` for everything else, and for a directory that lacks it: listing that one is an
    /// error (`Corrupt`), not an empty answer.
    pub fn subtree(&self) -> Option<Id> {
        match self.class.kind {
            FileType::Dir => self.tree.arenas.ids(self.record.at, 1).first().copied(),
            _ => None,
        }
    }

    /// Whether it lacks what it consists of: a directory without subtree, a file of recorded size without content.
    /// It is shown, and reading or listing it is an error (`Corrupt`).
    pub fn is_damaged(&self) -> bool {
        match self.class.kind {
            FileType::Dir => self.record.at == record::MISSING,
            FileType::File => self.record.at == record::MISSING && self.record.size > 0,
            _ => false,
        }
    }

    /// The target of a symbolic link: 1 to 4,095 bytes without NUL; empty for everything else.
    pub fn target(&self) -> &'a [u8] {
        match self.class.kind {
            FileType::Symlink => self.tree.arenas.bytes(self.record.at, self.record.count),
            _ => &[],
        }
    }

    /// Extended attributes, full name and value, names unique and in order. ACLs among them are well-formed.
    pub fn xattrs(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        xattr::decode(self.tree.arenas.bytes_from(self.class.xattrs))
    }

    /// What hard links of one snapshot have in common; `None` when no inode number was recorded. The device is 0 when
    /// not recorded.
    pub fn device_inode(&self) -> Option<(u64, u64)> {
        (self.record.inode != 0).then_some((self.class.device, self.record.inode))
    }

    /// A hash (XXH3, 128 bits) of all that is shown of the node but its name: equal for nodes that nobody could tell
    /// apart, whatever else was recorded of them. The JSON will not do: writers put the time zone into it, which changes
    /// twice a year, and the device number, which changes with a reboot.
    pub fn digest(&self) -> u128 {
        let (fixed, arenas) = (self.fixed(), &self.tree.arenas);
        let ids: &[Id] = match self.class.kind {
            FileType::File => self.content(),
            FileType::Dir => arenas.ids(self.record.at, 1),
            _ => &[],
        };
        // Most files are of one blob, and are hashed in one go, which is several times faster.
        if let ([id], true) = (ids, self.xattrs().next().is_none()) {
            let mut short = [0; FIXED + 32];
            let (head, tail) = short.split_at_mut(FIXED);
            head.copy_from_slice(&fixed);
            tail.copy_from_slice(&id.0);
            return xxh3_128(&short);
        }
        let mut hash = Xxh3::new();
        hash.update(&fixed);
        match self.class.kind {
            FileType::File | FileType::Dir => ids.iter().for_each(|id| hash.update(&id.0)),
            FileType::Symlink => hash.update(self.target()),
            _ => hash.update(&self.record.at.to_le_bytes()),
        }
        for (name, value) in self.xattrs() {
            for part in [name, value] {
                hash.update(&(part.len() as u64).to_le_bytes());
                hash.update(part);
            }
        }
        hash.digest128()
    }

    /// What is of fixed size in the digest.
    fn fixed(&self) -> [u8; FIXED] {
        let Class { uid, gid, links, perm, kind, .. } = *self.class;
        let Record { size, at, count, times, .. } = *self.record;
        let times = times.map(Time::from);
        let [mtime, atime, ctime] = times.map(|time| time.nanos);
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let [m, a, c] = times.map(|time| time.secs.cast_unsigned());
        let flags = u32::from(perm) | (kind as u32) << 16 | u32::from(at == record::MISSING) << 24;
        let words =
            [m, a, c, pair(mtime, atime), pair(ctime, uid), pair(gid, links), size, pair(flags, count)];
        let mut fixed = [0; FIXED];
        let (parts, _) = fixed.as_chunks_mut::<8>();
        parts.iter_mut().zip(words).for_each(|(part, word)| *part = word.to_le_bytes());
        fixed
    }
}

/// Bytes of a digest's part of fixed size.
const FIXED: usize = 8 * 8;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn tree(nodes: &[Value]) -> (Tree, Vec<Flaw>) {
        let mut flaws = Vec::new();
        let json = json!({"nodes": nodes}).to_string();
        let tree = Tree::parse(json.as_bytes(), &mut |flaw| flaws.push(flaw)).unwrap();
        (tree, flaws)
    }

    /// A file whose owner tells it from others of its name.
    fn file(name: &str, uid: u32) -> Value {
        json!({"name": name, "type": "file", "uid": uid})
    }

    fn splice(name: &str, subtree: u8) -> Value {
        json!({"name": name, "type": "dir", "subtree": Id([subtree; 32]).to_string()})
    }

    fn listed(tree: &Tree) -> Vec<(String, u32)> {
        let entries = (0..tree.len()).map(|at| tree.entry(at).unwrap());
        entries.map(|node| (String::from_utf8(node.name().to_vec()).unwrap(), node.uid())).collect()
    }

    fn assert_listed(tree: &Tree, expected: &[(&str, u32)]) {
        let expected: Vec<_> = expected.iter().map(|(name, uid)| ((*name).to_owned(), *uid)).collect();
        assert_eq!(listed(tree), expected);
        for (at, (name, _)) in expected.iter().enumerate() {
            assert_eq!(tree.find(name.as_bytes()), Some(at), "{name}");
        }
    }

    #[test]
    fn entries_are_found_whatever_their_order() {
        let sorted = tree(&[file("a", 1), file("b", 2), file("b0", 3), file("c", 4)]).0;
        assert_listed(&sorted, &[("a", 1), ("b", 2), ("b0", 3), ("c", 4)]);
        let unsorted = tree(&[file("c", 1), file("a", 2), file("b", 3)]).0;
        assert_listed(&unsorted, &[("c", 1), ("a", 2), ("b", 3)]);
        for absent in ["", "A", "aa", "b1", "d"] {
            assert_eq!((sorted.find(absent.as_bytes()), unsorted.find(absent.as_bytes())), (None, None));
        }
        let empty = tree(&[]).0;
        assert_eq!((empty.len(), empty.find(b"a"), empty.entry(0).is_none()), (0, None, true));
    }

    #[test]
    fn of_equal_names_the_last_in_tree_order_is_listed_and_found() {
        let (tree, flaws) =
            tree(&[file("b", 1), file("a", 2), file("b", 3), file("c", 4), file("a", 5), file("b", 6)]);
        assert_listed(&tree, &[("c", 4), ("a", 5), ("b", 6)]);
        let names: Vec<_> = flaws.iter().map(|flaw| &*flaw.name).collect();
        assert_eq!(names, ["b", "a", "b"]);
        // Two spellings of one name.
        let (tree, flaws) = super::tests::tree(&[file("a", 1), file("\\x61", 2)]);
        assert_listed(&tree, &[("a", 2)]);
        assert_eq!(flaws.len(), 1);
    }

    #[test]
    fn entries_of_directories_called_dot_or_slash_take_their_place() {
        let (parent, flaws) =
            tree(&[file("a", 1), splice(".", 7), file("m", 2), splice("/", 8), file("z", 3)]);
        assert_eq!(flaws, []);
        assert_eq!(parent.splices(), [Id([7; 32]), Id([8; 32])]);
        assert_listed(&parent, &[("a", 1), ("m", 2), ("z", 3)]);
        let first = tree(&[file("b", 10), file("m", 11)]).0;
        let second = tree(&[file("a", 20)]).0;
        let whole = parent.spliced(vec![first, second]).unwrap();
        assert_listed(&whole, &[("b", 10), ("m", 2), ("a", 20), ("z", 3)]);
        assert_eq!(whole.splices(), []);
    }

    #[test]
    fn places_of_splices_survive_duplicates_before_them() {
        let (parent, _) = tree(&[file("x", 1), file("x", 2), splice(".", 7), file("y", 3), splice(".", 8)]);
        let child = |uid| tree(&[file("y", uid), file("k", uid)]).0;
        let whole = parent.spliced(vec![child(10), child(11)]).unwrap();
        assert_listed(&whole, &[("x", 2), ("y", 11), ("k", 11)]);
        let (parent, _) = tree(&[splice(".", 7), file("y", 3)]);
        assert_listed(&parent.spliced(vec![child(10)]).unwrap(), &[("k", 10), ("y", 3)]);
    }

    #[test]
    fn a_spliced_entry_keeps_everything_it_had() {
        let id = |byte: u8| Id([byte; 32]).to_string();
        let nodes = |prefix: &str, byte: u8| {
            let name = |kind: &str| format!("{prefix}-{kind}");
            vec![
                json!({"name": name("file"), "type": "file", "content": [id(byte), id(byte + 1)], "inode": 5, "device_id": byte}),
                json!({"name": name("link"), "type": "symlink", "linktarget": format!("to {byte}")}),
                json!({"name": name("dir"), "type": "dir", "subtree": id(byte + 2)}),
                json!({"name": name("lost"), "type": "dir"}),
                json!({"name": name("dev"), "type": "dev", "device": 259 + u32::from(byte)}),
                json!({"name": name("attr"), "type": "fifo", "extended_attributes": [{"name": "user.x", "value": "AQI="}]}),
            ]
        };
        let mut parent = nodes("p", 10);
        parent.insert(2, splice(".", 99));
        let whole = tree(&parent).0.spliced(vec![tree(&nodes("c", 20)).0]).unwrap();
        for (prefix, byte) in [("p", 10), ("c", 20)] {
            let node =
                |kind: &str| whole.entry(whole.find(format!("{prefix}-{kind}").as_bytes()).unwrap()).unwrap();
            assert_eq!(node("file").content(), [Id([byte; 32]), Id([byte + 1; 32])]);
            assert_eq!(node("file").device_inode(), Some((byte.into(), 5)));
            assert_eq!(node("link").target(), format!("to {byte}").as_bytes());
            assert_eq!(node("dir").subtree(), Some(Id([byte + 2; 32])));
            assert!(node("lost").is_damaged() && !node("dir").is_damaged());
            assert_eq!(node("dev").rdev(), 259 + u32::from(byte));
            assert_eq!(node("attr").xattrs().collect::<Vec<_>>(), [(&b"user.x"[..], &[1, 2][..])]);
            assert_eq!(node("file").xattrs().count(), 0);
        }
    }

    #[test]
    fn a_splice_without_subtree_is_left_out() {
        let (tree, flaws) = tree(&[json!({"name": ".", "type": "dir"}), file("a", 1)]);
        assert_listed(&tree, &[("a", 1)]);
        assert_eq!((tree.splices(), flaws.len()), (&[][..], 1));
    }

    #[test]
    fn large_directories_cost_little() {
        let node = |n: u32| {
            format!(
                r#"{{"name":"file-{n:06}","type":"file","mode":420,"mtime":"2024-01-16T03:00:00.123456789+01:00",
                "atime":"2024-01-16T03:00:00.123456789+01:00","ctime":"2024-01-16T03:00:00.123456789+01:00","uid":1000,
                "gid":1000,"user":"somebody","group":"somebody","inode":{n},"device_id":64769,"size":4096,"links":1,
                "content":["{}"]}}"#,
                Id([n.to_le_bytes()[0]; 32])
            )
        };
        let nodes: Vec<_> = (1..=20_000).map(node).collect();
        let json = format!(r#"{{"nodes":[{}]}}"#, nodes.join(","));
        let tree = Tree::parse(json.as_bytes(), &mut |flaw| panic!("{flaw}")).unwrap();
        assert_eq!(tree.len(), 20_000);
        // The record, the name, the blob's id.
        let least = 64 + 11 + 32;
        assert!((least * 20_000..(least + 2) * 20_000).contains(&tree.memory()), "{} bytes", tree.memory());
    }

    proptest! {
        /// Against a map: the last of equal names wins, and what is listed is what is found.
        #[test]
        fn listing_and_looking_up_agree(names in proptest::collection::vec("[a-d]{1,2}", 0..40)) {
            let nodes: Vec<_> = (0u32..).zip(&names).map(|(uid, name)| file(name, uid)).collect();
            let (tree, flaws) = tree(&nodes);
            let last: BTreeMap<_, _> = names.iter().zip(0u32..).collect();
            let mut expected: Vec<_> = last.into_iter().map(|(name, uid)| (name.clone(), uid)).collect();
            expected.sort_by_key(|(_, uid)| *uid);
            prop_assert_eq!(flaws.len() + expected.len(), names.len());
            for (at, (name, _)) in expected.iter().enumerate() {
                prop_assert_eq!(tree.find(name.as_bytes()), Some(at));
            }
            prop_assert_eq!(listed(&tree), expected);
        }

        /// Splicing equals parsing one tree in which the children's entries stand in place of the splices.
        #[test]
        fn splicing_equals_writing_in_place(
            parts in proptest::collection::vec((any::<bool>(), proptest::collection::vec("[a-e]", 0..5)), 0..5),
        ) {
            let mut uids = 0u32..;
            let (mut parent, mut flat, mut children) = (Vec::new(), Vec::new(), Vec::new());
            for (spliced, names) in parts {
                let nodes: Vec<_> = names.iter().map(|name| file(name, uids.next().unwrap())).collect();
                flat.extend(nodes.clone());
                if spliced {
                    parent.push(splice(".", 1));
                    children.push(tree(&nodes).0);
                } else {
                    parent.extend(nodes);
                }
            }
            prop_assert_eq!(listed(&tree(&parent).0.spliced(children).unwrap()), listed(&tree(&flat).0));
        }
    }
}
