//! The shapes of replies that take more than a line.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use fuser::{
    Errno, FileAttr, Generation, INodeNo, ReplyDirectory, ReplyDirectoryPlus, ReplyEntry, ReplyXattr,
};

use super::attr;
use super::directory::{OpenDir, What};
use super::inodes::resolve;
use super::state::{Found, State};
use crate::tree::{FileType, Listing};

/// Numbers are never used again for another node while the kernel knows them.
const GENERATION: Generation = Generation(0);

/// The answer to a look-up, counted.
pub(super) fn send_entry(state: &State, reply: ReplyEntry, found: Found) {
    match found.child {
        Some(child) => {
            let ino = state.inodes.enter(child.identity, child.place, child.trail);
            let attr = FileAttr { ino: INodeNo(ino), ..child.attr };
            reply.entry_with_ttls(&child.attr_ttl, &found.ttl, &attr, GENERATION);
        }
        None if found.ttl.is_zero() => reply.error(Errno::ENOENT),
        // Number 0 says "none", and for how long.
        None => reply.entry(&found.ttl, &attr::placeholder(FileType::File, 0), GENERATION),
    }
}

/// An attribute's value or the list of names: its size when the caller has no room yet.
pub(super) fn send_attribute(reply: ReplyXattr, value: &[u8], room: u32) {
    match u32::try_from(value.len()) {
        Ok(size) if room == 0 => reply.size(size),
        Ok(size) if size <= room => reply.data(value),
        _ => reply.error(Errno::ERANGE),
    }
}

/// As many entries as there is room for.
pub(super) fn send_listing(
    state: &State,
    mut reply: ReplyDirectory,
    (dir, listing): (Arc<OpenDir>, Arc<dyn Listing>),
    offset: u64,
) {
    let end = dir.visit(&*listing, offset, |line| match line.what {
        What::Dots(name, ino) => reply.add(INodeNo(ino), line.next, fuser::FileType::Directory, name),
        What::Entry(entry) => {
            let identity = resolve(entry.identity, entry.kind, dir.lineage, entry.name);
            let ino = INodeNo(state.inodes.number(identity));
            reply.add(ino, line.next, attr::kind(entry.kind), OsStr::from_bytes(entry.name))
        }
    });
    if !end {
        state.pins.keep(&dir, listing);
    }
    reply.ok();
}

/// As many entries as there is room for, with their attributes; each counts as a look-up. True when nothing
/// is left to list.
pub(super) fn send_listing_plus(
    state: &State,
    mut reply: ReplyDirectoryPlus,
    (dir, listing): (Arc<OpenDir>, Arc<dyn Listing>),
    offset: u64,
) -> bool {
    let end = dir.visit(&*listing, offset, |line| match line.what {
        // The kernel takes only name and number of these, and counts nothing.
        What::Dots(name, ino) => {
            let attr = attr::placeholder(FileType::Dir, ino);
            reply.add(INodeNo(ino), line.next, name, &Duration::ZERO, &attr, GENERATION)
        }
        What::Entry(entry) => {
            let identity = resolve(entry.identity, entry.kind, dir.lineage, entry.name);
            let child = state.entry(&dir, &*listing, entry, identity);
            let ino = state.inodes.enter(identity, child.place, child.trail);
            let attr = FileAttr { ino: INodeNo(ino), ..child.attr };
            let name = OsStr::from_bytes(entry.name);
            let full = reply.add(INodeNo(ino), line.next, name, &child.attr_ttl, &attr, GENERATION);
            if full {
                state.forget(ino, 1);
            }
            full
        }
    });
    if !end {
        state.pins.keep(&dir, listing);
    }
    reply.ok();
    end
}
