//! A dataset, or a pattern of datasets, as a source.

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;

use super::catalogue::{Catalogue, Entry, Found};
use super::hands;
use super::layout::Layout;
use super::listing::{FileSystem, Listed};
use super::own::MountedAt;
use super::shelf::Shelf;
use super::snapdir;
use super::tops::{Sets, Tops};
use crate::error::{Context, Error, Kind, Result};
use crate::source::host::{self, Descriptor, Host, Root};
use crate::source::names::{SetName, Times};
use crate::tree::{Ancestors, Opened, Snapshot, SnapshotId, Source, SourceHealth, Step, Usage, Validity};

/// Opening looks at snapshots for so long at most; refreshes go on with it.
const SURVEY: Duration = Duration::from_secs(3);

/// So many snapshots are looked at by a refresh.
const LOOKS: usize = 8;

/// A dataset or a pattern, open.
pub struct Zfs {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) layout: Layout,
    pub(super) times: Times,
    pub(super) shelf: Arc<Shelf>,
    pub(super) host: Arc<Host>,
    pub(super) mounted_at: MountedAt,
    pub(super) tops: Arc<Mutex<Tops>>,
    pub(super) catalogue: ArcSwap<Catalogue>,
    pub(super) failure: Mutex<Option<Error>>,
}

impl Zfs {
    /// Lists, and looks at as many snapshots as `patience` and `looks` allow. True when what is shown changed.
    pub(super) async fn renew(&self, patience: Duration, looks: usize) -> Result<bool> {
        let found = self.list().await?;
        if !self.layout.is_pattern() {
            lock(&self.tops).keep(&found.order());
            self.survey(&found, Instant::now() + patience, looks).await?;
        }
        let mut new = Catalogue::new(&found, &self.layout, &lock(&self.tops), &self.times);
        let is_same = self.catalogue.load().is_same(&new);
        if is_same {
            // An equal list keeps its identity, by which others know that nothing changed.
            new.all = self.snapshots();
        }
        self.catalogue.store(Arc::new(new));
        Ok(!is_same)
    }

    pub(super) async fn list(&self) -> Result<Found> {
        let listed = Listed::read(&hands::list(self.shelf.hands()).await?, self.layout.above())?;
        let at = |system: &FileSystem| {
            let own = system.mountpoint.clone().filter(|_| system.is_mounted);
            own.or_else(|| (self.mounted_at)(system.name.as_str()))
        };
        let places: Vec<_> =
            listed.systems.values().map(|system| (system.name.clone(), at(system))).collect();
        // A mount may hang.
        let shown = self.host.run(move || {
            let shown = places.into_iter().filter_map(|(name, at)| Some((name, snapdir::of(&at?)?)));
            Ok(shown.collect::<std::collections::HashMap<_, _>>())
        });
        let shown = shown.await?;
        Ok(Found::new(listed, &self.layout, |system| shown.get(&system.name).cloned()))
    }

    /// Looks at tops of snapshots, as long as there is time. Errors: why the newest cannot be looked at.
    async fn survey(&self, found: &Found, until: Instant, looks: usize) -> Result<()> {
        let order = found.order();
        for _ in 0..looks {
            let Some(guid) = lock(&self.tops).next(&order, found.is_shown()) else { break };
            let Some(taken) = found.taken().find(|taken| taken.guid == guid) else { break };
            let (entry, shelf, tops) = (found.entry(taken), Arc::clone(&self.shelf), Arc::clone(&self.tops));
            let is_newest = order.last() == Some(&guid);
            let looked = self.host.run(move || look(&shelf, &tops, &entry, is_newest)).await;
            match looked {
                Ok(()) => {}
                // It went since it was listed: the next listing tells.
                Err(error) if error.kind() == Kind::Stale => lock(&self.tops).learn(guid, Sets::default()),
                Err(error) if is_newest => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "{}: a snapshot cannot be looked at", self.name);
                    lock(&self.tops).learn(guid, Sets::default());
                }
            }
            if Instant::now() >= until {
                break;
            }
        }
        Ok(())
    }

    /// Destroys all clones and ends all holds; nothing can be opened afterwards.
    pub async fn end(&self) {
        self.shelf.end().await;
    }

    fn tree(&self, id: &SnapshotId, path: usize) -> Result<host::Tree> {
        let catalogue = self.catalogue.load();
        let gone = || Error::new(Kind::Stale, format!("snapshot {id} was removed"));
        let entry = catalogue.get(id).ok_or_else(gone)?.clone();
        if path != 0 {
            return Err(Error::new(Kind::NotFound, format!("snapshot {id} has no path {path}")));
        }
        if entry.is_locked {
            return Err(locked(&entry));
        }
        let name = match &entry.set {
            Some(name) => Arc::clone(name),
            None => Arc::from(entry.name.dataset.last().as_bytes()),
        };
        let top = Top { shelf: Arc::clone(&self.shelf), tops: Arc::clone(&self.tops), entry };
        Ok(host::Tree {
            root: Arc::new(top),
            snapshot: Arc::clone(id),
            path,
            name,
            ancestors: Ancestors::Unknown,
            validity: Validity::Forever,
        })
    }
}

