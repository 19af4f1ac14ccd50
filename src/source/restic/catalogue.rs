//! What a repository lists: its snapshots and its index, kept up to date.
//!
//! Files are immutable and named by their hash, so a refresh lists names and fetches only unseen ones. The index is
//! swapped in before the snapshots that need it. Nothing is ever dropped because of a failure: a listing that fails, or
//! that comes from a place where the repository no longer is, leaves everything as it was.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream;
use tokio::sync::Mutex as AsyncMutex;

use super::format::crypto::MasterKey;
use super::format::index::{self, IndexedBlob};
use super::format::unpacked::{self, Json};
use super::format::{blob, snapshot};
use super::layout::{FileKind, Layout, Listed, Lists, Replica, ids};
use super::snapshots::{Held, SnapshotList};
use crate::cache::Drawer;
use crate::error::{Context, Error, Kind, Result};
use crate::source::chunked::{
    BlobIndex, BlobKind, Damage, Gathering, Id, IndexFile, NewSegments, Packs, Part, Place, Shared, Standing,
    Tender,
};
use crate::store::{Outage, Pace};
use crate::tree::{SourceHealth, Usage};

/// Index or snapshot files fetched at a time.
const FETCHES: usize = 16;

/// A file that came wrong is fetched so many times more: it may have been mixed up or damaged on its way.
const ONCE_MORE: usize = 2;

/// How long after a listing that did not help the next one may be made for a missing blob: doubles up to the second.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The lists of one repository, and the way to its packs.
pub(super) struct Catalogue {
    pub name: String,
    layout: Layout,
    drawer: Option<Drawer>,
    key: Arc<MasterKey>,
    shared: Arc<Shared>,
    part: Part,
    pub damage: Damage,
    /// Files whose blobs come to another size than was recorded: told once each, and no damage.
    pub differences: Damage,
    index: Arc<Tender>,
    snapshots: ArcSwap<SnapshotList>,
    state: Mutex<State>,
    /// Snapshots changed since `refresh` last said so.
    unreported: AtomicBool,
    turn: AsyncMutex<Turn>,
    /// Packs of which the hot store has a damaged copy.
    distrusted: Mutex<HashSet<Id>>,
}

/// What is told about the lists.
#[derive(Clone, Default)]
pub(super) struct State {
    /// Why the last listing failed.
    pub error: Option<Error>,
    /// What the index holds.
    pub usage: Usage,
    /// Damaged files: the first of them.
    pub left_out: Vec<String>,
}

/// Held by the one who lists.
struct Turn {
    /// Damaged files, which are not fetched again unless they grow.
    bad: HashSet<Listed>,
    /// When the last listing for a missing blob ended, and how long to wait for the next.
    relisted: Option<Instant>,
    pause: Duration,
}

impl Catalogue {
    /// Loads everything that was `listed` but what `index` has.
    pub(super) async fn load(
        name: String,
        layout: Layout,
        drawer: Option<Drawer>,
        key: MasterKey,
        shared: Arc<Shared>,
        index: Arc<Tender>,
        listed: Lists,
    ) -> Result<Arc<Self>> {
        let catalogue = Catalogue {
            name,
            layout,
            drawer,
            key: Arc::new(key),
            part: shared.part(),
            shared,
            damage: Damage::default(),
            differences: Damage::default(),
            index,
            snapshots: ArcSwap::from_pointee(SnapshotList::new(HashMap::new())),
            state: Mutex::default(),
            unreported: AtomicBool::new(false),
            turn: AsyncMutex::new(Turn { bad: HashSet::new(), relisted: None, pause: Duration::ZERO }),
            distrusted: Mutex::default(),
        };
        let catalogue = Arc::new(catalogue);
        let loaded = catalogue.load_listed(&mut *catalogue.turn.lock().await, listed).await;
        catalogue.note(loaded)?;
        catalogue.unreported.store(false, Ordering::Release);
        Ok(catalogue)
    }

    /// The snapshots of the last complete listing.
    pub(super) fn snapshots(&self) -> Arc<SnapshotList> {
        self.snapshots.load_full()
    }

    /// What is told about the lists.
    pub(super) fn state(&self) -> State {
        self.lock_state().clone()
    }

