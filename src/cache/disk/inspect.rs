//! Looking after the cache from outside: what is in it, less of it, none of it. Mounts that use it meanwhile go on.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::SystemTime;

use super::FOLDER;
use super::files::Files;
use super::heads;
use super::key::{Key, Owner};
use super::ledger;
use super::record::{self, ALIGN, HEADER, Header};
use super::room;
use super::segment::Class;
use crate::cache::{Folder, Lock};
use crate::error::{Error, Kind, Result};

/// So much of a segment is looked through at once.
const AT_ONCE: usize = 256 << 10;

/// What lies in the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Bytes of segments with metadata and of ledgers.
    pub metadata: u64,
    /// Bytes of segments with content of files.
    pub data: u64,
    /// What was said for all who use the directory.
    pub limit: Option<u64>,
    /// By store.
    pub parts: Vec<Part>,
}

/// What lies in it of one store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// How the store is called, and how people call it; `None` when it was never listed.
    pub names: Option<(String, String)>,
    /// When it was listed last.
    pub listed: Option<SystemTime>,
    /// Entries and their bytes.
    pub entries: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// What lies in the cache directory. Reads every header.
pub fn summary(cache: &Folder) -> Result<Summary> {
    let folder = cache.below(FOLDER)?;
    let held = room::held(&folder)?;
    let of =
        |class: Class| held.iter().filter(|held| held.number.class() == class).map(|held| held.bytes).sum();
    let mut sums: BTreeMap<Owner, (u64, u64)> = BTreeMap::new();
    for held in &held {
        // One that goes meanwhile is not in the cache.
        let Ok(file) = folder.open_file(&held.number.name()) else { continue };
        walk(&file, |_, header| {
            let (entries, bytes) = sums.entry(header.owner).or_default();
            *entries += 1;
            *bytes += header.length;
            Ok(())
        })?;
    }
    let ledgers = ledger::kept(&folder)?;
    for kept in &ledgers {
        let (entries, bytes) = sums.entry(kept.owner).or_default();
        *entries += 1;
        *bytes += kept.bytes;
    }
    let limit = room::limit(&folder);
    let mut parts: BTreeMap<Owner, Part> = BTreeMap::new();
    for (owner, head, when) in Files::existing(folder)?.map_or(Ok(Vec::new()), |files| files.heads())? {
        parts.insert(
            owner,
            Part { names: Some((head.name, head.title)), listed: Some(when), entries: 0, bytes: 0 },
        );
    }
    for (owner, (entries, bytes)) in sums {
        let part = parts.entry(owner).or_insert(Part { names: None, listed: None, entries: 0, bytes: 0 });
        (part.entries, part.bytes) = (entries, bytes);
    }
    Ok(Summary {
        metadata: of(Class::Metadata) + ledgers.iter().map(|kept| kept.bytes).sum::<u64>(),
        data: of(Class::Data),
        limit,
        parts: parts.into_values().collect(),
    })
}

/// Makes it no larger than `bytes` now and for all who use the directory; `None` takes that back. Returns how many bytes
/// went.
pub fn limit(cache: &Folder, bytes: Option<u64>) -> Result<u64> {
    let folder = cache.below(FOLDER)?;
    room::set_limit(&folder, bytes)?;
    let Some(bytes) = bytes else { return Ok(0) };
    let _lock = lock(&folder)?;
    let gone = ledger::limit(&folder, bytes)?;
    let ledgers: u64 = ledger::kept(&folder)?.iter().map(|kept| kept.bytes).sum();
    let rest = bytes.saturating_sub(ledgers);
    let going = room::surplus(room::held(&folder)?, rest, rest);
    Ok(gone + room::remove(&folder, &going)?)
}

/// Empties it. Returns how many bytes went.
pub fn clear(cache: &Folder) -> Result<u64> {
    let folder = cache.below(FOLDER)?;
    let _lock = lock(&folder)?;
    heads::clear(&folder)?;
    let ledgers = ledger::remove(&folder, |_| true)?;
    let held = room::held(&folder)?;
    // Also those that are being written to: who does so takes another.
    held.iter().try_for_each(|held| folder.remove(&held.number.name()))?;
    if let Some(files) = Files::existing(folder)? {
        files.table.clear()?;
    }
    Ok(ledgers + held.iter().map(|held| held.bytes).sum::<u64>())
}

