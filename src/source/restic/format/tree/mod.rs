//! Trees: one directory as one blob of JSON, read into a compact immutable form.
//!
//! Directories of 200,000 entries and 150 MB of JSON occur, so a [`Tree`] keeps fixed-size records and three shared
//! arenas (bytes, ids, device numbers) instead of a string per field. What cannot be shown is left out and reported
//! as a [`Flaw`]; every name, target and attribute that is listed can be handed to the kernel as it is.

mod acl;
mod build;
mod parse;
mod record;
mod xattr;

use std::fmt;

use self::record::{Arenas, Record};
use crate::error::{Context, Result};
use crate::source::chunked::Id;
use crate::tree::{FileType, Time};

pub use self::parse::MAX_JSON;

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
        Some(NodeRef { tree: self, record: self.records.get(at)? })
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
            records.extend(child.records.into_iter().map(|record| record.rebased(&base)));
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
}

impl<'a> NodeRef<'a> {
    /// Its name: 1 to 255 bytes, no `/`, no NUL, not `.` or `..`.
    pub fn name(&self) -> &'a [u8] {
        self.tree.arenas.bytes(self.record.name, self.record.name_len.into())
    }

    /// Its type, from the recorded type and never from the mode.
    pub fn kind(&self) -> FileType {
        self.record.kind
    }

    /// Permissions with set-uid, set-gid and sticky (`0o7777`). When the access ACL is unusable and therefore hidden,
    /// without the group bits: they held the ACL's mask, not what the group may do.
    pub fn perm(&self) -> u16 {
        self.record.perm
    }

    /// Owner; 0 when not recorded.
    pub fn uid(&self) -> u32 {
        self.record.uid
    }

    /// Group; 0 when not recorded.
    pub fn gid(&self) -> u32 {
        self.record.gid
    }

    /// Number of hard links when it was saved, at least 1.
    pub fn links(&self) -> u32 {
        self.record.links
    }

    /// Device number of a device node in Linux's 32-bit encoding; 0 for everything else.
    pub fn rdev(&self) -> u32 {
        match self.record.kind {
            FileType::Block | FileType::Char => self.record.at,
            _ => 0,
        }
    }

    /// Last modification; the epoch when not recorded.
    pub fn mtime(&self) -> Time {
        self.record.time(0)
    }

    /// Last access; `mtime` when not recorded.
    pub fn atime(&self) -> Time {
        self.record.time(1)
    }

    /// Last status change; `mtime` when not recorded.
    pub fn ctime(&self) -> Time {
        self.record.time(2)
    }

    /// The recorded size in bytes, at most `i64::MAX`. What was saved may be more or less.
    pub fn recorded_size(&self) -> u64 {
        self.record.size
    }

    /// Blobs of a file, in order. Also empty when the list is missing though the file had bytes:
    /// [`is_damaged`](Self::is_damaged) tells.
    pub fn content(&self) -> &'a [Id] {
        match self.record.kind {
            FileType::File => self.tree.arenas.ids(self.record.at, self.record.count),
            _ => &[],
        }
    }

    /// The tree of a directory. `None` for everything else, and for a directory that lacks it: listing that one is an
    /// error (`Corrupt`), not an empty answer.
    pub fn subtree(&self) -> Option<Id> {
        match self.record.kind {
            FileType::Dir => self.tree.arenas.ids(self.record.at, 1).first().copied(),
            _ => None,
        }
    }

    /// Whether it lacks what it consists of: a directory without subtree, a file of recorded size without content.
    /// It is shown, and reading or listing it is an error (`Corrupt`).
    pub fn is_damaged(&self) -> bool {
        match self.record.kind {
            FileType::Dir => self.record.at == record::MISSING,
            FileType::File => self.record.at == record::MISSING && self.record.size > 0,
            _ => false,
        }
    }

    /// The target of a symbolic link: 1 to 4,095 bytes without NUL; empty for everything else.
    pub fn target(&self) -> &'a [u8] {
        match self.record.kind {
            FileType::Symlink => self.tree.arenas.bytes(self.record.at, self.record.count),
            _ => &[],
        }
    }

    /// Extended attributes, full name and value, names unique and in order. ACLs among them are well-formed.
    pub fn xattrs(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        xattr::decode(self.tree.arenas.bytes_from(self.record.xattrs))
    }

    /// What hard links of one snapshot have in common; `None` when no inode number was recorded. The device is 0 when
    /// not recorded.
    pub fn device_inode(&self) -> Option<(u64, u64)> {
        let device = self.tree.arenas.device(self.record.device);
        (self.record.inode != 0).then_some((device, self.record.inode))
    }

    /// A hash (XXH3, 128 bits) of all that is shown of the node but its name: equal for nodes that nobody could tell
    /// apart, whatever else was recorded of them.
    pub fn digest(&self) -> u128 {
        let [low, high] = self.record.digest;
        u128::from(high) << 64 | u128::from(low)
    }
}
