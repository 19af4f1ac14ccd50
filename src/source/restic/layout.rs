//! Where a repository's files lie in its store, or in the two stores of a hot/cold pair.
//!
//! The default layout is `config`, `keys/`, `snapshots/`, `index/`, `data/ab/ab…`; the S3 layout of restic before 0.8 is
//! `key/`, `snapshot/` and flat `data/ab…`. Names that are not 64 lowercase hexadecimal digits are not the repository's.
//! Of a pair, the cold store is complete and is the one that is listed; the hot one is read first for all but file
//! content.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::error::{Error, Kind, Result};
use crate::source::chunked::{BlobKind, Id};
use crate::store::{ObjectStore, Outage, Pace};

/// A listing, or the fetch of one small file, that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(60);

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
        Ok((layout, keys))
    }

    fn folder(&self, kind: FileKind) -> &'static str {
        match (kind, self.legacy) {
            (FileKind::Key, false) => "keys/",
            (FileKind::Key, true) => "key/",
            (FileKind::Snapshot, false) => "snapshots/",
            (FileKind::Snapshot, true) => "snapshot/",
            (FileKind::Index, _) => "index/",
        }
    }

    /// Every file of a kind.
    async fn list(&self, kind: FileKind) -> Result<Vec<Listed>> {
        let folder = self.folder(kind);
        let objects = in_time(folder, self.store.list(folder)).await?;
        let listed = |key: &str, size| Some(Listed { id: key.strip_prefix(folder)?.parse().ok()?, size });
        Ok(objects.iter().filter_map(|object| listed(&object.key, object.size)).collect())
    }

    /// Its snapshots, then its index files: a writer writes the index before the snapshot that needs it, so a reader lists
    /// them the other way round.
    pub(super) async fn lists(&self) -> Result<Lists> {
        let snapshots = self.list(FileKind::Snapshot).await?;
        Ok(Lists { snapshots, indexes: self.list(FileKind::Index).await? })
    }

    /// The stores that may have a listed file, the one to ask first coming first.
    pub(super) fn copies(&self) -> impl Iterator<Item = &dyn ObjectStore> {
        self.hot.iter().chain(std::iter::once(&self.store)).map(|store| &**store)
    }

    /// A file as a store has it.
    pub(super) async fn get(&self, copy: &dyn ObjectStore, kind: FileKind, id: &Id) -> Result<Bytes> {
        let key = format!("{}{id}", self.folder(kind));
        in_time(&key, copy.get(&key, kind.largest())).await
    }

    /// Set while the cache answers for a store that cannot be reached.
    pub(super) fn outage(&self) -> Option<Outage> {
        self.copies().find_map(ObjectStore::outage)
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
        if let (Some(hot), BlobKind::Tree, false) = (&self.hot, kind, without_hot)
            && let Ok(stored) = hot.get_range(&key, offset, length).await
        {
            return Ok(stored);
        }
        self.store.get_range(&key, offset, length).await
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

async fn in_time<T>(what: &str, call: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::new(Kind::TimedOut, format!("{what}: no answer in {} s", PATIENCE.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Memory;

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

    #[tokio::test]
    async fn a_repository_that_is_gone_is_unavailable_and_one_that_never_was_is_not_found() {
        let layout = layout(&[]).await;
        assert_eq!(layout.check_presence().await.unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(config(&Memory::new()).await.unwrap_err().kind(), Kind::NotFound);
    }
}