    /// Lists again; true when the snapshots changed since the last time this said so.
    pub(super) async fn refresh(&self) -> Result<bool> {
        let mut turn = self.turn.lock().await;
        self.list_again(&mut turn).await?;
        if !self.index.is_settled() {
            self.index.tend();
        }
        if let Some(Outage { error, .. }) = self.layout.outage() {
            return Err(error.context(self.name.clone()));
        }
        Ok(self.unreported.swap(false, Ordering::AcqRel))
    }

    /// One complete listing; true when it changed the index.
    async fn list_again(&self, turn: &mut Turn) -> Result<bool> {
        let listed = self.lists().await.context(|| self.name.clone());
        let done = match listed {
            Ok(listed) => self.load_listed(turn, listed).await,
            Err(error) => Err(error),
        };
        self.note(done)
    }

    /// What is listed. A file that was listed before is gone when two listings in a row lack it: one alone may be the
    /// answer to somebody else's question, and what it lacks would be shown as if it had never been.
    async fn lists(&self) -> Result<Lists> {
        let listed = self.layout.lists().await?;
        if self.has_all(&listed) {
            return Ok(listed);
        }
        Ok(listed.or(self.layout.lists().await?))
    }

    /// Whether a listing has all that the last one had.
    fn has_all(&self, listed: &Lists) -> bool {
        let (snapshots, indexes) = (ids(&listed.snapshots), ids(&listed.indexes));
        self.snapshots.load().ids().all(|id| snapshots.contains(id))
            && self.index.index().current().all(|id| indexes.contains(id))
    }

    /// Notes for who asks how it went; answers whether the index changed.
    fn note(&self, done: Result<(bool, Option<Error>)>) -> Result<bool> {
        let mut state = self.lock_state();
        let (changed, error) = match done {
            Ok((changed, incomplete)) => (Ok(changed), incomplete.or_else(|| self.outage())),
            Err(error) => (Err(error.clone()), Some(error)),
        };
        state.error = error;
        changed
    }

    /// Why what was listed is from the cache alone.
    fn outage(&self) -> Option<Error> {
        let Outage { error, .. } = self.layout.outage()?;
        Some(error.context(format!("{}: shown from the cache alone", self.name)))
    }

    /// When what was listed last was true.
    pub(super) fn listed(&self) -> SystemTime {
        self.layout.outage().map_or_else(|| self.snapshots.load().listed, |outage| outage.as_of)
    }

    /// Whether the index changed, and why some of the new files could not be had now.
    async fn load_listed(&self, turn: &mut Turn, listed: Lists) -> Result<(bool, Option<Error>)> {
        if !self.has_all(&listed) {
            self.layout.check_presence().await.context(|| self.name.clone())?;
        }
        let Lists { snapshots, indexes, .. } = listed;
        let (old_index, old_snapshots) = (self.index.index(), self.snapshots.load_full());
        let index_ids = ids(&indexes);
        let mut held = old_snapshots.still(&ids(&snapshots));
        let known = old_index.files();
        let unseen = |file: &Listed| !known.contains(&file.id) && !turn.bad.contains(file);
        let new_indexes: Vec<Listed> = indexes.into_iter().filter(unseen).collect();
        let gathering = Arc::new(Gathering::new(self.index.shelf()));
        let gather = {
            let gathering = Arc::clone(&gathering);
            move |key: &MasterKey, id: &Id, stored: &[u8]| {
                gathering.add(read_index(key, id, stored, gathering.begin(*id))?)
            }
        };
        let unseen = |file: &Listed| !held.contains_key(&file.id) && !turn.bad.contains(file);
        let new_snapshots = snapshots.into_iter().filter(unseen).collect();
        let (new_indexes, new_snapshots) = tokio::join!(
            self.fetch(FileKind::Index, new_indexes, gather),
            self.fetch(FileKind::Snapshot, new_snapshots, read_snapshot),
        );
        self.some_left(FileKind::Index, known.is_disjoint(&index_ids), &new_indexes)?;
        self.some_left(FileKind::Snapshot, old_snapshots.len() == 0, &new_snapshots)?;
        let incomplete = self.settle(turn, FileKind::Index, new_indexes.bad);
        let incomplete = self.settle(turn, FileKind::Snapshot, new_snapshots.bad).or(incomplete);
        let new_segments = gathering.finish();
        let changed = self.swap_index(&index_ids, &new_segments);
        held.extend(new_snapshots.good.into_iter().map(|new| (new.0, Arc::new(new.1))));
        self.swap_snapshots(&old_snapshots, held);
        Ok((changed, incomplete))
    }

