//! Writes and merges segments behind the mount's back.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::merge::{self, Input};
use super::segment::Segment;
use super::stack::{BlobIndex, Layer, Shown};
use super::{NewSegments, Shelf};
use crate::error::Result;
use crate::source::chunked::Id;

/// More layers than this are too many: a lookup asks each.
const MOST_LAYERS: usize = 6;

/// The index of a repository, and the thread that tends it when something changed.
pub struct Tender {
    index: ArcSwap<BlobIndex>,
    shelf: Option<Arc<Shelf>>,
    /// Files of segments that turned out to be damaged.
    damaged: Mutex<HashSet<String>>,
    busy: AtomicBool,
    /// Something changed since the thread began.
    again: AtomicBool,
}

impl Tender {
    /// With what lies on the shelf, if there is one.
    pub fn new(shelf: Option<Arc<Shelf>>) -> Arc<Self> {
        let stored = shelf.as_ref().and_then(|shelf| {
            let stored = shelf.index();
            stored.map_err(|error| tracing::warn!("index cache: {error}")).ok()
        });
        let index = ArcSwap::from_pointee(stored.unwrap_or_default());
        Arc::new(Tender {
            index,
            shelf,
            damaged: Mutex::default(),
            busy: AtomicBool::new(false),
            again: AtomicBool::new(false),
        })
    }

    /// The index as it is now.
    pub fn index(&self) -> Arc<BlobIndex> {
        self.index.load_full()
    }

    /// Where new index files that are too much for memory go.
    pub fn shelf(&self) -> Option<Arc<Shelf>> {
        self.shelf.clone()
    }

    /// Swaps in the index after a listing; false when nothing changed.
    pub fn update(&self, listed: &HashSet<Id>, new: &NewSegments) -> bool {
        self.note_damage();
        let mut changed = false;
        self.index.rcu(|index| match index.updated(listed, new) {
            Some(updated) => {
                changed = true;
                Arc::new(updated)
            }
            None => {
                changed = false;
                Arc::clone(index)
            }
        });
        changed
    }

    /// Remembers the names of damaged segments, and answers all such names: once replaced in the index they would look like
    /// any other file on the shelf.
    fn note_damage(&self) -> HashSet<String> {
        let mut names = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        let damaged = self.index.load().segments().filter(|segment| segment.is_damaged()).collect::<Vec<_>>();
        names.extend(damaged.iter().filter_map(|segment| segment.name().map(str::to_owned)));
        names.clone()
    }

    /// Sees to it that what changed is written and merged soon, on a thread that gets out of everybody's way.
    pub fn tend(self: &Arc<Self>) {
        self.again.store(true, Ordering::SeqCst);
        if self.busy.swap(true, Ordering::SeqCst) {
            return;
        }
        let tender = Arc::clone(self);
        let work = move || {
            be_nice();
            while tender.again.swap(false, Ordering::SeqCst) {
                tender.tend_now();
            }
            tender.busy.store(false, Ordering::SeqCst);
            // Told between the last look and the line above.
            if tender.again.load(Ordering::SeqCst) {
                tender.tend();
            }
        };
        if let Err(error) = std::thread::Builder::new().name("index".into()).spawn(work) {
            tracing::warn!("the index is not tended: {error}");
            self.busy.store(false, Ordering::SeqCst);
        }
    }

    /// Whether nothing is left to be done: all is on the shelf, in few segments.
    pub fn is_settled(&self) -> bool {
        let index = self.index.load();
        let unwritten = |segment: Arc<Segment>| self.shelf.is_some() && segment.name().is_none();
        index.layers().len() <= MOST_LAYERS && !index.segments().any(unwritten)
    }

    /// Merges all segments into one on this thread.
    #[cfg(test)]
    pub(super) fn merge_all(&self) {
        self.tend_by(|_| true);
    }

    /// Whether the thread is at work.
    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::SeqCst)
    }

    /// Writes and merges on this thread.
    pub(super) fn tend_now(&self) {
        self.tend_by(is_mostly_hidden);
    }

    /// Writes and merges, and rewrites layers that `must` be.
    fn tend_by(&self, must: fn(&Layer) -> bool) {
        let index = self.index();
        let from: Vec<Arc<Segment>> = index.segments().collect();
        let tended = match &self.shelf {
            Some(shelf) => on_shelf(&index, shelf, self.note_damage(), must),
            None => in_memory(&index, must),
        };
        match tended {
            Ok(Some(to)) => {
                self.index.rcu(|index| index.exchanged(&from, &to));
            }
            Ok(None) => {}
            Err(error) => tracing::warn!("the index is not written to the cache: {error}"),
        }
    }
}

