//! A parsed directory as the cache keeps it: its tree, and what the index says of its files.

use super::format::tree::{NodeRef, Tree};
use crate::source::chunked::{BlobIndex, FileMap};
use crate::tree::FileType;

/// A directory in memory, shared by all places that show it.
pub(super) struct Parsed {
    tree: Tree,
    /// What the blobs of those files come to of which the recorded size does not tell it, in order: holes, sizes that
    /// disagree.
    odd: Vec<(usize, Measure)>,
}

/// What the blobs of a file come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Measure {
    /// Bytes.
    pub size: u64,
    /// 512-byte units that hold data.
    pub blocks: u64,
}

impl Measure {
    /// Of a file without holes.
    fn full(size: u64) -> Self {
        Measure { size, blocks: size.div_ceil(512) }
    }
}

impl Parsed {
    /// Measures the files of `tree`; `differs` hears of those whose blobs come to another size than was recorded.
    pub(super) fn new(tree: Tree, index: &BlobIndex, mut differs: impl FnMut(&NodeRef<'_>, u64)) -> Self {
        let odd = |at| {
            let node = tree.entry(at).filter(|node| node.kind() == FileType::File && !node.is_damaged())?;
            // Where the index does not know all blobs, the recorded size is shown.
            let (size, blocks) = FileMap::measure(node.content(), index).ok()?;
            if size != node.recorded_size() {
                differs(&node, size);
            }
            let measure = Measure { size, blocks };
            (measure != Measure::full(node.recorded_size())).then_some((at, measure))
        };
        let mut odd: Vec<_> = (0..tree.len()).filter_map(odd).collect();
        odd.shrink_to_fit();
        Parsed { tree, odd }
    }

    /// Bytes it takes in memory.
    pub(super) fn weight(&self) -> u64 {
        (self.tree.memory() + self.odd.capacity() * size_of::<(usize, Measure)>()) as u64
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
        let odd = self.odd.binary_search_by_key(&at, |(entry, _)| *entry).ok();
        match odd.and_then(|odd| self.odd.get(odd)) {
            Some((_, measure)) => *measure,
            None => Measure::full(self.tree.entry(at).map_or(0, |node| node.recorded_size())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::json;

    use super::*;
    use crate::source::chunked::{BlobKind, Id, IndexFile, Place, Standing};

    const PACK: Id = Id([9; 32]);

    /// Blobs 1, 2, … of 1,000, 2,000, … bytes.
    fn index(count: u8) -> BlobIndex {
        let mut file = IndexFile::new(PACK);
        for blob in 1..=count {
            let size = u32::from(blob) * 1000;
            let place = Place {
                pack: PACK,
                offset: 0,
                length: size + 32,
                size,
                compressed: false,
                standing: Standing::Live,
            };
            file.push(BlobKind::Data, Id([blob; 32]), &place);
        }
        BlobIndex::default().updated(&HashSet::from([PACK]), &[file].into_iter().collect()).unwrap()
    }

    fn parsed(files: &[(u64, &[u8])]) -> (Parsed, Vec<u64>) {
        let node = |(at, (size, blobs)): (usize, &(u64, &[u8]))| {
            let content: Vec<_> = blobs.iter().map(|blob| Id([*blob; 32]).to_string()).collect();
            json!({"name": format!("{at:06}"), "type": "file", "size": size, "content": content})
        };
        let nodes: Vec<_> = files.iter().enumerate().map(node).collect();
        let tree = Tree::parse(json!({"nodes": nodes}).to_string().as_bytes(), &mut |_| ()).unwrap();
        let mut differing = Vec::new();
        let parsed = Parsed::new(tree, &index(3), |_, size| differing.push(size));
        (parsed, differing)
    }

    #[test]
    fn files_are_as_large_as_what_was_saved_of_them() {
        let (parsed, differing) =
            parsed(&[(1000, &[1]), (7, &[2]), (0, &[]), (3000, &[1, 2]), (123, &[9]), (5000, &[1])]);
        let measures: Vec<_> = (0..7).map(|at| parsed.measure(at)).map(|m| (m.size, m.blocks)).collect();
        assert_eq!(measures, [(1000, 2), (2000, 4), (0, 0), (3000, 6), (123, 1), (1000, 2), (0, 0)]);
        assert_eq!(differing, [2000, 1000]);
    }

    #[test]
    fn a_size_that_is_right_takes_no_memory() {
        let right: Vec<(u64, &[u8])> = vec![(1000, &[1]); 1000];
        let wrong: Vec<(u64, &[u8])> = vec![(999, &[1]); 1000];
        let (right, wrong) = (parsed(&right).0.weight(), parsed(&wrong).0.weight());
        assert!(wrong >= right + 24 * 1000, "{right} and {wrong} bytes");
        assert!(right < 110 * 1000, "{right} bytes");
    }
}
