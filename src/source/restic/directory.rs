//! Directories of a backup as nodes of the shown tree.
//!
//! A handle is light: a tree id and a place. The parsed tree lives in the cache and is fetched again when it left.

use std::sync::Arc;

use bytes::Bytes;

use super::file::{EntryXattrs, TreeFile};
use super::format::tree::NodeRef;
use super::parsed::Parsed;
use super::view::Place;
use crate::error::{Error, Kind};
use crate::source::chunked::Id;
use crate::tree::{
    BEGINNING, Content, Cookie, Dir, Entry, FileType, Identity, Listing, Meta, Node, Sink, Step, Validity,
};

/// What is wrong with a directory of which only the name was recorded.
pub(super) const NO_TREE: &str = "the directory's node names no tree";

/// A directory at its place.
#[derive(Clone)]
pub(super) struct TreeDir {
    pub tree: Id,
    pub place: Arc<Place>,
    /// The directory it is in, where it was found in one.
    pub above: Option<Id>,
}

impl TreeDir {
    /// The parsed directory, with errors that tell its path.
    pub(super) fn parsed(&self) -> Step<Arc<Parsed>> {
        if let Err(error) = self.place.check_depth() {
            return Step::err(self.place.explain(None, error));
        }
        match self.place.view.repository.directory(&self.tree, &self.place) {
            Step::Ready(Ok(parsed)) => Step::ok(parsed),
            Step::Ready(Err(error)) => Step::err(self.place.explain(None, error)),
            Step::Wait(wait) => {
                let place = Arc::clone(&self.place);
                Step::wait(async move { wait.await.map_err(|error| place.explain(None, error)) })
            }
        }
    }

    /// The node of entry number `at`.
    pub(super) fn node(&self, parsed: &Parsed, at: usize) -> Option<Node> {
        let entry = parsed.entry(at)?;
        let place = entry.kind() == FileType::Dir;
        Some(self.node_at(parsed, at, &entry, place.then(|| self.place.join(entry.name()))))
    }

    /// The node of an entry; if it is a directory, it lies at `place`.
    pub(super) fn node_at(
        &self,
        parsed: &Parsed,
        at: usize,
        entry: &NodeRef<'_>,
        place: Option<Arc<Place>>,
    ) -> Node {
        let content = match (entry.kind(), place) {
            (FileType::Dir, Some(place)) => match entry.subtree() {
                Some(tree) => Content::Dir(Arc::new(TreeDir { tree, place, above: Some(self.tree) })),
                None => Content::Dir(Arc::new(Lost(place))),
            },
            (FileType::File, _) => Content::File(Arc::new(TreeFile { dir: self.clone(), entry: at })),
            (FileType::Symlink, _) => Content::Symlink(Bytes::copy_from_slice(entry.target())),
            _ => Content::Special,
        };
        let meta = meta(&self.place, parsed, at, entry);
        let xattrs = || Arc::new(EntryXattrs { dir: self.clone(), entry: at }) as _;
        Node { meta, content, xattrs: meta.has_xattrs.then(xattrs) }
    }
}

/// The attributes of an entry of the directory at `place`.
fn meta(place: &Place, parsed: &Parsed, at: usize, entry: &NodeRef<'_>) -> Meta {
    let kind = entry.kind();
    let (size, blocks) = match kind {
        FileType::File => {
            let measure = parsed.measure(at);
            (measure.size, measure.blocks)
        }
        FileType::Symlink => (entry.target().len() as u64, 0),
        _ => (0, 0),
    };
    Meta {
        kind,
        perm: entry.perm(),
        uid: entry.uid(),
        gid: entry.gid(),
        nlink: entry.links(),
        rdev: entry.rdev(),
        size,
        blocks,
        mtime: entry.mtime(),
        atime: entry.atime(),
        ctime: entry.ctime(),
        validity: Validity::Forever,
        identity: identity(place, entry),
        has_xattrs: entry.xattrs().next().is_some(),
    }
}

/// Hard links of one snapshot are one node; an unchanged file is one node in all snapshots that show it at this path.
fn identity(place: &Place, entry: &NodeRef<'_>) -> Identity {
    if entry.kind() != FileType::File {
        return Identity::Path;
    }
    match entry.device_inode() {
        Some((device, inode)) if entry.links() > 1 => {
            Identity::Key(place.view.link_key(device, inode, entry.digest()))
        }
        _ => Identity::Key(place.file_key(entry.name(), entry.digest())),
    }
}

impl Dir for TreeDir {
    fn lookup(&self, name: &[u8]) -> Step<Option<Node>> {
        self.place.view.repository.dates.looked_up(&self.place, name);
        match self.parsed() {
            Step::Ready(Ok(parsed)) => Step::ok(parsed.find(name).and_then(|at| self.node(&parsed, at))),
            Step::Ready(Err(error)) => Step::err(error),
            Step::Wait(wait) => {
                let (dir, name) = (self.clone(), name.to_vec());
                Step::wait(async move {
                    let parsed = wait.await?;
                    Ok(parsed.find(&name).and_then(|at| dir.node(&parsed, at)))
                })
            }
        }
    }

    fn listing(&self) -> Step<Arc<dyn Listing>> {
        let dir = self.clone();
        let parsed = self.parsed();
        if self.place.is_walked() && matches!(parsed, Step::Wait(_)) {
            self.place.view.repository.read_on(self);
        }
        parsed.map(move |parsed| Ok(Arc::new(Entries { dir, parsed }) as Arc<dyn Listing>))
    }

    fn content(&self) -> Option<u128> {
        // A part of a hash is a hash.
        self.tree.0.first_chunk().map(|bytes| u128::from_le_bytes(*bytes))
    }
}

/// The entries of a directory. An entry's cookie is its number in the tree, which never changes.
struct Entries {
    dir: TreeDir,
    parsed: Arc<Parsed>,
}

impl Listing for Entries {
    fn visit(&self, from: Cookie, sink: &mut dyn Sink) {
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        for at in from..self.parsed.len() {
            let Some(node) = self.parsed.entry(at) else { continue };
            let meta = meta(&self.dir.place, &self.parsed, at, &node);
            let entry = Entry {
                at: at as u64,
                next: at as u64 + 1,
                name: node.name(),
                kind: meta.kind,
                identity: meta.identity,
                meta: Some(meta),
            };
            if sink.entry(&entry).is_break() {
                return;
            }
        }
    }

    fn node(&self, at: Cookie) -> Option<Node> {
        self.dir.node(&self.parsed, usize::try_from(at).ok()?)
    }

    fn will_read(&self, files: &[Cookie]) {
        let mut blobs: Vec<Id> = Vec::new();
        for at in files.iter().filter_map(|at| usize::try_from(*at).ok()) {
            let Some(file) = self.parsed.entry(at) else { continue };
            let is_large = self.parsed.measure(at).size > BEGINNING;
            let count = if is_large { 1 } else { usize::MAX };
            blobs.extend(file.content().iter().take(count).copied());
        }
        self.dir.place.view.repository.loader.announce(blobs);
    }

    fn stride(&self) -> u64 {
        self.dir.place.view.repository.loader.stride()
    }
}

/// A directory whose node names no tree.
struct Lost(Arc<Place>);

impl Lost {
    fn error(&self) -> Error {
        self.0.explain(None, Error::new(Kind::Corrupt, NO_TREE))
    }
}

impl Dir for Lost {
    fn lookup(&self, _: &[u8]) -> Step<Option<Node>> {
        Step::err(self.error())
    }

    fn listing(&self) -> Step<Arc<dyn Listing>> {
        Step::err(self.error())
    }
}