/// What was purged.
#[derive(Debug, PartialEq, Eq)]
pub struct Purged {
    /// Bytes that went.
    pub bytes: u64,
    /// Directories of others that hold a file so called have to do with the same stores.
    pub marks: Vec<String>,
}

/// Removes everything of the stores that are called `name`, by themselves or by people. Returns how many bytes went, `None`
/// when nothing of such a store was there.
pub fn purge(cache: &Folder, name: &str) -> Result<Option<Purged>> {
    let folder = cache.below(FOLDER)?;
    let _lock = lock(&folder)?;
    let Some(files) = Files::existing(folder)? else { return Ok(None) };
    let named = files.heads()?.into_iter().filter(|(_, head, _)| head.name == name || head.title == name);
    let mut owners: Vec<Owner> = named.map(|(owner, ..)| owner).collect();
    let mut known = !owners.is_empty();
    owners.iter().try_for_each(|owner| files.remove_head(*owner))?;
    // Of one that was never listed.
    owners.push(Owner::of(name));
    let mut gone = ledger::remove(&files.folder, |kept| owners.contains(&kept.owner))?;
    known |= gone > 0;
    for held in room::held(&files.folder)? {
        let Ok(file) = files.folder.open_for_writing(&held.number.name()) else { continue };
        walk(&file, |offset, header| {
            if !owners.contains(&header.owner) {
                return Ok(());
            }
            known = true;
            gone += header.length;
            files.table.remove(&header.key);
            erase(&file, offset, &header)
        })?;
    }
    let marks = owners.into_iter().map(Owner::mark).collect();
    Ok(known.then_some(Purged { bytes: gone, marks }))
}

/// Writes over a record: its key no longer matches, and its payload is gone. Its length stays, so that the next is found.
fn erase(file: &File, offset: u64, header: &Header) -> Result<()> {
    let nobody = Owner(0);
    let mut empty = Vec::new();
    record::append(&mut empty, nobody, &Key::whole(nobody, ""), false, &[]);
    // The length as it was; the checksum is wrong for it, as it should be.
    if let Some(length) = empty.get_mut(32..40) {
        length.copy_from_slice(&header.length.to_le_bytes());
    }
    file.write_all_at(&empty, offset).map_err(failed)?;
    let zeros = vec![0; AT_ONCE];
    let (mut at, end) = (offset + HEADER as u64, offset + record::length_of(header.length));
    while let Some(part) = end.checked_sub(at).filter(|left| *left > 0) {
        let part = usize::try_from(part).unwrap_or(AT_ONCE).min(AT_ONCE);
        file.write_all_at(zeros.get(..part).unwrap_or_default(), at).map_err(failed)?;
        at += part as u64;
    }
    Ok(())
}

/// Visits the headers of a segment. Where one is damaged, the next good one is looked for.
fn walk(file: &File, mut visit: impl FnMut(u64, Header) -> Result<()>) -> Result<()> {
    let length = file.metadata().map_err(failed)?.len();
    let mut at = 0;
    let mut bytes = [0; HEADER];
    while at + HEADER as u64 <= length {
        file.read_exact_at(&mut bytes, at).map_err(failed)?;
        match record::header(&bytes).filter(|header| record::length_of(header.length) <= length - at) {
            Some(header) => {
                if header.owner.0 != 0 {
                    visit(at, header)?;
                }
                at += record::length_of(header.length).next_multiple_of(ALIGN);
            }
            None => at += ALIGN,
        }
    }
    Ok(())
}

fn lock(folder: &Folder) -> Result<Lock> {
    for _ in 0..50 {
        if let Some(lock) = folder.lock()? {
            return Ok(lock);
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    Err(Error::new(Kind::TimedOut, "another process keeps the cache locked; try again"))
}

fn failed(error: std::io::Error) -> Error {
    Error::io("a segment of the cache", error)
}
