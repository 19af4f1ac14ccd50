//! What all sources of a process share: memory and processors, and the disk cache of what distant stores deliver.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::cache::{Budget, Cached, Disk, Drawer, Folder};
use crate::config::{Config, Location};
use crate::source::chunked::Shared;
use crate::store::ObjectStore;

/// Whoever unmounts does not wait longer than this for what is still to be written to the cache.
const PATIENCE: Duration = Duration::from_secs(2);

/// Shared by all sources. Cheap to clone.
#[derive(Clone)]
pub struct Common {
    /// Memory and processors.
    pub shared: Arc<Shared>,
    disk: Arc<Lazy>,
}

/// The disk cache, opened for the first distant store.
struct Lazy {
    dir: Option<PathBuf>,
    size: u64,
    offline_max: Option<Duration>,
    opened: OnceLock<Option<Arc<Disk>>>,
}

impl Common {
    /// What `config` allows, and why there is no cache directory although there should be one.
    pub fn new(config: &Config) -> (Self, Option<String>) {
        let (cache, failure) = match config.cache_dir.as_deref().map(Folder::open).transpose() {
            Ok(cache) => (cache, None),
            Err(error) => {
                let told =
                    format!("indexes are kept in memory, because there is no cache directory: {error}");
                tracing::warn!("{told}");
                (None, Some(told))
            }
        };
        let lazy = Lazy {
            dir: config.cache_dir.clone().filter(|_| failure.is_none()),
            size: config.cache_size,
            offline_max: config.offline_max,
            opened: OnceLock::new(),
        };
        let shared = Shared::with_cache(Budget::of(config.memory), cache);
        (Common { shared, disk: Arc::new(lazy) }, failure)
    }

    /// The store of `location`, which people call `title`, behind the cache, and where its blobs are kept. As it was where
    /// it is as near as the cache.
    pub fn kept(
        &self,
        location: &Location,
        store: Arc<dyn ObjectStore>,
        title: &str,
    ) -> (Arc<dyn ObjectStore>, Option<Drawer>) {
        let disk = location.server().and_then(|_| self.disk.get());
        let Some(disk) = disk else { return (store, None) };
        let drawer = Drawer::new(disk, store.name(), title);
        (Arc::new(Cached::new(store, drawer.clone(), self.disk.offline_max)), Some(drawer))
    }

    /// Waits for what is still to be written to the cache, but not for long.
    pub fn flush(&self) {
        if let Some(Some(disk)) = self.disk.opened.get() {
            disk.flush(PATIENCE);
        }
    }
}

impl Lazy {
    fn get(&self) -> Option<Arc<Disk>> {
        let open = || {
            let dir = self.dir.as_deref().filter(|_| self.size > 0)?;
            let opened = Folder::open(dir).and_then(|folder| Disk::open(&folder, self.size));
            opened.map_err(|error| tracing::warn!("nothing is kept of distant repositories: {error}")).ok()
        };
        self.opened.get_or_init(open).clone()
    }
}
