//! Tests over repositories that restic 0.14, restic 0.19 and rustic wrote: every key, configuration, index, snapshot
//! and tree in them is read.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::crypto::MasterKey;
use super::index::IndexedBlob;
use super::snapshot::RawSnapshot;
use super::tree::Tree;
use super::{blob, config, index, keys, snapshot, unpacked};
use crate::source::chunked::Id;
use crate::tree::FileType;

struct Repository {
    root: PathBuf,
    key: MasterKey,
    config: config::Config,
    blobs: HashMap<(bool, Id), IndexedBlob>,
    snapshots: Vec<(Id, RawSnapshot)>,
}

fn files(folder: &Path) -> Vec<(Id, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name.parse().unwrap(), std::fs::read(entry.path()).unwrap())
        })
        .collect()
}

fn open(fixture: &str, part: &str) -> Repository {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture);
    let password = std::fs::read_to_string(folder.join("password")).unwrap();
    let root = folder.join(part);
    let candidates: Vec<_> =
        files(&root.join("keys")).into_iter().map(|(id, bytes)| (id, Bytes::from(bytes))).collect();
    let key = keys::unlock(&candidates, password.trim().as_bytes(), None).unwrap().key;
    let stored = std::fs::read(root.join("config")).unwrap();
    let config = config::parse(&unpacked::open_unnamed(&key, &stored).unwrap()).unwrap();
    let mut blobs = HashMap::new();
    for (id, stored) in files(&root.join("index")) {
        let json = unpacked::open(&key, &id, &stored).unwrap();
        let skipped = index::parse(&json, &mut |blob| {
            blobs.insert((blob.tree, blob.id), blob);
        });
        assert_eq!(skipped.unwrap(), 0);
    }
    let snapshots = files(&root.join("snapshots"))
        .into_iter()
        .map(|(id, stored)| (id, snapshot::parse(&unpacked::open(&key, &id, &stored).unwrap()).unwrap()))
        .collect();
    Repository { root, key, config, blobs, snapshots }
}

impl Repository {
    fn blob(&self, tree: bool, id: Id) -> Vec<u8> {
        let at = self.blobs[&(tree, id)];
        let pack = at.pack.to_string();
        let pack = std::fs::read(self.root.join("data").join(&pack[..2]).join(&pack)).unwrap();
        let stored = &pack[at.offset as usize..][..at.length as usize];
        blob::decode(&self.key, stored, at.plain_length, &id).unwrap()
    }

    /// Visits all trees of all snapshots once.
    fn each_tree(&self, visit: &mut dyn FnMut(&Tree)) {
        let mut seen = HashSet::new();
        let mut left: Vec<Id> = self.snapshots.iter().map(|(_, snapshot)| snapshot.tree).collect();
        while let Some(id) = left.pop() {
            if !seen.insert(id) {
                continue;
            }
            let json = self.blob(true, id);
            let tree = Tree::parse(&json, &mut |flaw| panic!("{flaw}")).unwrap();
            assert!(tree.splices().is_empty());
            visit(&tree);
            left.extend((0..tree.len()).filter_map(|at| tree.entry(at).unwrap().subtree()));
        }
    }
}

/// Finds every entry by its name, reads every blob of every file; returns the number of entries of each type.
fn walk(repository: &Repository) -> HashMap<FileType, usize> {
    let mut count = HashMap::new();
    let mut read = HashSet::new();
    repository.each_tree(&mut |tree| {
        for at in 0..tree.len() {
            let node = tree.entry(at).unwrap();
            assert_eq!(tree.find(node.name()), Some(at));
            *count.entry(node.kind()).or_default() += 1;
            let mut size = 0;
            for id in node.content() {
                let blob = repository.blobs[&(false, *id)];
                size += u64::from(if blob.plain_length == 0 { blob.length - 32 } else { blob.plain_length });
                if read.insert(*id) {
                    repository.blob(false, *id);
                }
            }
            assert_eq!(size, if node.kind() == FileType::File { node.recorded_size() } else { 0 });
        }
    });
    count
}

#[test]
fn everything_in_a_repository_of_version_1_is_read() {
    let repository = open("restic-v1", "repo");
    assert_eq!(repository.config.version, 1);
    eprintln!("{:?} {}", walk(&repository), repository.snapshots.len());
}
