//! Whole repositories written by the real tools, read through a store in memory.

mod cached;
mod damage;
mod fidelity;
mod offline;
mod opening;
mod refresh;
mod unreliable;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Spec, open};
use crate::cache::Budget;
use crate::error::{Error, Kind, Result};
use crate::source::chunked::Shared;
use crate::store::{Memory, ObjectInfo, ObjectStore, Pace};
use crate::tree::{Ancestors, Content, Dir, Entry, FileType, Identity, Node, Opened, Snapshot, Source};

/// Where a fixture lies.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A store in memory that counts what is asked of it, can be down and can be far away.
struct Watched {
    inner: Memory,
    distance: Mutex<Duration>,
    asked: Mutex<Vec<String>>,
    is_down: AtomicBool,
    /// What the next listing of a prefix answers instead of the truth.
    lies: Mutex<HashMap<String, Vec<String>>>,
}

impl Watched {
    fn of(dir: &Path) -> Arc<Self> {
        let store = Watched::empty();
        for (key, bytes) in files(dir, "") {
            store.inner.insert(&key, bytes).unwrap();
        }
        store
    }

    fn empty() -> Arc<Self> {
        let (inner, distance) = (Memory::new(), Mutex::default());
        let (asked, is_down, lies) = Default::default();
        Arc::new(Watched { inner, distance, asked, is_down, lies })
    }

    fn keys(&self, prefix: &str) -> Vec<String> {
        let listed = futures_util::FutureExt::now_or_never(self.inner.list(prefix)).unwrap().unwrap();
        listed.into_iter().map(|object| object.key).collect()
    }

    /// What was asked since the last time, of keys that begin with `prefix`.
    fn take_asked(&self, prefix: &str) -> Vec<String> {
        let asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked.into_iter().filter(|key| key.starts_with(prefix)).collect()
    }

    fn change(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.inner.remove(key).unwrap().to_vec();
        change(&mut bytes);
        self.inner.insert(key, bytes).unwrap();
    }

    /// Lets the next listing of `prefix` answer with these names.
    fn lie(&self, prefix: &str, names: &[&str]) {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        self.lies.lock().unwrap().insert(prefix.to_owned(), names);
    }

    async fn ask(&self, key: &str) -> Result<()> {
        self.asked.lock().unwrap().push(key.to_owned());
        let distance = *self.distance.lock().unwrap();
        if !distance.is_zero() {
            tokio::time::sleep(distance).await;
        }
        match self.is_down.load(Ordering::SeqCst) {
            true => Err(Error::new(Kind::Unavailable, "the store is down")),
            false => Ok(()),
        }
    }
}

impl ObjectStore for Watched {
    fn name(&self) -> &str {
        "watched"
    }

    fn pace(&self) -> Pace {
        self.inner.pace()
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<ObjectInfo>>> {
        Box::pin(async move {
            self.ask(prefix).await?;
            if let Some(names) = self.lies.lock().unwrap().remove(prefix) {
                let lie = |name| ObjectInfo { key: format!("{prefix}{name}"), size: 100 };
                return Ok(names.into_iter().map(lie).collect());
            }
            self.inner.list(prefix).await
        })
    }

    fn stat<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<ObjectInfo>> {
        Box::pin(async move {
            self.ask(key).await?;
            self.inner.stat(key).await
        })
    }

    fn get<'a>(&'a self, key: &'a str, limit: u64) -> BoxFuture<'a, Result<Bytes>> {
        Box::pin(async move {
            self.ask(key).await?;
            self.inner.get(key, limit).await
        })
    }

    fn get_range<'a>(&'a self, key: &'a str, offset: u64, length: u64) -> BoxFuture<'a, Result<Bytes>> {
        Box::pin(async move {
            self.ask(key).await?;
            self.inner.get_range(key, offset, length).await
        })
    }
}

fn files(dir: &Path, prefix: &str) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let key = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path(), &format!("{key}/")));
        } else {
            found.push((key, std::fs::read(entry.path()).unwrap()));
        }
    }
    found
}

fn spec(name: &str, store: &Arc<Watched>) -> Spec {
    let store: Arc<dyn ObjectStore> = Arc::<Watched>::clone(store);
    let password = std::fs::read(fixture(name).join("password")).unwrap();
    let password = password.trim_ascii().into();
    Spec { name: name.to_owned(), store, hot: None, drawer: None, password, key_hint: None }
}

fn shared() -> Arc<Shared> {
    Shared::new(Budget::of(64 << 20))
}

async fn opened(name: &str) -> (Arc<Watched>, Arc<dyn Source>) {
    let store = Watched::of(&fixture(name).join("repo"));
    let source = open(spec(name, &store), shared()).await.unwrap();
    store.take_asked("");
    (store, source)
}

/// The snapshot of `host` with `paths`, number `nth` by time.
fn snapshot(source: &Arc<dyn Source>, host: &str, path: &str, nth: usize) -> Snapshot {
    let mut all: Vec<Snapshot> = source.snapshots().to_vec();
    all.retain(|snapshot| {
        snapshot.host.as_deref() == Some(host) && snapshot.paths.iter().any(|p| **p == *path.as_bytes())
    });
    all.sort_by_key(|snapshot| (snapshot.time.instant, snapshot.id.clone()));
    all.swap_remove(nth)
}

async fn open_path(source: &Arc<dyn Source>, snapshot: &Snapshot, path: &str) -> Opened {
    let number = snapshot.paths.iter().position(|p| **p == *path.as_bytes()).unwrap();
    source.open(&snapshot.id, number).resolve().await.unwrap()
}

