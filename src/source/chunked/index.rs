//! Where blobs lie: (kind, id) → places in packs.
//!
//! A [`Segment`] holds the blobs of a set of index files in one sorted array of 48-byte rows. A [`BlobIndex`] is a stack
//! of segments: index files that appear become a new segment, and rows of index files that vanished stay as a last
//! resort until a merge finds them replaced. Both are immutable; a refresh builds a new stack and swaps it in.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Id;

/// The two kinds of blobs: a blob is looked up by kind and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlobKind {
    /// Content of files.
    Data,
    /// Directories.
    Tree,
}

/// One place of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The pack it lies in.
    pub pack: Id,
    /// First byte in the pack.
    pub offset: u32,
    /// Stored bytes.
    pub length: u32,
    /// Plaintext bytes.
    pub size: u32,
    /// Whether the stored bytes are compressed.
    pub compressed: bool,
    /// How much the index trusts the place.
    pub standing: Standing,
}

/// How much the index trusts a place; the least is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Named by a current index file.
    Live,
    /// In a pack that a current index file marks for deletion.
    Deleted,
    /// Named only by an index file that is gone.
    Stale,
}

/// The blobs of one index file, as they are read from it.
pub struct IndexFile {
    id: Id,
    packs: Vec<Id>,
    numbers: HashMap<Id, u32>,
    rows: Vec<Row>,
}

/// 48 bytes a blob. `pack` holds three flags above the number of the pack.
#[derive(Clone, Copy)]
struct Row {
    id: Id,
    pack: u32,
    offset: u32,
    length: u32,
    size: u32,
}

const TREE: u32 = 1 << 31;
const DELETED: u32 = 1 << 30;
const COMPRESSED: u32 = 1 << 29;
const NUMBER: u32 = COMPRESSED - 1;

/// More segments than this are merged into one.
const MOST_LAYERS: usize = 6;

impl IndexFile {
    /// An empty list of the blobs that index file `id` names.
    pub fn new(id: Id) -> Self {
        IndexFile { id, packs: Vec::new(), numbers: HashMap::new(), rows: Vec::new() }
    }

    /// Adds one blob; `place.standing` says whether its pack is marked for deletion.
    pub fn push(&mut self, kind: BlobKind, id: Id, place: &Place) {
        let packs = &mut self.packs;
        let number = *self.numbers.entry(place.pack).or_insert_with(|| {
            packs.push(place.pack);
            u32::try_from(packs.len() - 1).unwrap_or(NUMBER)
        });
        let flags = if kind == BlobKind::Tree { TREE } else { 0 }
            | if place.standing == Standing::Live { 0 } else { DELETED }
            | if place.compressed { COMPRESSED } else { 0 };
        let Place { offset, length, size, .. } = *place;
        self.rows.push(Row { id, pack: number & NUMBER | flags, offset, length, size });
    }
}

/// Rows of a set of index files, sorted by kind and id.
struct Segment {
    files: Vec<Id>,
    packs: Vec<PackRef>,
    rows: Vec<Row>,
    /// Where the rows of trees begin.
    trees: usize,
}

#[derive(Clone, Copy)]
struct PackRef {
    pack: Id,
    /// Which of the segment's files named it.
    file: u32,
}

impl Segment {
    fn of(files: Vec<IndexFile>) -> Self {
        let mut segment = Segment {
            files: Vec::with_capacity(files.len()),
            packs: Vec::with_capacity(files.iter().map(|f| f.packs.len()).sum()),
            rows: Vec::with_capacity(files.iter().map(|f| f.rows.len()).sum()),
            trees: 0,
        };
        for file in files {
            let number = u32::try_from(segment.files.len()).unwrap_or(u32::MAX);
            let base = u32::try_from(segment.packs.len()).unwrap_or(NUMBER);
            segment.files.push(file.id);
            segment.packs.extend(file.packs.iter().map(|pack| PackRef { pack: *pack, file: number }));
            let moved = |row: Row| Row { pack: (row.pack & !NUMBER) | ((row.pack & NUMBER) + base), ..row };
            segment.rows.extend(file.rows.into_iter().map(moved));
        }
        segment.rows.sort_unstable_by(|a, b| (a.pack & TREE, &a.id).cmp(&(b.pack & TREE, &b.id)));
        segment.trees = segment.rows.partition_point(|row| row.pack & TREE == 0);
        segment
    }

