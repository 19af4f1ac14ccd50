//! A directory of this machine as the top of a snapshot.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use backupfs::cache::Budget;
use backupfs::error::Error;
use backupfs::source::chunked::Shared;
use backupfs::source::host::{Descriptor, Host, Tree};
use backupfs::store::Place;
use backupfs::tree::{Ancestors, Node, Validity};

/// What stands at the top, shown by a source of its own that keeps `memory` bytes. Within a runtime.
pub async fn shown(path: &Path, memory: u64) -> Node {
    let path = path.to_owned();
    let root = move || {
        let fd = File::open(&path).map_err(|e| Error::io("top", e))?;
        Ok(Descriptor::from(OwnedFd::from(fd)))
    };
    let tree = Tree {
        root: Arc::new(root),
        snapshot: "20260301".into(),
        path: 0,
        name: Arc::from(&b"top"[..]),
        ancestors: Ancestors::Unknown,
        validity: Validity::Forever,
    };
    let host = Host::new("id", "backups", Place::alone(), Shared::new(Budget::of(memory)), None);
    host.open(tree).resolve().await.unwrap().node
}
