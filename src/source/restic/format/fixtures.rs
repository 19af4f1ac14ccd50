//! Tests over repositories that restic 0.14, restic 0.19 and rustic wrote: every key, configuration, index, snapshot
//! and tree in them is read, and compared with what the original directories were.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::{Value, json};

use super::crypto::MasterKey;
use super::index::IndexedBlob;
use super::snapshot::RawSnapshot;
use super::tree::{NodeRef, Tree};
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

fn folder(fixture: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture)
}

fn open(fixture: &str, part: &str) -> Repository {
    let folder = folder(fixture);
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
        let pack = File::open(self.root.join("data").join(&pack[..2]).join(&pack)).unwrap();
        let mut stored = vec![0; at.length as usize];
        pack.read_exact_at(&mut stored, at.offset.into()).unwrap();
        blob::decode(&self.key, &stored, at.plain_length, &id).unwrap()
    }

    fn tree(&self, id: Id) -> Tree {
        let tree = Tree::parse(&self.blob(true, id), &mut |flaw| panic!("{flaw}")).unwrap();
        assert_eq!(tree.splices(), []);
        tree
    }

    /// The snapshot of `host` taken at `secs` after the epoch.
    fn snapshot(&self, host: &str, secs: i64) -> &RawSnapshot {
        let wanted = |snapshot: &RawSnapshot| {
            snapshot.hostname.as_deref() == Some(host) && snapshot.time.instant.secs == secs
        };
        &self.snapshots.iter().find(|(_, snapshot)| wanted(snapshot)).unwrap().1
    }
}

/// Lines of a manifest as the harness makes them of a restored tree, as far as a tree records them.
struct Manifest<'a> {
    repository: &'a Repository,
    lines: Vec<Value>,
    blobs: HashMap<Id, Vec<u8>>,
}

impl Manifest<'_> {
    fn visit(&mut self, tree: &Tree, path: &str) {
        for at in 0..tree.len() {
            let node = tree.entry(at).unwrap();
            assert_eq!(tree.find(node.name()), Some(at));
            let path = format!("{path}{}", escaped(node.name()));
            self.line(&node, &path);
            if node.kind() == FileType::Dir {
                self.visit(&self.repository.tree(node.subtree().unwrap()), &format!("{path}/"));
            }
        }
    }

    fn line(&mut self, node: &NodeRef, path: &str) {
        let mtime = i128::from(node.mtime().secs) * 1_000_000_000 + i128::from(node.mtime().nanos);
        let kind = format!("{:?}", node.kind()).to_lowercase();
        let mut line = json!({
            "path": path, "type": kind, "mode": format!("{:04o}", node.perm()),
            "mtime_ns": mtime.to_string(), "uid": node.uid(), "gid": node.gid(),
        });
        match node.kind() {
            FileType::File => {
                let content = self.content(node);
                assert_eq!(content.len() as u64, node.recorded_size());
                line["size"] = json!(content.len());
                line["sha256"] = json!(super::seal::id(&content).to_string());
            }
            FileType::Symlink => line["target"] = json!(escaped(node.target())),
            FileType::Block | FileType::Char => {
                let (major, minor) = (libc::major(node.rdev().into()), libc::minor(node.rdev().into()));
                line["rdev"] = json!(format!("{major}:{minor}"));
            }
            _ => {}
        }
        let hex = |value: &[u8]| value.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let xattrs: serde_json::Map<_, _> =
            node.xattrs().map(|(name, value)| (escaped(name), json!(hex(value)))).collect();
        if !xattrs.is_empty() {
            line["xattrs"] = xattrs.into();
        }
        self.lines.push(line);
    }

    fn content(&mut self, node: &NodeRef) -> Vec<u8> {
        let mut content = Vec::new();
        for id in node.content() {
            let blob = self.blobs.entry(*id).or_insert_with(|| self.repository.blob(false, *id));
            content.extend_from_slice(blob);
        }
        content
    }
}

