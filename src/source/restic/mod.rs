//! restic and rustic repositories, versions 1 and 2.

pub mod format;

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::error::Result;
use crate::source::chunked::Shared;
use crate::store::ObjectStore;
use crate::tree::Source;

/// A repository to open.
pub struct Spec {
    /// How it is called in messages; no secrets.
    pub name: String,
    /// The repository; of a hot/cold pair the cold one.
    pub store: Arc<dyn ObjectStore>,
    /// The hot one of a pair.
    pub hot: Option<Arc<dyn ObjectStore>>,
    /// The password's bytes, already cleaned (no BOM, no surrounding white space of a file).
    pub password: Zeroizing<Vec<u8>>,
    /// Key id (or a prefix of it) to try first.
    pub key_hint: Option<String>,
}

/// Opens a repository: key, config, snapshots, then index. Errors name the repository: `Password`, `Unsupported`
/// version, `NotFound` (no repository there), `Corrupt`.
pub async fn open(_spec: Spec, _shared: Arc<Shared>) -> Result<Arc<dyn Source>> {
    todo!()
}
