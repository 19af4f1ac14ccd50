//! What is kept between reads: decoded blobs and parsed directories in memory, under one budget; on disk what distant
//! stores delivered ([`disk`]).

mod cached;
mod disk;
mod folder;
mod weighed;

pub use cached::Cached;
pub use disk::{
    Class, Disk, Drawer, Key, Ledger, NewLedger, Part, Purged, Share, Summary, clear, limit, purge, summary,
};
pub use folder::{Folder, Lock};
pub use weighed::Weighed;

/// How much memory repositories' contents may take in this process, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Decoded data blobs that are kept.
    pub blobs: u64,
    /// Parsed directories that are kept.
    pub directories: u64,
    /// What is under way, stored and decoded together.
    pub under_way: u64,
}

impl Budget {
    /// Splits the `memory` option. An eighth is for the holes that small blobs leave in the heap when they make room for
    /// large ones.
    pub fn of(memory: u64) -> Self {
        Budget { blobs: memory / 4, directories: memory / 4, under_way: memory / 8 * 3 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_leave_an_eighth() {
        for memory in [0, 1, 7, 128 << 20, u64::MAX] {
            let Budget { blobs, directories, under_way } = Budget::of(memory);
            let left = memory - blobs - directories - under_way;
            assert!(left.abs_diff(memory / 8) <= 30, "{left} of {memory}");
        }
    }
}
