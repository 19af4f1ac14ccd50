//! A directory as it was read: every entry with its attributes, in the order of inodes, which is that of the disk.
//!
//! An entry's position is made of its inode number, so it means the same when the directory is read again, whatever came
//! or went meanwhile.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::ahead::Walk;
use super::beneath;
use super::stat::{Device, Stat};
use super::trusted::Trusted;
use super::xattrs::Way;
use crate::error::{Error, Kind, Result};
use crate::tree::{Cookie, FileType};

/// Positions that one inode number takes: its links in this directory.
const LINKS: u32 = 8;

/// Inode numbers as far as they fit into a position.
const NUMBERS: u64 = (1 << (62 - LINKS)) - 1;

/// So many entries a thread takes at a time; from so many times that on, and with so many threads, they are looked at
/// side by side.
const AT_ONCE: usize = 128;
const MANY: usize = 4;
const HANDS: usize = 4;

/// What is read ahead is not read ahead again so soon: several who watch a walk see the same file coming.
const SOON: Duration = Duration::from_secs(10);

/// A directory in memory.
pub(super) struct Entries {
    /// Names, and after the name of a symbolic link its target.
    text: Box<[u8]>,
    /// In the order of their positions.
    rows: Box<[Row]>,
    /// Numbers of rows in the order of their names.
    by_name: Box<[u32]>,
    read: Instant,
    /// Those that have attributes of `trusted.`, once somebody asked.
    pub trusted: Trusted,
    /// Who goes through it.
    pub walk: Walk,
}

/// An entry.
struct Row {
    at: Cookie,
    name: u32,
    target: u16,
    length: u8,
    attributes: AtomicU8,
    /// When its content was read ahead last: seconds since the directory was read, and one; 0 is never.
    ahead: AtomicU32,
    stat: Stat,
}

/// An entry with what it is called.
pub(super) struct Found<'a> {
    pub at: Cookie,
    pub name: &'a [u8],
    /// Of a symbolic link.
    pub target: &'a [u8],
    pub stat: &'a Stat,
    attributes: &'a AtomicU8,
}

/// What is known of an entry's extended attributes.
const UNKNOWN: u8 = 0;
const NONE: u8 = 1;
const SOME: u8 = 2;

impl Found<'_> {
    /// Whether it may have extended attributes.
    pub(super) fn may_have_xattrs(&self) -> bool {
        self.attributes.load(Ordering::Relaxed) != NONE
    }

    /// Notes that it has none.
    pub(super) fn has_no_xattrs(&self) {
        self.attributes.store(NONE, Ordering::Relaxed);
    }
}

/// How a directory is read.
pub(super) struct Reading<'a, D> {
    /// Where it is open.
    pub dir: D,
    pub device: Device,
    /// Whether its file system is asked for extended attributes at once.
    pub is_near: bool,
    /// Hears of entries that cannot be shown, and why.
    pub omit: &'a mut dyn FnMut(&[u8], Error),
}

impl Entries {
    /// Reads the entries that are called `names`. Blocks. Errors: `Denied` when none of its entries may be looked at.
    pub(super) fn read<D: AsFd + Sync>(names: &Names, reading: Reading<'_, D>) -> Result<Self> {
        let Part { text, rows, refused } = names.look(&reading)?;
        if rows.is_empty() && !refused.is_empty() && refused.iter().all(|(_, e)| e.kind() == Kind::Denied) {
            return Err(Error::new(Kind::Denied, "its entries may not be looked at"));
        }
        refused.into_iter().for_each(|(name, error)| (reading.omit)(&name, error));
        let mut by_name: Vec<u32> = (0..u32::try_from(rows.len()).map_err(too_large)?).collect();
        let mut entries = Entries {
            text: text.into(),
            rows: rows.into(),
            by_name: Box::default(),
            read: Instant::now(),
            trusted: Trusted::default(),
            walk: Walk::default(),
        };
        by_name.sort_unstable_by_key(|at| entries.name(*at));
        entries.by_name = by_name.into();
        Ok(entries)
    }