fn dir(node: &Node) -> Arc<dyn Dir> {
    match &node.content {
        Content::Dir(dir) => Arc::clone(dir),
        _ => panic!("not a directory"),
    }
}

/// The entries of a directory with their nodes, listing and look-up compared.
async fn entries(dir: &dyn Dir) -> Vec<(Vec<u8>, Node)> {
    let listing = dir.listing().resolve().await.unwrap();
    let mut listed = Vec::new();
    listing.visit(0, &mut |entry: &Entry<'_>| {
        assert!(entry.next > entry.at);
        listed.push((entry.at, entry.name.to_vec(), entry.meta.unwrap()));
        std::ops::ControlFlow::Continue(())
    });
    let mut nodes = Vec::new();
    for (at, name, meta) in listed {
        let node = listing.node(at).unwrap();
        let looked_up = dir.lookup(&name).resolve().await.unwrap().unwrap();
        assert_eq!((node.meta, looked_up.meta), (meta, meta), "{}", name.escape_ascii());
        assert_eq!(node.xattrs.is_some(), meta.has_xattrs);
        nodes.push((name, node));
    }
    nodes
}

async fn contents(node: &Node) -> Result<Vec<u8>> {
    let Content::File(file) = &node.content else { panic!("not a file") };
    let reader = file.open().resolve().await?;
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < node.meta.size {
        let read = reader.read_at(bytes.len() as u64, 128 * 1024).resolve().await?;
        assert!(!read.is_empty(), "a short read");
        bytes.extend_from_slice(&read);
    }
    assert!(reader.read_at(node.meta.size, 10).resolve().await?.is_empty());
    Ok(bytes)
}

fn printable(bytes: &[u8]) -> String {
    let escape = |byte: &u8| match byte {
        33..=126 if *byte != b'%' => char::from(*byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    bytes.iter().map(escape).collect()
}

/// What `tests/harness/manifest.py` would print of the directory, by path.
async fn manifest(root: &Node) -> BTreeMap<String, Value> {
    let mut rows = BTreeMap::new();
    let mut links: HashMap<u128, Vec<String>> = HashMap::new();
    let mut todo = vec![(Vec::new(), root.clone())];
    while let Some((path, node)) = todo.pop() {
        for (name, node) in entries(&*dir(&node)).await {
            let path = [path.as_slice(), &name].join(&b'/');
            let path = path.strip_prefix(b"/").unwrap_or(&path).to_vec();
            let text = printable(&path);
            rows.insert(text.clone(), row(&text, &node).await);
            if let (FileType::File, Identity::Key(key)) = (node.meta.kind, node.meta.identity) {
                links.entry(key).or_default().push(text);
            }
            if node.meta.kind == FileType::Dir {
                todo.push((path, node));
            }
        }
    }
    for group in links.values_mut().filter(|group| group.len() > 1) {
        group.sort();
        for path in group.iter() {
            let others: Vec<&String> = group.iter().filter(|other| *other != path).collect();
            rows.get_mut(path).unwrap()["linked_with"] = json!(others);
        }
    }
    rows
}

async fn row(path: &str, node: &Node) -> Value {
    let meta = &node.meta;
    let kind = match meta.kind {
        FileType::Dir => "dir",
        FileType::File => "file",
        FileType::Symlink => "symlink",
        FileType::Block => "block",
        FileType::Char => "char",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
    };
    let mtime = i128::from(meta.mtime.secs) * 1_000_000_000 + i128::from(meta.mtime.nanos);
    let mtime: Value = serde_json::from_str(&mtime.to_string()).unwrap();
    let mode = format!("{:04o}", meta.perm);
    let mut row = json!({"path": path, "type": kind, "mode": mode, "mtime_ns": mtime, "uid": meta.uid, "gid": meta.gid});
    match &node.content {
        Content::File(_) => {
            let bytes = contents(node).await.unwrap();
            row["size"] = json!(meta.size);
            row["sha256"] = json!(hex(&Sha256::digest(&bytes)));
        }
        Content::Symlink(target) => row["target"] = json!(printable(target)),
        Content::Special if matches!(meta.kind, FileType::Block | FileType::Char) => {
            let (major, minor) = (meta.rdev >> 8 & 0xfff, meta.rdev & 0xff | meta.rdev >> 12 & 0xf_ff00);
            row["rdev"] = json!(format!("{major}:{minor}"));
        }
        _ => {}
    }
    if let Some(xattrs) = &node.xattrs {
        let mut values = BTreeMap::new();
        for name in xattrs.names().resolve().await.unwrap() {
            let value = xattrs.get(&name).resolve().await.unwrap().unwrap();
            values.insert(String::from_utf8(name.to_vec()).unwrap(), hex(&value));
        }
        row["xattrs"] = json!(values);
    }
    row
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The manifest that a fixture expects.
fn expected(name: &str, which: &str) -> BTreeMap<String, Value> {
    let text = std::fs::read_to_string(fixture(name).join(format!("expected/{which}.jsonl"))).unwrap();
    let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.map(|row| (row["path"].as_str().unwrap().to_owned(), row)).collect()
}

fn assert_same(found: &BTreeMap<String, Value>, expected: &BTreeMap<String, Value>, what: &str) {
    for (path, row) in expected {
        assert_eq!(found.get(path), Some(row), "{what}: {path}");
    }
    assert_eq!(
        found.len(),
        expected.len(),
        "{what}: {:?}",
        found.keys().find(|k| !expected.contains_key(*k))
    );
}
