//! The source: a list that is renewed, and trees that are opened by it.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;

use super::list::List;
use super::pattern::{NUMBER, Pattern, TIME};
use super::record::{Held, Naming};
use super::scan::{is_none, marked, scan, top};
use crate::error::{Context, Error, Kind, Result};
use crate::source::chunked::{Damage, Shared, hash};
use crate::source::host::{self, Host, Rights};
use crate::source::names::Times;
use crate::store::Place;
use crate::tree::{Opened, Snapshot, SnapshotId, Source, SourceHealth, Step, Validity};

/// What it takes to open a source.
pub struct Spec {
    /// How it is called in messages.
    pub name: String,
    /// Where the snapshots lie, with named parts.
    pub pattern: PathBuf,
    /// How their names tell times (strftime's), where not in one of the usual ways.
    pub time_format: Option<String>,
    /// The zone of names that say none.
    pub zone: jiff::tz::TimeZone,
    /// The name of this machine, for patterns that name no host.
    pub machine: Option<Arc<str>>,
    /// How long what is found in trees may be kept that nobody made a snapshot of.
    pub refresh: Duration,
    /// The file system that they lie on.
    pub place: Arc<Place>,
    /// The directories into which somebody may be writing: [`under_way`](super::under_way), or whoever may look.
    pub under_way: UnderWay,
    /// Who has the rights that this process has given up.
    pub rights: Option<Arc<dyn Rights>>,
}

/// Tells directories into which somebody may be writing now.
pub type UnderWay = Arc<dyn Fn() -> Vec<PathBuf> + Send + Sync>;

/// Opens a source, which walks its pattern. Errors, which name it: `Usage` for a pattern or a format that is none,
/// `NotFound` where nothing is that looks like it, and whatever keeps its beginning from being read.
pub async fn open(spec: Spec, shared: Arc<Shared>) -> Result<Arc<dyn Source>> {
    let (name, pattern) = (spec.name.clone(), spec.pattern.display().to_string());
    let opened = open_named(spec, shared).await;
    opened.context(|| if name == pattern { name } else { format!("{name}: {pattern}") })
}

async fn open_named(spec: Spec, shared: Arc<Shared>) -> Result<Arc<dyn Source>> {
    let pattern = Pattern::parse(&spec.pattern)?;
    let naming = Naming {
        times: Times::new(spec.time_format.as_deref(), spec.zone)?,
        universal: Times::new(None, jiff::tz::TimeZone::UTC)?,
        machine: spec.machine,
        fixed: pattern.fixed.clone(),
    };
    let id = format!("{:032x}", hash(&[b"directory", spec.pattern.as_os_str().as_encoded_bytes()]));
    let is_live = !pattern.has(TIME) && !pattern.has(NUMBER);
    let validity = if is_live { Validity::For(spec.refresh) } else { Validity::Forever };
    let host = Host::new(&id, &spec.name, spec.place, shared, spec.rights);
    let (damage, name, under_way) = (Damage::default(), spec.name.clone(), spec.under_way);
    let finder = Arc::new(Finder { pattern, naming, damage, name, under_way });
    let walking = Arc::clone(&finder);
    let list = host.run(move || walking.list(None)).await?;
    let (list, failure) = (ArcSwap::from_pointee(list), Mutex::default());
    let directories = Arc::new(Directories { id, name: spec.name, finder, list, failure });
    Ok(Arc::new(Opener { directories, host, validity }))
}

/// How snapshots are found.
struct Finder {
    pattern: Pattern,
    naming: Naming,
    damage: Damage,
    name: String,
    under_way: UnderWay,
}

impl Finder {
    /// What is there now. Blocks. Errors: `NotFound` where there is nothing at all, which is rather a disk that is not
    /// mounted than the end of all snapshots.
    fn list(&self, before: Option<&List>) -> Result<List> {
        let scan = scan(&self.pattern)?;
        for (path, error) in &scan.gaps {
            if self.damage.first((path, error.kind())) {
                tracing::warn!("{}: {}: {error}", self.name, self.naming.fixed.join(path).display());
            }
        }
        if let ([], Some((path, error))) = (&*scan.found, scan.gaps.first()) {
            return Err(error.clone().context(self.naming.fixed.join(path).display().to_string()));
        }
        if scan.found.is_empty() {
            let says = "nothing is there that looks like the pattern";
            return Err(Error::new(Kind::NotFound, says));
        }
        Ok(List::of(scan, before, &self.naming, &*self.under_way))
    }
}

