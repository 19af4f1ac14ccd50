//! What is known of each store: its name and the last complete listings. A file a store, sealed, apart from the segments
//! because it is never let go of to make room; its time of change is that of the last listing.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::files::Files;
use super::key::Owner;
use super::segment::touch;
use crate::cache::Folder;
use crate::error::{Error, Kind, Result};
use crate::store::{Level, ObjectInfo};

/// The directory of them.
pub(super) const FOLDER: &str = "stores";

/// A listing of ten million objects would be larger.
const LARGEST: u64 = 1 << 30;

/// What is known of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// How the store is called.
    pub name: String,
    /// How people call it.
    pub title: String,
    /// By prefix: what was listed, without the prefix.
    lists: BTreeMap<String, Listed>,
    /// By prefix: what lies directly below, and what lies deeper, in the same way.
    #[serde(default)]
    levels: BTreeMap<String, (Listed, Vec<String>)>,
    /// By ledger: when what lies in it was last found to be so, in seconds since 1970.
    #[serde(default)]
    ledgers: BTreeMap<String, u64>,
}

/// Keys and sizes, sorted.
type Listed = Vec<(String, u64)>;

impl Head {
    /// Nothing known of the store `name`, which people call `title`.
    pub fn new(name: &str, title: &str) -> Self {
        Head { name: name.to_owned(), title: title.to_owned(), ..Head::default() }
    }

    /// Takes a complete listing in.
    pub fn set(&mut self, prefix: &str, objects: &[ObjectInfo]) {
        self.lists.insert(prefix.to_owned(), without(prefix, objects));
    }

    /// The same of one level.
    pub fn set_level(&mut self, prefix: &str, Level { objects, below }: &Level) {
        let deeper = below.iter().filter_map(|name| Some(name.strip_prefix(prefix)?.to_owned()));
        let mut deeper: Vec<_> = deeper.collect();
        deeper.sort_unstable();
        self.levels.insert(prefix.to_owned(), (without(prefix, objects), deeper));
    }

    /// Notes when what lies in a ledger was found to be so.
    pub fn set_renewed(&mut self, ledger: &str, when: SystemTime) {
        let seconds = when.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        self.ledgers.insert(ledger.to_owned(), seconds);
    }

    /// When that was, to the second.
    pub fn renewed(&self, ledger: &str) -> Option<SystemTime> {
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(*self.ledgers.get(ledger)?))
    }

    /// Takes in what is newer.
    pub(super) fn extend(&mut self, newer: Head) {
        (self.name, self.title) = (newer.name, newer.title);
        self.lists.extend(newer.lists);
        self.levels.extend(newer.levels);
        self.ledgers.extend(newer.ledgers);
    }

    /// The last complete listing below `prefix`.
    pub fn get(&self, prefix: &str) -> Option<Vec<ObjectInfo>> {
        Some(with(prefix, self.lists.get(prefix)?))
    }

    /// The same of one level.
    pub fn get_level(&self, prefix: &str) -> Option<Level> {
        let (objects, deeper) = self.levels.get(prefix)?;
        let below = deeper.iter().map(|name| format!("{prefix}{name}")).collect();
        Some(Level { objects: with(prefix, objects), below })
    }
}

fn without(prefix: &str, objects: &[ObjectInfo]) -> Listed {
    let below = |object: &ObjectInfo| Some((object.key.strip_prefix(prefix)?.to_owned(), object.size));
    let mut listed: Vec<_> = objects.iter().filter_map(below).collect();
    listed.sort_unstable();
    listed
}

fn with(prefix: &str, listed: &Listed) -> Vec<ObjectInfo> {
    listed.iter().map(|(key, size)| ObjectInfo { key: format!("{prefix}{key}"), size: *size }).collect()
}

impl Files {
    /// What is known of `owner`, and of when it is.
    pub(super) fn head(&self, owner: Owner) -> Option<(Head, SystemTime)> {
        let (folder, name) = (self.folder.below(FOLDER).ok()?, name(owner));
        let changed = folder.stat(&name).ok()?.changed;
        let mut sealed = Vec::new();
        folder.open_file(&name).ok()?.take(LARGEST).read_to_end(&mut sealed).ok()?;
        let plain = self.seal.open_sealed(name.as_bytes(), &sealed)?;
        Some((serde_json::from_slice(&plain).ok()?, changed))
    }

    /// Takes in what is new of `owner`. What is there already only gets a new time.
    pub(super) fn put_head(&self, owner: Owner, new: Head) -> Result<()> {
        let (folder, name) = (self.folder.below(FOLDER)?, name(owner));
        let known = self.head(owner).map(|(head, _)| head);
        let mut head = known.clone().unwrap_or_default();
        head.extend(new);
        if known.as_ref() == Some(&head) {
            return touch(&folder.open_for_writing(&name)?);
        }
        let plain = serde_json::to_vec(&head)
            .map_err(|e| Error::caused_by(Kind::Internal, "what is known of a store", e))?;
        let sealed = self.seal.seal(name.as_bytes(), &plain);
        let sealed = sealed.ok_or_else(|| Error::new(Kind::System, "sealing failed"))?;
        let unfinished = format!("{name}.{}", std::process::id());
        folder.remove(&unfinished)?;
        let mut file = folder.create(&unfinished)?;
        let written = file.write_all(&sealed).map_err(|e| Error::io("what is known of a store", e));
        let done = written.and_then(|()| folder.finish(&file, &unfinished, &name));
        if done.is_err() {
            // The first error is the one to tell.
            let _ = folder.remove(&unfinished);
        }
        done
    }

