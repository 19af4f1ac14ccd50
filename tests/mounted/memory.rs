//! Trees in memory, and nodes that misbehave.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use backupfs::error::{Error, Kind};
use backupfs::tree::{
    Content, Cookie, Dir, Entry, File, FileType, Identity, Listing, Meta, Node, Reader, Sink, Step, Time,
    Validity, Xattrs,
};
use bytes::Bytes;

/// 2026-03-01 03:00:00.5 UTC.
pub const THEN: Time = Time { secs: 1_772_334_000, nanos: 500_000_000 };

pub fn meta(kind: FileType, perm: u16) -> Meta {
    Meta { kind, perm, ..Meta::directory(THEN, Validity::Forever) }
}

/// Changes a node's attributes in passing.
pub trait With {
    fn with(self, change: impl FnOnce(&mut Meta)) -> Self;
    fn attributes(self, attributes: &[(&str, &[u8])]) -> Self;
}

impl With for Node {
    fn with(mut self, change: impl FnOnce(&mut Meta)) -> Self {
        change(&mut self.meta);
        self
    }

    fn attributes(mut self, attributes: &[(&str, &[u8])]) -> Self {
        let map = attributes.iter().map(|(n, v)| (n.as_bytes().to_vec(), v.to_vec())).collect();
        self.xattrs = Some(Arc::new(Attributes(map)));
        self.meta.has_xattrs = true;
        self
    }
}

/// Attributes called `…hidden…` answer by name and are not listed.
struct Attributes(BTreeMap<Vec<u8>, Vec<u8>>);

impl Xattrs for Attributes {
    fn get(&self, name: &[u8]) -> Step<Option<Bytes>> {
        Step::ok(self.0.get(name).map(|value| Bytes::copy_from_slice(value)))
    }

    fn names(&self) -> Step<Vec<Bytes>> {
        let listed = |name: &&Vec<u8>| !String::from_utf8_lossy(name).contains("hidden");
        Step::ok(self.0.keys().filter(listed).map(|name| Bytes::copy_from_slice(name)).collect())
    }
}

/// A directory whose entries may come and go.
#[derive(Default)]
pub struct Memory(RwLock<Arc<Entries>>);

#[derive(Clone, Default)]
struct Entries {
    list: Vec<Option<Item>>,
    index: HashMap<Vec<u8>, usize>,
}

#[derive(Clone)]
struct Item {
    name: Vec<u8>,
    node: Node,
    listed_with_meta: bool,
}

impl Memory {
    pub fn set(&self, name: impl AsRef<[u8]>, node: Node) {
        self.insert(name.as_ref(), node, true);
    }

    /// The entry's attributes are only told by a look-up.
    pub fn set_untold(&self, name: impl AsRef<[u8]>, node: Node) {
        self.insert(name.as_ref(), node, false);
    }

    pub fn remove(&self, name: impl AsRef<[u8]>) {
        let mut entries = self.0.write().unwrap();
        let entries = Arc::make_mut(&mut entries);
        let at = entries.index.remove(name.as_ref()).expect("there is such an entry");
        entries.list[at] = None;
    }

    fn insert(&self, name: &[u8], node: Node, listed_with_meta: bool) {
        let mut entries = self.0.write().unwrap();
        let entries = Arc::make_mut(&mut entries);
        let next = entries.list.len();
        let at = *entries.index.entry(name.to_vec()).or_insert(next);
        let item = Some(Item { name: name.to_vec(), node, listed_with_meta });
        if at == next {
            entries.list.push(item);
        } else {
            entries.list[at] = item;
        }
    }

    pub fn node(self: &Arc<Self>) -> Node {
        Node { meta: meta(FileType::Dir, 0o755), content: Content::Dir(self.clone()), xattrs: None }
    }
}

impl Dir for Memory {
    fn lookup(&self, name: &[u8]) -> Step<Option<Node>> {
        let entries = self.0.read().unwrap();
        let item = entries.index.get(name).and_then(|at| entries.list[*at].as_ref());
        Step::ok(item.map(|item| item.node.clone()))
    }

    fn listing(&self) -> Step<Arc<dyn Listing>> {
        Step::ok(self.0.read().unwrap().clone())
    }
}

impl Listing for Entries {
    fn visit(&self, from: Cookie, sink: &mut dyn Sink) {
        for (at, item) in self.list.iter().enumerate().skip(usize::try_from(from).unwrap()) {
            let Some(item) = item else { continue };
            let entry = Entry {
                at: at as u64,
                next: at as u64 + 1,
                name: &item.name,
                kind: item.node.meta.kind,
                identity: item.node.meta.identity,
                meta: item.listed_with_meta.then_some(item.node.meta),
            };
            if sink.entry(&entry).is_break() {
                return;
            }
        }
    }

    fn node(&self, at: Cookie) -> Option<Node> {
        let item = self.list.get(usize::try_from(at).ok()?)?.as_ref()?;
        item.listed_with_meta.then(|| item.node.clone())
    }
}

