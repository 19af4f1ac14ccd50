//! Ledgers: files that are read in parts, each part sealed. What a store listed lies in one when it is more than anybody
//! wants to read as a whole.
//!
//! A ledger belongs to a store and has a name; it is written whole and goes as a whole. It takes of what the cache may
//! take, and all of them together no more than half of that. Its time of change is that of its last use.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::Drawer;
use super::files::Files;
use super::key::Owner;
use super::room;
use super::segment::{is_there, touch};
use crate::cache::{Folder, Lock};
use crate::error::{Error, Kind, Result};

/// The directory of them.
const FOLDER: &str = "ledgers";

/// What ends the name of one that is being written, and when it is clear that nobody goes on with it.
const UNFINISHED: &str = ".unfinished";
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// What a file ends in: where its last part begins (8 bytes), and this.
const MAGIC: &[u8; 16] = b"backupfs-ledger1";
const END: usize = 8 + 16;

/// The last part is read as a whole: what would be larger is damaged.
const LARGEST: u64 = 64 << 20;

/// A ledger, open: it is read on when its file has gone.
pub struct Ledger {
    files: Arc<Files>,
    name: String,
    file: File,
}

/// A ledger that is being written.
pub struct NewLedger {
    files: Arc<Files>,
    folder: Folder,
    name: String,
    unfinished: String,
    out: BufWriter<File>,
    at: u64,
}

impl Drawer {
    /// The store's ledger `name`, if there is one that can be used. Blocks.
    pub fn ledger(&self, name: &str) -> Option<Ledger> {
        let files = Arc::clone(&self.disk.files);
        let name = file_name(self.owner, name);
        let file = files.folder.below(FOLDER).and_then(|folder| folder.open_file(&name)).ok()?;
        Some(Ledger { files, name, file })
    }

    /// Begins the store's ledger `name`, which will take about `bytes`; others go where there is no room. Errors:
    /// `Usage` when it would be too large, else as the system has it. Blocks.
    pub fn new_ledger(&self, name: &str, bytes: u64) -> Result<NewLedger> {
        let files = Arc::clone(&self.disk.files);
        let (folder, name) = (files.folder.below(FOLDER)?, file_name(self.owner, name));
        remove_forgotten(&folder)?;
        let share = self.share.map_or(u64::MAX, |share| share.bytes / 2);
        make_room(&files, &folder, &name, self.disk.size, bytes, share)?;
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let unfinished = format!("{name}.{}.{count}{UNFINISHED}", std::process::id());
        folder.remove(&unfinished)?;
        let out = BufWriter::with_capacity(1 << 20, folder.create(&unfinished)?);
        Ok(NewLedger { files, folder, name, unfinished, out, at: 0 })
    }
}

impl Ledger {
    /// The part that [`NewLedger::append`] put there. Errors: `Corrupt`, or as the system has it.
    pub fn read(&self, at: u64, length: u32) -> Result<Vec<u8>> {
        let mut sealed = vec![0; usize::try_from(length).map_err(|_| damaged())?];
        self.file.read_exact_at(&mut sealed, at).map_err(failed)?;
        self.files.seal.open_sealed(&about(&self.name, at), &sealed).ok_or_else(damaged)
    }

    /// The last part, which [`NewLedger::finish`] put there. Errors as of [`Ledger::read`].
    pub fn last(&self) -> Result<Vec<u8>> {
        let length = self.file.metadata().map_err(failed)?.len();
        let end_at = length.checked_sub(END as u64).ok_or_else(damaged)?;
        let mut end = [0; END];
        self.file.read_exact_at(&mut end, end_at).map_err(failed)?;
        let (begin, magic) = end.split_first_chunk().ok_or_else(damaged)?;
        let begin = u64::from_le_bytes(*begin);
        let size = end_at.checked_sub(begin).filter(|size| *size <= LARGEST && magic == MAGIC);
        let size = size.and_then(|size| u32::try_from(size).ok()).ok_or_else(damaged)?;
        self.read(begin, size)
    }

    /// Notes that it was used just now; false when it is no longer in the cache.
    pub fn is_kept(&self) -> bool {
        is_there(&self.file) && touch(&self.file).is_ok()
    }
}

impl NewLedger {
    /// Appends a part; answers where it lies and how many bytes it takes there.
    pub fn append(&mut self, part: &[u8]) -> Result<(u64, u32)> {
        let at = self.at;
        let sealed = self.files.seal.seal(&about(&self.name, at), part);
        let sealed = sealed.ok_or_else(|| Error::new(Kind::System, "sealing failed"))?;
        self.out.write_all(&sealed).map_err(failed)?;
        self.at += sealed.len() as u64;
        let length = u32::try_from(sealed.len());
        Ok((at, length.map_err(|_| Error::new(Kind::Internal, "a part of a ledger is too large"))?))
    }