    /// Fetches and reads files, many at a time.
    async fn fetch<T: Send + 'static>(
        &self,
        kind: FileKind,
        files: Vec<Listed>,
        read: impl Read<T>,
    ) -> Fetched<T> {
        let one = |file: Listed| {
            let read = read.clone();
            async move {
                // A listing may claim any size; what is larger is refused.
                let room = self.part.room_for(file.size.min(kind.largest())).await;
                (file, room.lent(self.fetch_one(kind, file.id, read)).await)
            }
        };
        let mut done = stream::iter(files).map(one).buffer_unordered(FETCHES);
        let mut fetched = Fetched { good: Vec::new(), bad: Vec::new() };
        while let Some((file, result)) = done.next().await {
            match result {
                Ok(read) => fetched.good.push((file.id, read)),
                Err(error) => fetched.bad.push((file, error)),
            }
        }
        fetched
    }

    /// A file from the first store whose copy can be read; else what is wrong with the last.
    async fn fetch_one<T: Send + 'static>(&self, kind: FileKind, id: Id, read: impl Read<T>) -> Result<T> {
        let mut answer = Err(Error::new(Kind::NotFound, "no store has it"));
        for copy in self.layout.copies() {
            answer = self.fetch_copy(copy, kind, id, read.clone()).await;
            for _ in 0..ONCE_MORE {
                if answer.as_ref().is_err_and(|error| error.kind() == Kind::Corrupt) {
                    answer = self.fetch_copy(copy, kind, id, read.clone()).await;
                }
            }
            if answer.is_ok() {
                break;
            }
        }
        answer
    }

    async fn fetch_copy<T: Send + 'static>(
        &self,
        copy: Replica<'_>,
        kind: FileKind,
        id: Id,
        read: impl Read<T>,
    ) -> Result<T> {
        let stored = self.layout.get(copy, kind, &id).await?;
        let key = Arc::clone(&self.key);
        self.shared.pool.run(move || read(&key, &id, &stored)).await?
    }

    /// Fails when there are files of a kind and not one can be read: nothing would be shown as if nothing were there.
    fn some_left<T>(&self, kind: FileKind, none_before: bool, new: &Fetched<T>) -> Result<()> {
        match new.bad.first() {
            Some((file, error)) if none_before && new.good.is_empty() => {
                let which = format!("{}: no {kind} file can be read; {kind} {}", self.name, file.id);
                Err(not_absent(error.clone()).context(which))
            }
            _ => Ok(()),
        }
    }

    /// Logs damaged files, once each. Returns why others could not be had now.
    fn settle(&self, turn: &mut Turn, kind: FileKind, bad: Vec<(Listed, Error)>) -> Option<Error> {
        let mut incomplete = None;
        for (file, error) in bad {
            let Listed { id, .. } = file;
            match error.kind() {
                Kind::Corrupt | Kind::Unsupported | Kind::Internal => {
                    turn.bad.insert(file);
                    if self.damage.first(file) {
                        let told = format!("{}: {kind} {id} left out: {error}", self.name);
                        tracing::warn!("{told}");
                        let mut state = self.lock_state();
                        if state.left_out.len() < SourceHealth::MOST_TOLD {
                            state.left_out.push(told);
                        }
                    }
                }
                _ => incomplete = Some(not_absent(error).context(format!("{}: {kind} {id}", self.name))),
            }
        }
        incomplete
    }

    fn swap_index(&self, listed: &HashSet<Id>, new: &NewSegments) -> bool {
        if !self.index.update(listed, new) {
            return false;
        }
        let index = self.index.index();
        for (id, malformed) in index.malformed() {
            if self.damage.first(("malformed", id)) {
                tracing::warn!("{}: index {id}: {malformed} malformed entries left out", self.name);
            }
        }
        let (objects, bytes) = index.usage();
        self.lock_state().usage = Usage { bytes, objects };
        self.index.tend();
        true
    }

    fn swap_snapshots(&self, old: &SnapshotList, held: HashMap<Id, Arc<Held>>) {
        let new = SnapshotList::new(held);
        if !new.is_same(old) {
            self.unreported.store(true, Ordering::Release);
        }
        self.snapshots.store(Arc::new(new));
    }
}