    /// Bytes it takes in memory.
    pub(super) fn weight(&self) -> u64 {
        (self.text.len() + size_of_val(&*self.rows) + size_of_val(&*self.by_name)) as u64
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// How long ago it was read.
    pub(super) fn age(&self) -> Duration {
        self.read.elapsed()
    }

    /// The entry called `name`.
    pub(super) fn find(&self, name: &[u8]) -> Option<Found<'_>> {
        let at = self.by_name.binary_search_by_key(&name, |at| self.name(*at)).ok()?;
        self.rows.get(*self.by_name.get(at)? as usize).map(|row| self.found(row))
    }

    /// The entry at exactly `at`.
    pub(super) fn at(&self, at: Cookie) -> Option<Found<'_>> {
        self.row(at).map(|row| self.found(row))
    }

    /// The same, to have its content read ahead when the directory is of this `age`: nothing where somebody just had.
    pub(super) fn to_read_ahead(&self, at: Cookie, age: Duration) -> Option<Found<'_>> {
        let row = self.row(at)?;
        let now = u32::try_from(age.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
        let last = row.ahead.load(Ordering::Relaxed);
        if last > 0 && u64::from(now.saturating_sub(last)) < SOON.as_secs() {
            return None;
        }
        row.ahead.store(now, Ordering::Relaxed);
        Some(self.found(row))
    }

    fn row(&self, at: Cookie) -> Option<&Row> {
        let row = self.rows.binary_search_by_key(&at, |row| row.at).ok()?;
        self.rows.get(row)
    }

    /// The entries from position `at` on.
    pub(super) fn from(&self, at: Cookie) -> impl Iterator<Item = Found<'_>> {
        let first = self.rows.partition_point(|row| row.at < at);
        self.rows.get(first..).unwrap_or_default().iter().map(|row| self.found(row))
    }

    fn found<'a>(&'a self, row: &'a Row) -> Found<'a> {
        let start = row.name as usize;
        let end = start + usize::from(row.length);
        let text = |from: usize, to: usize| self.text.get(from..to).unwrap_or_default();
        Found {
            at: row.at,
            name: text(start, end),
            target: text(end, end + usize::from(row.target)),
            stat: &row.stat,
            attributes: &row.attributes,
        }
    }

    fn name(&self, row: u32) -> &[u8] {
        self.rows.get(row as usize).map_or(&[], |row| self.found(row).name)
    }
}

/// Entries that were looked at.
#[derive(Default)]
struct Part {
    text: Vec<u8>,
    rows: Vec<Row>,
    refused: Vec<(Vec<u8>, Error)>,
}

impl Part {
    /// Looks at what is called `name` and has its position at `at`; `way` is where extended attributes are asked for.
    fn add(&mut self, dir: impl AsFd, device: Device, way: Option<&mut Way>, at: Cookie, name: &[u8]) {
        match self.row(dir, device, way, at, name) {
            Ok(row) => self.rows.push(row),
            Err(error) => self.refused.push((name.to_vec(), error)),
        }
    }

    fn row(
        &mut self,
        dir: impl AsFd,
        device: Device,
        way: Option<&mut Way>,
        at: Cookie,
        name: &[u8],
    ) -> Result<Row> {
        let (stat, target) = look(dir, name, device).map_err(|e| Error::io("stat", e.into()))?;
        let start = u32::try_from(self.text.len()).map_err(too_large)?;
        let has = match way.map(|way| way.has_any(name)) {
            None => UNKNOWN,
            Some(false) => NONE,
            Some(true) => SOME,
        };
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(&target);
        Ok(Row {
            at,
            name: start,
            target: u16::try_from(target.len()).map_err(too_large)?,
            length: u8::try_from(name.len()).map_err(too_large)?,
            attributes: AtomicU8::new(has),
            ahead: AtomicU32::new(0),
            stat,
        })
    }

    /// Takes in what comes behind it.
    fn append(&mut self, mut other: Part) -> Result<()> {
        let base = u32::try_from(self.text.len()).map_err(too_large)?;
        for row in &mut other.rows {
            row.name = row.name.checked_add(base).ok_or_else(|| too_large(()))?;
        }
        self.text.append(&mut other.text);
        self.rows.append(&mut other.rows);
        self.refused.append(&mut other.refused);
        Ok(())
    }
}

