//! Opens a dataset, or a pattern of datasets.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;

use super::catalogue::Catalogue;
use super::clones::Clones;
use super::layout::Layout;
use super::name::Dataset;
use super::owner::Owner;
use super::shelf::Shelf;
use super::snapdir;
use super::source::{MountedAt, Zfs};
use super::tool::Tool;
use super::tops::Tops;
use crate::error::{Context, Error, Kind, Result};
use crate::source::chunked::Shared;
use crate::source::host::Host;
use crate::source::names::Times;
use crate::store;

/// So many snapshots are looked at before the first list is shown.
const LOOKS: usize = 64;

/// And for so long.
const SURVEY: Duration = Duration::from_secs(3);

/// What to open.
pub struct Spec {
    /// How it is called in messages.
    pub name: String,
    /// A dataset, or a pattern of datasets.
    pub layout: Layout,
    /// Where clones are made; `None` for the dataset itself, of a pattern what lies above its named parts.
    pub parent: Option<Dataset>,
    /// The programs.
    pub tool: Tool,
    /// A directory of this user alone, in which clones are mounted; of UTF-8, as ZFS wants mountpoints.
    pub folder: PathBuf,
    /// The kernel knows ZFS; else it is zfs-fuse.
    pub is_kernel_s: bool,
    /// What nobody used for so long is closed.
    pub idle: Duration,
    /// So many clones there may be.
    pub most: usize,
    /// How names tell times.
    pub times: Times,
    /// Where a dataset is mounted whose property does not say so.
    pub mounted_at: MountedAt,
    /// Where directories are kept.
    pub shared: Arc<Shared>,
}

/// Opens a dataset or a pattern: removes what killed processes left of clones and holds, lists, and looks at the newest
/// snapshot and a few more. Errors, which name it: `NotFound` when there is no such dataset, `Denied` when rights or a key
/// are missing, `Unavailable` when the pool does not answer.
pub async fn open(spec: Spec) -> Result<Arc<Zfs>> {
    let name = spec.name.clone();
    open_named(spec).await.context(|| name)
}

async fn open_named(spec: Spec) -> Result<Arc<Zfs>> {
    let Spec { name, layout, tool, folder, is_kernel_s, .. } = spec;
    let owner = Owner::this().ok_or_else(|| Error::new(Kind::System, "/proc does not tell this process"))?;
    let parent = spec.parent.unwrap_or_else(|| layout.above().clone());
    let pool = format!("zfs:{}", layout.above().as_str().split('/').next().unwrap_or_default());
    let id = format!("zfs:{}", layout.above());
    let place = store::Place::of(pool.as_ref());
    let host = Host::new(&id, &name, place, spec.shared, None);
    let open = Arc::clone(&host);
    let turns = Semaphore::new(if is_kernel_s { 8 } else { 1 });
    let clones = Clones { tool, parent, owner, folder, is_kernel_s, turns };
    let zfs = Arc::new(Zfs {
        host,
        id,
        name,
        times: spec.times,
        shelf: Shelf::new(clones, spec.most, spec.idle, move || open.close()),
        mounted_at: spec.mounted_at,
        tops: Arc::new(Mutex::new(Tops::default())),
        catalogue: ArcSwap::from_pointee(Catalogue::empty()),
        failure: Mutex::new(None),
        layout,
    });
    // First of all whether it is there.
    let found = zfs.list().await?;
    sweep(&zfs, &found).await;
    if let Err(error) = zfs.renew(SURVEY, LOOKS).await {
        zfs.end().await;
        return Err(error);
    }
    zfs.shelf.keep_tidy();
    Ok(zfs)
}

/// Removes what killed processes left.
async fn sweep(zfs: &Zfs, found: &super::catalogue::Found) {
    let Clones { tool, owner, .. } = zfs.shelf.clones();
    let clones = zfs.shelf.clones().sweep().await;
    let taken: Vec<_> = found.taken().cloned().collect();
    let holds = snapdir::sweep(tool, owner, &taken).await;
    for (what, swept) in [("clones", clones), ("holds", holds)] {
        match swept {
            Ok(0) => {}
            Ok(swept) => tracing::info!("{}: {swept} {what} of an earlier run are removed", zfs.name),
            Err(error) => tracing::warn!(%error, "{}: cannot look for {what} of earlier runs", zfs.name),
        }
    }
}
