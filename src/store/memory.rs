//! A store in memory: for tests, the demo and benches. Objects come and go through methods outside the trait.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};

use super::key::{check_key, check_limit, check_prefix, check_range};
use super::{Level, ObjectInfo, ObjectStore, Pace};
use crate::error::{Error, Kind, Result};

/// Objects in memory, by key.
#[derive(Debug, Default)]
pub struct Memory {
    objects: RwLock<BTreeMap<String, Bytes>>,
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts an object, replacing what was there. Errors: `Invalid` when `key` is none.
    pub fn insert(&self, key: &str, bytes: impl Into<Bytes>) -> Result<()> {
        check_key(key)?;
        // A map is never left half changed, so a poisoned lock guards a sound one.
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        objects.insert(key.to_owned(), bytes.into());
        Ok(())
    }

    /// Takes an object out and answers it, if it was there.
    pub fn remove(&self, key: &str) -> Option<Bytes> {
        self.objects.write().unwrap_or_else(PoisonError::into_inner).remove(key)
    }

    fn object(&self, key: &str) -> Result<Bytes> {
        check_key(key)?;
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        objects.get(key).cloned().ok_or_else(|| Error::new(Kind::NotFound, format!("{key}: no such object")))
    }

    fn objects_below(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        check_prefix(prefix)?;
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        let below = objects.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        Ok(below.map(|(key, bytes)| ObjectInfo { key: key.clone(), size: bytes.len() as u64 }).collect())
    }

    fn level_below(&self, prefix: &str) -> Result<Level> {
        let mut level = Level::default();
        for object in self.objects_below(prefix)? {
            match object.key.get(prefix.len()..).and_then(|rest| rest.find('/')) {
                None => level.objects.push(object),
                Some(slash) => {
                    let below = object.key.get(..=prefix.len() + slash).unwrap_or_default();
                    // Those of one prefix lie together.
                    if level.below.last().is_none_or(|last| last != below) {
                        level.below.push(below.to_owned());
                    }
                }
            }
        }
        Ok(level)
    }
}

impl ObjectStore for Memory {
    fn name(&self) -> &str {
        "memory"
    }

    fn pace(&self) -> Pace {
        Pace::LOCAL
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<ObjectInfo>>> {
        ready(self.objects_below(prefix)).boxed()
    }

    fn list_level<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Level>> {
        ready(self.level_below(prefix)).boxed()
    }

    fn stat<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<ObjectInfo>> {
        let info = |bytes: Bytes| ObjectInfo { key: key.to_owned(), size: bytes.len() as u64 };
        ready(self.object(key).map(info)).boxed()
    }

    fn get<'a>(&'a self, key: &'a str, limit: u64) -> BoxFuture<'a, Result<Bytes>> {
        let whole = |bytes: Bytes| check_limit(key, bytes.len() as u64, limit).map(|()| bytes);
        ready(self.object(key).and_then(whole)).boxed()
    }

    fn get_range<'a>(&'a self, key: &'a str, offset: u64, length: u64) -> BoxFuture<'a, Result<Bytes>> {
        let slice = |bytes: Bytes| {
            check_range(key, bytes.len() as u64, offset, length)?;
            // Both lie within the length of a slice, which is a usize.
            let (Ok(offset), Ok(length)) = (usize::try_from(offset), usize::try_from(length)) else {
                return Err(Error::new(Kind::Internal, "a range in memory beyond memory"));
            };
            Ok(bytes.slice(offset..offset + length))
        };
        ready(self.object(key).and_then(slice)).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_inserted_is_served_until_it_is_removed() {
        let store = Memory::new();
        store.insert("data/00/x", "old").unwrap();
        store.insert("data/00/x", "new").unwrap();
        assert_eq!(store.get("data/00/x", 99).await.unwrap(), "new");
        assert_eq!(store.remove("data/00/x").unwrap(), "new");
        assert_eq!(store.get("data/00/x", 99).await.unwrap_err().kind(), Kind::NotFound);
        assert!(store.remove("data/00/x").is_none());
    }

    #[test]
    fn what_could_never_be_asked_for_is_not_taken() {
        assert_eq!(Memory::new().insert("../x", "y").unwrap_err().kind(), Kind::Invalid);
    }

    #[tokio::test]
    async fn ranges_share_the_object_instead_of_copying_it() {
        let store = Memory::new();
        let object = Bytes::from(vec![7; 100]);
        store.insert("k", object.clone()).unwrap();
        let range = store.get_range("k", 10, 20).await.unwrap();
        assert_eq!(range.as_ptr(), object[10..].as_ptr());
    }
}