    /// The rows of one blob.
    fn rows_of(&self, kind: BlobKind, id: &Id) -> &[Row] {
        let (data, trees) = self.rows.split_at(self.trees.min(self.rows.len()));
        let rows = match kind {
            BlobKind::Data => data,
            BlobKind::Tree => trees,
        };
        let rest = rows.get(lower_bound(rows, id)..).unwrap_or_default();
        let many = rest.iter().take_while(|row| row.id == *id).count();
        rest.get(..many).unwrap_or_default()
    }
}

/// The first row that is not below `id`. Ids are hashes, so their value tells their position within a few rows.
fn lower_bound(rows: &[Row], id: &Id) -> usize {
    let below = |at: usize| rows.get(at).is_some_and(|row| row.id < *id);
    let guess = (u128::from(id.prefix()) * rows.len() as u128) >> 64;
    let guess = usize::try_from(guess).unwrap_or(0);
    let (mut low, mut high) = (guess, guess);
    let mut step = 8;
    while low > 0 && !below(low - 1) {
        low = low.saturating_sub(step);
        step *= 2;
    }
    step = 8;
    while below(high) {
        high = (high + step).min(rows.len());
        step *= 2;
    }
    low + rows.get(low..high).map_or(0, |window| window.partition_point(|row| row.id < *id))
}

/// A segment as one stack sees it.
#[derive(Clone)]
struct Layer {
    segment: Arc<Segment>,
    /// Which of the segment's files were in the last listing.
    current: Arc<[bool]>,
}

impl Layer {
    fn place(&self, row: &Row) -> Option<Place> {
        let PackRef { pack, file } = *self.segment.packs.get((row.pack & NUMBER) as usize)?;
        let standing = match (self.current.get(file as usize), row.pack & DELETED) {
            (Some(true), 0) => Standing::Live,
            (Some(true), _) => Standing::Deleted,
            _ => Standing::Stale,
        };
        let Row { offset, length, size, .. } = *row;
        Some(Place { pack, offset, length, size, compressed: row.pack & COMPRESSED != 0, standing })
    }

    fn places<'a>(&'a self, kind: BlobKind, id: &Id) -> impl Iterator<Item = Place> + 'a {
        self.segment.rows_of(kind, id).iter().filter_map(|row| self.place(row))
    }
}

/// The index of one repository at one moment.
#[derive(Clone, Default)]
pub struct BlobIndex {
    layers: Vec<Layer>,
    generation: u64,
}

impl BlobIndex {
    /// Counts the changes: equal generations of one repository hold equal places.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The best place of a blob.
    pub fn find(&self, kind: BlobKind, id: &Id) -> Option<Place> {
        let mut best: Option<Place> = None;
        for layer in self.layers.iter().rev() {
            for place in layer.places(kind, id) {
                if place.standing == Standing::Live {
                    return Some(place);
                }
                if best.is_none_or(|known| place.standing < known.standing) {
                    best = Some(place);
                }
            }
        }
        best
    }

    /// All places of a blob, best first.
    pub fn places(&self, kind: BlobKind, id: &Id) -> Vec<Place> {
        let mut places: Vec<Place> =
            self.layers.iter().rev().flat_map(|layer| layer.places(kind, id)).collect();
        places.sort_by_key(|place| place.standing);
        places
    }

    /// The index files whose blobs are held, current or not.
    pub fn files(&self) -> HashSet<Id> {
        self.layers.iter().flat_map(|layer| layer.segment.files.iter().copied()).collect()
    }

    /// The index after a listing that named `listed`, of which `new` were not held before; `None` when nothing changed.
    #[must_use]
    pub fn updated(&self, listed: &HashSet<Id>, new: Vec<IndexFile>) -> Option<BlobIndex> {
        let mut segments: Vec<Arc<Segment>> =
            self.layers.iter().map(|layer| Arc::clone(&layer.segment)).collect();
        let grown = !new.is_empty();
        if grown {
            segments.push(Arc::new(Segment::of(new)));
        }
        let layers: Vec<Layer> = segments.into_iter().map(|segment| Layer::seen(segment, listed)).collect();
        let same = layers.iter().zip(&self.layers).all(|(new, old)| new.current == old.current);
        if !grown && same {
            return None;
        }
        let generation = self.generation + 1;
        let index = BlobIndex { layers, generation };
        Some(if index.layers.len() > MOST_LAYERS { index.merged(listed) } else { index })
    }

