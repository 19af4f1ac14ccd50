//! An open bucket as a source of snapshots.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::History;
use super::directory::{ObjectDir, View};
use super::file::whole;
use super::labels::Attributes;
use super::moments::{Maker, millis, time};
use super::open::gathered;
use super::parsed::Parsed;
use super::pieces::{Object, Pieces};
use super::saved::Saved;
use super::table::{Cursor, Table};
use crate::cache::{Class, Drawer};
use crate::error::{Error, Kind, Result};
use crate::source::chunked::{Boarding, Damage, Directory, Flights, Id, Landing, Shared, Waiter};
use crate::store::bucket::{Bucket, Extent, Pinned};
use crate::tree::{
    Ancestors, Content, Meta, Node, Opened, Snapshot, SnapshotId, Source, SourceHealth, Step, Time, Usage,
    Validity,
};

/// Requests for metadata at a time.
const HEADS: usize = 64;

/// A listing that takes long is not made anew before so many times as long have passed.
const REST: u32 = 20;

/// The longest target of a symlink.
const TARGET: u64 = 4096;

/// A fetch of a directory that ended without a word is begun anew, at most this often.
const TRIES: usize = 3;

/// What is shown now.
pub(super) struct State {
    pub table: Arc<Table>,
    pub snapshots: Arc<[Snapshot]>,
}

/// How refreshing goes.
#[derive(Default)]
pub(super) struct Standing {
    failure: Option<Error>,
    /// Not before this.
    rests: Option<Instant>,
}

/// An open bucket.
pub(super) struct Archive {
    pub title: Arc<str>,
    pub pieces: Arc<Pieces>,
    pub maker: Maker,
    pub bucket: Arc<dyn Bucket>,
    pub extent: Extent,
    pub shared: Arc<Shared>,
    pub number: u32,
    pub drawer: Option<Drawer>,
    pub saved: Option<Arc<Saved>>,
    /// Whether objects are asked for their metadata.
    pub asks: bool,
    pub directories: Arc<Flights<Id, Result<Arc<Parsed>>>>,
    pub damage: Damage,
    pub state: ArcSwap<State>,
    pub standing: Mutex<Standing>,
    pub runtime: Handle,
}

impl Archive {
    /// The identity of the bucket.
    pub(super) fn id(&self) -> &str {
        &self.maker.identity
    }

    fn standing(&self) -> std::sync::MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A directory: from memory, or worked out of the listing.
    pub(super) fn directory(self: &Arc<Self>, dir: &ObjectDir) -> Step<Arc<Parsed>> {
        let key = dir.key();
        if let Some(parsed) = self.kept(&key) {
            return Step::ok(parsed);
        }
        let (archive, dir) = (Arc::clone(self), dir.clone());
        let mut waiter = self.begin(key, &dir);
        Step::wait(async move {
            for _ in 0..TRIES {
                if let Some(parsed) = waiter.await {
                    return parsed.map_err(|error| dir.explained(error));
                }
                waiter = archive.begin(key, &dir);
            }
            Err(dir.explained(Error::new(Kind::Internal, "the reading of a directory died")))
        })
    }

    fn kept(&self, key: &Id) -> Option<Arc<Parsed>> {
        self.shared.directories.get(&(self.number, *key))?.downcast().ok()
    }

    fn begin(self: &Arc<Self>, key: Id, dir: &ObjectDir) -> Waiter<Result<Arc<Parsed>>> {
        match self.directories.board(key) {
            Boarding::Join(waiter) => waiter,
            Boarding::Lead(landing) => {
                let waiter = landing.waiter();
                let (archive, dir) = (Arc::clone(self), dir.clone());
                self.runtime.spawn(async move { archive.land(landing, dir).await });
                waiter
            }
        }
    }

    async fn land(self: Arc<Self>, landing: Landing<Id, Result<Arc<Parsed>>>, dir: ObjectDir) {
        let key = *landing.key();
        let parsed = match self.kept(&key) {
            Some(parsed) => Ok(parsed),
            None => self.read(&dir).await.map(Arc::new),
        };
        if let Ok(parsed) = &parsed {
            let kept: Directory = Arc::<Parsed>::clone(parsed);
            self.shared.directories.insert((self.number, key), kept, parsed.weight());
        }
        landing.land(parsed);
    }

    async fn read(self: &Arc<Self>, dir: &ObjectDir) -> Result<Parsed> {
        let (archive, place) = (Arc::clone(self), dir.clone());
        let parse = move || {
            let mut cursor = Cursor::new(&place.view.table, &archive.shared, archive.number);
            Parsed::new(&mut cursor, &place.prefix, place.view.moment)
        };
        let parsed = tokio::task::spawn_blocking(parse).await;
        let mut parsed = parsed.map_err(|e| Error::caused_by(Kind::Internal, "a directory", e))??;
        for name in parsed.omitted.drain(..) {
            if self.damage.first((&*dir.prefix, &name)) {
                tracing::warn!("{}: {:?}: {name:?} cannot be shown", self.title, &*dir.prefix);
            }
        }
        if self.asks {
            parsed.attributes = self.attributes(&parsed, &dir.prefix).await?;
        }
        Ok(parsed)
    }

