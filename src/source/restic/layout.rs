//! Where a repository's files lie in its store, or in the two stores of a hot/cold pair.
//!
//! The default layout is `config`, `keys/`, `snapshots/`, `index/`, `data/ab/ab…`; the S3 layout of restic before 0.8 is
//! `key/`, `snapshot/` and flat `data/ab…`. Names that are not 64 lowercase hexadecimal digits are not the repository's.
//! Of a pair, the cold store is complete and is the one that is listed; the hot one is read first for all but file
//! content.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::error::{Error, Kind, Result};
use crate::source::chunked::{BlobKind, Id};
use crate::store::{ObjectInfo, ObjectStore, Outage, Pace};

/// A listing, or the fetch of one small file, that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is in the cold store too is not waited for longer than this before that is asked.
const HOT_PATIENCE: Duration = Duration::from_secs(5);

/// A `config` has some hundred bytes.
const LARGEST_CONFIG: u64 = 1 << 20;

/// The files that are named by the hash of what they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    Key,
    Snapshot,
    Index,
}

impl FileKind {
    /// No writer makes larger ones; such a file is refused before it is read.
    pub(super) fn largest(self) -> u64 {
        match self {
            FileKind::Key => 1 << 20,
            FileKind::Snapshot => 32 << 20,
            FileKind::Index => 256 << 20,
        }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FileKind::Key => "key",
            FileKind::Snapshot => "snapshot",
            FileKind::Index => "index",
        })
    }
}

/// A file as a listing tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Listed {
    pub id: Id,
    pub size: u64,
}

/// What a repository lists.
pub(super) struct Lists {
    pub snapshots: Vec<Listed>,
    pub indexes: Vec<Listed>,
    /// Something else lies there, or names came wrong.
    has_strangers: bool,
}

impl Lists {
    /// What either of two listings has.
    pub fn or(self, other: Lists) -> Self {
        Lists {
            snapshots: either(self.snapshots, other.snapshots),
            indexes: either(self.indexes, other.indexes),
            has_strangers: self.has_strangers || other.has_strangers,
        }
    }
}

/// The files that one of two listings has.
fn either(mut one: Vec<Listed>, other: Vec<Listed>) -> Vec<Listed> {
    let known = ids(&one);
    one.extend(other.into_iter().filter(|file| !known.contains(&file.id)));
    one
}

/// What files are called.
pub(super) fn ids(files: &[Listed]) -> HashSet<Id> {
    files.iter().map(|file| file.id).collect()
}

/// A store that may have a file.
#[derive(Clone, Copy)]
pub(super) struct Replica<'a> {
    store: &'a dyn ObjectStore,
    patience: Duration,
}

/// The stores of a repository and how files are named in them.
pub(super) struct Layout {
    store: Arc<dyn ObjectStore>,
    hot: Option<Arc<dyn ObjectStore>>,
    legacy: bool,
}

impl Layout {
    /// Finds out which layout the store has, by where its key files are; answers those too. A pair is never in the old
    /// one.
    pub(super) async fn detect(
        store: Arc<dyn ObjectStore>,
        hot: Option<Arc<dyn ObjectStore>>,
    ) -> Result<(Self, Vec<Listed>)> {
        let mut layout = Layout { store, hot, legacy: false };
        let mut keys = layout.list(FileKind::Key).await?;
        if layout.hot.is_none() && keys.is_empty() {
            layout.legacy = true;
            keys = layout.list(FileKind::Key).await?;
            layout.legacy = !keys.is_empty();
        }
        if keys.is_empty() {
            keys = layout.keys().await?;
        }
        Ok((layout, keys))
    }

    /// Its key files, listed anew.
    pub(super) async fn keys(&self) -> Result<Vec<Listed>> {
        self.list(FileKind::Key).await
    }

