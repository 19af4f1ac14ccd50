//! What is fuzzed: every parser of repository bytes, and a whole repository around a tree of any text.
//!
//! A target takes any bytes and panics when something is promised and not kept; that nothing else panics is the other
//! half of the test.

use std::collections::HashSet;
use std::sync::LazyLock;

use backupfs::cache::Budget;
use backupfs::source::chunked::{Id, Shared};
use backupfs::source::restic::format::crypto::MasterKey;
use backupfs::source::restic::format::tree::{NodeRef, Tree};
use backupfs::source::restic::format::{blob, config, index, keys, snapshot, unpacked};
use backupfs::source::restic::{self, Spec};
use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;

use crate::seeds::Plain;
use crate::walk::walk;
use crate::writer::{Key, PASSWORD, Repository};

/// One thing to fuzz.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub seeds: fn(&Plain) -> Vec<Vec<u8>>,
}

pub const TARGETS: &[Target] = &[
    Target { name: "key", run: key, seeds: |plain| plain.keys.clone() },
    Target { name: "config", run: config, seeds: |plain| plain.configs.clone() },
    Target { name: "index", run: index, seeds: |plain| plain.indexes.clone() },
    Target { name: "snapshot", run: snapshot, seeds: |plain| plain.snapshots.clone() },
    Target { name: "time", run: time, seeds: times },
    Target { name: "tree", run: tree, seeds: |plain| plain.trees.clone() },
    Target { name: "name", run: name, seeds: names },
    Target { name: "acl", run: acl, seeds: acls },
    Target { name: "unit", run: unit, seeds: |plain| plain.configs.clone() },
    Target { name: "unpacked", run: unpacked, seeds: unpackeds },
    Target { name: "frame", run: frame, seeds: frames },
    Target { name: "repository", run: repository, seeds: |plain| plain.trees.clone() },
];

/// The key that [`Key::known`] is to a writer.
static KEY: LazyLock<MasterKey> =
    LazyLock::new(|| MasterKey::from_parts([7; 32], [8; 16], [9; 16]).expect("a good key"));

fn seal(plain: &[u8]) -> Vec<u8> {
    Key::known().seal([1; 16], plain)
}

/// Key files whose parameters cost next to nothing: the others are refused or slow by design.
fn key(data: &[u8]) {
    let cost = |json: &Value| {
        ["N", "r", "p"].iter().try_fold(1_u64, |cost, name| cost.checked_mul(json[name].as_u64()?))
    };
    if serde_json::from_slice::<Value>(data).is_ok_and(|json| cost(&json).is_some_and(|cost| cost > 1 << 10))
    {
        return;
    }
    let _ = keys::unlock(&[(Id([1; 32]), Bytes::copy_from_slice(data))], b"password", Some("01"));
}

fn config(data: &[u8]) {
    let _ = config::parse(data);
}

fn index(data: &[u8]) {
    let _ = index::parse(data, &mut |blob| {
        assert!(blob.length >= 32 && blob.offset.checked_add(blob.length).is_some(), "{blob:?}");
    });
}

fn snapshot(data: &[u8]) {
    let Ok(snapshot) = snapshot::parse(data) else { return };
    assert!(snapshot.time.instant.nanos < 1_000_000_000);
    assert!(snapshot.time.offset.is_none_or(|offset| offset.abs() < 86_400));
    assert!(snapshot.hostname.is_none_or(|host| !host.is_empty()));
}

/// Times by way of a snapshot.
fn time(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    snapshot(json!({"time": text, "tree": "00".repeat(32)}).to_string().as_bytes());
}

fn times(_: &Plain) -> Vec<Vec<u8>> {
    let times =
        ["2026-01-02T03:04:05.123456789+01:00", "0001-01-01T00:00:00Z", "1969-12-31T23:59:58.5-11:30"];
    times.map(|time| time.as_bytes().to_vec()).to_vec()
}

fn tree(data: &[u8]) {
    let mut flaws = 0;
    let Ok(tree) = Tree::parse(data, &mut |flaw| flaws += flaw.to_string().len()) else { return };
    check(&tree);
    let children: Vec<_> =
        tree.splices().iter().filter_map(|_| Tree::parse(data, &mut |_| ()).ok()).collect();
    if let Ok(spliced) = tree.spliced(children) {
        check(&spliced);
    }
}

fn check(tree: &Tree) {
    let mut names = HashSet::new();
    for at in 0..tree.len() {
        let node = tree.entry(at).expect("an entry for every position");
        let name = node.name();
        assert!((1..=255).contains(&name.len()) && !matches!(name, b"." | b".."), "{name:?}");
        assert!(!name.contains(&b'/') && !name.contains(&0), "{name:?}");
        assert!(names.insert(name), "{name:?} twice");
        assert_eq!(tree.find(name), Some(at), "{name:?}");
        check_node(&node);
    }
    assert!(tree.entry(tree.len()).is_none());
    assert_eq!(tree.is_empty(), tree.entry(0).is_none());
}

