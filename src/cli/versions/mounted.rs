//! Versions seen through a mount, with the calls that any program makes.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::history::{Archive, Set, Version};
use super::place;
use crate::error::{Error, Result};
use crate::tree::{FileType, Time};

/// A mounted tree as an archive.
pub struct Mounted(pub PathBuf);

/// Bytes asked for at once when a file is read whole.
const CHUNK: usize = 1 << 20;

impl Archive for Mounted {
    fn sets(&self) -> Result<Vec<Set>> {
        let names = directories(&self.0)?;
        Ok(names.into_iter().filter_map(|name| place::set(vec![name])).collect())
    }

    fn dates(&self, set: &Set) -> Result<Vec<Vec<u8>>> {
        let dir = self.path(&set.place);
        let mut dates = directories(&dir)?;
        dates.sort_by_cached_key(|date| (recorded_time(&dir.join(OsStr::from_bytes(date))), date.clone()));
        Ok(dates)
    }

    fn find(&self, set: &Set, date: &[u8], path: &[Vec<u8>]) -> Result<Option<Version>> {
        let path = self.version_path(set, date, path);
        let failed = |e| Error::io(path.display().to_string(), e);
        match fs::symlink_metadata(&path) {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(failed(e)),
            Ok(meta) if meta.is_symlink() => {
                let target = fs::read_link(&path).map_err(failed)?;
                Ok(Some(version(&meta, Some(target.into_os_string().into_vec()))))
            }
            Ok(meta) => Ok(Some(version(&meta, None))),
        }
    }

    fn digest(&self, set: &Set, date: &[u8], path: &[Vec<u8>]) -> Result<[u8; 32]> {
        let path = self.version_path(set, date, path);
        digest(&path).map_err(|e| Error::io(path.display().to_string(), e))
    }
}

impl Mounted {
    fn path(&self, names: &[Vec<u8>]) -> PathBuf {
        let mut path = self.0.clone();
        path.extend(names.iter().map(|name| OsStr::from_bytes(name)));
        path
    }

    /// Where a version lies.
    pub fn version_path(&self, set: &Set, date: &[u8], path: &[Vec<u8>]) -> PathBuf {
        self.path(&[set.place.as_slice(), &[date.to_vec()], path].concat())
    }
}

/// SHA-256 of a file's bytes.
fn digest(path: &Path) -> io::Result<[u8; 32]> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().into()),
            n => hash.update(buffer.get(..n).unwrap_or_default()),
        }
    }
}

/// The names of the directories in a directory: of a set its dates, without `latest`.
fn directories(dir: &Path) -> Result<Vec<Vec<u8>>> {
    let failed = |e| Error::io(dir.display().to_string(), e);
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            names.push(entry.file_name().into_vec());
        }
    }
    Ok(names)
}

/// When the snapshot in a date directory was taken. A date that does not say comes first, by its name.
fn recorded_time(date: &Path) -> Option<Timestamp> {
    let mut value = [0; 64];
    let length = rustix::fs::lgetxattr(date, "user.backupfs.time", &mut value).ok()?;
    std::str::from_utf8(value.get(..length)?).ok()?.parse().ok()
}

fn version(meta: &fs::Metadata, target: Option<Vec<u8>>) -> Version {
    let kind = meta.file_type();
    let kind = if kind.is_dir() {
        FileType::Dir
    } else if kind.is_symlink() {
        FileType::Symlink
    } else if kind.is_block_device() {
        FileType::Block
    } else if kind.is_char_device() {
        FileType::Char
    } else if kind.is_fifo() {
        FileType::Fifo
    } else if kind.is_socket() {
        FileType::Socket
    } else {
        FileType::File
    };
    Version {
        identity: Some(u128::from(meta.dev()) << 64 | u128::from(meta.ino())),
        kind,
        perm: u16::try_from(meta.mode() & 0o7777).unwrap_or_default(),
        uid: meta.uid(),
        gid: meta.gid(),
        size: meta.size(),
        mtime: Time { secs: meta.mtime(), nanos: u32::try_from(meta.mtime_nsec()).unwrap_or_default() },
        target,
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::{Change, follow};
    use super::*;

    /// A directory that looks like a mount.
    fn archive(dates: &[(&str, &[(&str, &str)])]) -> (tempfile::TempDir, Mounted, Set) {
        let dir = tempfile::tempdir().unwrap();
        for (date, files) in dates {
            for (path, content) in *files {
                let file = dir.path().join("laptop@+home+lab").join(date).join(path);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(&file, content).unwrap();
            }
        }
        let newest = dates.last().unwrap().0;
        std::os::unix::fs::symlink(newest, dir.path().join("laptop@+home+lab/latest")).unwrap();
        fs::create_dir(dir.path().join("current")).unwrap();
        let mounted = Mounted(dir.path().to_owned());
        let set = mounted.sets().unwrap().remove(0);
        (dir, mounted, set)
    }

    #[test]
    fn sets_and_dates_are_found_without_current_and_latest() {
        let (_dir, mounted, set) =
            archive(&[("20260302_030000", &[("a", "")]), ("20260301_030000", &[("a", "")])]);
        assert_eq!(mounted.sets().unwrap(), std::slice::from_ref(&set));
        assert_eq!((set.host.as_slice(), set.path.as_slice()), (&b"laptop"[..], &b"/home/lab"[..]));
        assert_eq!(mounted.dates(&set).unwrap(), [b"20260301_030000", b"20260302_030000"]);
    }

    #[test]
    fn a_history_tells_bytes_from_sizes() {
        let dates: &[(&str, &[(&str, &str)])] = &[
            ("1", &[("d/file", "one")]),
            ("2", &[("d/file", "one")]),
            ("3", &[("d/file", "two")]),
            ("4", &[("d/other", "two")]),
            ("5", &[("d/file", "twotwo")]),
            ("6", &[("d", "now a file")]),
        ];
        let (_dir, mounted, set) = archive(dates);
        let path = [b"d".to_vec(), b"file".to_vec()];
        let history = follow(&mounted, &set, &path, &mut |_, _| {}).unwrap();
        let changes: Vec<Change> = history.iter().map(|dated| dated.change).collect();
        let same = changes[1];
        assert!(matches!(same, Change::Same | Change::Touched), "{same:?}");
        assert_eq!(changes[0], Change::First);
        assert_eq!(changes[2..], [Change::Changed, Change::Absent, Change::Changed, Change::Absent]);
    }
}
