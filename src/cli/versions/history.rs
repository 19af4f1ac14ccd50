//! What became of one path from date to date.
//!
//! Two versions hold the same content when they are the same node, or when every byte is the same: sizes are compared
//! first, and only versions of equal size are read, each at most once.

use crate::error::Result;
use crate::tree::{FileType, Time};

/// Backups in which a path can be looked up: opened from the repository, or seen through a mount.
pub trait Archive {
    /// The sets.
    fn sets(&self) -> Result<Vec<Set>>;

    /// The dates of a set, oldest first.
    fn dates(&self, set: &Set) -> Result<Vec<Vec<u8>>>;

    /// What lies at `path` (names below the set's own directory) on a date; `None` when nothing does.
    fn find(&self, set: &Set, date: &[u8], path: &[Vec<u8>]) -> Result<Option<Version>>;

    /// SHA-256 of the bytes of a regular file that `find` found.
    fn digest(&self, set: &Set, date: &[u8], path: &[Vec<u8>]) -> Result<[u8; 32]>;
}

/// A set of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Names from the archive's root to the directory of its dates.
    pub place: Vec<Vec<u8>>,
    /// The host that was backed up.
    pub host: Vec<u8>,
    /// The path that was backed up, absolute, byte for byte.
    pub path: Vec<u8>,
}

/// What lay at a path on one date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Equal for the same node; `None` equals nothing. Different nodes may still hold the same bytes.
    pub identity: Option<u128>,
    /// Its type.
    pub kind: FileType,
    /// Permission bits.
    pub perm: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of content.
    pub size: u64,
    /// Last modification.
    pub mtime: Time,
    /// Where a symbolic link leads.
    pub target: Option<Vec<u8>>,
}

/// How a version relates to the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// There was none before it.
    First,
    /// The content is the same, byte for byte.
    Same,
    /// The content is the same; time, mode or owner are not.
    Touched,
    /// The content is another.
    Changed,
    /// Nothing lies there on this date.
    Absent,
    /// A directory: what it holds is not compared.
    Directory,
    /// It could not be found out.
    Unknown,
}

/// One date of a history.
pub struct Dated {
    /// The name of the date.
    pub date: Vec<u8>,
    /// What lies there.
    pub version: Result<Option<Version>>,
    /// What that is to the version before.
    pub change: Change,
}

