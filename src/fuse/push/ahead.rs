//! Which directories a walk through a tree comes to next.
//!
//! A copy goes down before it goes on: after a directory come its first subdirectories, and where it has none the ones
//! that follow it in its parent, or those that follow the parent.

use std::sync::{Arc, Mutex, PoisonError};

use super::survey::{Order, Survey};
use super::{Worker, everything};
use crate::error::Result;
use crate::fuse::inodes::Origin;
use crate::tree::{Content, Listing, STRIDE, Step};

/// Directories whose content is fetched before somebody lists them: of a near store, and for as many times its stride
/// more of another, at most so many.
const AHEAD: u64 = 2;
const MOST_AHEAD: u64 = 16;

/// How far up it is looked for what follows.
const UP: usize = 4;

/// The subdirectories of the directory looked at last: a parent is asked again for each of them.
#[derive(Default)]
pub(super) struct Children(Mutex<Option<(u64, Arc<Survey>)>>);

impl Worker {
    /// Fetches what the files of the directories that follow `dir` hold, at most `bytes` of each; `below` are its own.
    pub(super) fn ahead(&self, dir: u64, below: &Survey, order: Order, bytes: u64) -> Result<()> {
        if below.len() > 0 {
            return self.fetch_dirs(dir, below, order, 0, bytes);
        }
        let mut below = dir;
        for _ in 0..UP {
            let known = self.state.known(below)?;
            let Origin::Listed { parent, .. } = &*known.place.origin else { return Ok(()) };
            let siblings = self.children(*parent)?;
            let Some(rank) = siblings.rank(order, known.place.at, below) else { return Ok(()) };
            if rank + 1 < siblings.len() {
                return self.fetch_dirs(*parent, &siblings, order, rank + 1, bytes);
            }
            below = *parent;
        }
        Ok(())
    }

    fn children(&self, dir: u64) -> Result<Arc<Survey>> {
        let known = self.children.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, children)) = known.filter(|(of, _)| *of == dir) {
            return Ok(children);
        }
        let (listing, lineage) = self.listing(dir)?;
        let children = Arc::new(self.look(&*listing, lineage).dirs);
        *self.children.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((dir, children.clone()));
        Ok(children)
    }

    fn fetch_dirs(&self, parent: u64, dirs: &Survey, order: Order, from: usize, bytes: u64) -> Result<()> {
        let (listing, _) = self.listing(parent)?;
        let stride = listing.stride();
        let bytes = bytes.max(stride);
        let count = usize::try_from((AHEAD * stride / STRIDE).clamp(AHEAD, MOST_AHEAD)).unwrap_or(1);
        for dir in (from..from + count).filter_map(|rank| dirs.file(order, rank)) {
            let Some(node) = listing.node(dir.at) else { continue };
            let Content::Dir(dir) = node.content else { continue };
            fetch_files(dir.listing(), bytes, &self.runtime);
        }
        Ok(())
    }
}

/// Asks for what the files of a directory hold, once it is listed.
fn fetch_files(listing: Step<Arc<dyn Listing>>, bytes: u64, runtime: &tokio::runtime::Handle) {
    match listing {
        Step::Ready(Ok(listing)) => everything(&*listing, bytes),
        // What cannot be read is told to who asks for it.
        Step::Ready(Err(_)) => {}
        Step::Wait(wait) => {
            runtime.spawn(async move {
                if let Ok(listing) = wait.await {
                    everything(&*listing, bytes);
                }
            });
        }
    }
}
