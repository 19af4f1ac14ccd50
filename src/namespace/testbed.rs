//! What the unit tests of this room stand on: a namespace over sources in memory, on a clock that goes when told.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::tz::TimeZone;

use super::fake::{FakeSource, LISTED};
use super::{Clock, Filter, Member, Members, Namespace, Options};
use crate::error::Result;
use crate::tree::{Change, Content, Cookie, Dir, Entry, Identity, Meta, Node, Step, Time};

/// A clock that stands still until it is moved. Starts at 2026-03-10T12:00:00Z.
pub struct FakeClock(Mutex<Duration>);

impl FakeClock {
    /// Lets time pass.
    pub fn pass(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Time {
        let passed = *self.0.lock().unwrap();
        let secs = i64::try_from(LISTED + passed.as_secs()).unwrap();
        Time { secs, nanos: passed.subsec_nanos() }
    }

    fn elapsed(&self) -> Duration {
        *self.0.lock().unwrap()
    }
}

/// A namespace and what it told.
pub struct Bed {
    pub ns: Arc<Namespace>,
    pub clock: Arc<FakeClock>,
    changes: Arc<Mutex<Vec<Change>>>,
}

/// A source as the configuration would say `[source.NAME]` and nothing more.
pub fn member(source: &Arc<FakeSource>) -> Member {
    Member {
        source: source.clone(),
        set: None,
        parts: Vec::new(),
        member: "member".into(),
        filter: Filter::default(),
        access: None,
        zone: None,
        refresh: None,
        expect_every: crate::namespace::EXPECT_EVERY,
    }
}

impl Bed {
    /// A private mount of `sources`, whose local zone is UTC.
    pub fn new(sources: &[&Arc<FakeSource>]) -> Bed {
        Bed::with(sources.iter().map(|source| member(source)).collect(), Options::default(), "UTC")
    }

    /// A mount of `sources` that others are let into.
    pub fn shared(sources: &[&Arc<FakeSource>]) -> Bed {
        let options = Options { shared: true, ..Options::default() };
        Bed::with(sources.iter().map(|source| member(source)).collect(), options, "UTC")
    }

    /// Any mount.
    pub fn with(members: Vec<Member>, options: Options, zone: &str) -> Bed {
        Bed::with_groups(members, Vec::new(), options, zone)
    }

    /// Any mount with groups.
    pub fn with_groups(
        members: Vec<Member>,
        groups: Vec<Arc<dyn Members>>,
        options: Options,
        zone: &str,
    ) -> Bed {
        let clock = Arc::new(FakeClock(Mutex::new(Duration::ZERO)));
        let zone = if zone == "UTC" { TimeZone::UTC } else { super::calendar::zone(zone).unwrap() };
        let ns = Namespace::with(members, groups, options, clock.clone(), zone).unwrap();
        let changes: Arc<Mutex<Vec<Change>>> = Arc::default();
        let told = changes.clone();
        ns.on_change(Box::new(move |change| told.lock().unwrap().push(change)));
        Bed { ns, clock, changes }
    }

    /// The node at `path`, every step of which answers at once.
    pub fn find(&self, path: &str) -> Result<Option<Node>> {
        let mut node = self.ns.root();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let Step::Ready(found) = dir(&node).lookup(name.as_bytes()) else { panic!("{path} waits") };
            match found? {
                Some(found) => node = found,
                None => return Ok(None),
            }
        }
        Ok(Some(node))
    }

    /// The same, where each step may wait.
    pub async fn wait(&self, path: &str) -> Result<Option<Node>> {
        let mut node = self.ns.root();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            match dir(&node).lookup(name.as_bytes()).resolve().await? {
                Some(found) => node = found,
                None => return Ok(None),
            }
        }
        Ok(Some(node))
    }

    /// The node at `path`, which is there.
    pub fn at(&self, path: &str) -> Node {
        self.find(path).unwrap().unwrap_or_else(|| panic!("{path} is not there"))
    }

    /// Whether `path` is there.
    pub fn has(&self, path: &str) -> bool {
        self.find(path).unwrap().is_some()
    }

    /// The names in the directory at `path`.
    pub fn ls(&self, path: &str) -> Vec<String> {
        self.entries(path).into_iter().map(|entry| entry.name).collect()
    }

    /// What the directory at `path` lists.
    pub fn entries(&self, path: &str) -> Vec<Listed> {
        list(&self.at(path), 0)
    }

    /// Where the symlink at `path` points.
    pub fn link(&self, path: &str) -> String {
        let Content::Symlink(target) = self.at(path).content else { panic!("{path} is no symlink") };
        String::from_utf8(target.to_vec()).unwrap()
    }

    /// The id of the snapshot that the directory at `path` shows, as its file says.
    pub fn id(&self, path: &str) -> String {
        let node = self.at(&format!("{path}/id"));
        let Content::File(file) = node.content else { panic!("{path}/id is no file") };
        let Step::Ready(reader) = file.open() else { panic!("waits") };
        let Step::Ready(bytes) = reader.unwrap().read_at(0, 1000) else { panic!("waits") };
        String::from_utf8(bytes.unwrap().to_vec()).unwrap()
    }

    /// An extended attribute of the node at `path`.
    pub fn xattr(&self, path: &str, name: &str) -> Option<String> {
        let node = self.at(path);
        assert!(node.meta.has_xattrs, "getxattr would not even be asked");
        let Step::Ready(value) = node.xattrs?.get(name.as_bytes()) else { panic!("waits") };
        value.unwrap().map(|value| String::from_utf8(value.to_vec()).unwrap())
    }

    /// What was told since the last call: `dir: name name`, in order.
    pub fn told(&self) -> Vec<String> {
        let text = |name: &Vec<u8>| String::from_utf8_lossy(name).into_owned();
        let line = |change: Change| {
            let dir = change.dir.iter().map(text).collect::<Vec<_>>().join("/");
            format!("/{dir}: {}", change.names.iter().map(text).collect::<Vec<_>>().join(" "))
        };
        let mut lines: Vec<String> = self.changes.lock().unwrap().drain(..).map(line).collect();
        lines.sort();
        lines
    }
}

/// An entry as it was listed.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    pub at: Cookie,
    pub name: String,
    pub identity: Identity,
    pub meta: Option<Meta>,
}

/// The entries of a directory from a position on.
pub fn list(node: &Node, from: Cookie) -> Vec<Listed> {
    let Step::Ready(listing) = dir(node).listing() else { panic!("listing waits") };
    let mut out = Vec::new();
    listing.unwrap().visit(from, &mut |entry: &Entry<'_>| {
        assert!(entry.next > entry.at, "positions go up");
        out.push(Listed {
            at: entry.at,
            name: String::from_utf8_lossy(entry.name).into_owned(),
            identity: entry.identity,
            meta: entry.meta,
        });
        ControlFlow::Continue(())
    });
    assert!(out.is_sorted_by_key(|entry: &Listed| entry.at), "in order of position");
    out
}

/// The directory that a node is.
pub fn dir(node: &Node) -> Arc<dyn Dir> {
    let Content::Dir(dir) = &node.content else { panic!("no directory") };
    dir.clone()
}
