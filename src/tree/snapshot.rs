//! Snapshots, and the sources that yield them.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{Meta, Node, Step, Time};
use crate::error::{Error, Result};

/// The name of a snapshot within its source: lowercase hexadecimal or another stable text without `/`.
pub type SnapshotId = Arc<str>;

/// When a snapshot was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotTime {
    /// The instant.
    pub instant: Time,
    /// The offset from UTC that was recorded, in seconds east; `None` where the kind records none.
    pub offset: Option<i32>,
}

/// One snapshot as its source lists it: cheap to list, nothing of its tree is read.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its name in the source.
    pub id: SnapshotId,
    /// The id under which it was first written, where it is a copy or was changed since and the writer recorded that:
    /// names made of it are the same for the original and its copies.
    pub original: Option<SnapshotId>,
    /// When it was taken.
    pub time: SnapshotTime,
    /// The host that was backed up; `None` when not recorded.
    pub host: Option<Arc<str>>,
    /// Who made it.
    pub user: Option<Arc<str>>,
    /// Tags, in recorded order.
    pub tags: Arc<[Arc<str>]>,
    /// The paths that were backed up, as recorded (bytes, any form); at least one.
    pub paths: Arc<[Arc<[u8]>]>,
    /// What makes its content the same as a copy's elsewhere (the tree id): equal host, path, time and content are
    /// one date.
    pub content: Arc<str>,
    /// What names it where it lies.
    pub given: Given,
}

/// How a snapshot is called by those who made it, where that says more than host, path and time do. All of it is empty
/// for kinds whose snapshots have no names but their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// The name of its set as it stands there, which is shown byte for byte: it holds `@+`, and can be a name.
    pub set: Option<Arc<[u8]>>,
    /// Its own name, by which it is shown because it tells no time.
    pub label: Option<Arc<str>>,
    /// What the named parts of its place stand for, for templates of set names.
    pub parts: Arc<[Part]>,
}

/// A named part of a place, and what it stands for.
pub type Part = (Arc<str>, Arc<[u8]>);

/// What is known of a directory above a backed-up path: enough to decide who may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ancestor {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits, with the group bits already cut to what an ACL's group entry grants.
    pub perm: u16,
}

/// The directories above a backed-up path, outermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ancestors {
    /// All of them are recorded; empty for `/` itself.
    Recorded(Vec<Ancestor>),
    /// At least one is not: who might pass is unknown.
    Unknown,
}

/// The content of one path of one snapshot.
#[derive(Clone)]
pub struct Opened {
    /// Its last component as recorded: the name to show it under when it is not a directory.
    pub name: Arc<[u8]>,
    /// The node of the path; its identity is for the caller to replace.
    pub node: Node,
    /// What lay above it.
    pub ancestors: Ancestors,
}

/// What a source holds, for `statfs` and `status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of content that the source can serve (indexed plaintext).
    pub bytes: u64,
    /// Objects that hold them (blobs, or files; snapshots, where nobody counts what is in them).
    pub objects: u64,
}

/// How a source is doing.
#[derive(Clone, Debug)]
pub struct SourceHealth {
    /// When the last complete listing of snapshots was had; `None` before the first.
    pub listed: Option<std::time::SystemTime>,
    /// Why the last attempt to refresh failed; `None` when it did not.
    pub error: Option<Error>,
    /// What it holds.
    pub usage: Usage,
    /// Damaged or unshowable things met so far (a garbage snapshot file, a bad name), each logged once.
    pub omitted: u64,
    /// Of those, the files that lists are made of (a garbage snapshot file, a cut index): which and why, at most
    /// [`SourceHealth::MOST_TOLD`].
    pub left_out: Vec<String>,
}

impl SourceHealth {
    /// So many damaged files are told one by one.
    pub const MOST_TOLD: usize = 20;
}

/// A place that holds snapshots: one repository, one dataset, one pattern of directories.
pub trait Source: Send + Sync {
    /// The identity of the repository, stable over mounts and equal for every way to reach it.
    fn id(&self) -> &str;

    /// How the source is called in messages and in `/proc/mounts`: no secrets.
    fn name(&self) -> &str;

    /// The last complete list of snapshots, in no particular order. Never fetches; the same until a refresh succeeds.
    fn snapshots(&self) -> Arc<[Snapshot]>;

    /// Lists again. True when the list of snapshots changed. On failure the last complete list stays.
    fn refresh(&self) -> BoxFuture<'_, Result<bool>>;

    /// The content of `paths[path]` of a snapshot. Errors, which say of which source and snapshot they are: `NotFound`
    /// when the snapshot holds no such path, `Stale` when the snapshot left the list.
    fn open(&self, snapshot: &SnapshotId, path: usize) -> Step<Opened>;

    /// What it held at a moment, where it can show any: the last change not later than that, as a snapshot that can be
    /// opened and need not be listed. Never fetches. `None` from a source that has snapshots only, which is what this
    /// default says, and where nothing is that old.
    fn at(&self, moment: Time) -> Option<Snapshot> {
        let _ = moment;
        None
    }

    /// How it is doing. Never fetches.
    fn health(&self) -> SourceHealth;

    /// It is shown no more, though somebody may still read it: what it keeps for the next look may go. Never blocks.
    fn retire(&self) {}
}

impl Ancestor {
    /// What `meta` of a directory says, its ACL (if any) left out of account.
    pub fn of(meta: &Meta) -> Self {
        Ancestor { uid: meta.uid, gid: meta.gid, perm: meta.perm & 0o777 }
    }
}