    /// All stores of which something is known.
    pub(super) fn heads(&self) -> Result<Vec<(Owner, Head, SystemTime)>> {
        let owners = self.folder.below(FOLDER)?.names()?;
        let owners = owners.iter().filter_map(|name| u64::from_str_radix(name, 16).ok().map(Owner));
        Ok(owners.filter_map(|owner| self.head(owner).map(|(head, when)| (owner, head, when))).collect())
    }

    /// Forgets what is known of `owner`.
    pub(super) fn remove_head(&self, owner: Owner) -> Result<()> {
        self.folder.below(FOLDER)?.remove(&name(owner))
    }
}

/// Removes everything that is known of any store.
pub(super) fn clear(folder: &Folder) -> Result<()> {
    let folder = folder.below(FOLDER)?;
    folder.names()?.iter().try_for_each(|name| folder.remove(name))
}

fn name(owner: Owner) -> String {
    format!("{:016x}", owner.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &tempfile::TempDir) -> Files {
        Files::open(Folder::open(dir.path()).unwrap(), 1 << 20).unwrap()
    }

    fn objects(keys: &[&str]) -> Vec<ObjectInfo> {
        keys.iter().map(|key| ObjectInfo { key: (*key).into(), size: key.len() as u64 }).collect()
    }

    #[test]
    fn when_ledgers_were_renewed_is_kept_of_each() {
        let dir = tempfile::tempdir().unwrap();
        let (files, owner) = (files(&dir), Owner::of("s3:x"));
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for (ledger, when) in [("a", at(5)), ("b", at(7)), ("a", at(9) + Duration::from_millis(900))] {
            let mut head = Head::new("s3:x", "x");
            head.set_renewed(ledger, when);
            files.put_head(owner, head).unwrap();
        }
        let (mut head, _) = files.head(owner).unwrap();
        assert_eq!(["a", "b", "c"].map(|ledger| head.renewed(ledger)), [Some(at(9)), Some(at(7)), None]);
        head.set_renewed("a", at(0) - Duration::from_secs(5));
        assert_eq!(head.renewed("a"), Some(at(0)), "before 1970");
    }

    #[test]
    fn the_last_listing_of_each_prefix_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(&dir);
        let owner = Owner::of("s3:x");
        assert_eq!(files.head(owner), None);
        let mut head = Head::new("s3:x", "x");
        head.set("keys/", &objects(&["keys/b", "keys/a"]));
        head.set("index/", &[]);
        files.put_head(owner, head).unwrap();
        let mut later = Head::new("s3:x", "x");
        later.set("keys/", &objects(&["keys/c"]));
        files.put_head(owner, later).unwrap();
        let (head, _) = files.head(owner).unwrap();
        assert_eq!((head.get("keys/"), head.get("index/")), (Some(objects(&["keys/c"])), Some(vec![])));
        assert_eq!(head.get("snapshots/"), None, "never listed");
        assert_eq!(files.heads().unwrap().len(), 1);
        let raw = std::fs::read(dir.path().join(FOLDER).join(name(owner))).unwrap();
        assert!(!raw.windows(4).any(|part| part == b"s3:x" || part == b"keys"));
        files.remove_head(owner).unwrap();
        assert_eq!(files.head(owner), None);
    }

    #[test]
    fn a_level_is_no_listing_of_all_below() {
        let mut head = Head::new("s3:x", "x");
        let below = |names: &[&str]| names.iter().map(|name| format!("a/{name}")).collect();
        let level = Level { objects: objects(&["a/file"]), below: below(&["b/", "c/"]) };
        head.set_level("a/", &Level { below: below(&["c/", "b/"]), ..level.clone() });
        assert_eq!(
            (head.get_level("a/"), head.get("a/"), head.get_level("")),
            (Some(level.clone()), None, None)
        );
        let mut newer = Head::new("s3:x", "x");
        newer.set("a/", &[]);
        head.extend(newer);
        assert_eq!((head.get_level("a/"), head.get("a/")), (Some(level), Some(vec![])));
        let old = r#"{"name":"s3:x","title":"x","lists":{"k/":[["a",1]]}}"#;
        assert!(serde_json::from_str::<Head>(old).unwrap().get("k/").is_some(), "as it was written before");
    }

    #[test]
    fn what_is_the_same_only_gets_a_new_time() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(&dir);
        let owner = Owner::of("s3:x");
        let mut head = Head::new("s3:x", "x");
        head.set("keys/", &objects(&["keys/a"]));
        files.put_head(owner, head.clone()).unwrap();
        let path = dir.path().join(FOLDER).join(name(owner));
        let long_ago = SystemTime::now() - Duration::from_secs(5000);
        std::fs::File::options().append(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        let before = std::fs::read(&path).unwrap();
        assert_eq!(files.head(owner).unwrap().1, long_ago);
        files.put_head(owner, head).unwrap();
        assert!(files.head(owner).unwrap().1 > long_ago);
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_damaged_or_foreign_file_is_as_good_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(&dir);
        let (owner, other) = (Owner::of("s3:x"), Owner::of("s3:y"));
        files.put_head(owner, Head::new("s3:x", "x")).unwrap();
        let place = |owner| dir.path().join(FOLDER).join(name(owner));
        let good = std::fs::read(place(owner)).unwrap();
        std::fs::write(place(other), &good).unwrap();
        assert_eq!(files.head(other), None, "moved to another's place");
        for at in 0..good.len() {
            let mut damaged = good.clone();
            damaged[at] ^= 4;
            std::fs::write(place(owner), damaged).unwrap();
            assert_eq!(files.head(owner), None);
        }
        files.put_head(owner, Head::new("s3:x", "x")).unwrap();
        assert_eq!(files.head(owner).unwrap().0, Head::new("s3:x", "x"));
        clear(&files.folder).unwrap();
        assert!(files.heads().unwrap().is_empty());
    }
}
