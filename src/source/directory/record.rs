//! From a directory that was found to the snapshot it is.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::pattern::{NUMBER, TIME};
use super::scan::{Found, Mark};
use crate::source::chunked::hash;
use crate::source::names::{self, SetName, Times};
use crate::tree::{Given, Part, Snapshot, SnapshotTime};

/// Directories that hold the snapshots of the directory they lie in.
const HOLDERS: &[&str] = &[".snap", ".snaps", ".snapshot", ".snapshots", ".zfs"];

/// The inode number that the top of every volume of btrfs has.
const VOLUME: u64 = 256;

/// A snapshot, and where it is.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub snapshot: Snapshot,
    /// Below what is fixed of the pattern.
    pub path: PathBuf,
    pub mark: Mark,
}

/// What is the same for all snapshots of a source.
pub(super) struct Naming {
    pub times: Times,
    /// Reads the times of snapper, which are universal.
    pub universal: Times,
    /// The name of this machine, for patterns that name no host.
    pub machine: Option<Arc<str>>,
    /// The path of what is saved, for patterns that name neither host nor path.
    pub fixed: PathBuf,
}

/// How the time of a snapshot was told.
enum Told {
    /// By its name, or by nothing but that name: then it is the label.
    Named(SnapshotTime, Arc<[u8]>, Option<Arc<str>>),
    /// By something else than a name, which stays with the directory when that is renamed.
    Dated(SnapshotTime),
}

impl Naming {
    /// The snapshot that `found` is.
    pub(super) fn record(&self, found: Found) -> Held {
        let told = self.told(&found);
        let part = |name: &str| value(&found.parts, name);
        let text = |name: &str| part(name).map(names::text);
        let set = found.set.as_deref().and_then(|name| Some((Arc::from(name), SetName::of(name)?)));
        let (given, named) = set.unzip();
        let host = text("host").or_else(|| named.as_ref().map(|set: &SetName| Arc::clone(&set.host)));
        let path = match (&named, part("path")) {
            (Some(set), _) => Arc::clone(&set.path),
            (None, Some(path)) => [b"/", path].concat().into(),
            (None, None) if host.is_some() => Arc::from(&b"/"[..]),
            (None, None) => saved(&self.fixed).as_os_str().as_bytes().into(),
        };
        let (id, content) = identity(&found, &told);
        let (time, label) = match told {
            Told::Named(time, _, label) => (time, label),
            Told::Dated(time) => (time, None),
        };
        let snapshot = Snapshot {
            id,
            original: None,
            time,
            host: host.or_else(|| self.machine.clone()),
            user: text("user"),
            tags: ["tag", "interval"].iter().filter_map(|name| text(name)).collect(),
            paths: [path].into(),
            content,
            given: Given { set: given, label, parts: found.parts.into() },
        };
        Held { snapshot, path: found.path, mark: found.mark }
    }

    fn told(&self, found: &Found) -> Told {
        let modified = SnapshotTime { instant: found.dated, offset: None };
        if let Some(name) = value(&found.parts, TIME) {
            let name = inherited(&found.path, name);
            return match self.times.of(name) {
                Some(time) => Told::Named(time, name.into(), None),
                None => Told::Named(modified, name.into(), Some(names::text(name))),
            };
        }
        let date = found.info.as_deref().and_then(|info| self.universal.of(element(info, b"date")?));
        // In the zone of this machine, as snapper itself shows it.
        Told::Dated(date.map_or(modified, |time| SnapshotTime { offset: None, ..time }))
    }
}

/// What makes a snapshot this one among those of its source, and its content that of a copy elsewhere.
///
/// What is called by a name is the same as long as it has that name; its copies have that name too, and their directory
/// was modified at the same second. What moves from name to name as it grows older (`daily.0`, `daily.1`) is the same as
/// long as it is the same directory, and nothing tells of its copies.
fn identity(found: &Found, told: &Told) -> (Arc<str>, Arc<str>) {
    let of = |parts: &[&[u8]]| -> Arc<str> { format!("{:032x}", hash(parts)).into() };
    let moves = |name: &str| matches!(told, Told::Dated(_)) && matches!(name, NUMBER | "interval");
    let places = found.parts.iter().filter(|(name, _)| !moves(name));
    let mut parts: Vec<&[u8]> = places.flat_map(|(name, value)| [name.as_bytes(), value]).collect();
    let secs = found.modified.secs.to_le_bytes();
    let ino = found.mark.ino.to_le_bytes();
    let device = [found.mark.device.0.to_le_bytes(), found.mark.device.1.to_le_bytes()].concat();
    match told {
        Told::Named(_, name, _) => (of(&parts), of(&[b"named", name, &secs])),
        Told::Dated(time) => {
            let (secs, nanos) = (time.instant.secs.to_le_bytes(), time.instant.nanos.to_le_bytes());
            parts.extend([&b"dated"[..], &secs, &nanos, &ino]);
            if found.mark.ino == VOLUME {
                parts.push(&device);
            }
            (of(&parts), of(&[b"dated", &device, &ino]))
        }
    }
}

