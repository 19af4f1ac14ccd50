//! A source in memory: snapshots, trees, outages and stalls as a test asks for them.
//!
//! Shared by the unit tests of `namespace` and by integration tests.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use backupfs::error::{Error, Kind, Result};
use backupfs::tree::{
    Ancestor, Ancestors, Content, Cookie, Dir, Entry, File, FileType, Given, Identity, Listing, Meta, Node,
    Opened, Reader, Sink, Snapshot, SnapshotId, SnapshotTime, Source, SourceHealth, Step, Time, Usage,
    Validity, Xattrs,
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

/// Builds snapshots in the order in which one speaks of them.
pub trait Describe: Sized {
    /// Sets the host.
    fn host(self, host: &str) -> Self;
    /// Sets the user.
    fn user(self, user: &str) -> Self;
    /// Sets the tags.
    fn tags(self, tags: &[&str]) -> Self;
    /// Sets the paths.
    fn paths(self, paths: &[&str]) -> Self;
    /// Sets the time, RFC 3339 with the offset to record.
    fn at(self, time: &str) -> Self;
    /// Sets what makes copies equal.
    fn content(self, content: &str) -> Self;
    /// Sets what names it where it lies.
    fn given(self, given: Given) -> Self;
    /// Makes it a copy of another snapshot, as `restic copy` does.
    fn copy_of(self, original: &Snapshot) -> Self;
}

/// A snapshot whose id is `short` repeated to 64 digits: of `/`, made at 2026-03-01T03:00:00Z, with a content of its
/// own.
pub fn snapshot(short: &str) -> Snapshot {
    let id: String = short.chars().cycle().take(64).collect();
    Snapshot {
        id: id.as_str().into(),
        original: None,
        time: SnapshotTime { instant: Time { secs: 1_772_334_000, nanos: 0 }, offset: Some(0) },
        host: None,
        user: None,
        tags: [].into(),
        paths: [b"/".as_slice().into()].into(),
        content: format!("tree of {id}").into(),
        given: Given::default(),
    }
}

impl Describe for Snapshot {
    fn host(self, host: &str) -> Self {
        Snapshot { host: Some(host.into()), ..self }
    }

    fn user(self, user: &str) -> Self {
        Snapshot { user: Some(user.into()), ..self }
    }

    fn tags(self, tags: &[&str]) -> Self {
        Snapshot { tags: tags.iter().map(|tag| (*tag).into()).collect(), ..self }
    }

    fn paths(self, paths: &[&str]) -> Self {
        Snapshot { paths: paths.iter().map(|path| path.as_bytes().into()).collect(), ..self }
    }

    fn at(self, time: &str) -> Self {
        let zoned = jiff::fmt::temporal::DateTimeParser::new();
        let instant = zoned.parse_timestamp(time).unwrap().as_nanosecond();
        let offset = zoned.parse_pieces(time).unwrap().to_numeric_offset().unwrap();
        let secs = i64::try_from(instant.div_euclid(1_000_000_000)).unwrap();
        let nanos = u32::try_from(instant.rem_euclid(1_000_000_000)).unwrap();
        Snapshot {
            time: SnapshotTime { instant: Time { secs, nanos }, offset: Some(offset.seconds()) },
            ..self
        }
    }

    fn content(self, content: &str) -> Self {
        Snapshot { content: content.into(), ..self }
    }

    fn given(self, given: Given) -> Self {
        Snapshot { given, ..self }
    }

    fn copy_of(self, original: &Snapshot) -> Self {
        Snapshot { id: self.id, original: Some(original.id.clone()), ..original.clone() }
    }
}

/// A directory's recorded attributes: owner, group, mode.
pub fn owned(uid: u32, gid: u32, perm: u16) -> Meta {
    Meta { uid, gid, perm, ..Meta::directory(Time { secs: 1_000_000_000, nanos: 5 }, Validity::Forever) }
}

/// A directory with `entries`.
pub fn dir(meta: Meta, entries: Vec<(&[u8], Node)>) -> Node {
    let entries = entries.into_iter().map(|(name, node)| (name.to_vec(), node)).collect();
    Node {
        meta,
        content: Content::Dir(Arc::new(FakeDir { entries: Arc::new(FakeListing(entries)) })),
        xattrs: None,
    }
}

/// A file of mode 0640 that holds `data`.
pub fn file(data: &'static [u8]) -> Node {
    let meta = Meta {
        kind: FileType::File,
        size: data.len() as u64,
        identity: Identity::Key(
            data.iter().fold(7, |key, byte| key.wrapping_mul(0x1_0000_01b3) ^ u128::from(*byte)),
        ),
        ..owned(1000, 1000, 0o640)
    };
    Node { meta, content: Content::File(Arc::new(FakeFile(Bytes::from_static(data)))), xattrs: None }
}

/// `node` with extended attributes.
pub fn with_xattrs(mut node: Node, xattrs: &[(&'static str, &'static str)]) -> Node {
    node.meta.has_xattrs = true;
    node.xattrs = Some(Arc::new(FakeXattrs(xattrs.to_vec())));
    node
}

/// What opening a path gives: `node` below `ancestors`.
pub fn opened(name: &str, node: Node, ancestors: Ancestors) -> Opened {
    Opened { name: name.as_bytes().into(), node, ancestors }
}

/// Recorded ancestors, outermost first: owner, group, mode.
pub fn recorded(above: &[(u32, u32, u16)]) -> Ancestors {
    Ancestors::Recorded(above.iter().map(|&(uid, gid, perm)| Ancestor { uid, gid, perm }).collect())
}

type Trees = HashMap<(SnapshotId, usize), Result<Opened>>;

/// What happens to a source.
pub type Trouble = fn(&FakeSource);

/// The source.
pub struct FakeSource {
    id: String,
    state: Mutex<State>,
    opens: AtomicUsize,
    refreshes: AtomicUsize,
    stalled: watch::Sender<bool>,
}

struct State {
    list: Arc<[Snapshot]>,
    /// Moments of the past that are not listed.
    past: Vec<Snapshot>,
    next: Arc<[Snapshot]>,
    down: Option<Error>,
    trees: Trees,
    listed: Option<SystemTime>,
    /// From when what the next refresh finds will be.
    next_listed: SystemTime,
    /// What happens to it before it answers the refresh of this number.
    trouble: Option<(usize, Trouble)>,
}

/// When sources in memory have listed what they have, where nothing else is said: seconds since 1970.
pub const LISTED: u64 = 1_773_144_000;

impl FakeSource {
    /// A source without snapshots whose repository is called `id`.
    pub fn new(id: &str) -> Arc<Self> {
        FakeSource::with(id, Vec::new())
    }

    /// A source that has listed `snapshots`.
    pub fn with(id: &str, snapshots: Vec<Snapshot>) -> Arc<Self> {
        let list: Arc<[Snapshot]> = snapshots.into();
        let listed = SystemTime::UNIX_EPOCH + Duration::from_secs(LISTED);
        let state = State {
            next: list.clone(),
            list,
            past: Vec::new(),
            down: None,
            trees: HashMap::new(),
            listed: Some(listed),
            next_listed: listed,
            trouble: None,
        };
        Arc::new(FakeSource {
            id: id.into(),
            state: Mutex::new(state),
            opens: AtomicUsize::new(0),
            refreshes: AtomicUsize::new(0),
            stalled: watch::channel(false).0,
        })
    }

    /// What the next refresh will find.
    pub fn put(&self, snapshots: Vec<Snapshot>) {
        self.state.lock().unwrap().next = snapshots.into();
    }

    /// Can show any moment, and these between those that it lists.
    pub fn remember(&self, past: Vec<Snapshot>) {
        self.state.lock().unwrap().past = past;
    }

    /// Never listed so far.
    pub fn unlisted(self: Arc<Self>) -> Arc<Self> {
        self.state.lock().unwrap().listed = None;
        self
    }

    /// What it lists is from `when`, in seconds since 1970, and so will be what the next refresh finds where it has listed
    /// nothing yet: it was kept.
    pub fn listed_at(&self, when: u64) {
        let when = SystemTime::UNIX_EPOCH + Duration::from_secs(when);
        let mut state = self.state.lock().unwrap();
        state.next_listed = when;
        state.listed = state.listed.map(|_| when);
    }

    /// What happens to it before it answers the refresh of this number, counted from 1.
    pub fn before_refresh(&self, number: usize, trouble: Trouble) {
        self.state.lock().unwrap().trouble = Some((number, trouble));
    }

    /// How often it was asked for news.
    pub fn refreshes(&self) -> usize {
        self.refreshes.load(Ordering::SeqCst)
    }

    /// Goes down with this error in every call, or comes back.
    pub fn down(&self, why: Option<Error>) {
        self.state.lock().unwrap().down = why;
    }

    /// Lets calls wait, or go on.
    pub fn stall(&self, yes: bool) {
        self.stalled.send_replace(yes);
    }

    /// What opening a path of a snapshot gives; otherwise a directory 0750 of 1000:1000 below directories open to all,
    /// which holds a file `id`.
    pub fn tree(&self, snapshot: &Snapshot, path: usize, tree: Result<Opened>) {
        self.state.lock().unwrap().trees.insert((snapshot.id.clone(), path), tree);
    }

    /// How many trees were opened so far.
    pub fn opens(&self) -> usize {
        self.opens.load(Ordering::SeqCst)
    }

    fn answer(&self, snapshot: &SnapshotId, path: usize) -> Result<Opened> {
        let state = self.state.lock().unwrap();
        if let Some(error) = &state.down {
            return Err(error.clone());
        }
        let Some(known) = state.list.iter().chain(&state.past).find(|s| s.id == *snapshot) else {
            return Err(Error::new(Kind::Stale, format!("snapshot {snapshot} is gone")));
        };
        if let Some(tree) = state.trees.get(&(snapshot.clone(), path)) {
            return tree.clone();
        }
        let recorded_path = String::from_utf8_lossy(&known.paths[path]).into_owned();
        let name = recorded_path.rsplit('/').next().unwrap_or_default().to_owned();
        let id: &'static str = Box::leak(known.id.to_string().into_boxed_str());
        let node = dir(owned(1000, 1000, 0o750), vec![(b"id", file(id.as_bytes()))]);
        Ok(opened(&name, node, recorded(&[(0, 0, 0o755)])))
    }
}

impl Source for FakeSource {
    fn id(&self) -> &str {
        &self.id
    }

    fn name(&self) -> &str {
        &self.id
    }

    fn snapshots(&self) -> Arc<[Snapshot]> {
        self.state.lock().unwrap().list.clone()
    }

    fn refresh(&self) -> BoxFuture<'_, Result<bool>> {
        Box::pin(async {
            let number = self.refreshes.fetch_add(1, Ordering::SeqCst) + 1;
            let trouble = self.state.lock().unwrap().trouble;
            if let Some((_, trouble)) = trouble.filter(|(at, _)| *at == number) {
                trouble(self);
            }
            let mut stalled = self.stalled.subscribe();
            let _ = stalled.wait_for(|stalled| !*stalled).await;
            let mut state = self.state.lock().unwrap();
            if let Some(error) = &state.down {
                return Err(error.clone());
            }
            let changed = !Arc::ptr_eq(&state.list, &state.next);
            state.list = state.next.clone();
            state.listed = Some(state.next_listed);
            Ok(changed)
        })
    }

    fn open(&self, snapshot: &SnapshotId, path: usize) -> Step<Opened> {
        self.opens.fetch_add(1, Ordering::SeqCst);
        let answer = self.answer(snapshot, path);
        let answer = answer.map_err(|error| error.context(format!("{}: snapshot {snapshot}", self.name())));
        let mut stalled = self.stalled.subscribe();
        if !*stalled.borrow() {
            return Step::Ready(answer);
        }
        Step::wait(async move {
            let _ = stalled.wait_for(|stalled| !*stalled).await;
            answer
        })
    }

    fn at(&self, moment: Time) -> Option<Snapshot> {
        let state = self.state.lock().unwrap();
        let known = state.past.iter().chain(state.list.iter().filter(|_| !state.past.is_empty()));
        known.filter(|s| s.time.instant <= moment).max_by_key(|s| s.time.instant).cloned()
    }

    fn health(&self) -> SourceHealth {
        let state = self.state.lock().unwrap();
        SourceHealth {
            listed: state.listed,
            error: state.down.clone(),
            usage: Usage { bytes: 1000, objects: 10 },
            omitted: 0,
            left_out: Vec::new(),
        }
    }
}