    /// Every file of a kind.
    async fn list(&self, kind: FileKind) -> Result<Vec<Listed>> {
        let folder = folder(kind, self.legacy);
        Ok(listed(folder, &in_time(folder, self.store.list(folder)).await?))
    }

    /// Its snapshots and its index files.
    pub(super) async fn lists(&self) -> Result<Lists> {
        lists(&*self.store, self.legacy).await
    }

    /// Whether this is the layout of restic before 0.8.
    pub(super) fn is_legacy(&self) -> bool {
        self.legacy
    }

    /// The stores that may have a listed file, the one to ask first coming first.
    pub(super) fn copies(&self) -> impl Iterator<Item = Replica<'_>> {
        let hot = self.hot.iter().map(|store| (store, HOT_PATIENCE));
        hot.chain([(&self.store, PATIENCE)]).map(|(store, patience)| Replica { store: &**store, patience })
    }

    /// A file as a store has it.
    pub(super) async fn get(&self, copy: Replica<'_>, kind: FileKind, id: &Id) -> Result<Bytes> {
        let key = format!("{}{id}", folder(kind, self.legacy));
        within(copy.patience, &key, copy.store.get(&key, kind.largest())).await
    }

    /// Set while the cache answers for a store that cannot be reached.
    pub(super) fn outage(&self) -> Option<Outage> {
        self.copies().find_map(|copy| copy.store.outage())
    }

    /// What a read of a pack with file content costs.
    pub(super) fn pace(&self) -> Pace {
        self.store.pace()
    }

    /// Exactly `length` bytes of a pack. Takes as long as the store does. Trees come from the hot store, unless it is to
    /// be left out.
    pub(super) async fn read_pack(
        &self,
        kind: BlobKind,
        pack: &Id,
        offset: u64,
        length: u64,
        without_hot: bool,
    ) -> Result<Bytes> {
        let hex = pack.to_string();
        let key = match hex.get(..2).filter(|_| !self.legacy) {
            Some(folder) => format!("data/{folder}/{hex}"),
            None => format!("data/{hex}"),
        };
        let cold = self.store.get_range(&key, offset, length);
        match (&self.hot, kind, without_hot) {
            (Some(hot), BlobKind::Tree, false) => first_of(hot.get_range(&key, offset, length), cold).await,
            _ => cold.await,
        }
    }

    /// Whether there are two stores.
    pub(super) fn is_pair(&self) -> bool {
        self.hot.is_some()
    }

    /// Whether the repository is still where it was: a listing of a place that went away may look empty.
    pub(super) async fn check_presence(&self) -> Result<()> {
        match in_time("config", self.store.stat("config")).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == Kind::NotFound => Err(error.with_kind(Kind::Unavailable)),
            Err(error) => Err(error),
        }
    }
}

fn folder(kind: FileKind, legacy: bool) -> &'static str {
    match (kind, legacy) {
        (FileKind::Key, false) => "keys/",
        (FileKind::Key, true) => "key/",
        (FileKind::Snapshot, false) => "snapshots/",
        (FileKind::Snapshot, true) => "snapshot/",
        (FileKind::Index, _) => "index/",
    }
}

fn listed(folder: &str, objects: &[ObjectInfo]) -> Vec<Listed> {
    let listed = |key: &str, size| Some(Listed { id: key.strip_prefix(folder)?.parse().ok()?, size });
    objects.iter().filter_map(|object| listed(&object.key, object.size)).collect()
}

/// The snapshots of a store, then its index files: a writer writes the index before the snapshot that needs it, so a
/// reader lists them the other way round.
pub(super) async fn lists(store: &dyn ObjectStore, legacy: bool) -> Result<Lists> {
    let folders = [FileKind::Snapshot, FileKind::Index].map(|kind| folder(kind, legacy));
    let [snapshots, indexes] = folders;
    let lists = in_time(snapshots, store.lists(&folders)).await?;
    match &*lists {
        [a, b] => {
            let (snapshots, indexes) = (listed(snapshots, a), listed(indexes, b));
            let has_strangers = snapshots.len() + indexes.len() < a.len() + b.len();
            Ok(Lists { snapshots, indexes, has_strangers })
        }
        _ => Err(Error::new(Kind::Internal, "two listings were asked for and others came")),
    }
}

