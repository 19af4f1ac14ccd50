//! How much there may be, and what goes: whole segments, those first that nobody has read for the longest time.
//!
//! Data goes before metadata as long as metadata takes no more than half of what there may be: without directories the
//! content of files cannot be found, and it is the smaller part.

use std::cmp::Reverse;
use std::io::Read;
use std::time::SystemTime;

use super::segment::{Class, Number};
use crate::cache::Folder;
use crate::error::{Error, Kind, Result};

/// Holds how much the cache may take whoever uses it, in digits.
const LIMIT: &str = "limit";

/// A cache is made of about so many segments.
const SEGMENTS: u64 = 128;

/// Bounds of a segment's size.
const SEGMENT: std::ops::RangeInclusive<u64> = 128 << 10..=4 << 30;

/// A segment as its directory tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub number: Number,
    pub bytes: u64,
    pub used: SystemTime,
}

/// All segments, in no order.
pub(super) fn held(folder: &Folder) -> Result<Vec<Held>> {
    let numbers = folder.names()?.into_iter().filter_map(|name| Number::parse(&name));
    // One that goes meanwhile is not held.
    let held = |number: Number| {
        let lying = folder.stat(&number.name()).ok()?;
        Some(Held { number, bytes: lying.bytes, used: lying.changed })
    };
    Ok(numbers.filter_map(held).collect())
}

/// Bytes that the cache may take: what the option says, what was said for all who use the directory, and half of what
/// would be free without the segments `held` and the ledgers, which take `ledgers` bytes; whichever is least.
pub(super) fn allowed(folder: &Folder, option: u64, held: &[Held], ledgers: u64) -> u64 {
    let bytes = held.iter().map(|held| held.bytes).sum::<u64>().saturating_add(ledgers);
    let share = folder.free_space().map_or(u64::MAX, |free| free.saturating_add(bytes) / 2);
    option.min(share).min(limit(folder).unwrap_or(u64::MAX))
}

/// What a segment may grow to where so much is allowed.
pub(super) fn segment_size(allowed: u64) -> u64 {
    (allowed / SEGMENTS).clamp(*SEGMENT.start(), *SEGMENT.end())
}

/// What is to go so that the rest takes no more than `bytes`, in the order in which it goes.
pub(super) fn surplus(mut held: Vec<Held>, bytes: u64, allowed: u64) -> Vec<Held> {
    let total = |class: Class, held: &[Held]| -> u64 {
        held.iter().filter(|held| held.number.class() == class).map(|held| held.bytes).sum()
    };
    held.sort_by_key(|held| Reverse((held.used, held.number)));
    let mut going = Vec::new();
    loop {
        let sums = Class::ALL.map(|class| total(class, &held));
        let [data, metadata] = sums;
        if data.saturating_add(metadata) <= bytes {
            return going;
        }
        let class = if metadata > allowed / 2 || data == 0 { Class::Metadata } else { Class::Data };
        match held.iter().rposition(|held| held.number.class() == class && held.bytes > 0) {
            Some(oldest) => going.push(held.remove(oldest)),
            None => return going,
        }
    }
}

