//! The snapshots of a source as its last walk found them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::record::{Held, Naming};
use super::scan::Scan;
use crate::source::chunked::hash;
use crate::tree::{Snapshot, SnapshotId, Usage};

/// A complete list, immutable.
pub(super) struct List {
    by_id: HashMap<SnapshotId, Held>,
    all: Arc<[Snapshot]>,
    /// When it was made.
    pub listed: SystemTime,
    /// What could not be looked into, a line each.
    pub left_out: Vec<String>,
    /// What the file system holds on which all of it lies.
    pub usage: Usage,
}

impl List {
    /// The list of what a walk found. What `before` has is kept as it is there while its directory is the same; what could
    /// not be looked into keeps the snapshots that are known of it.
    pub(super) fn of(
        scan: Scan,
        before: Option<&List>,
        naming: &Naming,
        under_way: &dyn Fn() -> Vec<PathBuf>,
    ) -> Self {
        let mut by_id = HashMap::with_capacity(scan.found.len());
        for found in scan.found {
            let mut held = naming.record(found);
            if by_id.contains_key(&held.snapshot.id) {
                // Two volumes of one file system may have the same inode number and time.
                let (id, path) = (held.snapshot.id.as_bytes(), held.path.as_os_str().as_encoded_bytes());
                held.snapshot.id = format!("{:032x}", hash(&[id, path])).into();
            }
            let known = before.and_then(|list| list.by_id.get(&held.snapshot.id));
            if let Some(known) = known.filter(|known| known.mark.ino == held.mark.ino) {
                held.snapshot = known.snapshot.clone();
            }
            by_id.insert(Arc::clone(&held.snapshot.id), held);
        }
        let is_unknown = |path: &Path| scan.gaps.iter().any(|(gap, _)| path.starts_with(gap));
        let known = before.into_iter().flat_map(|list| &list.by_id);
        for (id, held) in known.filter(|(_, held)| is_unknown(&held.path)) {
            by_id.entry(Arc::clone(id)).or_insert_with(|| held.clone());
        }
        hide_unfinished(&mut by_id, before, &naming.fixed, under_way);
        let all = match before {
            Some(before) if is_same(&before.by_id, &by_id) => Arc::clone(&before.all),
            _ => by_id.values().map(|held| held.snapshot.clone()).collect(),
        };
        let line = |(path, error): &(PathBuf, _)| format!("{}: {error}", naming.fixed.join(path).display());
        let left_out = scan.gaps.iter().map(line).collect();
        List { by_id, all, listed: SystemTime::now(), left_out, usage: scan.usage }
    }

    /// All of them; the very same while they are the same.
    pub(super) fn all(&self) -> Arc<[Snapshot]> {
        Arc::clone(&self.all)
    }

    /// The snapshot called `id`.
    pub(super) fn get(&self, id: &str) -> Option<&Held> {
        self.by_id.get(id)
    }
}

fn is_same(one: &HashMap<SnapshotId, Held>, other: &HashMap<SnapshotId, Held>) -> bool {
    let same_content =
        |id, held: &Held| other.get(id).is_some_and(|o: &Held| o.snapshot.content == held.snapshot.content);
    one.len() == other.len() && one.iter().all(|(id, held)| same_content(id, held))
}

/// Leaves out what is new and in which rsync stands. What was shown stays: somebody may be restoring from it.
fn hide_unfinished(
    by_id: &mut HashMap<SnapshotId, Held>,
    before: Option<&List>,
    fixed: &Path,
    under_way: &dyn Fn() -> Vec<PathBuf>,
) {
    let is_new = |id: &SnapshotId| before.is_none_or(|list| !list.by_id.contains_key(id));
    if !by_id.keys().any(is_new) {
        return;
    }
    let Ok(fixed) = fixed.canonicalize() else { return };
    let under_way = under_way();
    by_id.retain(|id, held| {
        let path = fixed.join(&held.path);
        !(is_new(id) && under_way.iter().any(|standing| standing.starts_with(&path)))
    });
}