/// The same when nothing is known yet: with names in it that mean nothing, it is asked for once more.
pub(super) async fn first_lists(store: &dyn ObjectStore, legacy: bool) -> Result<Lists> {
    let first = lists(store, legacy).await?;
    if first.has_strangers { Ok(first.or(lists(store, legacy).await?)) } else { Ok(first) }
}

/// The stored `config` of a store. `NotFound` says in words what may be wrong.
pub(super) async fn config(store: &dyn ObjectStore) -> Result<Bytes> {
    in_time("config", store.get("config", LARGEST_CONFIG)).await.map_err(|error| match error.kind() {
        Kind::NotFound => Error::new(
            Kind::NotFound,
            format!(
                "no restic repository at {}: there is no file `config`; is the path right and the disk mounted?",
                store.name()
            ),
        ),
        _ => error.context("config"),
    })
}

/// The stored `config` of a hot store; `None` when it cannot be reached, and everything comes from the cold one.
pub(super) async fn hot_config(store: &dyn ObjectStore) -> Result<Option<Bytes>> {
    match within(HOT_PATIENCE, "config", config(store)).await {
        Err(error) if matches!(error.kind(), Kind::Unavailable | Kind::TimedOut) => {
            tracing::warn!("repo-hot cannot be reached, and is not needed: {error}");
            Ok(None)
        }
        answer => answer.map(Some),
    }
}

/// What the hot store answers; when that fails or takes long, what the cold one does.
async fn first_of(
    mut hot: BoxFuture<'_, Result<Bytes>>,
    mut cold: BoxFuture<'_, Result<Bytes>>,
) -> Result<Bytes> {
    match tokio::time::timeout(HOT_PATIENCE, &mut hot).await {
        Ok(Ok(stored)) => Ok(stored),
        Ok(Err(_)) => cold.await,
        Err(_) => tokio::select! {
            stored = &mut hot => if stored.is_ok() { stored } else { cold.await },
            stored = &mut cold => if stored.is_ok() { stored } else { hot.await.or(stored) },
        },
    }
}

async fn in_time<T>(what: &str, call: impl Future<Output = Result<T>>) -> Result<T> {
    within(PATIENCE, what, call).await
}