struct FakeDir {
    entries: Arc<FakeListing>,
}

struct FakeListing(BTreeMap<Vec<u8>, Node>);

impl Dir for FakeDir {
    fn lookup(&self, name: &[u8]) -> Step<Option<Node>> {
        Step::ok(self.entries.0.get(name).cloned())
    }

    fn listing(&self) -> Step<Arc<dyn Listing>> {
        Step::ok(self.entries.clone())
    }
}

impl Listing for FakeListing {
    fn visit(&self, from: Cookie, sink: &mut dyn Sink) {
        for (at, (name, node)) in (0..).zip(&self.0).skip_while(|(at, _)| *at < from) {
            let Meta { kind, identity, .. } = node.meta;
            let entry = Entry { at, next: at + 1, name, kind, identity, meta: Some(node.meta) };
            if sink.entry(&entry).is_break() {
                return;
            }
        }
    }

    fn node(&self, at: Cookie) -> Option<Node> {
        self.0.values().nth(usize::try_from(at).ok()?).cloned()
    }
}

struct FakeFile(Bytes);

impl File for FakeFile {
    fn open(&self) -> Step<Arc<dyn Reader>> {
        Step::ok(Arc::new(FakeFile(self.0.clone())))
    }
}

impl Reader for FakeFile {
    fn read_at(&self, offset: u64, len: usize) -> Step<Bytes> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
        Step::ok(self.0.slice(start..start.saturating_add(len).min(self.0.len())))
    }

    fn next_hole(&self, _offset: u64) -> Step<u64> {
        Step::ok(self.0.len() as u64)
    }
}

struct FakeXattrs(Vec<(&'static str, &'static str)>);

impl Xattrs for FakeXattrs {
    fn get(&self, name: &[u8]) -> Step<Option<Bytes>> {
        Step::ok(
            self.0
                .iter()
                .find(|(n, _)| n.as_bytes() == name)
                .map(|(_, value)| Bytes::from_static(value.as_bytes())),
        )
    }

    fn names(&self) -> Step<Vec<Bytes>> {
        Step::ok(self.0.iter().map(|(name, _)| Bytes::from_static(name.as_bytes())).collect())
    }
}
