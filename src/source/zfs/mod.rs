//! Snapshots of ZFS file systems.
//!
//! [`open`] lists a dataset, or the datasets of a pattern ([`layout`], [`listing`]), and says what is a backup of what
//! ([`catalogue`], [`tops`]). A snapshot is looked at where ZFS shows it ([`snapdir`]), else through a clone ([`clones`])
//! that is made at the first look and destroyed when idle ([`shelf`]); from its top directory on it is a tree of this
//! machine like any other ([`crate::source::host`]). Nothing is asked of ZFS but by its own program ([`tool`]), and nothing
//! of that program but by [`Hands`]: those of this process ([`Own`]), or of one that has the rights.

mod catalogue;
mod clones;
#[cfg(test)]
mod fake;
mod hands;
mod layout;
mod listing;
mod name;
mod open;
mod own;
mod owner;
mod shelf;
mod snapdir;
mod source;
#[cfg(test)]
mod tests;
mod tool;
mod tops;

pub use hands::{Ask, Done, Hands};
pub use layout::Layout;
pub use name::Dataset;
pub use open::{Spec, open};
pub use own::{Means, MountedAt, Own};
pub use source::Zfs;
pub use tool::Tool;
