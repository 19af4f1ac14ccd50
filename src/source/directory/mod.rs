//! Directories that hold snapshots already: CephFS, Gluster, btrfs, snapper, `rsync --link-dest`, rsnapshot, mounted
//! volumes of LVM. A [`Pattern`] tells where they lie.
//!
//! A refresh walks the pattern, one listing a directory, and opens no snapshot. What a snapshot holds is shown by
//! [`host`](super::host): this kind only says which directory it is. That is looked up by its path each time and known
//! again by its inode: programs rename snapshots as they grow older.

mod list;
mod pattern;
mod record;
mod scan;
mod source;
#[cfg(test)]
mod tests;
mod unfinished;

pub use pattern::Pattern;
pub use source::{Spec, UnderWay, open};
pub use unfinished::under_way;
