//! Opens a dataset, or a pattern of datasets.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::catalogue::{Catalogue, Found};
use super::hands::{self, Hands};
use super::layout::Layout;
use super::own::MountedAt;
use super::shelf::Shelf;
use super::source::Zfs;
use super::tops::Tops;
use crate::error::{Context, Result};
use crate::source::chunked::Shared;
use crate::source::host::{Host, Rights};
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
    /// Who asks ZFS, and changes it.
    pub hands: Arc<dyn Hands>,
    /// In which clones are mounted, by the last components of their names.
    pub folder: PathBuf,
    /// What nobody used for so long is closed.
    pub idle: Duration,
    /// So many clones there may be.
    pub most: usize,
    /// How names tell times.
    pub times: Times,
    /// Where a dataset is mounted whose property does not say so.
    pub mounted_at: MountedAt,
    /// Who has the rights that this process has not.
    pub rights: Option<Arc<dyn Rights>>,
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
    let Spec { name, layout, .. } = spec;
    let pool = format!("zfs:{}", layout.above().as_str().split('/').next().unwrap_or_default());
    let id = format!("zfs:{}", layout.above());
    let place = store::Place::of(pool.as_ref());
    let host = Host::new(&id, &name, place, spec.shared, spec.rights);
    let open = Arc::clone(&host);
    let zfs = Arc::new(Zfs {
        host,
        id,
        name,
        times: spec.times,
        shelf: Shelf::new(spec.hands, spec.folder, spec.most, spec.idle, move || open.close()),
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
async fn sweep(zfs: &Zfs, found: &Found) {
    let hands = zfs.shelf.hands();
    let held: Vec<String> =
        found.taken().filter(|taken| taken.is_held).map(|taken| taken.name.to_string()).collect();
    let clones = hands::sweep_clones(hands).await;
    let holds = hands::sweep_holds(hands, &held).await;
    for (what, swept) in [("clones", clones), ("holds", holds)] {
        match swept {
            Ok(0) => {}
            Ok(swept) => tracing::info!("{}: {swept} {what} of an earlier run are removed", zfs.name),
            Err(error) => tracing::warn!(%error, "{}: cannot look for {what} of earlier runs", zfs.name),
        }
    }
}
