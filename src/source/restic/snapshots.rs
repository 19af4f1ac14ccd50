//! The snapshots of a repository as its last complete listing tells them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use super::format::snapshot::RawSnapshot;
use crate::source::chunked::Id;
use crate::tree::{Given, Snapshot, SnapshotId};

/// A snapshot and the root of its tree.
pub(super) struct Held {
    pub snapshot: Snapshot,
    pub tree: Id,
}

impl Held {
    /// What snapshot file `id` says. One without paths is shown as a backup of `/`.
    pub(super) fn new(id: &Id, raw: RawSnapshot) -> Self {
        let mut paths: Vec<Arc<[u8]>> =
            raw.paths.into_iter().filter(|path| !path.is_empty()).map(Arc::from).collect();
        if paths.is_empty() {
            paths.push(Arc::from(&b"/"[..]));
        }
        let text = |text: String| Some(text).filter(|text| !text.is_empty()).map(Arc::from);
        let snapshot = Snapshot {
            id: id.to_string().into(),
            original: raw.original.and_then(text),
            time: raw.time,
            host: raw.hostname.and_then(text),
            user: raw.username.and_then(text),
            tags: raw.tags.into_iter().map(Arc::from).collect(),
            paths: paths.into(),
            content: raw.tree.to_string().into(),
            given: Given::default(),
        };
        Held { snapshot, tree: raw.tree }
    }
}

/// A complete list, immutable.
pub(super) struct SnapshotList {
    held: HashMap<Id, Arc<Held>>,
    by_name: HashMap<SnapshotId, Arc<Held>>,
    all: Arc<[Snapshot]>,
    /// When it was listed.
    pub listed: SystemTime,
}

impl SnapshotList {
    /// The list of `held` snapshots, listed now.
    pub(super) fn new(held: HashMap<Id, Arc<Held>>) -> Self {
        let by_name = held.values().map(|held| (Arc::clone(&held.snapshot.id), Arc::clone(held))).collect();
        let all = held.values().map(|held| held.snapshot.clone()).collect();
        SnapshotList { held, by_name, all, listed: SystemTime::now() }
    }

    /// All of them.
    pub(super) fn all(&self) -> Arc<[Snapshot]> {
        Arc::clone(&self.all)
    }

    /// The snapshot called `name`.
    pub(super) fn get(&self, name: &str) -> Option<&Arc<Held>> {
        self.by_name.get(name)
    }

    /// Those of them that a new listing still names.
    pub(super) fn still(&self, listed: &HashSet<Id>) -> HashMap<Id, Arc<Held>> {
        let kept = self.held.iter().filter(|(id, _)| listed.contains(id));
        kept.map(|(id, held)| (*id, Arc::clone(held))).collect()
    }

    /// The files they are read from.
    pub(super) fn ids(&self) -> impl Iterator<Item = &Id> {
        self.held.keys()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether it holds the same snapshots as `other`.
    pub(super) fn is_same(&self, other: &SnapshotList) -> bool {
        self.len() == other.len() && self.held.keys().all(|id| other.held.contains_key(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{SnapshotTime, Time};

    fn raw(paths: &[&str]) -> RawSnapshot {
        RawSnapshot {
            time: SnapshotTime { instant: Time { secs: 1, nanos: 2 }, offset: Some(3600) },
            tree: Id([7; 32]),
            paths: paths.iter().map(|path| path.as_bytes().to_vec()).collect(),
            hostname: Some("lab".into()),
            username: None,
            tags: vec!["a".into()],
            original: None,
        }
    }

    fn list(ids: &[u8]) -> SnapshotList {
        let held = |n: &u8| (Id([*n; 32]), Arc::new(Held::new(&Id([*n; 32]), raw(&["/x"]))));
        SnapshotList::new(ids.iter().map(held).collect())
    }

    #[test]
    fn a_snapshot_without_paths_is_of_the_root() {
        for paths in [&[][..], &[""]] {
            assert_eq!(*Held::new(&Id([1; 32]), raw(paths)).snapshot.paths, [Arc::from(&b"/"[..])]);
        }
        let held = Held::new(&Id([1; 32]), raw(&["/a", "/b"]));
        assert_eq!(held.snapshot.paths.len(), 2);
        assert_eq!(&*held.snapshot.content, "07".repeat(32));
        assert_eq!(&*held.snapshot.id, "01".repeat(32));
    }

    #[test]
    fn a_list_knows_what_a_new_listing_leaves_of_it() {
        let old = list(&[1, 2, 3]);
        assert_eq!((old.len(), old.all().len()), (3, 3));
        assert!(old.get(&"02".repeat(32)).is_some());
        assert!(old.get("02").is_none());
        let still = old.still(&[Id([2; 32]), Id([9; 32])].into());
        assert_eq!(still.keys().collect::<Vec<_>>(), [&Id([2; 32])]);
        assert!(old.is_same(&list(&[3, 2, 1])));
        assert!(!old.is_same(&list(&[1, 2, 4])));
        assert!(!old.is_same(&list(&[1, 2])));
    }
}
