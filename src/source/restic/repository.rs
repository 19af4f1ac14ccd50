//! An open repository as a source of snapshots.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::catalogue::{Catalogue, State};
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
const HUGE: u32 = 8 << 20;

/// `.` directories that may stand in one directory, at all depths together.
const MOST_SPLICES: usize = 64;

/// What is kept beside the caches goes when nobody used it for this long.
const IDLE: Duration = Duration::from_secs(30);

/// An open repository.
pub(super) struct Repository {
    id: String,
    pub catalogue: Arc<Catalogue>,
    pub loader: Loader,
    directories: Arc<Flights<Id, Result<Arc<Parsed>>>>,
}

impl Repository {
    /// The source of an open repository called `id` by its configuration.
    pub(super) fn source(id: String, catalogue: Arc<Catalogue>, shared: Arc<Shared>) -> Arc<dyn Source> {
        let packs: Arc<dyn Packs> = Arc::<Catalogue>::clone(&catalogue);
        let loader = Loader::new(packs, shared);
        let directories = Flights::new();
        Arc::new(Opener(Arc::new(Repository { id, catalogue, loader, directories })))
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
        let waiter = match self.directories.board(*tree) {
            Boarding::Join(waiter) => waiter,
            Boarding::Lead(landing) => {
                let waiter = landing.waiter();
                let (repository, place) = (Arc::clone(self), Arc::clone(place));
                self.loader.runtime().spawn(async move { repository.land_directory(landing, place).await });
                waiter
            }
        };
        Step::wait(arrival(waiter, *tree))
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
        let tree = self.whole_tree(id, place, &mut { MOST_SPLICES }).await?;
        let (repository, told) = (Arc::clone(self), Arc::clone(place));
        let measure = move || {
            Parsed::new(tree, &repository.loader.index(), |node, size| {
                if repository.catalogue.differences.first(node.digest()) {
                    let (file, recorded) = (told.path(Some(node.name())), node.recorded_size());
                    let name = &repository.catalogue.name;
                    tracing::info!("{name}: {file}: recorded as {recorded} bytes, saved as {size}");
                }
            })
        };
        let shared = self.loader.shared();
        let parsed = Arc::new(shared.pool.run(measure).await?);
        let kept: Directory = Arc::<Parsed>::clone(&parsed);
        shared.directories.insert((self.loader.number(), *id), kept, parsed.weight());
        Ok(parsed)
    }

    /// A tree with the children of its `.` entries in their place. `budget` is how many more of those may come.
    fn whole_tree<'a>(
        self: &'a Arc<Self>,
        id: &'a Id,
        place: &'a Arc<Place>,
        budget: &'a mut usize,
    ) -> BoxFuture<'a, Result<Tree>> {
        Box::pin(async move {
            let tree = self.tree(id, place).await?;
            let mut parts = Vec::with_capacity(tree.splices().len().min(MOST_SPLICES));
            for part in tree.splices() {
                let too_many =
                    || Error::new(Kind::Corrupt, format!("tree {id}: too many entries called `.`"));
                *budget = budget.checked_sub(1).ok_or_else(too_many)?;
                parts.push(self.whole_tree(part, place, budget).await?);
            }
            if parts.is_empty() { Ok(tree) } else { tree.spliced(parts) }
        })
    }

    /// One tree blob, parsed. Flaws of its entries are logged once each.
    async fn tree(self: &Arc<Self>, id: &Id, place: &Arc<Place>) -> Result<Tree> {
        let shared = self.loader.shared();
        let size = self.loader.index().find(BlobKind::Tree, id).map_or(0, |place| place.size);
        let closed = |_| Error::new(Kind::Internal, "the loader was closed");
        let _alone = if size > HUGE { Some(shared.huge.acquire().await.map_err(closed)?) } else { None };
        let json = self.loader.unkept(BlobKind::Tree, id).await?;
        let (repository, told, id) = (Arc::clone(self), Arc::clone(place), *id);
        let parse = move || {
            Tree::parse(&json, &mut |flaw| {
                let catalogue = &repository.catalogue;
                if catalogue.damage.first((id, flaw.to_string())) {
                    tracing::warn!("{}: {}: {flaw}", catalogue.name, told.path(None));
                }
            })
        };
        shared.pool.run(parse).await?.map_err(|error| error.context(format!("tree {id}")))
    }
}

async fn arrival(waiter: Waiter<Result<Arc<Parsed>>>, tree: Id) -> Result<Arc<Parsed>> {
    let died = || Err(Error::new(Kind::Internal, format!("the fetch of tree {tree} died")));
    waiter.await.unwrap_or_else(died)
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
        let view = View::new(Arc::clone(&self.0), Arc::clone(snapshot), path, recorded);
        Step::wait(resolve::open(view, held))
    }

    fn health(&self) -> SourceHealth {
        let catalogue = &self.0.catalogue;
        let State { error, usage, left_out } = catalogue.state();
        let listed = Some(catalogue.snapshots().listed);
        SourceHealth { listed, error, usage, omitted: catalogue.damage.count(), left_out }
    }
}