/// The directory that a snapshot is shown as.
struct Top {
    shelf: Arc<Shelf>,
    tops: Arc<Mutex<Tops>>,
    entry: Entry,
}

impl Root for Top {
    fn open(&self) -> Result<Descriptor> {
        let held = take(&self.shelf, &self.entry)?;
        let Some(set) = &self.entry.set else {
            return Ok(Descriptor::leased(host::directory(&held.top, Path::new(""))?, held));
        };
        if !lock(&self.tops).knows(self.entry.guid) {
            let sets = sets(&held.top)?;
            lock(&self.tops).learn(self.entry.guid, sets);
        }
        let opened = host::directory(&held.top, Path::new(std::ffi::OsStr::from_bytes(set)));
        // It was assumed to be there; what was learned now is shown by the next refresh.
        let opened = opened.map_err(|error| gone(error, &self.entry));
        Ok(Descriptor::leased(opened?, held))
    }
}

/// Opens the snapshot of ZFS that holds `entry`. Blocks.
fn take(shelf: &Shelf, entry: &Entry) -> Result<Arc<super::shelf::Held>> {
    if entry.is_locked {
        return Err(locked(entry));
    }
    let taken = Handle::current().block_on(shelf.take(&entry.name, entry.shown.is_some()));
    taken.map_err(|error| gone(error, entry))
}

/// Notes what lies at the top of a snapshot. Blocks.
fn look(shelf: &Shelf, tops: &Mutex<Tops>, entry: &Entry, is_kept: bool) -> Result<()> {
    let held = take(shelf, entry)?;
    let sets = sets(&held.top)?;
    lock(tops).learn(entry.guid, sets);
    drop(held);
    if !is_kept {
        Handle::current().block_on(shelf.let_go(&entry.name));
    }
    Ok(())
}

/// The directories in `top` that are sets. Blocks.
fn sets(top: impl AsFd) -> Result<Sets> {
    let mut names = host::names(&top)?;
    names.retain(|name| {
        let is_set = SetName::of(name.as_os_str().as_bytes()).is_some();
        // What may not be entered is a directory all the same.
        is_set && host::directory(&top, name).map_or_else(|error| error.kind() == Kind::Denied, |_| true)
    });
    names.sort();
    Ok(names.into_iter().map(|name| Arc::from(name.as_os_str().as_bytes())).collect())
}

fn locked(entry: &Entry) -> Error {
    let dataset = &entry.name.dataset;
    let says = format!("{}: it is encrypted and its key is not loaded (zfs load-key {dataset})", entry.name);
    Error::new(Kind::Denied, says)
}

/// What was listed and is not there was removed.
fn gone(error: Error, entry: &Entry) -> Error {
    match error.kind() {
        Kind::NotFound => error.with_kind(Kind::Stale).context(format!("{} was removed", entry.name)),
        _ => error,
    }
}

impl Source for Zfs {
    fn id(&self) -> &str {
        &self.id
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn snapshots(&self) -> Arc<[Snapshot]> {
        Arc::clone(&self.catalogue.load().all)
    }

    fn refresh(&self) -> BoxFuture<'_, Result<bool>> {
        Box::pin(async move {
            let renewed = self.renew(SURVEY, LOOKS).await.context(|| self.name.clone());
            *lock(&self.failure) = renewed.as_ref().err().cloned();
            renewed
        })
    }

    fn open(&self, snapshot: &SnapshotId, path: usize) -> Step<Opened> {
        match self.tree(snapshot, path) {
            Ok(tree) => self.host.open(tree),
            Err(error) => Step::err(error.context(self.name.clone())),
        }
    }

    fn health(&self) -> SourceHealth {
        let catalogue = self.catalogue.load();
        SourceHealth {
            listed: Some(catalogue.listed),
            error: lock(&self.failure).clone(),
            usage: Usage { bytes: catalogue.used, objects: catalogue.all.len() as u64 },
            omitted: self.host.omitted(),
            left_out: Vec::new(),
        }
    }

    fn retire(&self) {
        self.shelf.retire();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
