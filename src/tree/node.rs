//! Nodes and what can be asked of them.

use std::any::Any;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::sync::Arc;

use bytes::Bytes;

use super::{FileType, Identity, Meta, Step};

/// A node of the shown tree. Cheap to clone.
#[derive(Clone)]
pub struct Node {
    /// Its attributes.
    pub meta: Meta,
    /// What it is.
    pub content: Content,
    /// Its extended attributes; `None` when it has none to get or list.
    pub xattrs: Option<Arc<dyn Xattrs>>,
}

/// What a node is.
#[derive(Clone)]
pub enum Content {
    /// A directory.
    Dir(Arc<dyn Dir>),
    /// A regular file.
    File(Arc<dyn File>),
    /// A symbolic link with its target, byte for byte as recorded.
    Symlink(Bytes),
    /// A device, pipe or socket: all there is to it is in [`Meta`].
    Special,
}

/// A position in a directory. 0 is the beginning. An entry's position keeps its meaning for as long as the mount lives:
/// entries that come and go in a changing directory never shift the others.
pub type Cookie = u64;

/// A directory.
///
/// An implementation is a light handle: what it lists may leave memory between two calls and is fetched again. `.` and
/// `..` are never listed or looked up here. Lookup and listing agree on every name.
pub trait Dir: Send + Sync {
    /// The node called `name`, or `None` when a complete, authenticated answer says that there is none.
    ///
    /// May answer names that are not listed. Errors: whatever kept the answer from being complete; never `NotFound`.
    fn lookup(&self, name: &[u8]) -> Step<Option<Node>>;

    /// All entries, in memory. The caller drops it soon: it pins the parsed directory.
    fn listing(&self) -> Step<Arc<dyn Listing>>;

    /// What makes its content, with everything below, the same as that of another directory of its source, wherever that
    /// is shown; `None` where nothing tells without reading it.
    fn content(&self) -> Option<u128> {
        None
    }
}

/// Bytes of a file that are fetched before it is opened. Who reads on is read ahead of.
pub const BEGINNING: u64 = 1 << 20;

/// How much is worth announcing at a time of what is near; less never is.
pub const STRIDE: u64 = 256 << 10;

/// The entries of a directory, complete and in memory.
pub trait Listing: Send + Sync {
    /// Visits the entries whose position is `from` or later, in order of position, until the sink breaks.
    fn visit(&self, from: Cookie, sink: &mut dyn Sink);

    /// The node of the entry at exactly `at`, or `None` when there is no such entry (any more), or when its attributes
    /// are not at hand ([`Entry::meta`] is `None`): then [`Dir::lookup`] answers.
    fn node(&self, at: Cookie) -> Option<Node>;

    /// Told that the files at `files` are about to be read, each from its beginning, in this order: what may have to be
    /// fetched is asked for now, together, as far as there is room for reading ahead; of files larger than [`BEGINNING`]
    /// only what is read first. Returns at once.
    fn will_read(&self, files: &[Cookie]) {
        let _ = files;
    }

    /// How many bytes of content are worth announcing at a time: [`STRIDE`], and more the longer a request takes.
    fn stride(&self) -> u64 {
        STRIDE
    }
}

/// One entry while it is visited: borrows from the listing, allocates nothing.
pub struct Entry<'a> {
    /// Its own position: `visit(at, …)` starts with it.
    pub at: Cookie,
    /// Where to go on after it; greater than `at`.
    pub next: Cookie,
    /// Its name: 1 to 255 bytes, no `/`, no NUL, not `.` or `..`; unique in the listing.
    pub name: &'a [u8],
    /// Its type.
    pub kind: FileType,
    /// What makes it this node; equal to its node's [`Meta::identity`].
    pub identity: Identity,
    /// Its attributes, or `None` where only a lookup can tell them (the date directories of a set, whose attributes
    /// lie in the repository).
    pub meta: Option<Meta>,
}

/// Receives entries. A closure `FnMut(&Entry) -> ControlFlow<()>` is one.
pub trait Sink {
    /// Takes one entry; `Break` ends the visit, and the entry counts as not taken.
    fn entry(&mut self, entry: &Entry<'_>) -> ControlFlow<()>;
}

impl<F: FnMut(&Entry<'_>) -> ControlFlow<()>> Sink for F {
    fn entry(&mut self, entry: &Entry<'_>) -> ControlFlow<()> {
        self(entry)
    }
}

/// A file behind one that is shown.
#[derive(Clone)]
pub struct Backing {
    /// It, open.
    pub file: Arc<dyn AsFd + Send + Sync>,
    /// What must stay as long as the kernel reads it, whether or not it is open here.
    pub lease: Option<Arc<dyn Any + Send + Sync>>,
}

/// A regular file.
pub trait File: Send + Sync {
    /// A reader of its bytes. Readers are independent of each other and may be kept for long.
    fn open(&self) -> Step<Arc<dyn Reader>>;
}

/// Reads the bytes of one file, at any offset, from many threads at once.
pub trait Reader: Send + Sync {
    /// Exactly `min(len, size - offset)` bytes at `offset`; none at or past the end. Never fewer: what cannot be had
    /// is an error.
    fn read_at(&self, offset: u64, len: usize) -> Step<Bytes>;

    /// The first offset at or after `offset` that holds data, or `None` when only a hole follows. `offset` lies before
    /// the end of the file.
    fn next_data(&self, offset: u64) -> Step<Option<u64>> {
        Step::ok(Some(offset))
    }

    /// The first offset at or after `offset` where a hole begins; the end of the file counts as one.
    fn next_hole(&self, offset: u64) -> Step<u64>;

    /// An open file of this machine that holds exactly these bytes and is as fast as memory or a disk: the kernel may read
    /// it by itself. `None` where reads have to come here.
    fn backing(&self) -> Option<Backing> {
        None
    }
}

/// Extended attributes of a node. Names are full (`user.comment`, `system.posix_acl_access`).
pub trait Xattrs: Send + Sync {
    /// The value of `name`, or `None`. May answer names that are not listed.
    fn get(&self, name: &[u8]) -> Step<Option<Bytes>>;

    /// The names to list.
    fn names(&self) -> Step<Vec<Bytes>>;

    /// Likewise for who is not shown those of `trusted.`, which are left out where somebody else would have to be asked.
    fn names_but_trusted(&self) -> Step<Vec<Bytes>> {
        self.names()
    }
}
