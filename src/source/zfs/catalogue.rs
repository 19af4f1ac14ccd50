//! From a listing to the snapshots that are shown.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::layout::{Layout, Told};
use super::listing::{FileSystem, Listed, Taken};
use super::name::{Dataset, SnapshotName};
use super::tops::{Sets, Tops};
use crate::source::names::{SetName, Times, text};
use crate::tree::{Given, Snapshot, SnapshotId, SnapshotTime, Time};

/// How a shown snapshot is had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The snapshot of ZFS.
    pub name: SnapshotName,
    /// Its guid.
    pub guid: u64,
    /// Where ZFS shows the snapshots of its dataset.
    pub shown: Option<PathBuf>,
    /// The directory at its top that this is; `None` for all of it.
    pub set: Option<Arc<[u8]>>,
    /// The key of its dataset is not loaded.
    pub is_locked: bool,
}

/// A complete list.
pub(super) struct Catalogue {
    /// What is shown.
    pub all: Arc<[Snapshot]>,
    entries: HashMap<SnapshotId, Entry>,
    /// When it was listed.
    pub listed: SystemTime,
    /// Bytes that the datasets take.
    pub used: u64,
}

/// A listing in which what is not ours is left out.
pub(super) struct Found {
    /// By dataset, in the order of time.
    datasets: BTreeMap<Dataset, Vec<Taken>>,
    systems: BTreeMap<Dataset, FileSystem>,
    /// Where ZFS shows the snapshots of a dataset.
    shown: HashMap<Dataset, PathBuf>,
    used: u64,
}

impl Found {
    /// What `layout` means of `listed`; `shown` tells where ZFS shows the snapshots of a file system.
    pub(super) fn new(
        listed: Listed,
        layout: &Layout,
        shown: impl Fn(&FileSystem) -> Option<PathBuf>,
    ) -> Self {
        let used = listed.systems.get(layout.above()).map_or(0, |system| system.used);
        let mut datasets: BTreeMap<Dataset, Vec<Taken>> = BTreeMap::new();
        for taken in listed.snapshots.into_iter().filter(|taken| layout.of(&taken.name.dataset).is_some()) {
            datasets.entry(taken.name.dataset.clone()).or_default().push(taken);
        }
        for taken in datasets.values_mut() {
            taken.sort_by(|one, other| (one.created, &one.name).cmp(&(other.created, &other.name)));
        }
        let of_ours = |system: &&FileSystem| datasets.contains_key(&system.name);
        let ours = listed.systems.values().filter(of_ours);
        let shown = ours.filter_map(|system| Some((system.name.clone(), shown(system)?))).collect();
        Found { datasets, systems: listed.systems, shown, used }
    }

    /// All snapshots of ZFS, in the order of time within each dataset.
    pub(super) fn taken(&self) -> impl Iterator<Item = &Taken> {
        self.datasets.values().flatten()
    }

    /// Their guids.
    pub(super) fn order(&self) -> Vec<u64> {
        self.taken().map(|taken| taken.guid).collect()
    }

    /// How all of a snapshot is had.
    pub(super) fn entry(&self, taken: &Taken) -> Entry {
        let dataset = &taken.name.dataset;
        Entry {
            name: taken.name.clone(),
            guid: taken.guid,
            shown: self.shown.get(dataset).cloned(),
            set: None,
            is_locked: self.systems.get(dataset).is_some_and(|system| system.is_locked),
        }
    }

    /// Whether ZFS shows all snapshots, so that looking at them costs nothing.
    pub(super) fn is_shown(&self) -> bool {
        self.datasets.keys().all(|dataset| self.shown.contains_key(dataset))
    }
}

impl Catalogue {
    /// Of nothing that was listed yet.
    pub(super) fn empty() -> Self {
        Catalogue { all: Arc::default(), entries: HashMap::new(), listed: SystemTime::UNIX_EPOCH, used: 0 }
    }