pub fn dir<N: AsRef<[u8]>>(entries: impl IntoIterator<Item = (N, Node)>) -> Node {
    let memory = Arc::new(Memory::default());
    for (name, node) in entries {
        memory.set(name, node);
    }
    memory.node()
}

/// Looks names up as it likes; lists nothing.
pub struct Looks<F>(pub F);

impl<F: Fn(&[u8]) -> Step<Option<Node>> + Send + Sync> Dir for Looks<F> {
    fn lookup(&self, name: &[u8]) -> Step<Option<Node>> {
        (self.0)(name)
    }

    fn listing(&self) -> Step<Arc<dyn Listing>> {
        Step::ok(Arc::new(Entries::default()))
    }
}

pub fn looks(answer: impl Fn(&[u8]) -> Step<Option<Node>> + Send + Sync + 'static) -> Node {
    let content = Content::Dir(Arc::new(Looks(answer)));
    Node { meta: meta(FileType::Dir, 0o755), content, xattrs: None }
}

/// How a file answers.
#[derive(Clone, Copy)]
pub enum Manner {
    Ready,
    /// After a while.
    Slow(Duration),
    /// One byte less than asked for.
    Short,
    Panics,
    Never,
    Fails(Kind),
}

/// A file of `size` bytes with data at some offsets and zeros elsewhere.
struct Data {
    size: u64,
    extents: Vec<(u64, Bytes)>,
    manner: Manner,
}

struct Opens(Arc<Data>);

impl File for Opens {
    fn open(&self) -> Step<Arc<dyn Reader>> {
        Step::ok(self.0.clone())
    }
}

impl Data {
    fn bytes(&self, offset: u64, len: usize) -> Bytes {
        let mut bytes = vec![0; len.min(usize::try_from(self.size.saturating_sub(offset)).unwrap())];
        let end = offset + bytes.len() as u64;
        for (start, data) in &self.extents {
            let (from, to) = (offset.max(*start), end.min(start + data.len() as u64));
            if from < to {
                let at = usize::try_from(from - offset).unwrap();
                let range = usize::try_from(from - start).unwrap()..usize::try_from(to - start).unwrap();
                bytes[at..at + range.len()].copy_from_slice(&data[range]);
            }
        }
        bytes.into()
    }
}

impl Reader for Data {
    fn read_at(&self, offset: u64, len: usize) -> Step<Bytes> {
        let bytes = self.bytes(offset, len);
        match self.manner {
            Manner::Ready => Step::ok(bytes),
            Manner::Slow(delay) => Step::wait(async move {
                tokio::time::sleep(delay).await;
                Ok(bytes)
            }),
            Manner::Short => Step::ok(bytes.slice(..bytes.len() - 1)),
            Manner::Panics => panic!("a reader's bug"),
            Manner::Never => Step::wait(std::future::pending()),
            Manner::Fails(kind) => Step::err(Error::new(kind, "made to fail")),
        }
    }

    fn next_data(&self, offset: u64) -> Step<Option<u64>> {
        let found = self.extents.iter().find(|(start, data)| offset < start + data.len() as u64);
        Step::ok(found.map(|(start, _)| offset.max(*start)))
    }

    fn next_hole(&self, offset: u64) -> Step<u64> {
        let inside = self.extents.iter().find(|(s, data)| (*s..s + data.len() as u64).contains(&offset));
        Step::ok(inside.map_or(offset, |(start, data)| start + data.len() as u64))
    }
}

pub fn sparse(size: u64, extents: Vec<(u64, Bytes)>, manner: Manner) -> Node {
    let blocks = extents.iter().map(|(_, data)| (data.len() as u64).div_ceil(512)).sum();
    let data = Arc::new(Data { size, extents, manner });
    Node {
        meta: Meta { size, blocks, ..meta(FileType::File, 0o644) },
        content: Content::File(Arc::new(Opens(data))),
        xattrs: None,
    }
}

pub fn odd(bytes: impl Into<Bytes>, manner: Manner) -> Node {
    let bytes = bytes.into();
    sparse(bytes.len() as u64, vec![(0, bytes)], manner)
}

pub fn file(bytes: impl Into<Bytes>) -> Node {
    odd(bytes, Manner::Ready)
}

pub fn symlink(target: &str) -> Node {
    Node {
        meta: Meta { size: target.len() as u64, ..meta(FileType::Symlink, 0o777) },
        content: Content::Symlink(Bytes::copy_from_slice(target.as_bytes())),
        xattrs: None,
    }
}

pub fn special(kind: FileType, rdev: u32) -> Node {
    Node { meta: Meta { rdev, ..meta(kind, 0o600) }, content: Content::Special, xattrs: None }
}

pub fn key(key: u128) -> impl FnOnce(&mut Meta) {
    move |meta| meta.identity = Identity::Key(key)
}

/// Bytes that tell their own offset.
pub fn pattern(len: usize) -> Bytes {
    (0..len).map(|i| u8::try_from((i ^ (i >> 8) ^ (i >> 16)) & 0xff).unwrap()).collect()
}
