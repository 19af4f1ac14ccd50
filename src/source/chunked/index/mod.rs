//! Where blobs lie: (kind, id) → places in packs.
//!
//! A segment ([`segment`]) holds the blobs of a set of index files in one sorted array of 48-byte rows, in memory or in
//! a file of the cache ([`table`]). A [`BlobIndex`] ([`stack`]) is a stack of segments: index files that appear become a
//! new segment, and rows of index files that vanish stay as a last resort. The [`Shelf`] keeps segments for later mounts,
//! and the [`Tender`] writes and merges them behind the mount's back. Everything is immutable; a change makes a new stack.

mod file;
mod gathering;
mod layout;
mod merge;
mod pages;
mod row;
mod search;
mod segment;
mod shelf;
mod stack;
mod table;
mod tender;
#[cfg(test)]
mod tests;
mod write;

pub use file::IndexFile;
pub use gathering::{Gathering, NewSegments};
pub use pages::Pages;
pub use shelf::Shelf;
pub use stack::BlobIndex;
pub use tender::Tender;

use super::Id;

/// The two kinds of blobs: a blob is looked up by kind and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlobKind {
    /// Content of files.
    Data,
    /// Directories.
    Tree,
}

/// One place of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The pack it lies in.
    pub pack: Id,
    /// First byte in the pack.
    pub offset: u32,
    /// Stored bytes.
    pub length: u32,
    /// Plaintext bytes.
    pub size: u32,
    /// Whether the stored bytes are compressed.
    pub compressed: bool,
    /// How much the index trusts the place.
    pub standing: Standing,
}

/// How much the index trusts a place; the least is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Named by a current index file.
    Live,
    /// In a pack that a current index file marks for deletion.
    Deleted,
    /// Named only by an index file that is gone.
    Stale,
}