    /// What is shown of `found`. Of one dataset the sets are those that `tops` tells; where no top holds any, and with a
    /// pattern, a snapshot is one backup.
    pub(super) fn new(found: &Found, layout: &Layout, tops: &Tops, times: &Times) -> Self {
        let mut listed = Vec::new();
        for (dataset, taken) in &found.datasets {
            let Some(told) = layout.of(dataset) else { continue };
            let order: Vec<u64> = taken.iter().map(|taken| taken.guid).collect();
            let sets = if layout.is_pattern() { Vec::new() } else { tops.all(&order) };
            let has_sets = sets.iter().any(|sets| !sets.is_empty());
            for (at, taken) in taken.iter().enumerate() {
                let whole = found.entry(taken);
                match sets.get(at).filter(|_| has_sets) {
                    None => listed.push((snapshot(taken, &told, times), whole)),
                    Some(sets) => listed.extend(in_sets(taken, sets, times, &whole)),
                }
            }
        }
        let all = listed.iter().map(|(snapshot, _)| snapshot.clone()).collect();
        let entries = listed.into_iter().map(|(snapshot, entry)| (snapshot.id, entry)).collect();
        Catalogue { all, entries, listed: SystemTime::now(), used: found.used }
    }

    /// How the snapshot `id` is had.
    pub(super) fn get(&self, id: &str) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// Whether it shows the same as `other`.
    pub(super) fn is_same(&self, other: &Catalogue) -> bool {
        self.entries == other.entries
    }
}

/// A snapshot that is one backup.
fn snapshot(taken: &Taken, told: &Told, times: &Times) -> Snapshot {
    let (time, label) = time(taken, times);
    Snapshot {
        id: format!("{:016x}", taken.guid).into(),
        original: None,
        time,
        host: told.host.clone(),
        user: None,
        tags: Arc::default(),
        paths: [Arc::clone(&told.path)].into(),
        content: format!("{:016x}", taken.guid).into(),
        given: Given { set: None, label, parts: Arc::clone(&told.parts) },
    }
}

/// The backups that a snapshot holds, a directory each.
fn in_sets<'a>(
    taken: &'a Taken,
    sets: &'a Sets,
    times: &'a Times,
    whole: &'a Entry,
) -> impl Iterator<Item = (Snapshot, Entry)> + 'a {
    let (time, label) = time(taken, times);
    sets.iter().filter_map(move |name| {
        let SetName { host, path } = SetName::of(name)?;
        let snapshot = Snapshot {
            // What is shown of an id is its beginning.
            id: format!("{:016x}-{}", taken.guid, text(name)).into(),
            original: None,
            time,
            host: Some(host).filter(|host| !host.is_empty()),
            user: None,
            tags: Arc::default(),
            paths: [path].into(),
            content: format!("{:016x}", taken.guid).into(),
            given: Given { set: Some(Arc::clone(name)), label: label.clone(), parts: Arc::default() },
        };
        Some((snapshot, Entry { set: Some(Arc::clone(name)), ..whole.clone() }))
    })
}