struct Directories {
    id: String,
    name: String,
    finder: Arc<Finder>,
    list: ArcSwap<List>,
    /// Why the last walk failed.
    failure: Mutex<Option<Error>>,
}

impl Directories {
    /// Walks anew. Blocks. True when there are other snapshots.
    fn walk(&self) -> Result<bool> {
        let before = self.list.load_full();
        let walked = self.finder.list(Some(&before));
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = walked.as_ref().err().cloned();
        let list = walked.context(|| self.name.clone())?;
        let is_new = !Arc::ptr_eq(&before.all(), &list.all());
        self.list.store(Arc::new(list));
        Ok(is_new)
    }

    /// Opens the directory of a snapshot, wherever it was moved meanwhile. Blocks. Errors: `Stale` when it is gone.
    fn root(&self, id: &str) -> Result<OwnedFd> {
        if let Some(there) = self.at_known_path(id)? {
            return Ok(there);
        }
        self.walk()?;
        self.at_known_path(id)?.ok_or_else(|| Error::new(Kind::Stale, "its directory is gone"))
    }

    /// The same where the last walk found it; nothing where that is another directory now, or none.
    fn at_known_path(&self, id: &str) -> Result<Option<OwnedFd>> {
        let list = self.list.load();
        let Some(Held { path, mark, .. }) = list.get(id) else { return Ok(None) };
        let opened = top(&self.finder.pattern).and_then(|top| host::directory(top, path));
        match opened {
            Ok(dir) if marked(&dir)?.0 == *mark => Ok(Some(dir)),
            Ok(_) => Ok(None),
            Err(error) if is_none(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

struct Opener {
    directories: Arc<Directories>,
    host: Arc<Host>,
    validity: Validity,
}

impl Source for Opener {
    fn id(&self) -> &str {
        &self.directories.id
    }

    fn name(&self) -> &str {
        &self.directories.name
    }

    fn snapshots(&self) -> Arc<[Snapshot]> {
        self.directories.list.load().all()
    }

    fn refresh(&self) -> BoxFuture<'_, Result<bool>> {
        let directories = Arc::clone(&self.directories);
        Box::pin(self.host.run(move || directories.walk()))
    }

    fn open(&self, snapshot: &SnapshotId, path: usize) -> Step<Opened> {
        let Directories { name, list, finder, .. } = &*self.directories;
        let list = list.load();
        let Some(held) = list.get(snapshot) else {
            return Step::err(Error::new(Kind::Stale, format!("{name}: snapshot {snapshot} was removed")));
        };
        if path != 0 {
            return Step::err(Error::new(
                Kind::NotFound,
                format!("{name}: snapshot {snapshot} has no path {path}"),
            ));
        }
        let above = finder.naming.fixed.join(&held.path);
        let shown = held.path.file_name().unwrap_or_default().as_encoded_bytes().into();
        let (directories, id) = (Arc::clone(&self.directories), Arc::clone(snapshot));
        let (host, validity, snapshot) = (Arc::clone(&self.host), self.validity, Arc::clone(snapshot));
        Step::wait(async move {
            let ancestors = host.run(move || Ok(host::ancestors(&above))).await?;
            let root = move || Ok(directories.root(&id)?.into());
            let tree = host::Tree { root: Arc::new(root), snapshot, path, name: shown, ancestors, validity };
            host.open(tree).resolve().await
        })
    }

    fn health(&self) -> SourceHealth {
        let directories = &self.directories;
        let list = directories.list.load();
        let left_out: Vec<String> = list.left_out.iter().take(SourceHealth::MOST_TOLD).cloned().collect();
        SourceHealth {
            listed: Some(list.listed),
            error: directories.failure.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            usage: list.usage,
            omitted: self.host.omitted() + directories.finder.damage.count(),
            left_out,
        }
    }
}
