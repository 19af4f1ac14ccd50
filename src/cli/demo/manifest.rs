//! What lay in each date when it was backed up, and the same read from a directory.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Kind, Result};

const MANIFEST: &str = include_str!("sample/manifest.jsonl");

/// Everything about one entry that a restore must bring back.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Entry {
    /// From the root of the tree; bytes outside printable ASCII as `%XX`.
    pub path: String,
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: i64,
    mtime_ns: i64,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    sha256: Option<String>,
    #[serde(default)]
    target: Option<String>,
    /// The first path of the same date, in order, that is the same file.
    #[serde(default)]
    link_of: Option<String>,
    /// Values in hexadecimal.
    #[serde(default)]
    xattrs: BTreeMap<String, String>,
}

impl Entry {
    /// What of `found` is not as it should be; `None` when all is.
    pub fn unlike(&self, found: &Entry) -> Option<String> {
        let fields = |entry| {
            serde_json::to_value(entry).ok().and_then(|value| value.as_object().cloned()).unwrap_or_default()
        };
        let found = fields(found);
        let differing = fields(self).into_iter().filter(|(field, value)| found.get(field) != Some(value));
        let is = |field: &str| found.get(field).cloned().unwrap_or_default();
        let lines: Vec<String> =
            differing.map(|(field, was)| format!("{field} is {}, was {was}", is(&field))).collect();
        (!lines.is_empty()).then(|| lines.join("; "))
    }
}

/// What was backed up, in order of path.
pub fn expected() -> Result<Vec<Entry>> {
    let parse = |line| {
        serde_json::from_str(line).map_err(|e| Error::caused_by(Kind::Internal, "the embedded manifest", e))
    };
    MANIFEST.lines().map(parse).collect()
}

/// One entry with everything below it, parents first, called `path` in the answer. `each` is called after every entry.
pub fn read(top: &Path, path: &str, each: &dyn Fn()) -> Result<Vec<Entry>> {
    let mut reading = Reading { entries: Vec::new(), first_links: HashMap::new(), each };
    reading.visit(top, path)?;
    Ok(reading.entries)
}

struct Reading<'a> {
    entries: Vec<Entry>,
    /// The first path of each inode that has several.
    first_links: HashMap<u64, String>,
    each: &'a dyn Fn(),
}

impl Reading<'_> {
    fn visit(&mut self, at: &Path, path: &str) -> Result<()> {
        let entry = self.entry(at, path).map_err(|e| Error::io(at.display().to_string(), e))?;
        let is_dir = entry.mode & libc::S_IFMT == libc::S_IFDIR;
        self.entries.push(entry);
        (self.each)();
        if is_dir {
            for name in names(at)? {
                self.visit(&at.join(OsStr::from_bytes(&name)), &format!("{path}/{}", quoted(&name)))?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, at: &Path, path: &str) -> io::Result<Entry> {
        let meta = fs::symlink_metadata(at)?;
        let content = if meta.is_file() { Some(fs::read(at)?) } else { None };
        let target =
            if meta.is_symlink() { Some(quoted(fs::read_link(at)?.as_os_str().as_bytes())) } else { None };
        let mut link_of = None;
        if meta.is_file() && meta.nlink() > 1 {
            let first = self.first_links.entry(meta.ino()).or_insert_with(|| path.to_owned());
            link_of = (first != path).then(|| first.clone());
        }
        Ok(Entry {
            path: path.to_owned(),
            mode: meta.mode(),
            uid: meta.uid(),
            gid: meta.gid(),
            mtime: meta.mtime(),
            mtime_ns: meta.mtime_nsec(),
            size: content.as_ref().map_or(0, |content| content.len() as u64),
            sha256: content.map(|content| hex(&Sha256::digest(content))),
            target,
            link_of,
            xattrs: xattrs(at)?,
        })
    }
}

/// The names in a directory, sorted by their bytes.
pub fn names(dir: &Path) -> Result<Vec<Vec<u8>>> {
    let failed = |e| Error::io(dir.display().to_string(), e);
    let entries = fs::read_dir(dir).map_err(failed)?;
    let mut names: Vec<Vec<u8>> =
        entries.map(|entry| Ok(entry?.file_name().into_vec())).collect::<io::Result<_>>().map_err(failed)?;
    names.sort();
    Ok(names)
}

fn quoted(name: &[u8]) -> String {
    let plain = |byte: u8| (0x20..0x7f).contains(&byte) && byte != b'%';
    name.iter()
        .map(|byte| if plain(*byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// No list of names and no value of the sample is longer.
const LONGEST_XATTR: usize = 4096;

fn xattrs(at: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut buffer = [0; LONGEST_XATTR];
    let length = rustix::fs::llistxattr(at, &mut buffer)?;
    let listed = buffer.get(..length).unwrap_or_default().to_vec();
    let mut values = BTreeMap::new();
    for name in listed.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let length = rustix::fs::lgetxattr(at, OsStr::from_bytes(name), &mut buffer)?;
        values.insert(
            String::from_utf8_lossy(name).into_owned(),
            hex(buffer.get(..length).unwrap_or_default()),
        );
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_tells_of_everything_that_the_demo_promises() {
        let entries = expected().unwrap();
        let dates = |part: &str| entries.iter().filter(|e| e.path.ends_with(part)).count();
        assert_eq!(dates("/recipes/plum-cake.md"), 4, "deleted before the last of five nights");
        let thesis: Vec<_> =
            entries.iter().filter(|e| e.path.ends_with("thesis.tex")).map(|e| &e.sha256).collect();
        assert_eq!(thesis.iter().collect::<std::collections::HashSet<_>>().len(), 4, "changed three times");
        assert!(entries.iter().any(|e| e.link_of.is_some()));
        assert!(entries.iter().any(|e| e.target.is_some()));
        assert!(entries.iter().any(|e| e.xattrs.contains_key("user.comment")));
        assert!(entries.iter().any(|e| e.xattrs.contains_key("system.posix_acl_access")));
        assert!(entries.is_sorted_by(|a, b| a.path < b.path));
    }

    #[test]
    fn a_directory_reads_as_its_manifest_says() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("b\n"), "content").unwrap();
        fs::hard_link(dir.path().join("b\n"), dir.path().join("c")).unwrap();
        std::os::unix::fs::symlink("c", dir.path().join("a")).unwrap();
        let entries = read(dir.path(), "set/date", &|| {}).unwrap();
        let paths: Vec<&str> = entries.iter().map(|e| e.path.as_str()).collect();
        assert_eq!(paths, ["set/date", "set/date/a", "set/date/b%0A", "set/date/c"]);
        assert_eq!(entries[1].target.as_deref(), Some("c"));
        let sum = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73";
        assert_eq!((entries[2].size, entries[2].sha256.as_deref()), (7, Some(sum)));
        assert_eq!(entries[3].link_of.as_deref(), Some("set/date/b%0A"));
        assert_eq!((entries[1].link_of.as_ref(), entries[2].link_of.as_ref()), (None, None));
    }
}
