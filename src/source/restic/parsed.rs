//! A parsed directory as the cache keeps it: its tree, and what the index says of its files.

use std::sync::OnceLock;

use super::format::tree::{NodeRef, Tree};
use super::walk::{SMALL, Sequence};
use crate::source::chunked::{BlobIndex, BlobKind, FileMap, Id};
use crate::tree::FileType;

/// A directory in memory, shared by all places that show it.
pub(super) struct Parsed {
    tree: Tree,
    /// By entry: what its blobs come to.
    measures: Box<[Measure]>,
    /// Its files of one blob in the order in which packs hold them, once somebody reads many of them.
    stored: OnceLock<Box<[Stored]>>,
    sequence: Sequence,
}

/// What the blobs of a file come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Measure {
    /// Bytes.
    pub size: u64,
    /// 512-byte units that hold data.
    pub blocks: u64,
    /// Whether the index knew all its blobs; if not, `size` is the recorded one.
    pub complete: bool,
}

/// Where the only blob of a file lies.
struct Stored {
    pack: u64,
    offset: u32,
    length: u32,
    entry: usize,
}

/// What a blob in the cache costs beside its bytes.
const PER_BLOB: u64 = 256;

impl Parsed {
    /// Measures the files of `tree`; `differs` hears of those whose blobs come to another size than was recorded.
    pub(super) fn new(tree: Tree, index: &BlobIndex, mut differs: impl FnMut(&NodeRef<'_>, u64)) -> Self {
        let measure = |at| match tree.entry(at) {
            Some(node) if node.kind() == FileType::File => {
                let measure = measure(&node, index);
                if measure.complete && measure.size != node.recorded_size() {
                    differs(&node, measure.size);
                }
                measure
            }
            _ => Measure { size: 0, blocks: 0, complete: true },
        };
        let measures = (0..tree.len()).map(measure).collect();
        Parsed { tree, measures, stored: OnceLock::new(), sequence: Sequence::default() }
    }

    /// Bytes it takes in memory.
    pub(super) fn weight(&self) -> u64 {
        let per_entry = size_of::<Measure>() + size_of::<Stored>();
        (self.tree.memory() + self.measures.len() * per_entry) as u64
    }

    /// How many entries there are, shown or not.
    pub(super) fn len(&self) -> usize {
        self.tree.len()
    }

    /// The number of the entry called `name`.
    pub(super) fn find(&self, name: &[u8]) -> Option<usize> {
        self.tree.find(name)
    }

    /// Entry number `at`, unless it is not to be shown.
    pub(super) fn entry(&self, at: usize) -> Option<NodeRef<'_>> {
        self.tree.entry(at)
    }

    /// What the blobs of file number `at` come to.
    pub(super) fn measure(&self, at: usize) -> Measure {
        self.measures.get(at).copied().unwrap_or(Measure { size: 0, blocks: 0, complete: false })
    }

    /// Notes that file number `at` is opened; the blobs of the files that follow in the listing and are to be fetched now.
    pub(super) fn opened(&self, at: usize) -> Vec<Id> {
        let bytes =
            |at: usize| Some(self.measures.get(at)?.size).map(|size| if size <= SMALL { size } else { 0 });
        let fetch = self.sequence.opened(at, bytes);
        let files = fetch.filter(|at| self.measure(*at).size <= SMALL).filter_map(|at| self.entry(at));
        files.flat_map(|file| file.content().iter().copied()).collect()
    }

    /// Whether the files are opened in the order of the listing.
    pub(super) fn is_in_sequence(&self) -> bool {
        self.sequence.is_running()
    }

    /// Whether the content of its small files fits into `bytes`.
    pub(super) fn fits_into(&self, bytes: u64) -> bool {
        let small = self.measures.iter().map(|measure| measure.size).filter(|size| *size <= SMALL);
        small.map(|size| size + PER_BLOB).sum::<u64>() <= bytes
    }

    /// The blobs of files that lie near file number `at` in its pack and after it: about `bytes` stored bytes.
    pub(super) fn neighbours(&self, at: usize, bytes: u64, index: &BlobIndex) -> Vec<Id> {
        let stored = self.stored.get_or_init(|| self.in_stored_order(index));
        let Some(own) = self.single_blob(at).and_then(|blob| index.find(BlobKind::Data, &blob)) else {
            return Vec::new();
        };
        let key = (own.pack.prefix(), own.offset);
        let from = stored.partition_point(|file| (file.pack, file.offset) < key);
        let (before, after) = stored.split_at(from);
        let near = |left: u64| {
            let mut left = left;
            move |file: &&Stored| {
                let fits = left > 0;
                left = left.saturating_sub(u64::from(file.length));
                fits
            }
        };
        let before = before.iter().rev().take_while(|file| file.pack == key.0).take_while(near(bytes / 2));
        let after = after.iter().take_while(near(bytes));
        after.chain(before).filter_map(|file| self.single_blob(file.entry)).collect()
    }

    fn in_stored_order(&self, index: &BlobIndex) -> Box<[Stored]> {
        let place = |entry| {
            let place = index.find(BlobKind::Data, &self.single_blob(entry)?)?;
            Some(Stored { pack: place.pack.prefix(), offset: place.offset, length: place.length, entry })
        };
        let mut stored: Vec<Stored> = (0..self.len()).filter_map(place).collect();
        stored.sort_unstable_by_key(|file| (file.pack, file.offset));
        stored.into()
    }

    fn single_blob(&self, at: usize) -> Option<Id> {
        match self.entry(at)?.content() {
            [only] => Some(*only),
            _ => None,
        }
    }
}

fn measure(node: &NodeRef<'_>, index: &BlobIndex) -> Measure {
    match FileMap::measure(node.content(), index) {
        Ok((size, blocks)) if !node.is_damaged() => Measure { size, blocks, complete: true },
        _ => {
            let size = node.recorded_size();
            Measure { size, blocks: size.div_ceil(512), complete: false }
        }
    }
}