async fn within<T>(patience: Duration, what: &str, call: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(patience, call).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::new(Kind::TimedOut, format!("{what}: no answer in {} s", patience.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Memory;
    use crate::store::faulty::{Fault, FaultyStore, Rule};

    const ID: &str = "00ff0a1920c5bbe912c0cc0026aca46504d0d40de77561cedb3b170f94c1066d";

    fn store(keys: &[String]) -> Arc<Memory> {
        let store = Memory::new();
        for key in keys {
            store.insert(key, key.clone()).unwrap();
        }
        Arc::new(store)
    }

    async fn layout(keys: &[String]) -> Layout {
        Layout::detect(store(keys), None).await.unwrap().0
    }

    #[tokio::test]
    async fn both_layouts_are_told_apart_and_strange_names_ignored() {
        let strange = [format!("keys/{ID}-tmp-1"), "snapshots/README".into(), format!("index/sub/{ID}")];
        for (keys, snapshots, pack) in
            [("keys", "snapshots", format!("data/00/{ID}")), ("key", "snapshot", format!("data/{ID}"))]
        {
            let files =
                [format!("{keys}/{ID}"), format!("{snapshots}/{ID}"), format!("index/{ID}"), pack.clone()];
            let layout = layout(&[&files[..], &strange[..]].concat()).await;
            let id: Id = ID.parse().unwrap();
            for (kind, file) in [FileKind::Key, FileKind::Snapshot, FileKind::Index].into_iter().zip(&files) {
                assert_eq!(layout.list(kind).await.unwrap(), [Listed { id, size: file.len() as u64 }]);
                let copy = layout.copies().next().unwrap();
                assert_eq!(layout.get(copy, kind, &id).await.unwrap(), file);
            }
            assert_eq!(layout.read_pack(BlobKind::Data, &id, 5, 3, false).await.unwrap(), pack[5..8]);
        }
    }

    #[tokio::test]
    async fn a_pair_is_listed_cold_and_read_hot_where_it_can_be() {
        let other = "11".repeat(32);
        let pack = format!("data/00/{ID}");
        let cold = store(&[format!("index/{ID}"), format!("index/{other}"), pack.clone()]);
        let hot = Memory::new();
        hot.insert(&format!("index/{ID}"), "hot").unwrap();
        hot.insert(&pack, "hot!").unwrap();
        let (layout, _) = Layout::detect(cold, Some(Arc::new(hot))).await.unwrap();
        assert_eq!(layout.list(FileKind::Index).await.unwrap().len(), 2);
        let (id, other): (Id, Id) = (ID.parse().unwrap(), other.parse().unwrap());
        let copies: Vec<_> = layout.copies().collect();
        assert_eq!(layout.get(copies[0], FileKind::Index, &id).await.unwrap(), "hot");
        assert_eq!(layout.get(copies[0], FileKind::Index, &other).await.unwrap_err().kind(), Kind::NotFound);
        assert_eq!(layout.get(copies[1], FileKind::Index, &other).await.unwrap(), format!("index/{other}"));
        assert_eq!(layout.read_pack(BlobKind::Tree, &id, 0, 4, true).await.unwrap(), "data");
        assert_eq!(layout.read_pack(BlobKind::Tree, &id, 0, 4, false).await.unwrap(), "hot!");
        assert_eq!(layout.read_pack(BlobKind::Data, &id, 0, 4, false).await.unwrap(), "data");
        assert_eq!(layout.read_pack(BlobKind::Tree, &id, 5, 4, false).await.unwrap(), pack[5..9]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hot_store_that_hangs_is_not_waited_for() {
        let pack = format!("data/00/{ID}");
        let keys = [pack.clone(), format!("snapshots/{ID}")];
        let hot = FaultyStore::new(store(&keys));
        hot.add(Rule::new(Fault::Stall));
        let (layout, _) = Layout::detect(store(&keys), Some(hot)).await.unwrap();
        let id: Id = ID.parse().unwrap();
        assert_eq!(layout.read_pack(BlobKind::Tree, &id, 0, 4, false).await.unwrap(), "data");
        let copies: Vec<_> = layout.copies().collect();
        assert_eq!(layout.get(copies[0], FileKind::Snapshot, &id).await.unwrap_err().kind(), Kind::TimedOut);
        let begun = tokio::time::Instant::now();
        let slow = FaultyStore::new(store(&keys));
        slow.add(Rule::new(Fault::Delay(HOT_PATIENCE * 2)));
        let cold = FaultyStore::new(store(&keys));
        cold.add(Rule::new(Fault::Fail(Kind::Unavailable)));
        let (layout, _) = Layout::detect(cold, Some(slow)).await.unwrap();
        assert_eq!(layout.read_pack(BlobKind::Tree, &id, 0, 4, false).await.unwrap(), "data");
        assert_eq!(begun.elapsed(), HOT_PATIENCE * 2, "it is late, but has it");
    }

    #[tokio::test]
    async fn a_repository_that_is_gone_is_unavailable_and_one_that_never_was_is_not_found() {
        let layout = layout(&[]).await;
        assert_eq!(layout.check_presence().await.unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(config(&Memory::new()).await.unwrap_err().kind(), Kind::NotFound);
    }
}
