//! One path of one snapshot, as it is shown: where nodes lie in it, what identifies them, how errors are told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::repository::Repository;
use crate::error::{Error, Kind, Result};
use crate::source::chunked::hash;
use crate::tree::SnapshotId;

/// Directories nested deeper than this are not shown.
const DEEPEST: u16 = 4096;

/// One path of one snapshot.
pub(super) struct View {
    pub repository: Arc<Repository>,
    pub snapshot: SnapshotId,
    /// The path as recorded.
    pub path: Arc<[u8]>,
    /// Hashed into the identities of hard links.
    links: u128,
}

/// A directory's place in a view. A chain of names, so that a message can tell the whole path.
pub(super) struct Place {
    pub view: Arc<View>,
    parent: Option<Arc<Place>>,
    name: Box<[u8]>,
    depth: u16,
    /// Of the repository, the recorded path, and all names from there on.
    hash: u128,
    /// Whether it was listed, and how many of its directories were.
    listed: AtomicBool,
    entered: AtomicU32,
}

impl View {
    /// Path number `number` of a snapshot.
    pub(super) fn new(
        repository: Arc<Repository>,
        snapshot: SnapshotId,
        number: usize,
        path: Arc<[u8]>,
    ) -> Arc<Self> {
        let links = hash(&[
            b"links",
            repository.id().as_bytes(),
            snapshot.as_bytes(),
            &(number as u64).to_le_bytes(),
        ]);
        Arc::new(View { repository, snapshot, path, links })
    }

    /// What hard links to one inode share: the recorded device and inode, in this view only, and everything else that
    /// is recorded but the name: links that were saved differently must not share pages.
    pub(super) fn link_key(&self, device: u64, inode: u64, digest: u128) -> u128 {
        let place = [device.to_le_bytes(), inode.to_le_bytes()].concat();
        hash(&[b"link", &self.links.to_le_bytes(), &place, &digest.to_le_bytes()])
    }
}

impl Place {
    /// The root of a view.
    pub(super) fn root(view: Arc<View>) -> Arc<Self> {
        let hash = hash(&[b"path", view.repository.id().as_bytes(), &view.path]);
        Arc::new(Place::new(view, None, Box::default(), hash))
    }

    /// The directory `name` in this one.
    pub(super) fn join(self: &Arc<Self>, name: &[u8]) -> Arc<Self> {
        Arc::new(Place::new(Arc::clone(&self.view), Some(Arc::clone(self)), name.into(), self.hash_of(name)))
    }

    fn new(view: Arc<View>, parent: Option<Arc<Place>>, name: Box<[u8]>, hash: u128) -> Self {
        let depth = parent.as_ref().map_or(0, |parent| parent.depth.saturating_add(1));
        Place { view, parent, name, depth, hash, listed: AtomicBool::new(false), entered: AtomicU32::new(0) }
    }

    /// The directory it is in, unless it is the root.
    pub(super) fn parent(&self) -> Option<&Arc<Place>> {
        self.parent.as_ref()
    }

    /// Its name; empty for the root.
    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    /// Notes that it is listed. True the first time, when somebody seems to be walking: a directory beside this one was
    /// listed before, or several around its parent.
    pub(super) fn is_walked(&self) -> bool {
        let Some(parent) = &self.parent else { return false };
        if self.listed.swap(true, Ordering::Relaxed) {
            return false;
        }
        let before = parent.entered.fetch_add(1, Ordering::Relaxed);
        let around = parent.parent.as_ref().map_or(0, |above| above.entered.load(Ordering::Relaxed));
        before >= 1 || around >= 2
    }

    /// The names from the root to `name` in this directory.
    pub(super) fn names(&self, name: &[u8]) -> Vec<Box<[u8]>> {
        let mut names = vec![Box::from(name)];
        let mut place = self;
        while let Some(parent) = &place.parent {
            names.push(place.name.clone());
            place = parent;
        }
        names.reverse();
        names
    }

    /// What a regular file called `name` with one link is identified by: its place, and everything recorded of it.
    pub(super) fn file_key(&self, name: &[u8], digest: u128) -> u128 {
        hash(&[b"file", &self.hash_of(name).to_le_bytes(), &digest.to_le_bytes()])
    }

    fn hash_of(&self, name: &[u8]) -> u128 {
        hash(&[b"name", &self.hash.to_le_bytes(), name])
    }

    /// Refuses directories that nest without end.
    pub(super) fn check_depth(&self) -> Result<()> {
        if self.depth <= DEEPEST {
            return Ok(());
        }
        Err(Error::new(Kind::Corrupt, format!("directories nest deeper than {DEEPEST}")))
    }

    /// Tells of an error on `name` in this directory (or on the directory itself): damage is counted once, and what is
    /// lost because its snapshot was removed is said to be so. Whoever answers the error to somebody logs it.
    pub(super) fn explain(&self, name: Option<&[u8]>, error: Error) -> Error {
        let snapshot = &self.view.snapshot;
        let catalogue = &self.view.repository.catalogue;
        let short = snapshot.get(..8).unwrap_or(snapshot);
        let about = format!("{}: snapshot {short}: {}", catalogue.name, self.path(name));
        let error = match error.kind() {
            Kind::Corrupt if catalogue.snapshots().get(snapshot).is_none() => error.with_kind(Kind::Stale),
            _ => error,
        };
        if error.kind() == Kind::Corrupt {
            catalogue.damage.first((self.hash, name));
        }
        error.context(about)
    }

    /// The path for messages, with what cannot be printed escaped.
    pub(super) fn path(&self, name: Option<&[u8]>) -> String {
        let mut names: Vec<&[u8]> = name.into_iter().collect();
        let mut place = self;
        while let Some(parent) = &place.parent {
            names.push(&place.name);
            place = parent;
        }
        let mut path = self.view.path.escape_ascii().to_string();
        for name in names.iter().rev() {
            if !path.ends_with('/') {
                path.push('/');
            }
            path.push_str(&name.escape_ascii().to_string());
        }
        path
    }
}

impl Drop for Place {
    /// A chain of thousands is not dropped by recursion.
    fn drop(&mut self) {
        let mut parent = self.parent.take();
        while let Some(place) = parent {
            parent = Arc::into_inner(place).and_then(|mut place| place.parent.take());
        }
    }
}
