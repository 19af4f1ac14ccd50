//! A parsed directory as the cache keeps it: its tree, and what the index says of its files.

use super::format::tree::{NodeRef, Tree};
use crate::source::chunked::{BlobIndex, FileMap};
use crate::tree::FileType;

/// A directory in memory, shared by all places that show it.
pub(super) struct Parsed {
    tree: Tree,
    /// By entry: what its blobs come to.
    measures: Box<[Measure]>,
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
        Parsed { tree, measures }
    }

    /// Bytes it takes in memory.
    pub(super) fn weight(&self) -> u64 {
        (self.tree.memory() + self.measures.len() * size_of::<Measure>()) as u64
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