fn check_node(node: &NodeRef<'_>) {
    assert!(node.perm() <= 0o7777);
    assert!(node.links() >= 1);
    assert!(i64::try_from(node.recorded_size()).is_ok());
    for time in [node.mtime(), node.atime(), node.ctime()] {
        assert!(time.nanos < 1_000_000_000);
    }
    assert!(node.target().len() < 4096 && !node.target().contains(&0));
    let mut names = HashSet::new();
    for (name, value) in node.xattrs() {
        assert!((1..=255).contains(&name.len()) && !name.contains(&0), "{name:?}");
        assert!(value.len() <= 65_536 && names.insert(name), "{name:?}");
    }
    let _ = (
        node.content().len(),
        node.subtree(),
        node.is_damaged(),
        node.device_inode(),
        node.digest(),
        node.rdev(),
    );
}

/// Names by way of a tree; one that is shown must be the same when it is quoted again.
fn name(data: &[u8]) {
    let file = crate::writer::node::file(&String::from_utf8_lossy(data), &[]);
    let parse = |file: &Value| Tree::parse(json!({"nodes": [file]}).to_string().as_bytes(), &mut |_| ());
    let first = parse(&file).expect("a tree");
    let Some(node) = first.entry(0) else { return };
    let again =
        parse(&crate::writer::node::file(&crate::writer::node::quote(node.name()), &[])).expect("a tree");
    assert_eq!(again.entry(0).map(|again| again.name()), Some(node.name()));
}

fn names(_: &Plain) -> Vec<Vec<u8>> {
    let names = ["plain", "a\\x41\\101\\u00e9\\U0001f600\\n\\\\\\\"", "\\'", "caf\u{e9}"];
    names.map(|name| name.as_bytes().to_vec()).to_vec()
}

/// Lists of extended attributes whose value is any bytes.
fn acl(data: &[u8]) {
    use base64::Engine;
    let value = base64::engine::general_purpose::STANDARD.encode(data);
    let names = ["system.posix_acl_access", "system.posix_acl_default", "user.x", "security.capability"];
    let list: Vec<_> = names.iter().map(|name| json!({"name": name, "value": value})).collect();
    let fields = json!({"extended_attributes": list, "mode": 0o660});
    let file = crate::writer::node::with(crate::writer::node::file("x", &[]), fields);
    tree(json!({"nodes": [file]}).to_string().as_bytes());
}

fn acls(_: &Plain) -> Vec<Vec<u8>> {
    let entry =
        |tag: u16, id: u32| [&tag.to_le_bytes()[..], &6_u16.to_le_bytes(), &id.to_le_bytes()].concat();
    let entries =
        [entry(1, u32::MAX), entry(2, 1000), entry(4, u32::MAX), entry(16, u32::MAX), entry(32, u32::MAX)];
    vec![[&2_u32.to_le_bytes()[..], &entries.concat()].concat()]
}

/// Encrypted units: nothing but what was sealed opens, and it gives what was sealed.
fn unit(data: &[u8]) {
    assert!(KEY.open(data).is_err(), "a unit was guessed");
    assert_eq!(KEY.open(&seal(data)).expect("a good unit"), data);
}

fn unpacked(data: &[u8]) {
    let _ = unpacked::open_unnamed(&KEY, &seal(data));
}

fn unpackeds(plain: &Plain) -> Vec<Vec<u8>> {
    let compressed = |json: &Vec<u8>| [&[2], &zstd::bulk::compress(json, 1).expect("a frame")[..]].concat();
    plain.snapshots.iter().flat_map(|json| [json.clone(), compressed(json)]).collect()
}

/// Frames, with a length in front: what is decoded is what another way of decoding gives.
fn frame(data: &[u8]) {
    let Some((length, frame)) = data.split_first_chunk() else { return };
    let length = u32::from_le_bytes(*length) % (1 << 20) + 1;
    let mut reference = Vec::new();
    let read = zstd::stream::read::Decoder::new(frame).and_then(|decoder| {
        std::io::Read::read_to_end(&mut std::io::Read::take(decoder, 2 << 20), &mut reference)
    });
    let id = Id(Sha256::digest(&reference).into());
    match blob::decode(&KEY, &seal(frame), length, &id) {
        Ok(plain) => assert!(plain == reference && plain.len() == length as usize),
        Err(error) => {
            let right = read.is_ok() && reference.len() == length as usize;
            assert!(!right, "a good frame was refused: {error}");
        }
    }
}

fn frames(plain: &Plain) -> Vec<Vec<u8>> {
    plain.frames.iter().map(|(frame, length)| [&(length - 1).to_le_bytes()[..], frame].concat()).collect()
}

/// A repository around this tree, walked from the outside.
fn repository(data: &[u8]) {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));
    let mut repository = Repository::new(2);
    repository.data(b"content");
    let tree = repository.tree_text(data);
    repository.snapshot("/fuzzed", &tree);
    let spec = Spec {
        name: "fuzzed".into(),
        store: repository.into_store(),
        hot: None,
        drawer: None,
        password: PASSWORD.as_bytes().into(),
        key_hint: None,
    };
    RUNTIME.block_on(async {
        let source = restic::open(spec, Shared::new(Budget::of(16 << 20))).await.expect("a good repository");
        let snapshot = source.snapshots()[0].clone();
        let opened = source.open(&snapshot.id, 0).resolve().await.expect("a path that is there");
        walk(opened.node).await;
    });
}