impl Catalogue {
    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_distrusted(&self) -> MutexGuard<'_, HashSet<Id>> {
        self.distrusted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was listed and is not to be found may have been removed since, which the next listing tells; or whoever says so
/// is wrong.
fn not_absent(error: Error) -> Error {
    match error.kind() {
        Kind::NotFound => error.with_kind(Kind::Unavailable).context("it is listed"),
        _ => error,
    }
}

struct Fetched<T> {
    good: Vec<(Id, T)>,
    bad: Vec<(Listed, Error)>,
}

/// Makes something of a stored file, on the pool.
trait Read<T>: Fn(&MasterKey, &Id, &[u8]) -> Result<T> + Clone + Send + 'static {}

impl<T, F: Fn(&MasterKey, &Id, &[u8]) -> Result<T> + Clone + Send + 'static> Read<T> for F {}

/// Fills `file` with what index file `id` says.
fn read_index(key: &MasterKey, id: &Id, stored: &[u8], mut file: IndexFile) -> Result<IndexFile> {
    let mut each = |found: IndexedBlob| {
        let kind = if found.tree { BlobKind::Tree } else { BlobKind::Data };
        let compressed = found.plain_length > 0;
        let size = if compressed { found.plain_length } else { found.length.saturating_sub(32) };
        let standing = if found.deleted { Standing::Deleted } else { Standing::Live };
        let IndexedBlob { id, pack, offset, length, .. } = found;
        file.push(kind, id, &Place { pack, offset, length, size, compressed, standing });
    };
    let malformed = match unpacked::open_large(key, id, stored)? {
        Json::Whole(json) => index::parse(&json, &mut each),
        Json::Stream(json) => index::parse_stream(json, &mut each),
    }?;
    file.malformed += malformed;
    Ok(file)
}

fn read_snapshot(key: &MasterKey, id: &Id, stored: &[u8]) -> Result<Held> {
    Ok(Held::new(id, snapshot::parse(&unpacked::open(key, id, stored)?)?))
}

impl Packs for Catalogue {
    fn name(&self) -> &str {
        &self.name
    }

    fn damage(&self) -> &Damage {
        &self.damage
    }

    fn index(&self) -> Arc<BlobIndex> {
        self.index.index()
    }

    fn pace(&self) -> Pace {
        self.layout.pace()
    }

    fn read<'a>(
        &'a self,
        kind: BlobKind,
        pack: &Id,
        offset: u64,
        length: u64,
    ) -> BoxFuture<'a, Result<Bytes>> {
        let pack = *pack;
        let distrusted = self.lock_distrusted().contains(&pack);
        Box::pin(async move { self.layout.read_pack(kind, &pack, offset, length, distrusted).await })
    }

    fn distrust(&self, kind: BlobKind, pack: &Id) -> bool {
        self.layout.is_pair() && kind == BlobKind::Tree && self.lock_distrusted().insert(*pack)
    }

    fn drawer(&self) -> Option<&Drawer> {
        self.drawer.as_ref()
    }

    fn decode(&self, id: &Id, place: &Place, stored: &[u8]) -> Result<Vec<u8>> {
        blob::decode(&self.key, stored, if place.compressed { place.size } else { 0 }, id)
    }

    fn relist(&self, seen: u64) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut turn = self.turn.lock().await;
            let newer = self.index.index().generation() != seen;
            if newer || turn.relisted.is_some_and(|last| last.elapsed() < turn.pause) {
                return;
            }
            tracing::debug!("{}: a blob is missing: listing again", self.name);
            let helped = self.list_again(&mut turn).await.unwrap_or(false);
            turn.relisted = Some(Instant::now());
            turn.pause = if helped { Duration::ZERO } else { (turn.pause * 2).clamp(PAUSE, LONGEST_PAUSE) };
        })
    }
}
