//! The vocabulary between rooms: what a node of the shown tree is, whoever made it. No behaviour, no I/O.
//!
//! `source` yields [`Snapshot`]s and trees of [`Node`]s; `namespace` makes directories around them that implement the
//! same [`Dir`]; `fuse` serves a [`Node`] and knows nothing else.

mod change;
mod meta;
mod node;
mod snapshot;
mod step;

pub use change::{Change, ChangeSink};
pub use meta::{FileType, Identity, Meta, OWN_XATTRS, TRUSTED_XATTRS, Time, Validity};
pub use node::{
    BEGINNING, Backing, Content, Cookie, Dir, Entry, File, Listing, Node, Reader, STRIDE, Sink, Xattrs,
};
pub use snapshot::{
    Ancestor, Ancestors, Given, Opened, Part, Snapshot, SnapshotId, SnapshotTime, Source, SourceHealth, Usage,
};
pub use step::{Step, Wait};