    /// The metadata of everything in a directory.
    async fn attributes(&self, parsed: &Parsed, prefix: &str) -> Result<Vec<Option<Box<Attributes>>>> {
        let ask = |at: usize| async move {
            let entry = parsed.get(at).filter(|entry| entry.is_object);
            let Some(entry) = entry else { return Ok(None) };
            let known = self.attributes_of(Object::new(entry.pinned(prefix), entry.size)).await?;
            Ok((!known.is_empty()).then(|| Box::new(known)))
        };
        let mut asked = stream::iter(0..parsed.len()).map(ask).buffered(HEADS);
        let mut all = Vec::with_capacity(parsed.len());
        while let Some(found) = asked.next().await {
            all.push(found?);
        }
        Ok(all)
    }

    async fn attributes_of(&self, object: Object) -> Result<Attributes> {
        let Pinned { key, version, etag } = &object.pinned;
        let kept = format!("labels\0{key}\0{}\0{etag}", version.as_deref().unwrap_or_default());
        if let Some(drawer) = &self.drawer
            && let Some(stored) = drawer.object(&kept).await
            && let Ok(known) = serde_json::from_slice(&stored)
        {
            return Ok(known);
        }
        let labels = match self.bucket.labels(&object.pinned).await {
            Ok(labels) => labels,
            // It is replaced by now, and the next listing says so: what it had been is not known any more.
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Stale) => {
                return Ok(Attributes::default());
            }
            Err(error) => return Err(error),
        };
        let mut known = Attributes::of(&labels);
        let is_link = known.kind() == Some(crate::tree::FileType::Symlink);
        if is_link && object.size <= TARGET {
            let target = whole(&self.pieces, &Arc::new(object), &self.title).await?;
            known.target = (!target.contains(&0)).then(|| target.to_vec());
        }
        if let Some(drawer) = &self.drawer
            && let Ok(stored) = serde_json::to_vec(&known)
        {
            drawer.put_object(&kept, Class::Metadata, &stored);
        }
        Ok(known)
    }

    async fn refresh(&self) -> Result<bool> {
        match self.standing().rests {
            Some(rests) if Instant::now() < rests => return Ok(false),
            _ => {}
        }
        let (begun, old) = (Instant::now(), self.state.load_full());
        let (bucket, saved) = (&*self.bucket, self.saved.as_ref());
        let listed = gathered(bucket, &self.shared, self.extent, Some(&old.table), saved).await;
        let mut standing = self.standing();
        let table = match listed {
            Ok(table) => table,
            Err(error) => {
                standing.failure = Some(error.clone());
                return Err(error.context(self.title.to_string()));
            }
        };
        let took = begun.elapsed();
        let rests = (took > Duration::from_secs(1)).then(|| Instant::now() + took * REST);
        *standing = Standing { failure: None, rests };
        let snapshots = self.maker.list(&table);
        let ids = |list: &[Snapshot]| list.iter().map(|snapshot| snapshot.id.clone()).collect::<Vec<_>>();
        let is_other = ids(&snapshots) != ids(&old.snapshots);
        // Directories of the past stay where they are while nothing changed.
        let snapshots = if is_other { snapshots } else { Arc::clone(&old.snapshots) };
        self.state.store(Arc::new(State { table: Arc::new(table), snapshots }));
        Ok(is_other)
    }

    fn view(self: &Arc<Self>, snapshot: &SnapshotId) -> Result<Opened> {
        let state = self.state.load_full();
        let removed = || {
            let says = format!("{}: snapshot {snapshot} showed what was changed since", self.title);
            Error::new(Kind::Stale, says)
        };
        let moment = self.maker.moment(&state.table, snapshot).ok_or_else(removed)?;
        let taken = moment.or(state.table.changes.last().copied()).map(time).unwrap_or_default();
        let view = View { archive: Arc::clone(self), table: Arc::clone(&state.table), moment, taken };
        let root = ObjectDir { view: Arc::new(view), prefix: Arc::from("") };
        let meta = Meta::directory(taken, Validity::Forever);
        let node = Node { meta, content: Content::Dir(Arc::new(root)), xattrs: None };
        let path = self.maker.paths.first().map_or(&b""[..], |path| path);
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        Ok(Opened { name: name.into(), node, ancestors: Ancestors::Unknown })
    }
}

/// The bucket as a source: opening a snapshot hands out shares of it.
pub(super) struct Opener(pub Arc<Archive>);

impl Source for Opener {
    fn id(&self) -> &str {
        self.0.id()
    }

    fn name(&self) -> &str {
        &self.0.title
    }

    fn snapshots(&self) -> Arc<[Snapshot]> {
        Arc::clone(&self.0.state.load().snapshots)
    }

    fn refresh(&self) -> BoxFuture<'_, Result<bool>> {
        Box::pin(self.0.refresh())
    }

    fn open(&self, snapshot: &SnapshotId, path: usize) -> Step<Opened> {
        if path > 0 {
            let says = format!("{}: snapshot {snapshot} has no path {path}", self.0.title);
            return Step::err(Error::new(Kind::NotFound, says));
        }
        Step::Ready(self.0.view(snapshot))
    }

    fn at(&self, moment: Time) -> Option<Snapshot> {
        if self.0.maker.history == History::Off {
            return None;
        }
        let state = self.0.state.load();
        let changed = state.table.changed_by(millis(moment))?;
        Some(self.0.maker.snapshot(&state.table, changed))
    }

    fn health(&self) -> SourceHealth {
        let state = self.0.state.load();
        let Table { objects, bytes, listed, .. } = *state.table;
        SourceHealth {
            listed: Some(listed),
            error: self.0.standing().failure.clone(),
            usage: Usage { bytes, objects },
            omitted: self.0.damage.count(),
            left_out: Vec::new(),
        }
    }
}
