//! Segments: files to which records are appended and that go as a whole.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::fs::{Timespec, Timestamps, UTIME_NOW};

use super::record::ALIGN;
use crate::error::{Error, Result};

/// What a segment holds. One of the two is let go of first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Content of files.
    Data,
    /// What is needed to find content: directories, snapshots, keys.
    Metadata,
}

impl Class {
    pub(super) const ALL: [Class; 2] = [Class::Data, Class::Metadata];
}

/// The name of a segment: newer ones have greater numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Number(pub u32);

/// What the name of a segment's file ends in.
const ENDINGS: [(Class, &str); 2] = [(Class::Data, ".data"), (Class::Metadata, ".meta")];

impl Number {
    pub(super) fn class(self) -> Class {
        if self.0 & 1 == 0 { Class::Data } else { Class::Metadata }
    }

    /// The first number of `class` above all of `others`.
    pub(super) fn after(others: impl Iterator<Item = Number>, class: Class) -> Option<Self> {
        let last = others.map(|number| number.0 >> 1).max().unwrap_or(0);
        let next = last.checked_add(1).filter(|next| *next <= u32::MAX >> 1)?;
        Some(Number(next << 1 | u32::from(class == Class::Metadata)))
    }

    pub(super) fn name(self) -> String {
        let ending =
            ENDINGS.iter().find(|(class, _)| *class == self.class()).map_or("", |(_, ending)| ending);
        format!("{:08x}{ending}", self.0)
    }

    /// The number of the segment in the file `name`.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let number = Number(u32::from_str_radix(name.get(..8)?, 16).ok()?);
        (number.name() == name).then_some(number)
    }
}

/// Where a record lies. Offsets are multiples of [`ALIGN`]; the length is that of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub number: Number,
    pub offset: u64,
    pub length: u32,
}

impl Spot {
    /// As far as the table can point.
    pub(super) const FARTHEST: u64 = u32::MAX as u64 * ALIGN;

    pub(super) fn end(&self) -> u64 {
        self.offset + u64::from(self.length)
    }
}

/// So often it is noted that a segment is in use.
const NOTED: Duration = Duration::from_secs(60);

/// A segment that is open for reading.
pub(super) struct Segment {
    file: File,
    opened: Instant,
    /// Seconds after `opened` when its use is to be noted next.
    due: AtomicU64,
}

impl Segment {
    pub(super) fn new(file: File) -> Self {
        Segment { file, opened: Instant::now(), due: AtomicU64::new(0) }
    }

    /// What lies at `[offset, offset + length)`, or as much of it as there is.
    pub(super) fn read(&self, offset: u64, length: usize) -> Result<Bytes> {
        let mut bytes = Vec::new();
        let failed = |e| Error::io("a segment of the cache", e);
        bytes.try_reserve_exact(length).map_err(|e| failed(std::io::Error::other(e)))?;
        bytes.resize(length, 0);
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(failed(e)),
            }
        }
        bytes.truncate(filled);
        Ok(bytes.into())
    }

    /// Notes, now and then, that the segment is in use: by its time of change, which all processes see. False when it was
    /// removed meanwhile.
    pub(super) fn is_used(&self) -> bool {
        let now = self.opened.elapsed().as_secs();
        let due = self.due.load(Ordering::Relaxed);
        if now < due
            || self
                .due
                .compare_exchange(due, now + NOTED.as_secs(), Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
        {
            return true;
        }
        // In a cache that cannot be written to nothing is let go of either.
        let _ = touch(&self.file);
        self.is_there()
    }

    /// Whether nobody has removed it.
    pub(super) fn is_there(&self) -> bool {
        is_there(&self.file)
    }
}

/// Gives a file a new time of change: it was used.
pub(super) fn touch(file: &File) -> Result<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    rustix::fs::futimens(file, &Timestamps { last_access: now, last_modification: now })
        .map_err(|e| Error::io("a file of the cache", e.into()))
}

/// Whether an open file still has a name.
pub(super) fn is_there(file: &File) -> bool {
    rustix::fs::fstat(file).is_ok_and(|stat| stat.st_nlink > 0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn names_tell_number_and_class() {
        let first = Number::after([].into_iter(), Class::Data).unwrap();
        let second = Number::after([first].into_iter(), Class::Metadata).unwrap();
        assert!(first < second);
        assert_eq!((first.name().as_str(), second.name().as_str()), ("00000002.data", "00000005.meta"));
        for number in [first, second] {
            assert_eq!(Number::parse(&number.name()), Some(number));
        }
        for strange in ["00000002.meta", "2.data", "lock", "0000000g.data", "00000002.data2", "é0000002.data"]
        {
            assert_eq!(Number::parse(strange), None, "{strange}");
        }
        assert_eq!(Number::after([Number(u32::MAX)].into_iter(), Class::Data), None);
    }

    #[test]
    fn a_read_past_the_end_is_what_there_is() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let segment = Segment::new(file);
        assert_eq!(segment.read(2, 3).unwrap(), "234");
        assert_eq!(segment.read(8, 30).unwrap(), "89");
        assert_eq!(segment.read(80, 3).unwrap(), "");
    }

    #[test]
    fn a_segment_in_use_gets_younger_and_a_removed_one_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        std::fs::write(&path, "x").unwrap();
        let long_ago = std::time::SystemTime::now() - Duration::from_secs(1000);
        File::options().append(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        let open = || Segment::new(File::open(&path).unwrap());
        let segment = open();
        assert!(segment.is_used());
        assert!(std::fs::metadata(&path).unwrap().modified().unwrap() > long_ago);
        let other = open();
        std::fs::remove_file(&path).unwrap();
        assert!(segment.is_used(), "looked at a moment ago");
        assert!(!other.is_used());
    }
}
