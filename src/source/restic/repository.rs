//! An open repository as a source of snapshots.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use super::catalogue::{Catalogue, State};
use super::dates::Dates;
use super::format::tree::Tree;
use super::parsed::Parsed;
use super::resolve;
use super::view::{Place, View};
use crate::error::{Error, Kind, Result};
use crate::source::chunked::{
    BlobKind, Boarding, Directory, Flights, Id, Landing, Loader, Packs, Shared, Waiter,
};
use crate::tree::{Opened, Snapshot, SnapshotId, Source, SourceHealth, Step};

/// Trees larger than this are decoded one at a time.
pub(super) const HUGE: u32 = 8 << 20;

/// `.` directories that may stand in one directory, at all depths together.
const MOST_SPLICES: usize = 64;

/// A directory that was only being read ahead and failed is asked for again by who wants it, at most this often.
const TRIES: usize = 3;

/// What is kept beside the caches goes when nobody used it for this long.
const IDLE: Duration = Duration::from_secs(30);

/// An open repository.
pub(super) struct Repository {
    id: String,
    pub catalogue: Arc<Catalogue>,
    pub loader: Loader,
    pub(super) directories: Arc<Flights<Id, Result<Arc<Parsed>>>>,
    pub dates: Dates,
    /// Held while a directory too large for comfort is fetched.
    huge: Semaphore,
}

impl Repository {
    /// The source of an open repository called `id` by its configuration.
    pub(super) fn source(id: String, catalogue: Arc<Catalogue>, shared: Arc<Shared>) -> Arc<dyn Source> {
        let packs: Arc<dyn Packs> = Arc::<Catalogue>::clone(&catalogue);
        let loader = Loader::new(packs, shared);
        let directories = Flights::new();
        let (dates, huge) = (Dates::default(), Semaphore::new(1));
        Arc::new(Opener(Arc::new(Repository { id, catalogue, loader, directories, dates, huge })))
    }

    /// The identity of the repository.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The parsed directory `tree`; `place` is where it is shown, for messages.
    pub(super) fn directory(self: &Arc<Self>, tree: &Id, place: &Arc<Place>) -> Step<Arc<Parsed>> {
        if let Some(parsed) = self.parsed(tree) {
            return Step::ok(parsed);
        }
        let waiter = self.fetch_directory(tree, place);
        let (repository, tree, place) = (Arc::clone(self), *tree, Arc::clone(place));
        Step::wait(async move { repository.arrival(waiter, tree, place).await })
    }

    fn fetch_directory(self: &Arc<Self>, tree: &Id, place: &Arc<Place>) -> Waiter<Result<Arc<Parsed>>> {
        match self.directories.board(*tree) {
            Boarding::Join(waiter) => waiter,
            Boarding::Lead(landing) => {
                let waiter = landing.waiter();
                let (repository, place) = (Arc::clone(self), Arc::clone(place));
                self.loader.runtime().spawn(async move { repository.land_directory(landing, place).await });
                waiter
            }
        }
    }

    async fn arrival(
        self: Arc<Self>,
        mut waiter: Waiter<Result<Arc<Parsed>>>,
        tree: Id,
        place: Arc<Place>,
    ) -> Result<Arc<Parsed>> {
        for _ in 0..TRIES {
            if let Some(parsed) = waiter.await {
                return parsed;
            }
            waiter = self.fetch_directory(&tree, &place);
        }
        Err(Error::new(Kind::Internal, format!("the fetch of tree {tree} died")))
    }

    /// The parsed directory `tree` when it is in memory.
    pub(super) fn parsed(&self, tree: &Id) -> Option<Arc<Parsed>> {
        let cached = self.loader.shared().directories.get(&(self.loader.number(), *tree))?;
        cached.downcast().ok()
    }

    async fn land_directory(self: Arc<Self>, landing: Landing<Id, Result<Arc<Parsed>>>, place: Arc<Place>) {
        let tree = *landing.key();
        let parsed = match self.parsed(&tree) {
            Some(parsed) => Ok(parsed),
            None => self.load_directory(&tree, &place).await,
        };
        landing.land(parsed);
    }

    async fn load_directory(self: &Arc<Self>, id: &Id, place: &Arc<Place>) -> Result<Arc<Parsed>> {
        let (repository, told) = (Arc::clone(self), Arc::clone(place));
        let read = move |tree: Tree| match tree.splices() {
            [] => Read::Whole(repository.measured(tree, &told)),
            _ => Read::Parts(tree),
        };
        let parsed = match self.tree(id, place, read).await? {
            Read::Whole(parsed) => parsed,
            Read::Parts(tree) => {
                let tree = self.completed(tree, id, place, &mut { MOST_SPLICES }).await?;
                let (repository, told) = (Arc::clone(self), Arc::clone(place));
                self.loader.shared().pool.run(move || repository.measured(tree, &told)).await?
            }
        };
        Ok(self.keep(id, parsed))
    }