    /// One segment of all rows but the stale ones that a live one replaces.
    fn merged(&self, listed: &HashSet<Id>) -> BlobIndex {
        let mut files: HashMap<Id, IndexFile> = HashMap::new();
        for layer in &self.layers {
            for row in &layer.segment.rows {
                let kind = if row.pack & TREE == 0 { BlobKind::Data } else { BlobKind::Tree };
                let Some(place) = layer.place(row) else { continue };
                let replaced = place.standing == Standing::Stale
                    && self.find(kind, &row.id).is_some_and(|best| best.standing == Standing::Live);
                let number = layer.segment.packs.get((row.pack & NUMBER) as usize).map(|pack| pack.file);
                let file = number.and_then(|number| layer.segment.files.get(number as usize));
                if let (Some(file), false) = (file, replaced) {
                    let standing = if row.pack & DELETED == 0 { Standing::Live } else { Standing::Deleted };
                    let place = Place { standing, ..place };
                    files.entry(*file).or_insert_with(|| IndexFile::new(*file)).push(kind, row.id, &place);
                }
            }
        }
        // A file without blobs is still a file that need not be fetched again.
        for file in self.files().intersection(listed) {
            files.entry(*file).or_insert_with(|| IndexFile::new(*file));
        }
        let segment = Arc::new(Segment::of(files.into_values().collect()));
        BlobIndex { layers: vec![Layer::seen(segment, listed)], generation: self.generation }
    }

    /// Distinct data blobs of current index files: how many, and their plaintext bytes.
    pub fn usage(&self) -> (u64, u64) {
        let (mut blobs, mut bytes) = (0, 0);
        for (depth, layer) in self.layers.iter().enumerate() {
            let data = layer.segment.rows.get(..layer.segment.trees).unwrap_or_default();
            for same in data.chunk_by(|a, b| a.id == b.id) {
                let Some(place) = same.iter().filter_map(|row| layer.place(row)).find(Place::is_current)
                else {
                    continue;
                };
                let Some(row) = same.first() else { continue };
                let mut above = self.layers.iter().take(depth);
                if !above.any(|layer| layer.places(BlobKind::Data, &row.id).any(|p| p.is_current())) {
                    blobs += 1;
                    bytes += u64::from(place.size);
                }
            }
        }
        (blobs, bytes)
    }
}

impl Place {
    fn is_current(&self) -> bool {
        self.standing == Standing::Live
    }
}