    /// Appends the last part and puts the ledger in its place.
    pub fn finish(mut self, last: &[u8]) -> Result<Ledger> {
        let (begin, _) = self.append(last)?;
        let end = [&begin.to_le_bytes()[..], MAGIC].concat();
        self.out.write_all(&end).and_then(|()| self.out.flush()).map_err(failed)?;
        let file = self.folder.open_file(&self.unfinished)?;
        self.folder.finish(&file, &self.unfinished, &self.name)?;
        Ok(Ledger { files: Arc::clone(&self.files), name: self.name.clone(), file })
    }
}

impl Drop for NewLedger {
    fn drop(&mut self) {
        // Nothing where it was finished. What stays is removed by a later one.
        let _ = self.folder.remove(&self.unfinished);
    }
}

/// A ledger as its directory tells it.
pub(super) struct Kept {
    pub owner: Owner,
    pub bytes: u64,
    name: String,
    used: SystemTime,
}

/// All ledgers of the cache in `stored`, those that are being written too.
pub(super) fn kept(stored: &Folder) -> Result<Vec<Kept>> {
    all(&stored.below(FOLDER)?)
}

/// Removes those that are `wanted` gone. Returns how many bytes went.
pub(super) fn remove(stored: &Folder, wanted: impl Fn(&Kept) -> bool) -> Result<u64> {
    let folder = stored.below(FOLDER)?;
    let mut gone = 0;
    for kept in all(&folder)?.into_iter().filter(wanted) {
        folder.remove(&kept.name)?;
        gone += kept.bytes;
    }
    Ok(gone)
}

/// Removes those that nobody used for the longest time until the rest takes no more than half of `allowed`. Returns how
/// many bytes went.
pub(super) fn limit(stored: &Folder, allowed: u64) -> Result<u64> {
    let folder = stored.below(FOLDER)?;
    shrink(&folder, all(&folder)?, allowed / 2)
}

fn all(folder: &Folder) -> Result<Vec<Kept>> {
    let kept = |name: String| {
        let owner = Owner(u64::from_str_radix(name.get(..16)?, 16).ok()?);
        // One that goes meanwhile is not kept.
        let lying = folder.stat(&name).ok()?;
        Some(Kept { owner, bytes: lying.bytes, name, used: lying.changed })
    };
    Ok(folder.names()?.into_iter().filter_map(kept).collect())
}

fn shrink(folder: &Folder, mut kept: Vec<Kept>, bytes: u64) -> Result<u64> {
    kept.sort_by_key(|kept| kept.used);
    let mut all: u64 = kept.iter().map(|kept| kept.bytes).sum();
    let mut gone = 0;
    for kept in kept {
        if all <= bytes {
            break;
        }
        folder.remove(&kept.name)?;
        all -= kept.bytes;
        gone += kept.bytes;
    }
    Ok(gone)
}

/// Makes room for a ledger `name` of `bytes`, in place of one that is there. While another process makes room, it is left
/// to that one.
fn make_room(files: &Files, folder: &Folder, name: &str, option: u64, bytes: u64, share: u64) -> Result<()> {
    let held = room::held(&files.folder)?;
    let others: Vec<Kept> = all(folder)?.into_iter().filter(|kept| kept.name != name).collect();
    let taken: u64 = others.iter().map(|kept| kept.bytes).sum();
    let allowed = room::allowed(&files.folder, option, &held, taken);
    let part = (allowed / 2).min(share);
    if bytes > part {
        let says =
            format!("it would take {bytes} bytes of the cache, where {part} are allowed; see `cache-size`");
        return Err(Error::new(Kind::Usage, says));
    }
    let Some(_lock): Option<Lock> = files.folder.lock()? else { return Ok(()) };
    let gone = shrink(folder, others, part - bytes)?;
    let rest = allowed.saturating_sub(taken - gone + bytes);
    if room::remove(&files.folder, &room::surplus(held, rest, rest))? > 0 {
        files.close_removed();
    }
    Ok(())
}

fn remove_forgotten(folder: &Folder) -> Result<()> {
    let is_forgotten =
        |name: &&String| name.ends_with(UNFINISHED) && folder.age(name).is_ok_and(|age| age > FORGOTTEN);
    folder.names()?.iter().filter(is_forgotten).try_for_each(|name| folder.remove(name))
}

fn file_name(owner: Owner, name: &str) -> String {
    format!("{:016x}.{name}", owner.0)
}

/// What a part is sealed for: it opens nowhere else.
fn about(name: &str, at: u64) -> Vec<u8> {
    [name.as_bytes(), &at.to_le_bytes()].concat()
}

