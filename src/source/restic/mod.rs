//! restic and rustic repositories, versions 1 and 2.
//!
//! [`open`] unlocks a repository and lists it ([`catalogue`]); a snapshot's path is then found in its tree
//! ([`resolve`]) and shown as nodes ([`directory`], [`file`]); directories
//! that somebody is about to walk are read ahead ([`ahead`], [`dates`]). What is particular to the format's bytes is in [`format`],
//! what all chunk repositories share in [`crate::source::chunked`].

mod ahead;
mod catalogue;
mod dates;
mod directory;
mod file;
pub mod format;
mod layout;
mod open;
mod parsed;
mod repository;
mod resolve;
mod snapshots;
#[cfg(test)]
mod tests;
mod view;

use std::sync::Arc;

pub use open::open;

use crate::cache::Drawer;
use crate::locked::Locked;
use crate::store::ObjectStore;

/// A repository to open.
pub struct Spec {
    /// How it is called in messages; no secrets.
    pub name: String,
    /// The repository; of a hot/cold pair the cold one.
    pub store: Arc<dyn ObjectStore>,
    /// The hot one of a pair.
    pub hot: Option<Arc<dyn ObjectStore>>,
    /// Where blobs are kept that a distant store delivered.
    pub drawer: Option<Drawer>,
    /// The password's bytes, already cleaned (no BOM, no surrounding white space of a file).
    pub password: Locked<[u8]>,
    /// Key id (or a prefix of it) to try first.
    pub key_hint: Option<String>,
}