/// What a part stands for.
fn value<'a>(parts: &'a [Part], name: &str) -> Option<&'a [u8]> {
    parts.iter().find(|(part, _)| **part == *name).map(|(_, value)| &**value)
}

/// The name of a snapshot that CephFS shows as `_NAME_INODE` in the directories below the one it was made of.
fn inherited<'a>(path: &Path, name: &'a [u8]) -> &'a [u8] {
    let is_ceph = path.iter().any(|part| part == OsStr::new(".snap"));
    let inner = || {
        let inner = name.strip_prefix(b"_")?;
        let cut = inner.iter().rposition(|byte| *byte == b'_')?;
        let (name, inode) = inner.split_at_checked(cut)?;
        let digits = inode.get(1..)?;
        (!name.is_empty() && !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)).then_some(name)
    };
    if is_ceph { inner().unwrap_or(name) } else { name }
}

/// The directory whose snapshots lie in `holder`: the one above `.snapshots` and the like.
fn saved(holder: &Path) -> &Path {
    let is_holder =
        |path: &&Path| path.file_name().is_some_and(|name| HOLDERS.iter().any(|known| name == *known));
    holder.ancestors().find(is_holder).and_then(Path::parent).unwrap_or(holder)
}

/// The text of the first element called `name`, without the blanks around it.
fn element<'a>(xml: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (open, close) = ([b"<", name, b">"].concat(), [b"</", name, b">"].concat());
    let find = |text: &[u8], word: &[u8]| text.windows(word.len()).position(|part| part == word);
    let text = xml.get(find(xml, &open)? + open.len()..)?;
    Some(text.get(..find(text, &close)?)?.trim_ascii())
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::tree::Time;

    fn naming(fixed: &str) -> Naming {
        let times = |zone| Times::new(None, zone).unwrap();
        Naming {
            times: times(TimeZone::fixed(jiff::tz::offset(1))),
            universal: times(TimeZone::UTC),
            machine: Some("nas".into()),
            fixed: fixed.into(),
        }
    }

    fn found(path: &str, parts: &[(&str, &str)]) -> Found {
        Found {
            path: path.into(),
            parts: parts.iter().map(|(name, value)| ((*name).into(), value.as_bytes().into())).collect(),
            set: None,
            mark: Mark { device: (8, 1), ino: 77 },
            modified: Time { secs: 1_772_334_000, nanos: 5 },
            dated: Time { secs: 1_772_334_000, nanos: 5 },
            info: None,
        }
    }

    fn record(fixed: &str, found: Found) -> Snapshot {
        naming(fixed).record(found).snapshot
    }

    #[test]
    fn host_path_and_time_come_from_the_parts() {
        let parts =
            [("host", "web"), ("path", "srv"), ("time", "20260301_030000"), ("user", "bob"), ("tag", "t")];
        let snapshot = record("/b", found("web/x", &parts));
        assert_eq!((snapshot.host.as_deref(), &*snapshot.paths[0]), (Some("web"), &b"/srv"[..]));
        assert_eq!((snapshot.user.as_deref(), snapshot.tags.join(" ")), (Some("bob"), "t".to_owned()));
        let time = SnapshotTime { instant: Time { secs: 1_772_330_400, nanos: 0 }, offset: Some(3600) };
        assert_eq!((snapshot.time, snapshot.given.label), (time, None));
        assert_eq!(snapshot.given.parts.len(), 5);
    }

    #[test]
    fn what_tells_no_time_has_its_name_and_the_time_of_its_directory() {
        let snapshot = record("/b", found("x", &[("host", "web"), ("time", "before the upgrade")]));
        assert_eq!(snapshot.given.label.as_deref(), Some("before the upgrade"));
        assert_eq!((snapshot.time.instant.nanos, snapshot.time.offset), (5, None));
        assert_eq!(&*snapshot.paths[0], b"/");
    }

    #[test]
    fn without_a_host_it_is_this_machine_s_and_the_path_is_what_holds_the_snapshots() {
        for (fixed, path) in [
            ("/.snapshots", "/"),
            ("/home/.snapshots", "/home"),
            ("/srv/.zfs/snapshot", "/srv"),
            ("/srv/rsync", "/srv/rsync"),
        ] {
            let snapshot = record(fixed, found("1", &[("n", "1")]));
            assert_eq!(snapshot.host.as_deref(), Some("nas"));
            assert_eq!(&*snapshot.paths[0], path.as_bytes(), "{fixed}");
        }
    }

    #[test]
    fn a_name_of_a_set_is_given_as_it_is() {
        let set = Some(b"pc@+a%2Bb+c".to_vec());
        let snapshot = record("/b", Found { set, ..found("x", &[("set", "pc@+a%2Bb+c")]) });
        assert_eq!(snapshot.given.set.as_deref(), Some(&b"pc@+a%2Bb+c"[..]));
        assert_eq!((snapshot.host.as_deref(), &*snapshot.paths[0]), (Some("pc"), &b"/a+b/c"[..]));
        let none = record("/b", Found { set: Some(b"plain".to_vec()), ..found("x", &[("set", "plain")]) });
        assert_eq!(none.given.set, None, "no name for a set");
    }

    #[test]
    fn snapper_s_file_tells_the_time() {
        let info =
            b"<?xml?>\n<snapshot>\n <num>3</num>\n <date> 2026-03-01 02:00:00 </date>\n</snapshot>".to_vec();
        let snapshot =
            record("/.snapshots", Found { info: Some(info), ..found("3/snapshot", &[("n", "3")]) });
        assert_eq!(
            snapshot.time,
            SnapshotTime { instant: Time { secs: 1_772_330_400, nanos: 0 }, offset: None }
        );
        for broken in ["", "<date>", "<date></date>", "<date>tomorrow</date>", "</date><date>2026-03-01"] {
            let info = Some(broken.as_bytes().to_vec());
            let snapshot = record("/.snapshots", Found { info, ..found("3/snapshot", &[("n", "3")]) });
            assert_eq!(snapshot.time.instant.nanos, 5, "{broken}");
        }
    }

    #[test]
    fn cephfs_names_of_a_parent_s_snapshots_are_those_the_parent_shows() {
        for (path, name, label) in [
            ("home/.snap/x", "_before_1099511627776", "before"),
            ("home/.snap/x", "__a_b__12", "_a_b_"),
            ("home/.snap/x", "_before_", "_before_"),
            ("home/.snap/x", "_12", "_12"),
            ("home/snap/x", "_before_12", "_before_12"),
        ] {
            let snapshot = record("/b", found(path, &[("time", name)]));
            assert_eq!(snapshot.given.label.as_deref(), Some(label), "{name}");
        }
    }

    #[test]
    fn what_moves_from_name_to_name_stays_the_same_snapshot() {
        let one = record("/b", found("daily.0", &[("interval", "daily"), ("n", "0")]));
        let moved = record("/b", found("weekly.1", &[("interval", "weekly"), ("n", "1")]));
        assert_eq!((&one.id, &one.content), (&moved.id, &moved.content));
        assert_eq!((one.tags.join(" "), moved.tags.join(" ")), ("daily".into(), "weekly".into()));
        let at = |device, ino| {
            let mark = Mark { device: (0, device), ino };
            record("/b", Found { mark, ..found("daily.0", &[("interval", "daily"), ("n", "0")]) })
        };
        assert!(one.id != at(1, 78).id && one.content != at(1, 78).content);
        assert_eq!(at(1, 78).id, at(2, 78).id, "mounted again");
        assert_ne!(at(1, 256).id, at(2, 256).id, "two volumes of btrfs");
    }

    #[test]
    fn copies_have_one_name_and_were_modified_at_the_same_second() {
        let parts = [("host", "web"), ("time", "20260301_030000")];
        let one = record("/b", found("web/x", &parts));
        let mark = Mark { device: (9, 9), ino: 1 };
        let copy = record(
            "/c",
            Found { mark, modified: Time { secs: 1_772_334_000, nanos: 0 }, ..found("y", &parts) },
        );
        assert_eq!((&one.id, &one.content), (&copy.id, &copy.content));
        let other = record("/c", Found { modified: Time { secs: 1, nanos: 0 }, ..found("y", &parts) });
        assert_ne!(one.content, other.content);
    }
}