/// Lets every other thread go first.
fn be_nice() {
    // A thread that cannot be nice does its work all the same.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), 19);
}

/// The segments that are to take the place of those of `index`, all of them on the shelf; `None` when nothing is to be done
/// or another process is at it. `spent` are names of files that are of no use.
fn on_shelf(
    index: &BlobIndex,
    shelf: &Shelf,
    mut spent: HashSet<String>,
    must: fn(&Layer) -> bool,
) -> Result<Option<Vec<Arc<Segment>>>> {
    let Some(lock) = shelf.lock()? else { return Ok(None) };
    let names = shelf.names()?;
    let is_stored = |segment: &Segment| segment.name().is_some_and(|name| names.iter().any(|n| n == name));
    let mut segments: Vec<Arc<Segment>> = index.segments().collect();
    let is_foreign = |name: &&String| {
        !spent.contains(*name) && !index.segments().any(|segment| segment.name() == Some(name.as_str()))
    };
    segments.extend(names.iter().filter(is_foreign).filter_map(|name| shelf.open_segment(name).ok()));
    segments.sort_by_key(|segment| (!is_stored(segment), std::cmp::Reverse(segment.len())));
    let own: Vec<Arc<Segment>> = index.segments().collect();
    let mut tended = index.exchanged(&own, &segments);
    let chosen = choice(tended.layers(), |layer| !is_stored(&layer.segment) || must(layer));
    if !chosen.is_empty() {
        let inputs: Vec<Input> = chosen.iter().map(|layer| (&*layer.segment, &*layer.shown)).collect();
        let merged = shelf.put(&lock, &inputs)?;
        let from: Vec<Arc<Segment>> = chosen.iter().map(|layer| Arc::clone(&layer.segment)).collect();
        tended = tended.exchanged(&from, &[merged]);
        spent.extend(from.iter().filter_map(|segment| segment.name().map(str::to_owned)));
    }
    // What is damaged and cannot be replaced yet serves until it is.
    spent.retain(|name| !tended.segments().any(|segment| segment.name() == Some(name.as_str())));
    shelf.sweep(&lock, &tended, &spent)?;
    let to: Vec<Arc<Segment>> = tended.segments().collect();
    let same = to.len() == own.len() && to.iter().zip(&own).all(|(a, b)| Arc::ptr_eq(a, b));
    Ok((!same).then_some(to))
}

/// The same in memory, where nothing has to be written.
fn in_memory(index: &BlobIndex, must: fn(&Layer) -> bool) -> Result<Option<Vec<Arc<Segment>>>> {
    let chosen = choice(index.layers(), must);
    if chosen.is_empty() {
        return Ok(None);
    }
    let inputs: Vec<Input> = chosen.iter().map(|layer| (&*layer.segment, &*layer.shown)).collect();
    let merged = Arc::new(merge::in_memory(&inputs)?);
    let from: Vec<Arc<Segment>> = chosen.iter().map(|layer| Arc::clone(&layer.segment)).collect();
    Ok(Some(index.exchanged(&from, &[merged]).segments().collect()))
}

/// Which layers are to be merged into one: those that must be written anyhow, the smallest while there are too many, and
/// with them all that are not larger than what is merged already, so that sizes grow by powers of two and each row is
/// written a few times only.
fn choice(layers: &[Layer], must: impl Fn(&Layer) -> bool) -> Vec<Layer> {
    let whole = layers.iter().filter(|layer| !layer.segment.is_damaged()).cloned();
    let (mut chosen, mut others): (Vec<Layer>, Vec<Layer>) = whole.partition(&must);
    others.sort_by_key(|layer| std::cmp::Reverse(layer.segment.len()));
    let mut rows: u64 = chosen.iter().map(|layer| layer.segment.len()).sum();
    while let Some(smallest) = others.last() {
        let left = others.len() + usize::from(!chosen.is_empty());
        if left <= MOST_LAYERS && smallest.segment.len() > rows {
            break;
        }
        if chosen.is_empty() && left <= MOST_LAYERS {
            break;
        }
        rows += smallest.segment.len();
        chosen.extend(others.pop());
    }
    chosen
}

/// Whether most index files of a layer do not count, and would be left out of a merge.
fn is_mostly_hidden(layer: &Layer) -> bool {
    let hidden = layer.shown.iter().filter(|shown| **shown == Shown::Hidden).count();
    hidden * 2 > layer.shown.len()
}
