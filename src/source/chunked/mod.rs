//! What chunk repositories share: the blob index, the loader of blobs, files made of blobs, the pool for decoding.

mod id;

pub use id::Id;

use std::sync::Arc;

use crate::cache::Budget;

/// What all chunk repositories of one process share: memory and processors.
pub struct Shared {}

impl Shared {
    /// Caches within `budget` and a decoding pool of one thread per core.
    pub fn new(_budget: Budget) -> Arc<Self> {
        todo!()
    }
}
