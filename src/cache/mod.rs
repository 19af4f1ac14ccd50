//! What is kept between reads: decoded blobs and parsed directories in memory, under one budget; the cache directory on
//! disk.

mod folder;
mod weighed;

pub use folder::{Folder, Lock};
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