/// The names in a directory, in the order of their positions.
pub(super) struct Names {
    text: Vec<u8>,
    /// Position, where in the text, and how long.
    listed: Vec<(Cookie, usize, u8)>,
}

impl Names {
    /// Lists an open directory. Blocks. Errors: `Stale` when it was removed.
    pub(super) fn list(dir: impl AsFd) -> Result<Self> {
        let (mut text, mut listed) = (Vec::new(), Vec::new());
        beneath::visit(dir, |name, ino| {
            // No file system of Linux has a longer name.
            if let Ok(length) = u8::try_from(name.len()) {
                listed.push((ino & NUMBERS, text.len(), length));
                text.extend_from_slice(name);
            }
        })
        .map_err(|e| if e == Errno::NOENT { removed() } else { Error::io("listing", e.into()) })?;
        let mut names = Names { text, listed };
        let mut listed = std::mem::take(&mut names.listed);
        listed.sort_unstable_by(|one, other| (one.0, names.of(one)).cmp(&(other.0, names.of(other))));
        let mut free = 0;
        for (at, ..) in &mut listed {
            *at = free.max(*at << LINKS);
            free = *at + 1;
        }
        Ok(Names { listed, ..names })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.listed.len()
    }

    fn of(&self, &(_, start, length): &(Cookie, usize, u8)) -> &[u8] {
        self.text.get(start..start + usize::from(length)).unwrap_or_default()
    }

    /// Looks at all of them; at many of a near file system on several threads, so that a disk has more than one question
    /// at a time. Each takes the next few, and so all stay near each other on the disk.
    fn look<D: AsFd + Sync>(&self, reading: &Reading<'_, D>) -> Result<Part> {
        let (dir, device, is_near) = (&reading.dir, reading.device, reading.is_near);
        let next = AtomicUsize::new(0);
        let chunks: Vec<_> = self.listed.chunks(AT_ONCE).collect();
        let work = || {
            let mut way = is_near.then(|| Way::into(dir));
            let mut done = Vec::new();
            while let (number, Some(chunk)) = taken(&next, &chunks) {
                let mut part = Part::default();
                for entry in *chunk {
                    part.add(dir, device, way.as_mut(), entry.0, self.of(entry));
                }
                done.push((number, part));
            }
            done
        };
        let mut done = std::thread::scope(|scope| {
            let more = if is_near && chunks.len() >= MANY { HANDS - 1 } else { 0 };
            // Where there are no threads to be had, it goes without.
            let spawned = (0..more).map_while(|_| std::thread::Builder::new().spawn_scoped(scope, work).ok());
            let others: Vec<_> = spawned.collect();
            let mut done = work();
            for other in others {
                done.extend(
                    other.join().map_err(|_| Error::new(Kind::Internal, "a thread that lists died"))?,
                );
            }
            Ok::<_, Error>(done)
        })?;
        done.sort_unstable_by_key(|(number, _)| *number);
        let mut all = Part::default();
        done.into_iter().try_for_each(|(_, part)| all.append(part))?;
        Ok(all)
    }
}

/// The next of `chunks`, with its number.
fn taken<'a, T>(next: &AtomicUsize, chunks: &'a [T]) -> (usize, Option<&'a T>) {
    let number = next.fetch_add(1, Ordering::Relaxed);
    (number, chunks.get(number))
}

fn too_large<E>(_: E) -> Error {
    Error::new(Kind::Corrupt, "the directory is too large")
}

/// The attributes of the entry `name`, and where it leads, byte for byte, if it is a symbolic link.
pub(super) fn look(dir: impl AsFd, name: &[u8], device: Device) -> rustix::io::Result<(Stat, Vec<u8>)> {
    let stat = Stat::at(&dir, name, device)?;
    if stat.kind() != FileType::Symlink {
        return Ok((stat, Vec::new()));
    }
    let target = rustix::fs::readlinkat(&dir, name, Vec::new())?.into_bytes();
    // Where file systems are mounted to be written, looking where it leads counts as an access.
    Ok((Stat::at(&dir, name, device)?, target))
}