/// What was said for all who use the directory.
pub(super) fn limit(folder: &Folder) -> Option<u64> {
    let mut text = String::new();
    folder.open_file(LIMIT).ok()?.take(20).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Says it; `None` takes it back.
pub(super) fn set_limit(folder: &Folder, bytes: Option<u64>) -> Result<()> {
    let Some(bytes) = bytes else { return folder.remove(LIMIT) };
    let name = format!("{LIMIT}.{}", std::process::id());
    folder.remove(&name)?;
    let mut file = folder.create(&name)?;
    let written = std::io::Write::write_all(&mut file, bytes.to_string().as_bytes());
    written.map_err(|e| Error::io(LIMIT, e))?;
    folder.finish(&file, &name, LIMIT)
}

/// Removes segments that are to go and that nobody is writing to. With the lock of `folder` held. Returns how many bytes
/// went.
pub(super) fn remove(folder: &Folder, going: &[Held]) -> Result<u64> {
    let mut gone = 0;
    for held in going {
        let name = held.number.name();
        let file = match folder.open_file(&name) {
            Ok(file) => file,
            Err(error) if error.kind() == Kind::NotFound => continue,
            // What is not ours is no part of the cache either.
            Err(error) if error.kind() == Kind::Denied => continue,
            Err(error) => return Err(error),
        };
        if folder.claim(&name, &file)? {
            folder.remove(&name)?;
            gone += held.bytes;
        }
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn held(number: u32, bytes: u64, used: u64) -> Held {
        Held { number: Number(number), bytes, used: SystemTime::UNIX_EPOCH + Duration::from_secs(used) }
    }

    fn going(all: &[Held], bytes: u64) -> Vec<u32> {
        surplus(all.to_vec(), bytes, 100).into_iter().map(|held| held.number.0).collect()
    }

    #[test]
    fn what_nobody_read_for_the_longest_time_goes_first_and_data_before_metadata() {
        let all = [held(3, 10, 0), held(2, 30, 30), held(4, 30, 10), held(6, 30, 20), held(9, 10, 1)];
        assert_eq!(going(&all, 110), Vec::<u32>::new());
        assert_eq!(going(&all, 109), [4]);
        assert_eq!(going(&all, 60), [4, 6]);
        assert_eq!(going(&all, 10), [4, 6, 2, 3]);
        assert_eq!(going(&all, 0), [4, 6, 2, 3, 9]);
    }

    #[test]
    fn metadata_takes_no_more_than_half_while_there_is_data() {
        let all = [held(3, 40, 1), held(5, 20, 2), held(2, 50, 0)];
        assert_eq!(going(&all, 100), [3]);
        assert_eq!(going(&all, 69), [3, 2]);
    }

    #[test]
    fn of_two_that_were_used_at_once_the_older_goes() {
        assert_eq!(going(&[held(4, 10, 1), held(2, 10, 1)], 10), [2]);
    }

    #[test]
    fn the_least_of_all_limits_counts() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        assert_eq!(allowed(&folder, 1000, &[], 0), 1000);
        let free = folder.free_space().unwrap();
        let share = allowed(&folder, u64::MAX, &[held(2, 1 << 29, 0)], 1 << 29);
        assert!(share < free && share > free / 4, "{share} of {free}");
        set_limit(&folder, Some(500)).unwrap();
        set_limit(&folder, Some(600)).unwrap();
        assert_eq!(allowed(&folder, 1000, &[], 0), 600);
        std::fs::write(dir.path().join(LIMIT), "many").unwrap();
        assert_eq!(allowed(&folder, 1000, &[], 0), 1000);
        set_limit(&folder, None).unwrap();
        assert_eq!((limit(&folder), folder.names().unwrap()), (None, vec![]));
    }

    #[test]
    fn what_is_being_written_to_stays() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        for number in [2, 4, 7] {
            std::fs::write(dir.path().join(Number(number).name()), "12345").unwrap();
        }
        std::fs::write(dir.path().join("lock"), "").unwrap();
        std::fs::write(dir.path().join("strange"), "").unwrap();
        let busy = folder.open_for_writing(&Number(4).name()).unwrap();
        assert!(folder.claim("4", &busy).unwrap());
        let all = super::held(&folder).unwrap();
        assert_eq!(all.len(), 3);
        assert_eq!(remove(&folder, &all).unwrap(), 10);
        let mut names = folder.names().unwrap();
        names.sort();
        assert_eq!(names, ["00000004.data", "lock", "strange"]);
    }

    #[test]
    fn there_are_always_about_as_many_segments() {
        assert_eq!(segment_size(0), 128 << 10);
        assert_eq!(segment_size(10 << 30), 80 << 20);
        assert_eq!(segment_size(u64::MAX), 4 << 30);
    }
}
