//! Where a directory lies in a tree.

use std::sync::Arc;

use rustix::fs::OFlags;

use super::descriptor::Descriptor;
use super::view::View;
use crate::error::{Error, Kind, Result};
use crate::source::chunked::{Id, Key, hash};

/// Directories nested deeper than this are not shown, nor those with a path that is longer.
const DEEPEST: usize = 4096;
const LONGEST: usize = 64 << 10;

/// A directory: its tree, and the path from the top of that.
pub(super) struct Place {
    pub view: Arc<View>,
    /// Names with `/` between them; empty for the top.
    pub path: Box<[u8]>,
    /// Of the tree and the path.
    hash: u128,
}

impl Place {
    /// The top of a tree.
    pub(super) fn top(view: Arc<View>) -> Self {
        let hash = view.hash;
        Place { view, path: Box::default(), hash }
    }

    /// The directory `name` in this one.
    pub(super) fn join(&self, name: &[u8]) -> Self {
        Place { view: Arc::clone(&self.view), path: self.path_of(name), hash: below(self.hash, name) }
    }

    /// The directory that it is in, and its name there; `None` for the top.
    pub(super) fn above(&self) -> Option<(Self, &[u8])> {
        let name = self.path.rsplit(|byte| *byte == b'/').next().filter(|name| !name.is_empty())?;
        let above = self.path.get(..self.path.len().saturating_sub(name.len() + 1)).unwrap_or_default();
        let names = above.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        let hash = names.fold(self.view.hash, below);
        Some((Place { view: Arc::clone(&self.view), path: above.into(), hash }, name))
    }

    /// The path of `name` in this directory.
    pub(super) fn path_of(&self, name: &[u8]) -> Box<[u8]> {
        if self.path.is_empty() { name.into() } else { [&*self.path, b"/", name].concat().into() }
    }

    /// Opens it. Blocks. Errors: `Corrupt` when it lies too deep.
    pub(super) fn open(&self) -> Result<Descriptor> {
        let depth = self.path.iter().filter(|byte| **byte == b'/').count();
        if depth >= DEEPEST || self.path.len() > LONGEST {
            return Err(Error::new(Kind::Corrupt, format!("directories nest deeper than {DEEPEST}")));
        }
        self.view.open(&self.path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// What it is kept by in memory.
    pub(super) fn key(&self) -> Key {
        let mut id = [0; 32];
        id.iter_mut().zip(self.hash.to_le_bytes()).for_each(|(to, from)| *to = from);
        (self.view.host.number, Id(id))
    }

    /// Says where an error was met: here, or at `name` in this directory.
    pub(super) fn explain(&self, name: Option<&[u8]>, error: Error) -> Error {
        match name {
            Some(name) => self.view.explain(&self.path_of(name), error),
            None => self.view.explain(&self.path, error),
        }
    }
}

/// The hash of `name` in the directory of this one.
fn below(above: u128, name: &[u8]) -> u128 {
    hash(&[b"directory", &above.to_le_bytes(), name])
}