/// When a snapshot was made: as its name tells, else when ZFS made it, and then it is called by its name.
fn time(taken: &Taken, times: &Times) -> (SnapshotTime, Option<Arc<str>>) {
    let label = &taken.name.label;
    match times.of(label.as_bytes()) {
        Some(time) => (time, None),
        None => {
            let instant = Time { secs: taken.created, nanos: 0 };
            (SnapshotTime { instant, offset: None }, Some(text(label.as_bytes())))
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    fn taken(name: &str, guid: u64, created: i64) -> Taken {
        Taken { name: SnapshotName::parse(name).unwrap(), guid, created, is_held: false }
    }

    fn listed(systems: &[(&str, bool)], snapshots: Vec<Taken>) -> Listed {
        let system = |&(name, is_locked): &(&str, bool)| {
            let name = Dataset::new(name).unwrap();
            let mountpoint = Some(format!("/{name}").into());
            (name.clone(), FileSystem { name, mountpoint, is_mounted: true, is_locked, used: 7 })
        };
        Listed { systems: systems.iter().map(system).collect(), snapshots }
    }

    fn sets(names: &[&[u8]]) -> Sets {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    fn catalogue(listed: Listed, layout: &str, tops: &Tops) -> Catalogue {
        let (layout, times) = (Layout::parse(layout).unwrap(), Times::new(None, TimeZone::UTC).unwrap());
        Catalogue::new(&Found::new(listed, &layout, |_| None), &layout, tops, &times)
    }

    /// Host, path, time and label of each.
    fn shown(catalogue: &Catalogue) -> Vec<(String, String, i64, String)> {
        let row = |s: &Snapshot| {
            let text = |text: Option<&str>| text.unwrap_or("-").to_owned();
            let path = String::from_utf8_lossy(&s.paths[0]).into_owned();
            (text(s.host.as_deref()), path, s.time.instant.secs, text(s.given.label.as_deref()))
        };
        catalogue.all.iter().map(row).collect()
    }

    #[test]
    fn directories_at_the_top_are_sets_byte_for_byte() {
        let all = vec![taken("p/c@snap_20220906_082043", 0xab, 9), taken("p/c@before", 0xcd, 5)];
        let mut tops = Tops::default();
        tops.learn(0xab, sets(&[b"lab@+home", b"lab@+x%2By", b"p\xff@+"]));
        tops.learn(0xcd, sets(&[b"lab@+home"]));
        let catalogue = catalogue(listed(&[("p/c", false)], all), "p/c", &tops);
        let row = |host: &str, path: &str, secs, label: &str| {
            (host.to_owned(), path.to_owned(), secs, label.to_owned())
        };
        assert_eq!(
            shown(&catalogue),
            [
                row("lab", "/home", 5, "before"),
                row("lab", "/home", 1_662_452_443, "-"),
                row("lab", "/x+y", 1_662_452_443, "-"),
                row("p%FF", "/", 1_662_452_443, "-"),
            ]
        );
        let last = &catalogue.all[3];
        assert_eq!((&*last.id, &*last.content), ("00000000000000ab-p%FF@+", "00000000000000ab"));
        assert_eq!(last.given.set.as_deref(), Some(&b"p\xff@+"[..]));
        let entry = catalogue.get(&last.id).unwrap();
        assert_eq!((entry.set.as_deref(), entry.guid), (Some(&b"p\xff@+"[..]), 0xab));
        assert!(catalogue.get("00000000000000ab").is_none());
        assert_eq!(catalogue.used, 7);
    }

    #[test]
    fn without_such_directories_a_snapshot_is_one_backup() {
        let all = vec![taken("tank/home@daily.2026-03-01", 1, 9)];
        let catalogue = catalogue(listed(&[("tank/home", false)], all), "tank/home", &Tops::default());
        assert_eq!(
            shown(&catalogue),
            [("-".to_owned(), "/tank/home".to_owned(), 1_772_323_200, "-".to_owned())]
        );
        assert_eq!(&*catalogue.all[0].id, "0000000000000001");
        assert_eq!(catalogue.get("0000000000000001").unwrap().set, None);
    }

    #[test]
    fn a_dataset_for_each_host_and_path_is_a_set() {
        let systems = [("p/b", false), ("p/b/lab", false), ("p/b/lab/home", true), ("p/b/backupfs-1", false)];
        let all = vec![taken("p/b/lab/home@a", 1, 1), taken("p/b/lab@a", 2, 1), taken("p/b@a", 3, 1)];
        let catalogue = catalogue(listed(&systems, all), "p/b/{host}/{path}", &Tops::default());
        let found: Vec<_> = shown(&catalogue).into_iter().map(|(host, path, ..)| (host, path)).collect();
        assert_eq!(found, [("lab".to_owned(), "/".to_owned()), ("lab".to_owned(), "/home".to_owned())]);
        let locked: Vec<_> = catalogue.all.iter().map(|s| catalogue.get(&s.id).unwrap().is_locked).collect();
        assert_eq!(locked, [false, true]);
    }

    #[test]
    fn what_changes_what_is_shown_is_another_catalogue() {
        let all = || vec![taken("p/c@a", 1, 1)];
        let one = catalogue(listed(&[("p/c", false)], all()), "p/c", &Tops::default());
        assert!(one.is_same(&catalogue(listed(&[("p/c", false)], all()), "p/c", &Tops::default())));
        assert!(!one.is_same(&catalogue(listed(&[("p/c", true)], all()), "p/c", &Tops::default())));
        assert!(!one.is_same(&catalogue(listed(&[("p/c", false)], vec![]), "p/c", &Tops::default())));
    }

    #[test]
    fn where_zfs_shows_snapshots_is_known_by_dataset() {
        let layout = Layout::parse("p/{host}").unwrap();
        let both =
            listed(&[("p/a", false), ("p/b", false)], vec![taken("p/a@s", 1, 1), taken("p/b@s", 2, 1)]);
        let found = Found::new(both, &layout, |system| {
            system.mountpoint.clone().filter(|at| at.ends_with("a")).map(|at| at.join(".zfs/snapshot"))
        });
        let shown: Vec<_> = found.taken().map(|taken| found.entry(taken).shown).collect();
        assert_eq!(shown, [Some("/p/a/.zfs/snapshot".into()), None]);
        assert!(!found.is_shown());
        assert_eq!(found.order(), [1, 2]);
    }
}
