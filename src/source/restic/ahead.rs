//! Reads directories ahead of whoever walks them: together, those that lie side by side in a pack by one read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::directory::TreeDir;
use super::parsed::Parsed;
use super::repository::{HUGE, Repository};
use super::view::Place;
use crate::error::Result;
use crate::source::chunked::{BlobKind, Boarding, Id, Landing, Waiter};

/// Directories read ahead together, at most.
const MOST: usize = 1024;

/// Their JSON comes to no more than this part of what is kept in memory: parsed, it is a third as large.
const SHARE: u64 = 8;

/// A directory to be read: its tree, and where it is shown, for messages.
pub(super) type Wanted = (Id, Arc<Place>);

type Answer = Result<Arc<Parsed>>;

/// What is to be read, in order, and what others read already.
#[derive(Default)]
struct Boarded {
    ids: Vec<Id>,
    duties: HashMap<Id, (Landing<Id, Answer>, Arc<Place>)>,
    others: Vec<Waiter<Answer>>,
}

impl Repository {
    /// Somebody walks the directories beside `dir` and had to wait for this one: reads those that come after it. What
    /// has no room is read when the next of them is missed.
    pub(super) fn read_on(self: &Arc<Self>, dir: &TreeDir) {
        let Some((parent, above)) = dir.place.parent().cloned().zip(dir.above) else { return };
        let Some(siblings) = self.parsed(&above) else { return };
        let (repository, name) = (Arc::clone(self), dir.place.name().to_vec());
        self.loader.runtime().spawn(async move {
            let looking = Arc::clone(&repository);
            let following = move || {
                let from = siblings.find(&name).map_or(0, |at| at + 1);
                let subdirectory = |at| {
                    let entry = siblings.entry(at)?;
                    let tree = entry.subtree().filter(|tree| looking.parsed(tree).is_none())?;
                    Some((tree, parent.join(entry.name())))
                };
                (from..siblings.len()).filter_map(subdirectory).take(MOST).collect::<Vec<_>>()
            };
            let wanted = repository.loader.shared().pool.run(following).await;
            repository.read_together(wanted.unwrap_or_default()).await;
        });
    }

    /// Reads those of `wanted` that are neither here nor under way, from the first, as far as there is room. Returns when
    /// they are here. Failures are told to whoever asks for the directory.
    pub(super) async fn read_together(self: &Arc<Self>, wanted: Vec<Wanted>) {
        let repository = Arc::clone(self);
        let board = move || repository.board(wanted);
        let Ok(Boarded { ids, duties, others }) = self.loader.shared().pool.run(board).await else { return };
        let (repository, duties) = (Arc::clone(self), Mutex::new(duties));
        let landed = move |id: Id, json: bytes::Bytes| {
            let duty = duties.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            let Some((landing, place)) = duty else { return };
            match repository.parse(&json, &id, &place) {
                Ok(tree) if tree.splices().is_empty() => {
                    let parsed = repository.measured(tree, &place);
                    landing.land(Ok(repository.keep(&id, parsed)));
                }
                // Dropped, the duty is the next one's who asks.
                _ => {}
            }
        };
        self.loader.together(BlobKind::Tree, ids, landed).await;
        for other in others {
            other.await;
        }
    }

    /// The duties to read those of `wanted` that nobody reads.
    fn board(&self, wanted: Vec<Wanted>) -> Boarded {
        let index = self.loader.index();
        let mut left = self.loader.shared().kept_bytes() / SHARE;
        let mut boarded = Boarded::default();
        for (tree, place) in wanted {
            let Some(size) = index.size(BlobKind::Tree, &tree) else { continue };
            if size > HUGE || self.parsed(&tree).is_some() {
                continue;
            }
            let Some(rest) = left.checked_sub(u64::from(size)) else { break };
            match self.directories.board(tree) {
                Boarding::Join(other) => boarded.others.push(other),
                Boarding::Lead(landing) => {
                    left = rest;
                    boarded.ids.push(tree);
                    boarded.duties.insert(tree, (landing, place));
                }
            }
        }
        boarded
    }
}
