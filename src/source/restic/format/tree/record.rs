//! What a tree keeps of a node, and the arenas that hold what is not of fixed size.

use xxhash_rust::xxh3::Xxh3;

use super::xattr;
use crate::error::{Error, Kind, Result};
use crate::source::chunked::Id;
use crate::tree::{FileType, Time};

/// Says in a position that there is nothing there.
pub const MISSING: u32 = u32::MAX;

/// One node.
#[derive(Clone, Copy)]
pub struct Record {
    /// XXH3 of all that is shown of the node, low half first.
    pub digest: [u64; 2],
    pub inode: u64,
    pub size: u64,
    /// mtime, atime, ctime.
    pub secs: [i64; 3],
    pub nanos: [u32; 3],
    /// Where the name begins in the bytes.
    pub name: u32,
    pub uid: u32,
    pub gid: u32,
    pub links: u32,
    /// Files: first id of the content. Directories: the subtree's id. Symbolic links: where the target begins in the
    /// bytes. Devices: the device number.
    pub at: u32,
    /// Files: number of ids. Symbolic links: length of the target.
    pub count: u32,
    /// Where the encoded extended attributes begin in the bytes, or `MISSING`.
    pub xattrs: u32,
    /// Position of the `device_id`.
    pub device: u32,
    pub perm: u16,
    pub name_len: u8,
    pub kind: FileType,
}

impl Record {
    /// The time at `which` of mtime, atime, ctime.
    pub fn time(&self, which: usize) -> Time {
        let (secs, nanos) = (self.secs.get(which), self.nanos.get(which));
        Time { secs: secs.copied().unwrap_or(0), nanos: nanos.copied().unwrap_or(0) }
    }

    /// Hashes all that is shown of the node but its name. The JSON will not do: writers put the time zone into it, which
    /// changes twice a year, and the device number, which changes with a reboot.
    pub fn digest_of(&self, arenas: &Arenas) -> [u64; 2] {
        let mut hash = Xxh3::new();
        self.secs.iter().for_each(|number| hash.update(&number.to_le_bytes()));
        let [mtime, atime, ctime] = self.nanos;
        for number in [mtime, atime, ctime, self.uid, self.gid, self.links] {
            hash.update(&number.to_le_bytes());
        }
        hash.update(&self.size.to_le_bytes());
        hash.update(&self.perm.to_le_bytes());
        hash.update(&[self.kind as u8, u8::from(self.at == MISSING)]);
        hash.update(&self.count.to_le_bytes());
        match self.kind {
            FileType::File => arenas.ids(self.at, self.count).iter().for_each(|id| hash.update(&id.0)),
            FileType::Dir => arenas.ids(self.at, 1).iter().for_each(|id| hash.update(&id.0)),
            FileType::Symlink => hash.update(arenas.bytes(self.at, self.count)),
            _ => hash.update(&self.at.to_le_bytes()),
        }
        for (name, value) in xattr::decode(arenas.bytes_from(self.xattrs)) {
            for part in [name, value] {
                hash.update(&(part.len() as u64).to_le_bytes());
                hash.update(part);
            }
        }
        let digest = hash.digest128();
        // The two halves of 128 bits.
        #[allow(clippy::cast_possible_truncation)]
        [digest as u64, (digest >> 64) as u64]
    }

    /// The same node after its arenas were appended behind `base`.
    pub fn rebased(mut self, base: &Base) -> Self {
        let moved = |at: u32, by: u32| if at == MISSING { at } else { at + by };
        self.name += base.bytes;
        self.xattrs = moved(self.xattrs, base.bytes);
        self.device = moved(self.device, base.devices);
        self.at = match self.kind {
            FileType::File | FileType::Dir => moved(self.at, base.ids),
            FileType::Symlink => moved(self.at, base.bytes),
            _ => self.at,
        };
        self
    }
}

/// How long arenas were at some moment.
pub struct Base {
    bytes: u32,
    ids: u32,
    devices: u32,
}

/// What the records point into.
#[derive(Default)]
pub struct Arenas {
    bytes: Vec<u8>,
    ids: Vec<Id>,
    devices: Vec<u64>,
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

    /// The device number at `at`, 0 when it is `MISSING`.
    pub fn device(&self, at: u32) -> u64 {
        self.devices.get(at as usize).copied().unwrap_or(0)
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

    /// Adds a device number, unless it is the last one added: nearly all nodes of a tree are on one device.
    pub fn push_device(&mut self, device: u64) -> Result<u32> {
        if self.devices.last() != Some(&device) {
            self.devices.push(device);
        }
        position(self.devices.len() - 1, 1)
    }

    /// Adds all of `other` behind what is there; returns how to move the records that point into it.
    pub fn append(&mut self, mut other: Arenas) -> Result<Base> {
        let base = Base {
            bytes: position(self.bytes.len(), other.bytes.len())?,
            ids: position(self.ids.len(), other.ids.len())?,
            devices: position(self.devices.len(), other.devices.len())?,
        };
        self.bytes.append(&mut other.bytes);
        self.ids.append(&mut other.ids);
        self.devices.append(&mut other.devices);
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
        self.devices.shrink_to_fit();
    }

    pub fn memory(&self) -> usize {
        self.bytes.capacity()
            + self.ids.capacity() * size_of::<Id>()
            + self.devices.capacity() * size_of::<u64>()
    }
}

/// `at` as a position, if `length` more still end below `MISSING`.
fn position(at: usize, length: usize) -> Result<u32> {
    u32::try_from(at)
        .ok()
        .filter(|&at| (at as usize).saturating_add(length) < MISSING as usize)
        .ok_or_else(|| Error::new(Kind::Unsupported, "too much in one directory"))
}
