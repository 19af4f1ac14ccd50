//! The mounts of this program, as `/proc` shows them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};

/// A mount of ours.
pub struct Mounted {
    /// The kernel's number of it.
    pub id: u64,
    /// Where.
    pub mountpoint: PathBuf,
    /// The source column.
    pub source: String,
}

/// All of them, in the order in which they were made.
pub fn mounts() -> Result<Vec<Mounted>> {
    let text = std::fs::read("/proc/self/mountinfo")
        .map_err(|e| Error::io("/proc/self/mountinfo", e).with_kind(Kind::System))?;
    Ok(text.split(|b| *b == b'\n').filter_map(parse).collect())
}

fn parse(line: &[u8]) -> Option<Mounted> {
    let line = String::from_utf8_lossy(line);
    let (here, there) = line.split_once(" - ")?;
    let mut there = there.split(' ');
    if there.next()? != "fuse.backupfs" {
        return None;
    }
    let mut here = here.split(' ');
    let id = here.next()?.parse().ok()?;
    let mountpoint = OsString::from_vec(here.nth(3)?.replace("\\040", " ").into_bytes()).into();
    Some(Mounted { id, mountpoint, source: there.next()?.to_owned() })
}

/// Whether the server of what is mounted at `path` has died.
pub fn is_dead(path: &Path) -> bool {
    std::fs::metadata(path).is_err_and(|e| e.raw_os_error() == Some(libc::ENOTCONN))
}