impl Layer {
    fn seen(segment: Arc<Segment>, listed: &HashSet<Id>) -> Self {
        let current = segment.files.iter().map(|file| listed.contains(file)).collect();
        Layer { segment, current }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    fn id(n: u32) -> Id {
        Id(Sha256::digest(n.to_le_bytes()).into())
    }

    fn place(pack: u32, offset: u32) -> Place {
        let (length, size) = (offset + 100, offset + 68);
        Place { pack: id(pack), offset, length, size, compressed: offset % 2 == 1, standing: Standing::Live }
    }

    fn file(number: u32, blobs: &[(BlobKind, u32, Place)]) -> IndexFile {
        let mut file = IndexFile::new(id(number));
        for (kind, blob, place) in blobs {
            file.push(*kind, id(*blob), place);
        }
        file
    }

    fn listed(files: &[u32]) -> HashSet<Id> {
        files.iter().map(|n| id(*n)).collect()
    }

    const DATA: BlobKind = BlobKind::Data;
    const TREE: BlobKind = BlobKind::Tree;

    #[test]
    fn finds_by_kind_and_id() {
        let blobs = [(DATA, 1, place(10, 5)), (TREE, 1, place(11, 6)), (DATA, 2, place(10, 7))];
        let index = BlobIndex::default().updated(&listed(&[100]), vec![file(100, &blobs)]).unwrap();
        for (kind, blob, place) in blobs {
            assert_eq!(index.find(kind, &id(blob)), Some(place));
        }
        assert_eq!(index.find(TREE, &id(2)), None);
        assert_eq!(index.find(DATA, &id(3)), None);
        assert_eq!(index.usage(), (2, 5 + 7 + 2 * 68));
        assert_eq!(index.generation(), 1);
        assert!(index.updated(&listed(&[100]), vec![]).is_none(), "nothing new");
        assert_eq!(size_of::<Row>(), 48);
    }

    #[test]
    fn several_places_come_best_first_and_count_once() {
        let doomed = Place { standing: Standing::Deleted, ..place(1, 1) };
        let index = BlobIndex::default()
            .updated(&listed(&[100]), vec![file(100, &[(DATA, 7, doomed), (DATA, 7, place(2, 2))])])
            .unwrap();
        let index = index.updated(&listed(&[100, 101]), vec![file(101, &[(DATA, 7, place(3, 3))])]).unwrap();
        let places = index.places(DATA, &id(7));
        assert_eq!(places.last(), Some(&doomed));
        assert_eq!(places.len(), 3);
        assert_eq!(index.find(DATA, &id(7)), Some(place(3, 3)));
        assert_eq!(index.usage().0, 1);
    }

    #[test]
    fn what_a_vanished_file_named_stays_as_last_resort_until_replaced() {
        let first = BlobIndex::default()
            .updated(&listed(&[100]), vec![file(100, &[(DATA, 1, place(1, 1)), (DATA, 2, place(1, 9))])])
            .unwrap();
        let second = first.updated(&listed(&[101]), vec![file(101, &[(DATA, 1, place(5, 2))])]).unwrap();
        assert_eq!(second.find(DATA, &id(1)), Some(place(5, 2)));
        let stale = second.find(DATA, &id(2)).unwrap();
        assert_eq!((stale.pack, stale.standing), (id(1), Standing::Stale));
        assert_eq!(second.usage().0, 1);
        assert_eq!(second.files(), listed(&[100, 101]));

        let merged = second.merged(&listed(&[101]));
        assert_eq!(merged.places(DATA, &id(1)), [place(5, 2)]);
        assert_eq!(merged.find(DATA, &id(2)).unwrap().standing, Standing::Stale);

        let back = merged.updated(&listed(&[100, 101]), vec![]).unwrap();
        assert_eq!(back.find(DATA, &id(2)), Some(place(1, 9)), "the file is listed again");
    }

    #[test]
    fn many_small_updates_are_merged_and_nothing_is_lost() {
        let mut index = BlobIndex::default();
        let files: Vec<u32> = (0..40).collect();
        for n in 0..40u32 {
            let kind = if n % 2 == 0 { DATA } else { TREE };
            let known = listed(files.get(..=n as usize).unwrap());
            let blobs = if n == 17 { vec![] } else { vec![(kind, n, place(n, n))] };
            index = index.updated(&known, vec![file(n, &blobs)]).unwrap();
            assert!(index.layers.len() <= MOST_LAYERS);
        }
        assert_eq!(index.files(), listed(&files));
        for n in (0..40).filter(|n| *n != 17) {
            let kind = if n % 2 == 0 { DATA } else { TREE };
            assert_eq!(index.find(kind, &id(n)), Some(place(n, n)), "{n}");
        }
    }

    proptest! {
        #[test]
        fn finds_what_a_map_finds_whatever_the_ids_look_like(
            ids in prop::collection::btree_set((0u8..4, any::<u8>(), any::<bool>()), 0..300),
            probes in prop::collection::vec((0u8..4, any::<u8>()), 50),
        ) {
            // Half of the ids share long prefixes, which the guess by value gets wrong.
            let wide = |a: u8, b: u8| { let mut id = [0; 32]; id[0] = a; id[31] = b; Id(id) };
            let mut file = IndexFile::new(id(1));
            let mut expected = HashMap::new();
            for (n, (a, b, tree)) in ids.into_iter().enumerate() {
                let kind = if tree { TREE } else { DATA };
                let place = place(u32::from(a), u32::try_from(n).unwrap());
                file.push(kind, wide(a, b), &place);
                expected.insert((kind, wide(a, b)), place);
            }
            let index = BlobIndex::default().updated(&listed(&[1]), vec![file]).unwrap();
            for ((kind, id), place) in &expected {
                prop_assert_eq!(index.find(*kind, id), Some(*place));
            }
            for (a, b) in probes {
                for kind in [DATA, TREE] {
                    let found = index.find(kind, &wide(a, b));
                    prop_assert_eq!(found.as_ref(), expected.get(&(kind, wide(a, b))));
                }
            }
        }
    }
}
