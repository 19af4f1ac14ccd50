//! A bucket in memory, and what listings tell of it.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

/// Metadata of an object's writer.
pub type Labels = HashMap<String, String>;

/// A version of an object, or the mark of its deletion.
#[derive(Clone, Debug)]
pub struct Held {
    /// `null` where the bucket keeps no versions.
    pub id: String,
    /// `None` for the mark of a deletion.
    pub bytes: Option<Bytes>,
    pub labels: Labels,
    pub etag: String,
    pub written: SystemTime,
}

/// A bucket.
#[derive(Debug, Default)]
pub struct Bucket {
    pub versioned: bool,
    /// Versions, the newest first.
    keys: BTreeMap<String, Vec<Held>>,
    /// When something was written last: no two versions have one time.
    last: Option<SystemTime>,
    count: u64,
}

/// What a listing tells of: an object, or a common prefix of several.
pub enum Entry {
    Object(String, Held),
    Below(String),
}

impl Entry {
    pub fn name(&self) -> &str {
        match self {
            Entry::Object(name, _) | Entry::Below(name) => name,
        }
    }
}

/// A version in a listing of all.
pub struct Told {
    pub key: String,
    pub held: Held,
    pub is_latest: bool,
}

impl Bucket {
    pub fn put(&mut self, key: &str, bytes: Bytes, labels: Labels) {
        self.write(key, Some(bytes), labels);
    }

    pub fn remove(&mut self, key: &str) {
        match self.versioned {
            true => self.write(key, None, Labels::new()),
            false => drop(self.keys.remove(key)),
        }
    }

    fn write(&mut self, key: &str, bytes: Option<Bytes>, labels: Labels) {
        let after = self.last.map(|last| last + Duration::from_millis(1));
        let written = after.max(Some(SystemTime::now())).unwrap();
        self.last = Some(written);
        self.count += 1;
        let id = if self.versioned { format!("version-{:06}", self.count) } else { "null".to_owned() };
        let etag = format!("{:032x}", xxh3_128(bytes.as_deref().unwrap_or_default()));
        let versions = self.keys.entry(key.to_owned()).or_default();
        if !self.versioned {
            versions.clear();
        }
        versions.insert(0, Held { id, bytes, labels, etag, written });
    }

    /// What a key means now, or meant as the version `id`.
    pub fn find(&self, key: &str, id: Option<&str>) -> Option<&Held> {
        let versions = self.keys.get(key)?;
        match id {
            Some(id) => versions.iter().find(|held| held.id == id),
            None => versions.first(),
        }
    }

    /// The bytes of another object than `key`.
    pub fn another(&self, key: &str) -> Option<Bytes> {
        let mut others = self.keys.iter().filter(|(other, _)| *other != key);
        others.find_map(|(_, versions)| versions.first()?.bytes.clone().filter(|bytes| !bytes.is_empty()))
    }

    /// What there is now below `prefix`, in the order of names.
    pub fn entries(&self, prefix: &str, delimiter: Option<&str>) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        for (key, versions) in
            self.keys.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix))
        {
            let Some(held) = versions.first().filter(|held| held.bytes.is_some()) else { continue };
            let below = delimiter.and_then(|delimiter| key[prefix.len()..].split_once(delimiter));
            match below.zip(delimiter) {
                None => entries.push(Entry::Object(key.clone(), held.clone())),
                Some(((part, _), delimiter)) => {
                    let name = format!("{prefix}{part}{delimiter}");
                    if entries.last().is_none_or(|last| last.name() != name) {
                        entries.push(Entry::Below(name));
                    }
                }
            }
        }
        entries
    }

    /// All versions below `prefix` behind `after`, a key and a version of it (without one: all of them).
    pub fn versions(&self, prefix: &str, after: Option<(&str, Option<&str>)>) -> Vec<Told> {
        let mut told = Vec::new();
        for (key, versions) in
            self.keys.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix))
        {
            let behind = match after {
                Some((mark, _)) if **key < *mark => continue,
                Some((mark, None)) if key == mark => continue,
                Some((mark, Some(id))) if key == mark => {
                    versions.iter().position(|held| held.id == id).map_or(0, |at| at + 1)
                }
                _ => 0,
            };
            let versions = versions.iter().enumerate().skip(behind);
            told.extend(versions.map(|(nth, held)| Told {
                key: key.clone(),
                held: held.clone(),
                is_latest: nth == 0,
            }));
        }
        told
    }
}
