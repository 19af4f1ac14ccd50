//! The index of one repository at one moment: a stack of segments, and which of their index files count.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::row::Row;
use super::segment::{Covered, Segment};
use super::{BlobKind, NewSegments, Place, Standing};
use crate::source::chunked::Id;

/// Immutable and cheap to clone: a refresh makes a new one.
#[derive(Clone, Default)]
pub struct BlobIndex {
    layers: Vec<Layer>,
    /// The index files of the last listing.
    listed: Arc<HashSet<Id>>,
    /// The index files of all listings that this process made.
    seen: Arc<HashSet<Id>>,
    generation: u64,
}

/// A segment as one stack sees it.
#[derive(Clone)]
pub(super) struct Layer {
    pub segment: Arc<Segment>,
    /// By file.
    pub shown: Arc<[Shown]>,
}

/// How the rows of an index file count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// In the last listing.
    Current,
    /// In an earlier listing of this process and not in the last: its places are the last resort.
    Gone,
    /// In no listing of this process, or another layer has it too, or not all of it is here.
    Hidden,
}

/// A row that was found, and where.
struct Found<'a> {
    segment: &'a Segment,
    row: Row,
    standing: Standing,
}

impl Found<'_> {
    fn place(&self) -> Option<Place> {
        Some(self.row.place(self.segment.pack(self.row.pack())?, self.standing))
    }
}

impl Layer {
    /// Calls `each` for the rows of one blob that count, until it breaks.
    fn visit<'a>(&'a self, kind: BlobKind, id: &Id, each: &mut dyn FnMut(Found<'a>) -> ControlFlow<()>) {
        self.segment.visit(kind, id, &mut |row| {
            let shown = self.shown.get(self.segment.file_of(row.pack()));
            let standing = match (shown, row.is_deleted()) {
                (Some(Shown::Current), false) => Standing::Live,
                (Some(Shown::Current), true) => Standing::Deleted,
                (Some(Shown::Gone), _) => Standing::Stale,
                (Some(Shown::Hidden) | None, _) => return ControlFlow::Continue(()),
            };
            each(Found { segment: &self.segment, row, standing })
        });
    }

    /// Its files that count, and how.
    fn files(&self) -> impl Iterator<Item = (&Covered, Shown)> {
        self.segment.files.iter().zip(self.shown.iter().copied()).filter(|(_, shown)| *shown != Shown::Hidden)
    }
}

impl BlobIndex {
    /// An index that waits for its first listing, with what earlier processes left.
    pub(super) fn of(segments: Vec<Arc<Segment>>) -> Self {
        let hidden = |segment: Arc<Segment>| {
            let shown = segment.files.iter().map(|_| Shown::Hidden).collect();
            Layer { segment, shown }
        };
        BlobIndex { layers: segments.into_iter().map(hidden).collect(), ..BlobIndex::default() }
    }

    /// Counts the changes: equal generations of one repository hold equal places.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The best place of a blob.
    pub fn find(&self, kind: BlobKind, id: &Id) -> Option<Place> {
        self.best(kind, id)?.place()
    }

    /// Plaintext bytes of a blob, as its best place has it. Quicker than `find`, which looks up the pack too.
    pub fn size(&self, kind: BlobKind, id: &Id) -> Option<u32> {
        Some(self.best(kind, id)?.row.size())
    }

