//! What a change of the shown tree tells the kernel to forget.

/// A directory of the shown tree changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Names from the root to the directory that changed; empty for the root itself.
    pub dir: Vec<Vec<u8>>,
    /// Entries that appeared, went, or now mean another node.
    pub names: Vec<Vec<u8>>,
}

/// Takes changes; returns at once (it queues), because it is called while the tree is being refreshed.
pub type ChangeSink = Box<dyn Fn(Change) + Send + Sync>;