fn escaped(name: &[u8]) -> String {
    let printed = |&byte: &u8| match byte {
        b'!'..=b'~' if byte != b'%' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    name.iter().map(printed).collect()
}

/// Compares what lies at `path` of a snapshot with the manifest of the original.
fn assert_manifest(fixture: &str, repository: &Repository, root: Id, path: &[&str], manifest: &str) {
    let mut tree = repository.tree(root);
    for name in path {
        let at = tree.find(name.as_bytes()).unwrap();
        tree = repository.tree(tree.entry(at).unwrap().subtree().unwrap());
    }
    let mut ours = Manifest { repository, lines: Vec::new(), blobs: HashMap::new() };
    ours.visit(&tree, "");
    ours.lines.sort_by(|a, b| a["path"].as_str().cmp(&b["path"].as_str()));
    let expected = std::fs::read_to_string(folder(fixture).join("expected").join(manifest)).unwrap();
    let expected: Vec<Value> = expected
        .lines()
        .map(|line| {
            // Times beyond the year 2262 fit no number of JSON's readers.
            let (before, mtime) = line.split_once("\"mtime_ns\": ").unwrap();
            let (mtime, after) = mtime.split_once(',').unwrap();
            let line = format!("{before}\"mtime_ns\": \"{mtime}\",{after}");
            let mut line: Value = serde_json::from_str(&line).unwrap();
            line.as_object_mut().unwrap().remove("linked_with");
            line
        })
        .collect();
    assert_eq!(ours.lines.len(), expected.len());
    for (ours, expected) in ours.lines.iter().zip(&expected) {
        assert_eq!(ours, expected);
    }
}

const JANUARY_15_3H: i64 = 1_705_287_600;
const JANUARY_16_2H: i64 = 1_705_370_400;
const JANUARY_16_3H: i64 = 1_705_374_000;

/// Every snapshot's every tree, and of two snapshots everything that their manifests say.
fn assert_restic(fixture: &str, version: u32) {
    let repository = open(fixture, "repo");
    assert_eq!((repository.config.version, repository.config.is_hot), (version, false));
    let first = repository.snapshot("alpha", JANUARY_15_3H);
    assert_eq!(first.paths, [b"/srv/data"]);
    assert_eq!(first.tags, ["nightly", "full"]);
    assert_eq!((first.username.as_deref(), first.time.offset), (Some("root"), Some(0)));
    let second = repository.snapshot("alpha", JANUARY_16_2H);
    assert_eq!(second.time.offset, Some(3600));
    assert_manifest(fixture, &repository, first.tree, &["srv", "data"], "alpha-1.jsonl");
    assert_manifest(fixture, &repository, second.tree, &["srv", "data"], "alpha-2.jsonl");
    let mut all = Manifest { repository: &repository, lines: Vec::new(), blobs: HashMap::new() };
    for (_, snapshot) in &repository.snapshots {
        all.visit(&repository.tree(snapshot.tree), "");
    }
}

#[test]
fn everything_in_a_repository_of_version_1_is_read() {
    assert_restic("restic-v1", 1);
}

#[test]
fn everything_in_a_repository_of_version_2_is_read() {
    assert_restic("restic-v2", 2);
}

#[test]
fn everything_in_a_pair_of_rustic_is_read() {
    let (cold, hot) = (open("rustic-hotcold", "repo"), open("rustic-hotcold", "hot"));
    assert_eq!((cold.config.is_hot, hot.config.is_hot), (false, true));
    assert_eq!(cold.config.id, hot.config.id);
    for (secs, manifest) in [(JANUARY_15_3H, "alpha-1.jsonl"), (JANUARY_16_3H, "alpha-2.jsonl")] {
        let snapshot = cold.snapshot("alpha", secs);
        assert_manifest("rustic-hotcold", &cold, snapshot.tree, &["srv", "data"], manifest);
        // Trees lie in the hot half too.
        assert_eq!(hot.tree(snapshot.tree).len(), cold.tree(snapshot.tree).len());
    }
}

#[test]
fn hard_links_of_a_snapshot_share_device_and_inode() {
    let repository = open("restic-v2", "repo");
    let mut tree = repository.tree(repository.snapshot("alpha", JANUARY_15_3H).tree);
    for name in ["srv", "data", "links"] {
        tree = repository.tree(tree.entry(tree.find(name.as_bytes()).unwrap()).unwrap().subtree().unwrap());
    }
    let link = |name: &[u8]| tree.entry(tree.find(name).unwrap()).unwrap();
    assert_eq!(link(b"hard-1").links(), 3);
    assert_eq!(link(b"hard-1").device_inode(), link(b"hard-2").device_inode());
    assert_ne!(link(b"hard-1").device_inode(), link(b"to-dir").device_inode());
}