/// The error of listing a directory that was removed while it was open.
pub(super) fn removed() -> Error {
    Error::new(Kind::Stale, "the directory was removed")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use super::*;

    fn read(path: &Path) -> Result<Entries> {
        let dir = fs::File::open(path).unwrap();
        let (_, device) = Stat::of(&dir).unwrap();
        let reading =
            Reading { dir: &dir, device, is_near: true, omit: &mut |name, e| panic!("{name:?}: {e}") };
        Entries::read(&Names::list(&dir)?, reading)
    }

    fn names(entries: &Entries) -> Vec<String> {
        entries.from(0).map(|found| String::from_utf8(found.name.to_vec()).unwrap()).collect()
    }

    #[test]
    fn every_entry_is_found_by_name_and_by_position() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..MANY * AT_ONCE + 300 {
            fs::write(dir.path().join(format!("file {n}")), "x".repeat(n % 100)).unwrap();
        }
        std::os::unix::fs::symlink("to/where", dir.path().join("link")).unwrap();
        let entries = read(dir.path()).unwrap();
        assert_eq!(entries.from(0).count(), MANY * AT_ONCE + 301);
        let mut last = None;
        for found in entries.from(0) {
            assert!(last < Some(found.at));
            last = Some(found.at);
            assert_eq!(entries.at(found.at).unwrap().name, found.name);
            assert_eq!(entries.find(found.name).unwrap().at, found.at);
            let meta =
                fs::symlink_metadata(dir.path().join(std::str::from_utf8(found.name).unwrap())).unwrap();
            assert_eq!((found.stat.ino, found.stat.size), (meta.ino(), meta.len()));
        }
        assert!(last.unwrap() < 1 << 62);
        assert_eq!(entries.find(b"link").unwrap().target, b"to/where");
        assert!(entries.find(b"file 1x").is_none() && entries.at(1).is_none());
        assert!(entries.weight() > 500 * 64);
    }

    #[test]
    fn positions_mean_the_same_when_others_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..50 {
            fs::write(dir.path().join(n.to_string()), "x").unwrap();
        }
        let before = read(dir.path()).unwrap();
        for n in (0..50).step_by(2) {
            fs::remove_file(dir.path().join(n.to_string())).unwrap();
        }
        fs::write(dir.path().join("new"), "x").unwrap();
        let after = read(dir.path()).unwrap();
        for name in (1..50).step_by(2).map(|n| n.to_string()) {
            assert_eq!(before.find(name.as_bytes()).unwrap().at, after.find(name.as_bytes()).unwrap().at);
        }
        assert_eq!(names(&after).len(), 26);
    }

    #[test]
    fn links_to_one_inode_have_positions_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("0"), "x").unwrap();
        for n in 1..600 {
            fs::hard_link(dir.path().join("0"), dir.path().join(n.to_string())).unwrap();
        }
        fs::write(dir.path().join("other"), "x").unwrap();
        let entries = read(dir.path()).unwrap();
        assert_eq!(entries.from(0).count(), 601);
        assert!(entries.from(0).all(|found| entries.at(found.at).unwrap().name == found.name));
    }

    #[test]
    fn what_is_read_ahead_is_not_soon_read_ahead_again() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["one", "other"] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        let entries = read(dir.path()).unwrap();
        let at = |name: &[u8]| entries.find(name).unwrap().at;
        let is_read = |name: &[u8], age: Duration| {
            entries.to_read_ahead(at(name), age).map(|found| found.name) == Some(name)
        };
        let first = Duration::from_millis(1200);
        assert!(is_read(b"one", first) && !is_read(b"one", first));
        assert!(is_read(b"other", first + SOON / 2), "each by itself");
        assert!(!is_read(b"one", first + SOON / 2) && !is_read(b"one", Duration::ZERO));
        // It may have left the memory since.
        assert!(is_read(b"one", first + SOON) && !is_read(b"one", first + SOON));
        assert!(is_read(b"one", Duration::MAX), "however old");
        assert!(entries.to_read_ahead(1, first).is_none(), "nothing is there");
    }

    #[test]
    fn a_removed_directory_is_no_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        fs::create_dir(&gone).unwrap();
        let open = fs::File::open(&gone).unwrap();
        fs::remove_dir(&gone).unwrap();
        assert_eq!(Names::list(&open).err().unwrap().kind(), Kind::Stale);
    }
}
