//! What a tree keeps of a node, and the arenas that hold what is not of fixed size.

use crate::error::{Error, Kind, Result};
use crate::source::chunked::Id;
use crate::tree::{FileType, Time};

/// Says in a position that there is nothing there.
pub const MISSING: u32 = u32::MAX;

/// What nodes of a directory mostly have in common. Each combination is kept once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Class {
    /// The recorded `device_id`, 0 when there is none.
    pub device: u64,
    pub uid: u32,
    pub gid: u32,
    pub links: u32,
    /// Where the encoded extended attributes begin in the bytes, or `MISSING`.
    pub xattrs: u32,
    pub perm: u16,
    pub kind: FileType,
}

/// One node: 64 bytes, so that a directory of a million takes little more than its names and ids.
#[derive(Clone, Copy)]
pub struct Record {
    pub inode: u64,
    pub size: u64,
    /// Where the name begins in the bytes.
    pub name: u32,
    /// Files: first id of the content. Directories: the subtree's id. Symbolic links: where the target begins in the
    /// bytes. Devices: the device number.
    pub at: u32,
    /// Files: number of ids. Symbolic links: length of the target.
    pub count: u32,
    /// Position of its class.
    pub class: u32,
    /// mtime, atime, ctime.
    pub times: [Packed; 3],
    pub name_len: u8,
}

/// A time of the years 0 to 9999 in nine bytes.
#[derive(Clone, Copy)]
pub struct Packed {
    secs: [u8; 5],
    nanos: [u8; 4],
}

/// The earliest second that a record can hold, a day before the year 0: 40 bits reach far beyond the year 9999.
const FIRST_SECOND: i64 = -62_167_219_200 - 86_400;

impl From<Time> for Packed {
    fn from(time: Time) -> Self {
        let [a, b, c, d, e, ..] = time.secs.saturating_sub(FIRST_SECOND).max(0).to_le_bytes();
        Packed { secs: [a, b, c, d, e], nanos: time.nanos.to_le_bytes() }
    }
}

impl From<Packed> for Time {
    fn from(packed: Packed) -> Self {
        let [a, b, c, d, e] = packed.secs;
        let secs = i64::from_le_bytes([a, b, c, d, e, 0, 0, 0]) + FIRST_SECOND;
        Time { secs, nanos: u32::from_le_bytes(packed.nanos) }
    }
}

impl Record {
    /// The same node after its arenas were appended to `arenas` behind `base`.
    pub fn rebased(mut self, base: &Base, arenas: &Arenas) -> Option<Self> {
        self.name += base.bytes;
        self.class += base.classes;
        self.at = match arenas.class(self.class)?.kind {
            FileType::File | FileType::Dir => moved(self.at, base.ids),
            FileType::Symlink => moved(self.at, base.bytes),
            _ => self.at,
        };
        Some(self)
    }
}

fn moved(at: u32, by: u32) -> u32 {
    if at == MISSING { at } else { at + by }
}

/// How long arenas were at some moment.
pub struct Base {
    bytes: u32,
    ids: u32,
    classes: u32,
}

/// What the records point into.
#[derive(Default)]
pub struct Arenas {
    bytes: Vec<u8>,
    ids: Vec<Id>,
    classes: Vec<Class>,
}

impl Arenas {
    pub fn bytes(&self, at: u32, length: u32) -> &[u8] {
        self.bytes_from(at).get(..length as usize).unwrap_or_default()
    }

    /// All bytes from `at` on; none when it is `MISSING`.
    pub fn bytes_from(&self, at: u32) -> &[u8] {
        self.bytes.get(at as usize..).unwrap_or_default()
    }

    pub fn ids(&self, at: u32, count: u32) -> &[Id] {
        self.ids.get(at as usize..).and_then(|ids| ids.get(..count as usize)).unwrap_or_default()
    }

    /// The class at `at`.
    pub fn class(&self, at: u32) -> Option<&Class> {
        self.classes.get(at as usize)
    }

    /// Adds bytes; returns where they begin.
    pub fn push_bytes(&mut self, bytes: &[u8]) -> Result<u32> {
        let at = position(self.bytes.len(), bytes.len())?;
        self.bytes.extend_from_slice(bytes);
        Ok(at)
    }

    /// Adds ids; returns where they begin.
    pub fn push_ids(&mut self, ids: impl ExactSizeIterator<Item = Id>) -> Result<u32> {
        let at = position(self.ids.len(), ids.len())?;
        self.ids.extend(ids);
        Ok(at)
    }

    /// Adds a class; returns where it is.
    pub fn push_class(&mut self, class: Class) -> Result<u32> {
        let at = position(self.classes.len(), 1)?;
        self.classes.push(class);
        Ok(at)
    }

    /// Adds all of `other` behind what is there; returns how to move the records that point into it.
    pub fn append(&mut self, mut other: Arenas) -> Result<Base> {
        let base = Base {
            bytes: position(self.bytes.len(), other.bytes.len())?,
            ids: position(self.ids.len(), other.ids.len())?,
            classes: position(self.classes.len(), other.classes.len())?,
        };
        self.bytes.append(&mut other.bytes);
        self.ids.append(&mut other.ids);
        self.classes.extend(
            other.classes.iter().map(|class| Class { xattrs: moved(class.xattrs, base.bytes), ..*class }),
        );
        Ok(base)
    }

    /// Lengths to come back to with [`truncate`](Self::truncate).
    pub fn mark(&self) -> (usize, usize) {
        (self.bytes.len(), self.ids.len())
    }

    /// Forgets what was added since `mark`.
    pub fn truncate(&mut self, mark: (usize, usize)) {
        self.bytes.truncate(mark.0);
        self.ids.truncate(mark.1);
    }

    pub fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.ids.shrink_to_fit();
        self.classes.shrink_to_fit();
    }

    pub fn memory(&self) -> usize {
        self.bytes.capacity()
            + self.ids.capacity() * size_of::<Id>()
            + self.classes.capacity() * size_of::<Class>()
    }
}

/// `at` as a position, if `length` more still end below `MISSING`.
fn position(at: usize, length: usize) -> Result<u32> {
    u32::try_from(at)
        .ok()
        .filter(|&at| (at as usize).saturating_add(length) < MISSING as usize)
        .ok_or_else(|| Error::new(Kind::Unsupported, "too much in one directory"))
}
