//! Kinds of backup. Each yields snapshots and trees of nodes; nothing above this room knows which kind it is.

pub mod chunked;
pub mod directory;
pub mod host;
pub mod names;
pub mod objects;
pub mod restic;
pub mod zfs;