/// Follows `path` through the dates of a set, oldest first; `step` is told before each date how
/// many of how many are done.
pub fn follow(
    archive: &dyn Archive,
    set: &Set,
    path: &[Vec<u8>],
    step: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Dated>> {
    let dates = archive.dates(set)?;
    let mut history: Vec<Dated> = Vec::with_capacity(dates.len());
    let mut before: Option<Seen> = None;
    for (done, date) in dates.iter().cloned().enumerate() {
        step(done, dates.len());
        let version = archive.find(set, &date, path);
        let change = match &version {
            Err(_) => Change::Unknown,
            Ok(None) => Change::Absent,
            Ok(Some(now)) => {
                let mut seen = Seen { date: date.clone(), version: now.clone(), digest: None };
                let digest = |seen: &mut Seen| seen.digest(archive, set, path);
                let change = compare(before.as_mut(), &mut seen, &digest);
                before = Some(seen);
                change
            }
        };
        history.push(Dated { date, version, change });
    }
    Ok(history)
}

/// The last version seen, with its digest once somebody asked.
struct Seen {
    date: Vec<u8>,
    version: Version,
    digest: Option<[u8; 32]>,
}

impl Seen {
    fn digest(&mut self, archive: &dyn Archive, set: &Set, path: &[Vec<u8>]) -> Result<[u8; 32]> {
        match self.digest {
            Some(digest) => Ok(digest),
            None => Ok(*self.digest.insert(archive.digest(set, &self.date, path)?)),
        }
    }
}

fn compare(
    before: Option<&mut Seen>,
    now: &mut Seen,
    digest: &dyn Fn(&mut Seen) -> Result<[u8; 32]>,
) -> Change {
    if now.version.kind == FileType::Dir {
        return Change::Directory;
    }
    let Some(before) = before else { return Change::First };
    let (a, b) = (&before.version, &now.version);
    if a.identity.is_some() && a.identity == b.identity {
        now.digest = before.digest;
        return Change::Same;
    }
    if (a.kind, a.size, &a.target) != (b.kind, b.size, &b.target) {
        return Change::Changed;
    }
    let same_attributes = (a.perm, a.uid, a.gid, a.mtime) == (b.perm, b.uid, b.gid, b.mtime);
    if a.kind == FileType::File && a.size > 0 {
        match (digest(before), digest(now)) {
            (Ok(a), Ok(b)) if a != b => return Change::Changed,
            (Ok(_), Ok(_)) => {}
            _ => return Change::Unknown,
        }
    }
    if same_attributes { Change::Same } else { Change::Touched }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::error::{Error, Kind};

    /// A set whose dates are numbered, and which counts how often each was read.
    struct Fake {
        versions: Vec<Option<(Version, &'static str)>>,
        read: RefCell<Vec<usize>>,
    }

    fn version(identity: u128, size: u64, secs: i64) -> Version {
        Version {
            identity: Some(identity),
            kind: FileType::File,
            perm: 0o644,
            uid: 0,
            gid: 0,
            size,
            mtime: Time { secs, nanos: 0 },
            target: None,
        }
    }

    fn index(date: &[u8]) -> usize {
        std::str::from_utf8(date).unwrap().parse().unwrap()
    }

    impl Archive for Fake {
        fn sets(&self) -> Result<Vec<Set>> {
            Ok(Vec::new())
        }

        fn dates(&self, _: &Set) -> Result<Vec<Vec<u8>>> {
            Ok((0..self.versions.len()).map(|i| i.to_string().into_bytes()).collect())
        }

        fn find(&self, _: &Set, date: &[u8], _: &[Vec<u8>]) -> Result<Option<Version>> {
            let found = self.versions[index(date)].clone();
            match found {
                Some((_, "damaged")) => Err(Error::new(Kind::Corrupt, "damaged")),
                found => Ok(found.map(|(version, _)| version)),
            }
        }

        fn digest(&self, _: &Set, date: &[u8], _: &[Vec<u8>]) -> Result<[u8; 32]> {
            self.read.borrow_mut().push(index(date));
            match self.versions[index(date)].as_ref().unwrap().1 {
                "unreadable" => Err(Error::new(Kind::Corrupt, "unreadable")),
                content => Ok([content.as_bytes()[0]; 32]),
            }
        }
    }

    fn changes(versions: Vec<Option<(Version, &'static str)>>) -> (Vec<Change>, Vec<usize>) {
        let fake = Fake { versions, read: RefCell::default() };
        let set = Set { place: Vec::new(), host: Vec::new(), path: Vec::new() };
        let history = follow(&fake, &set, &[], &mut |_, _| {}).unwrap();
        (history.iter().map(|dated| dated.change).collect(), fake.read.into_inner())
    }

    #[test]
    fn the_same_node_is_the_same_content_without_reading() {
        let same = || Some((version(1, 10, 0), "a"));
        assert_eq!(
            changes(vec![same(), same(), same()]),
            (vec![Change::First, Change::Same, Change::Same], vec![])
        );
    }

    #[test]
    fn nodes_without_identity_are_compared_by_their_bytes() {
        let anonymous = || Some((Version { identity: None, ..version(0, 10, 0) }, "a"));
        assert_eq!(changes(vec![anonymous(), anonymous()]), (vec![Change::First, Change::Same], vec![0, 1]));
    }

    #[test]
    fn equal_sizes_are_read_once_each_and_other_sizes_never() {
        let (changes, read) = changes(vec![
            Some((version(1, 10, 0), "a")),
            Some((version(2, 10, 0), "a")),
            Some((version(3, 10, 5), "a")),
            Some((version(4, 10, 5), "b")),
            Some((version(5, 11, 5), "b")),
        ]);
        assert_eq!(changes, [Change::First, Change::Same, Change::Touched, Change::Changed, Change::Changed]);
        assert_eq!(read, [0, 1, 2, 3]);
    }

    #[test]
    fn a_version_after_a_gap_is_compared_with_the_last_one_there_was() {
        let a = || Some((version(1, 10, 0), "a"));
        let (changes, _) = changes(vec![None, a(), None, a(), Some((version(9, 1, 0), "c"))]);
        assert_eq!(changes, [Change::Absent, Change::First, Change::Absent, Change::Same, Change::Changed]);
    }

    #[test]
    fn damage_is_unknown_and_hides_nothing_else() {
        let (changes, _) = changes(vec![
            Some((version(1, 10, 0), "a")),
            Some((version(2, 10, 0), "damaged")),
            Some((version(3, 10, 0), "unreadable")),
            Some((version(4, 20, 0), "d")),
        ]);
        assert_eq!(changes, [Change::First, Change::Unknown, Change::Unknown, Change::Changed]);
    }

    #[test]
    fn directories_and_links_have_no_bytes_to_read() {
        let dir = || Some((Version { kind: FileType::Dir, ..version(1, 0, 0) }, "a"));
        let link = |identity, target: &str| {
            let target = Some(target.as_bytes().to_vec());
            Some((Version { kind: FileType::Symlink, target, ..version(identity, 2, 0) }, "a"))
        };
        let (seen, read) = changes(vec![dir(), dir(), link(2, "xy"), link(3, "xy"), link(4, "xz")]);
        let expected = [Change::Directory, Change::Directory, Change::Changed, Change::Same, Change::Changed];
        assert_eq!((seen.as_slice(), read), (expected.as_slice(), vec![]));
    }
}