fn damaged() -> Error {
    Error::new(Kind::Corrupt, "a ledger of the cache is damaged")
}

fn failed(error: std::io::Error) -> Error {
    Error::io("a ledger of the cache", error)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::super::{Class, Disk, Share, clear, inspect, purge, summary};
    use super::*;

    const PATIENT: Duration = Duration::from_secs(60);

    fn folder(dir: &Path) -> Folder {
        Folder::open(&dir.join("cache")).unwrap()
    }

    fn drawer(dir: &Path, size: u64, store: &str) -> Drawer {
        let disk = Disk::open(&folder(dir), size).unwrap();
        let drawer = Drawer::new(disk, store, &format!("{store}'s title")).of(&format!("{store} itself"));
        drawer.listed();
        drawer.disk.flush(PATIENT);
        drawer
    }

    fn put(drawer: &Drawer, name: &str, parts: &[&[u8]]) -> Result<Ledger> {
        let mut ledger = drawer.new_ledger(name, parts.iter().map(|part| part.len() as u64).sum())?;
        let (last, first) = parts.split_last().unwrap();
        for part in first {
            ledger.append(part)?;
        }
        ledger.finish(last)
    }

    fn files(dir: &Path) -> Vec<PathBuf> {
        let all = std::fs::read_dir(dir.join("cache/stored").join(FOLDER)).unwrap();
        all.map(|entry| entry.unwrap().path()).collect()
    }

    /// Makes a ledger as old as that.
    fn age(dir: &Path, drawer: &Drawer, name: &str, seconds: u64) {
        let path = dir.join("cache/stored").join(FOLDER).join(file_name(drawer.owner, name));
        let then = SystemTime::now() - Duration::from_secs(seconds);
        File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
    }

    #[test]
    fn parts_are_there_for_the_next_process_and_in_no_other_place() {
        let dir = tempfile::tempdir().unwrap();
        let drawer = drawer(dir.path(), 1 << 30, "s3:a");
        assert!(drawer.ledger("list").is_none());
        let mut ledger = drawer.new_ledger("list", 100).unwrap();
        let places: Vec<_> =
            [&b"marker 1"[..], b"", b"marker 3"].map(|part| ledger.append(part).unwrap()).into();
        assert!(drawer.ledger("list").is_none(), "it is not finished");
        let written = ledger.finish(b"marker of places").unwrap();
        let again = self::drawer(dir.path(), 1 << 30, "s3:a").ledger("list").unwrap();
        for ledger in [&written, &again] {
            let read = |n: usize| ledger.read(places[n].0, places[n].1);
            assert_eq!(
                (read(0).unwrap(), read(1).unwrap(), read(2).unwrap()),
                (b"marker 1".into(), b"".into(), b"marker 3".into())
            );
            assert_eq!(ledger.last().unwrap(), b"marker of places");
            assert_eq!(ledger.read(places[2].0, places[0].1 - 1).unwrap_err().kind(), Kind::Corrupt);
            assert_eq!(ledger.read(1, places[0].1).unwrap_err().kind(), Kind::Corrupt);
        }
        let [file] = &files(dir.path())[..] else { panic!("{:?}", files(dir.path())) };
        let bytes = std::fs::read(file).unwrap();
        assert!(!bytes.windows(6).any(|part| part == b"marker"), "it lies there in the clear");
        // The same bytes under another name.
        std::fs::copy(file, file.with_extension("other")).unwrap();
        assert_eq!(drawer.ledger("other").unwrap().last().unwrap_err().kind(), Kind::Corrupt);
    }

    #[test]
    fn damage_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let drawer = drawer(dir.path(), 1 << 30, "s3:a");
        put(&drawer, "list", &[b"first", b"last"]).unwrap();
        let [file] = &files(dir.path())[..] else { panic!() };
        let good = std::fs::read(file).unwrap();
        let first = good.len() - END - (4 + 28);
        let is_good = || {
            let ledger = drawer.ledger("list").unwrap();
            ledger.last().is_ok() && ledger.read(0, u32::try_from(first).unwrap()).is_ok()
        };
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(file, bad).unwrap();
            assert!(!is_good(), "byte {at}");
            std::fs::write(file, &good[..at]).unwrap();
            assert!(!is_good(), "{at} bytes");
        }
        std::fs::write(file, &good).unwrap();
        assert!(is_good());
    }

    #[test]
    fn it_is_shown_cleared_and_purged_with_its_store() {
        let dir = tempfile::tempdir().unwrap();
        let [one, other] = ["s3:a", "s3:b"].map(|store| drawer(dir.path(), 1 << 30, store));
        let fill = || {
            for drawer in [&one, &other] {
                drop(put(drawer, "list", &[&[1; 5000], b""]).unwrap());
            }
        };
        fill();
        let cache = folder(dir.path());
        let shown = summary(&cache).unwrap();
        let size = shown.parts[0].bytes;
        assert!(size > 5000 && shown.metadata == 2 * size, "{shown:?}");
        let names = |shown: inspect::Summary| -> Vec<(String, u64, u64)> {
            let part = |part: inspect::Part| (part.names.unwrap().1, part.entries, part.bytes);
            let mut names: Vec<_> = shown.parts.into_iter().map(part).collect();
            names.sort();
            names
        };
        assert_eq!(names(shown), [("s3:a's title".into(), 1, size), ("s3:b's title".into(), 1, size)]);
        let open = one.ledger("list").unwrap();
        assert!(open.is_kept());
        assert_eq!(purge(&cache, "s3:a's title").unwrap().unwrap().bytes, size);
        assert!(!open.is_kept() && open.last().is_ok(), "who has it open reads on");
        assert!(one.ledger("list").is_none() && other.ledger("list").is_some());
        fill();
        assert_eq!(clear(&cache).unwrap(), 2 * size);
        assert!(one.ledger("list").is_none() && other.ledger("list").is_none());
    }

    #[test]
    fn they_take_half_of_the_cache_and_what_was_not_used_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        let size = 4 << 20;
        let drawer = drawer(dir.path(), size, "s3:a");
        let part = vec![7; 800 << 10];
        for (name, seconds) in [("one", 500), ("two", 700)] {
            put(&drawer, name, &[&part, b""]).unwrap();
            age(dir.path(), &drawer, name, seconds);
        }
        put(&drawer, "one", &[&part, b""]).unwrap();
        assert!(drawer.ledger("two").is_some(), "what is replaced makes room");
        age(dir.path(), &drawer, "one", 500);
        assert!(drawer.ledger("two").unwrap().is_kept(), "it is used");
        put(&drawer, "three", &[&part, b""]).unwrap();
        assert!(drawer.ledger("one").is_none() && drawer.ledger("two").is_some());
        let large = drawer.new_ledger("large", size / 2 + 1).err().unwrap();
        assert!(large.kind() == Kind::Usage && large.to_string().contains("cache-size"), "{large}");
        assert!(drawer.ledger("three").is_some(), "in vain nothing goes");
        // What else lies in the cache makes room as well.
        let keys: Vec<_> = (0..60).map(|n| drawer.range(b"pack", n, 1)).collect();
        keys.iter().for_each(|key| drawer.put(*key, Class::Data, &[1; 32 << 10]));
        drawer.disk.flush(PATIENT);
        assert!(summary(&folder(dir.path())).unwrap().data > 1 << 20);
        put(&drawer, "four", &[&part, b""]).unwrap();
        let shown = summary(&folder(dir.path())).unwrap();
        assert!(shown.data + shown.metadata <= size, "{shown:?}");
        assert!(inspect::limit(&folder(dir.path()), Some(1 << 20)).unwrap() > 0);
        let shown = summary(&folder(dir.path())).unwrap();
        assert!(shown.data + shown.metadata <= 1 << 20, "{shown:?}");
        assert_eq!(files(dir.path()).len(), 0);
        assert!(put(&drawer, "five", &[&part, b""]).is_err(), "the limit is for all");
    }

    #[test]
    fn within_a_share_it_takes_half_of_that() {
        let dir = tempfile::tempdir().unwrap();
        let drawer = drawer(dir.path(), 1 << 30, "s3:a").within(Some(Share::new("s", 1 << 20)));
        assert!(drawer.new_ledger("list", (512 << 10) + 1).is_err());
        assert!(drawer.new_ledger("list", 512 << 10).is_ok());
    }

    #[test]
    fn what_was_given_up_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let drawer = drawer(dir.path(), 1 << 30, "s3:a");
        let begun = drawer.new_ledger("list", 1).unwrap();
        assert_eq!(files(dir.path()).len(), 1);
        drop(begun);
        assert_eq!(files(dir.path()).len(), 0);
        // As a killed process leaves it.
        for (name, seconds) in [("old", 2 * FORGOTTEN.as_secs()), ("new", 0)] {
            std::mem::forget(drawer.new_ledger(name, 1).unwrap());
            let left =
                files(dir.path()).into_iter().find(|path| path.to_str().unwrap().contains(name)).unwrap();
            let then = SystemTime::now() - Duration::from_secs(seconds);
            File::options().write(true).open(left).unwrap().set_modified(then).unwrap();
        }
        put(&drawer, "list", &[b"x"]).unwrap();
        let left = files(dir.path());
        assert!(
            left.len() == 2 && !left.iter().any(|path| path.to_str().unwrap().contains(".old.")),
            "{left:?}"
        );
    }
}
