//! Versions read straight from the repositories, without a mount.

use sha2::{Digest, Sha256};

use super::history::{Archive, Set, Version};
use crate::cli::browse::Browser;
use crate::error::{Error, Kind, Result};
use crate::tree::{Content, Identity, Node};

/// An opened tree as an archive.
pub struct Opened(pub Browser);

/// Bytes asked for at once when a file is read whole.
const CHUNK: usize = 1 << 20;

impl Archive for Opened {
    fn sets(&self) -> Result<Vec<Set>> {
        let mut sets: Vec<Set> = Vec::new();
        for row in self.0.tree().namespace.snapshots() {
            let set = Set {
                place: vec![row.set.into_bytes()],
                host: row.host.unwrap_or_default().into_bytes(),
                path: row.path.into_bytes(),
            };
            if !sets.contains(&set) {
                sets.push(set);
            }
        }
        Ok(sets)
    }

    fn dates(&self, set: &Set) -> Result<Vec<Vec<u8>>> {
        let rows = self.0.tree().namespace.snapshots().into_iter();
        let of_set = rows.filter(|row| set.place.last().is_some_and(|name| name == row.set.as_bytes()));
        Ok(of_set.map(|row| row.date.into_bytes()).collect())
    }

    fn find(&self, set: &Set, date: &[u8], path: &[Vec<u8>]) -> Result<Option<Version>> {
        Ok(self.node(set, date, path)?.map(|node| version(&node)))
    }

    fn digest(&self, set: &Set, date: &[u8], path: &[Vec<u8>]) -> Result<[u8; 32]> {
        let Some(Node { content: Content::File(file), meta, .. }) = self.node(set, date, path)? else {
            return Err(Error::new(Kind::Stale, "a file that was there is gone"));
        };
        let reader = self.0.wait(file.open())?;
        let mut hash = Sha256::new();
        let mut offset = 0;
        while offset < meta.size {
            let bytes = self.0.wait(reader.read_at(offset, CHUNK))?;
            if bytes.is_empty() {
                return Err(Error::new(Kind::Internal, "a reader ended before its file"));
            }
            hash.update(&bytes);
            offset += bytes.len() as u64;
        }
        Ok(hash.finalize().into())
    }
}

impl Opened {
    fn node(&self, set: &Set, date: &[u8], path: &[Vec<u8>]) -> Result<Option<Node>> {
        let mut whole = set.place.clone();
        whole.push(date.to_vec());
        whole.extend_from_slice(path);
        self.0.find(&whole, false)
    }
}

fn version(node: &Node) -> Version {
    let meta = &node.meta;
    let target = match &node.content {
        Content::Symlink(target) => Some(target.to_vec()),
        _ => None,
    };
    let identity = match meta.identity {
        Identity::Key(key) => Some(key),
        Identity::Path => None,
    };
    Version {
        identity,
        kind: meta.kind,
        perm: meta.perm,
        uid: meta.uid,
        gid: meta.gid,
        size: meta.size,
        mtime: meta.mtime,
        target,
    }
}