    fn best(&self, kind: BlobKind, id: &Id) -> Option<Found<'_>> {
        let mut best: Option<Found> = None;
        for layer in self.layers.iter().rev() {
            layer.visit(kind, id, &mut |found| {
                let is_live = found.standing == Standing::Live;
                if best.as_ref().is_none_or(|known| found.standing < known.standing) {
                    best = Some(found);
                }
                if is_live { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            if best.as_ref().is_some_and(|best| best.standing == Standing::Live) {
                break;
            }
        }
        best
    }

    /// All places of a blob, best first.
    pub fn places(&self, kind: BlobKind, id: &Id) -> Vec<Place> {
        let mut places: Vec<Place> = Vec::new();
        for layer in self.layers.iter().rev() {
            layer.visit(kind, id, &mut |found| {
                places.extend(found.place());
                ControlFlow::Continue(())
            });
        }
        places.sort_by_key(|place| place.standing);
        places
    }

    /// The index files that need not be read: all their blobs are held, whether they are current or not. A damaged
    /// segment holds nothing.
    pub fn files(&self) -> HashSet<Id> {
        let whole = self.layers.iter().filter(|layer| !layer.segment.is_damaged());
        whole.flat_map(|layer| &layer.segment.files).filter(|file| file.whole).map(|file| file.id).collect()
    }

    /// The index files of the last listing whose blobs are held.
    pub fn current(&self) -> impl Iterator<Item = &Id> {
        self.current_files().map(|file| &file.id)
    }

    /// Those of them of which malformed entries were left out, and how many.
    pub fn malformed(&self) -> impl Iterator<Item = (Id, u64)> {
        self.current_files().filter(|file| file.malformed > 0).map(|file| (file.id, file.malformed))
    }

    /// Data blobs of current index files, and their plaintext bytes. A blob that lies in several segments counts in each
    /// until they are merged.
    pub fn usage(&self) -> (u64, u64) {
        self.current_files().fold((0, 0), |(blobs, bytes), file| (blobs + file.blobs, bytes + file.bytes))
    }

    fn current_files(&self) -> impl Iterator<Item = &Covered> {
        let all = self.layers.iter().flat_map(Layer::files);
        all.filter(|(_, shown)| *shown == Shown::Current).map(|(file, _)| file)
    }

    /// The index after a listing that named `listed`, of which `new` were not held before; `None` when nothing changed.
    #[must_use]
    pub fn updated(&self, listed: &HashSet<Id>, new: &NewSegments) -> Option<BlobIndex> {
        let segments = self.segments().chain(new.0.iter().cloned()).collect();
        let seen = if listed.is_subset(&self.seen) {
            Arc::clone(&self.seen)
        } else {
            Arc::new(self.seen.union(listed).copied().collect())
        };
        let next = BlobIndex::stacked(segments, Arc::new(listed.clone()), seen, self.generation + 1);
        let same = next.layers.len() == self.layers.len()
            && next
                .layers
                .iter()
                .zip(&self.layers)
                .all(|(new, old)| Arc::ptr_eq(&new.segment, &old.segment) && new.shown == old.shown);
        (!same).then_some(next)
    }

    /// The same index in other segments: `from`, or what is still there of it, gives way to `to`.
    pub(super) fn exchanged(&self, from: &[Arc<Segment>], to: &[Arc<Segment>]) -> BlobIndex {
        let stays = |segment: &Arc<Segment>| !from.iter().any(|gone| Arc::ptr_eq(gone, segment));
        let segments = to.iter().cloned().chain(self.segments().filter(stays)).collect();
        BlobIndex::stacked(segments, Arc::clone(&self.listed), Arc::clone(&self.seen), self.generation)
    }

    /// Finds out what counts of each segment; those of which nothing does are left out. Of two segments that have the same
    /// index file the first counts, unless it is damaged.
    fn stacked(
        segments: Vec<Arc<Segment>>,
        listed: Arc<HashSet<Id>>,
        seen: Arc<HashSet<Id>>,
        generation: u64,
    ) -> Self {
        let mut taken: HashSet<Id> = HashSet::new();
        let mut order: Vec<usize> = (0..segments.len()).collect();
        order.sort_by_key(|at| segments.get(*at).is_some_and(|segment| segment.is_damaged()));
        let mut layers: Vec<(usize, Layer)> = Vec::with_capacity(segments.len());
        for at in order {
            let Some(segment) = segments.get(at).cloned() else { continue };
            let mut show = |file: &Covered| match (listed.contains(&file.id), seen.contains(&file.id)) {
                (false, false) => Shown::Hidden,
                (true, _) if !file.whole => Shown::Hidden,
                _ if !taken.insert(file.id) => Shown::Hidden,
                (true, _) => Shown::Current,
                (false, true) => Shown::Gone,
            };
            let shown: Arc<[Shown]> = segment.files.iter().map(&mut show).collect();
            if shown.iter().any(|shown| *shown != Shown::Hidden) {
                layers.push((at, Layer { segment, shown }));
            }
        }
        layers.sort_by_key(|(at, _)| *at);
        let layers = layers.into_iter().map(|(_, layer)| layer).collect();
        BlobIndex { layers, listed, seen, generation }
    }

    pub(super) fn layers(&self) -> &[Layer] {
        &self.layers
    }

    pub(super) fn segments(&self) -> impl Iterator<Item = Arc<Segment>> {
        self.layers.iter().map(|layer| Arc::clone(&layer.segment))
    }
}
