//! One snapshot of a hostile repository: its nodes, and what a reader has to make of each.

use std::collections::BTreeMap;
use std::sync::Arc;

use backupfs::cache::Budget;
use backupfs::error;
use backupfs::source::chunked::Shared;
use backupfs::source::restic::{self, Spec};
use backupfs::store::ObjectStore;
use backupfs::tree::{Snapshot, Source};
use bytes::Bytes;
use serde_json::Value;

use crate::harness::walk::{Path, Walked, walk};
use crate::writer::{Blob, PASSWORD, Repository, node};

/// What has to be found at a path.
#[derive(Clone, Debug)]
pub enum Want {
    /// A file or link of this content.
    Content(Vec<u8>),
    /// A directory that can be listed, or a node without content.
    Whole,
    /// It is shown, and its content (or listing) is an error.
    Damaged,
    /// This content, or an error.
    Exact(Vec<u8>),
    /// It may be shown or not; what can be read of it is believed.
    Maybe,
}

/// What was found below a snapshot's path: what could be read of each node, or why nothing could.
pub type Shown = BTreeMap<Path, Result<Bytes, String>>;

/// A snapshot in the making. It begins and ends with a good file, which must survive whatever stands between.
pub struct Scene<'r> {
    pub repository: &'r mut Repository,
    name: &'static str,
    nodes: Vec<Value>,
    wants: BTreeMap<Path, Want>,
}

/// What has to be found in the snapshot of one scene.
pub struct Script {
    /// The path that was backed up.
    pub path: String,
    wants: BTreeMap<Path, Want>,
}

impl<'r> Scene<'r> {
    pub fn new(repository: &'r mut Repository, name: &'static str) -> Self {
        let mut scene = Scene { repository, name, nodes: Vec::new(), wants: BTreeMap::new() };
        scene.wants.insert(Path::new(), Want::Whole);
        scene.good("aaa first");
        scene
    }

    /// A file that nothing is wrong with; its content tells where it is from.
    pub fn good(&mut self, name: &str) {
        let content = format!("{}: {name}", self.name);
        let blob = self.repository.data(content.as_bytes());
        self.node(name, node::file(name, &[&blob]), Want::Content(content.into()));
    }

    /// Any node, and what is to be found under `name`.
    pub fn node(&mut self, name: impl AsRef<[u8]>, node: Value, want: Want) {
        self.nodes.push(node);
        self.want(name, want);
    }

    /// A node that must not be shown under any name.
    pub fn hidden(&mut self, node: Value) {
        self.nodes.push(node);
    }

    /// A file of one blob; `content` is what reading it gives, `None` for an error.
    pub fn blob(&mut self, name: &str, blob: Blob, content: Option<&[u8]>) {
        let id = self.repository.add(blob);
        let want = content.map_or(Want::Damaged, |content| Want::Content(content.into()));
        self.node(name, node::file(name, &[&id]), want);
    }

    /// A file of two copies of one blob, of which the index tells different things.
    pub fn disputed(&mut self, name: &str, one: Blob, other: Blob) {
        let content = one.plain.to_vec();
        let id = self.repository.add(one);
        self.repository.flush();
        self.repository.add(other);
        self.repository.flush();
        self.node(name, node::file(name, &[&id]), Want::Exact(content));
    }

    /// A directory whose tree is this blob; it cannot be listed.
    pub fn broken_tree(&mut self, name: &str, blob: Blob) {
        let id = self.repository.add(blob);
        self.node(name, node::dir(name, &id), Want::Damaged);
    }

    /// What is to be found at a path.
    pub fn want(&mut self, path: impl AsRef<[u8]>, want: Want) {
        self.wants.insert(path.as_ref().to_owned(), want);
    }

    /// Writes the tree and the snapshot.
    pub fn end(mut self) -> Script {
        self.good("zzz last");
        let tree = self.repository.tree(&self.nodes);
        let path = format!("/{}", self.name);
        self.repository.snapshot(&path, &tree);
        Script { path, wants: self.wants }
    }
}

impl Script {
    /// Holds what was found against what has to be found.
    pub fn check(&self, walked: &Shown) {
        for (path, found) in walked {
            let shown = format!("{}/{}", self.path, String::from_utf8_lossy(path));
            match self.wants.get(path) {
                Some(want) => check(&shown, want, found),
                None => assert!(self.within_maybe(path), "{shown}: should not be there: {found:?}"),
            }
        }
        for (path, want) in &self.wants {
            let shown = format!("{}/{}", self.path, String::from_utf8_lossy(path));
            assert!(walked.contains_key(path) || matches!(want, Want::Maybe), "{shown} is missing");
        }
    }

    fn within_maybe(&self, path: &[u8]) -> bool {
        let maybe = |(above, want): (&Path, &Want)| {
            matches!(want, Want::Maybe) && path.starts_with(above) && path.get(above.len()) == Some(&b'/')
        };
        self.wants.iter().any(maybe)
    }
}

fn check(path: &str, want: &Want, found: &Result<Bytes, String>) {
    match want {
        Want::Content(content) => {
            let read = found.as_ref().unwrap_or_else(|error| panic!("{path}: {error}"));
            assert!(read == content, "{path}: {} bytes instead of {}", read.len(), content.len());
        }
        Want::Exact(content) => {
            let lie = found.as_ref().is_ok_and(|read| read != content);
            assert!(!lie, "{path}: {found:?}");
        }
        Want::Whole => assert!(found.is_ok(), "{path}: {found:?}"),
        Want::Damaged => assert!(found.is_err(), "{path} can be read: {found:?}"),
        Want::Maybe => {}
    }
}

/// Opens a repository with the memory of a small machine.
pub async fn open(store: Arc<dyn ObjectStore>) -> error::Result<Arc<dyn Source>> {
    let spec = Spec {
        name: "hostile".into(),
        store,
        hot: None,
        drawer: None,
        password: PASSWORD.as_bytes().into(),
        key_hint: None,
    };
    restic::open(spec, Shared::new(Budget::of(32 << 20))).await
}

/// The snapshot of one path.
pub fn snapshot_of(source: &dyn Source, path: &str) -> Option<Snapshot> {
    let snapshots = source.snapshots();
    snapshots.iter().find(|snapshot| snapshot.paths.iter().any(|own| **own == *path.as_bytes())).cloned()
}

/// Everything in the snapshot of one path.
pub async fn walked(source: &dyn Source, path: &str) -> Walked {
    let snapshot = snapshot_of(source, path).unwrap_or_else(|| panic!("no snapshot of {path}"));
    let opened = source.open(&snapshot.id, 0).resolve().await;
    walk(opened.unwrap_or_else(|error| panic!("{path}: {error:?}")).node).await
}

/// Plays scenes in repositories of both versions and checks that each is shown as it has to be.
pub async fn play(scenes: &[fn(&mut Repository) -> Script]) {
    for version in [1, 2] {
        let mut repository = Repository::new(version);
        let scripts: Vec<_> = scenes.iter().map(|scene| scene(&mut repository)).collect();
        let source = open(repository.into_store()).await.unwrap();
        for script in scripts {
            let walked = walked(&*source, &script.path).await;
            let shown =
                walked.into_iter().map(|(path, found)| (path, found.content.map_err(|e| format!("{e:?}"))));
            script.check(&shown.collect());
        }
    }
}