    /// What the index says of the files of a tree.
    pub(super) fn measured(&self, tree: Tree, place: &Place) -> Parsed {
        Parsed::new(tree, &self.loader.index(), |node, size| {
            if self.catalogue.differences.first(node.digest()) {
                let (file, recorded) = (place.path(Some(node.name())), node.recorded_size());
                let name = &self.catalogue.name;
                tracing::info!("{name}: {file}: recorded as {recorded} bytes, saved as {size}");
            }
        })
    }

    /// Puts a directory into the cache.
    pub(super) fn keep(&self, id: &Id, parsed: Parsed) -> Arc<Parsed> {
        let parsed = Arc::new(parsed);
        let kept: Directory = Arc::<Parsed>::clone(&parsed);
        self.loader.shared().directories.insert((self.loader.number(), *id), kept, parsed.weight());
        parsed
    }

    /// The tree `id` with the children of its `.` entries in their place. `budget` is how many more of those may come.
    fn completed<'a>(
        self: &'a Arc<Self>,
        tree: Tree,
        id: &'a Id,
        place: &'a Arc<Place>,
        budget: &'a mut usize,
    ) -> BoxFuture<'a, Result<Tree>> {
        Box::pin(async move {
            let mut parts = Vec::with_capacity(tree.splices().len().min(MOST_SPLICES));
            for part in tree.splices() {
                let too_many =
                    || Error::new(Kind::Corrupt, format!("tree {id}: too many entries called `.`"));
                *budget = budget.checked_sub(1).ok_or_else(too_many)?;
                let child = self.tree(part, place, |tree| tree).await?;
                parts.push(self.completed(child, part, place, budget).await?);
            }
            if parts.is_empty() { Ok(tree) } else { tree.spliced(parts) }
        })
    }

    /// One tree blob, parsed, and what `then` makes of it on the pool.
    async fn tree<T: Send + 'static>(
        self: &Arc<Self>,
        id: &Id,
        place: &Arc<Place>,
        then: impl FnOnce(Tree) -> T + Send + 'static,
    ) -> Result<T> {
        let shared = self.loader.shared();
        let size = self.loader.index().size(BlobKind::Tree, id).unwrap_or(0);
        let closed = |_| Error::new(Kind::Internal, "the loader was closed");
        let is_huge = size > HUGE;
        let _fetched = if is_huge { Some(self.huge.acquire().await.map_err(closed)?) } else { None };
        let json = self.loader.unkept(BlobKind::Tree, id).await?;
        // Only now: whoever waits for its store keeps no other repository waiting.
        let _alone = if is_huge { Some(shared.huge.acquire().await.map_err(closed)?) } else { None };
        let (repository, told, id) = (Arc::clone(self), Arc::clone(place), *id);
        let parse = move || repository.parse(&json, &id, &told).map(then);
        shared.pool.run(parse).await?
    }

    /// A tree from its JSON. Flaws of its entries are logged once each.
    pub(super) fn parse(&self, json: &[u8], id: &Id, place: &Place) -> Result<Tree> {
        let tree = Tree::parse(json, &mut |flaw| {
            if self.catalogue.damage.first((*id, flaw.to_string())) {
                tracing::warn!("{}: {}: {flaw}", self.catalogue.name, place.path(None));
            }
        });
        tree.map_err(|error| error.context(format!("tree {id}")))
    }
}

/// A tree as it was read.
enum Read {
    /// A directory.
    Whole(Parsed),
    /// A directory into which others belong.
    Parts(Tree),
}

/// The repository as a source: opening a snapshot hands out shares of it.
struct Opener(Arc<Repository>);

impl Source for Opener {
    fn id(&self) -> &str {
        &self.0.id
    }

    fn name(&self) -> &str {
        &self.0.catalogue.name
    }

    fn snapshots(&self) -> Arc<[Snapshot]> {
        self.0.catalogue.snapshots().all()
    }

    fn refresh(&self) -> BoxFuture<'_, Result<bool>> {
        let shared = self.0.loader.shared();
        shared.blobs.drop_idle(IDLE);
        shared.directories.drop_idle(IDLE);
        Box::pin(self.0.catalogue.refresh())
    }

    fn open(&self, snapshot: &SnapshotId, path: usize) -> Step<Opened> {
        let catalogue = &self.0.catalogue;
        let name = &catalogue.name;
        let Some(held) = catalogue.snapshots().get(snapshot).cloned() else {
            return Step::err(Error::new(Kind::Stale, format!("{name}: snapshot {snapshot} was removed")));
        };
        let Some(recorded) = held.snapshot.paths.get(path).cloned() else {
            return Step::err(Error::new(
                Kind::NotFound,
                format!("{name}: snapshot {snapshot} has no path {path}"),
            ));
        };
        self.0.opens(&held, &recorded);
        let view = View::new(Arc::clone(&self.0), Arc::clone(snapshot), path, recorded);
        Step::begun(resolve::open(view, held))
    }

    fn health(&self) -> SourceHealth {
        let catalogue = &self.0.catalogue;
        let State { error, usage, left_out } = catalogue.state();
        let listed = Some(catalogue.listed());
        SourceHealth { listed, error, usage, omitted: catalogue.damage.count(), left_out }
    }
}
