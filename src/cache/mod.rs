//! What stays in memory: decoded blobs and parsed directories, under one budget.

mod weighed;

pub use weighed::Weighed;

/// How much memory the caches may use, in bytes, for everything that this process keeps of repositories' contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Decoded data blobs.
    pub blobs: u64,
    /// Parsed directories.
    pub directories: u64,
}

impl Budget {
    /// Splits the `memory` option.
    pub fn of(memory: u64) -> Self {
        let directories = memory / 4;
        Budget { blobs: memory.saturating_sub(directories), directories }
    }
}
