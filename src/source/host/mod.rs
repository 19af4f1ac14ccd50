//! What the kinds share that lie on a file system of this machine: a directory, wherever it is, as a tree of nodes.
//!
//! A kind says how the directory at the top of a snapshot is opened ([`Root`]); the rest is done here. Every look-up
//! starts at that directory and stays below it, in its file system, and follows no symbolic link ([`beneath`]). Handles
//! of nodes are light: a path below the top. Descriptors are few and closed when idle ([`descriptor`]), so a file system
//! can be unmounted while its snapshots are known.
//!
//! Directories are read whole, names first, then attributes in the order of inodes ([`entries`]), where somebody walks ahead
//! of him ([`ahead`]), and kept in the memory that all sources share. Calls that may block run on the threads of the file system's [`crate::store::Place`], a
//! bounded number for each source.

mod ahead;
mod ancestors;
mod beneath;
mod descriptor;
mod directory;
mod entries;
mod file;
mod place;
mod rights;
mod stat;
#[cfg(test)]
mod tests;
mod trusted;
mod view;
mod xattrs;

pub use ancestors::ancestors;
pub use beneath::{directory, names};
pub use descriptor::{Descriptor, Lease};
pub use rights::{Own, Rights};
pub use view::{Host, Root, Tree};
