//! A store around a distant store, which keeps what it delivers whole and answers from that while the store cannot be
//! reached.
//!
//! * Objects that are named by the hash of what they hold never change: they are fetched once, kept when the hash is
//!   right, and answered from the cache from then on.
//! * Other small objects, and listings, are asked of the store each time. What it said last is the answer only while the
//!   store cannot be reached and has not answered a listing in the life of this process: whoever has seen the present is
//!   told of an outage and keeps what it has, rather than shown the past. A listing that takes long is answered from the
//!   cache, and goes on: what it brings is the present from then on.
//! * Ranges are not kept here: who reads them knows which parts of them are worth it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::{Class, Drawer};
use crate::error::{Error, Kind, Result};
use crate::store::{Level, ObjectInfo, ObjectStore, Outage, Pace};

/// A store that does not answer for so long cannot be reached, where the cache has an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A store that could not be reached is not asked again for so long, where the cache has an answer.
const REST: Duration = Duration::from_secs(5);

/// A listing that takes longer may never come: then it is asked for once more.
const SLOW: Duration = Duration::from_secs(15);

/// What may change is kept up to this size.
const SMALL: usize = 1 << 20;

/// What a repository is known by: random bytes that stay as they are as long as it is there.
const CONFIG: &str = "config";

/// A distant store with a cache.
pub struct Cached(Arc<Inner>);

struct Inner {
    store: Arc<dyn ObjectStore>,
    drawer: Drawer,
    /// A listing older than this is no answer.
    oldest: Option<Duration>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Prefixes whose listing the store itself answered.
    seen: HashSet<String>,
    /// The same of one level.
    seen_levels: HashSet<String>,
    /// Why the cache answers, since when, and as of when.
    outage: Option<Outage>,
    /// When the store could not be reached last, and why.
    failed: Option<(Instant, Error)>,
    /// Listings under way that may come too late for whoever asked, and since when.
    going: HashMap<Vec<String>, Instant>,
}

/// A listing under way, until this is dropped.
struct Going {
    inner: Arc<Inner>,
    prefixes: Vec<String>,
    since: Instant,
}

impl Cached {
    /// `store` with the cache in `drawer`. Listings `oldest` ago and before are not used.
    pub fn new(store: Arc<dyn ObjectStore>, drawer: Drawer, oldest: Option<Duration>) -> Self {
        Cached(Arc::new(Inner { store, drawer, oldest, state: Mutex::default() }))
    }
}

impl Going {
    /// `None` when the same is under way already and may well come yet.
    fn begin(inner: &Arc<Inner>, prefixes: Vec<String>) -> Option<Self> {
        let since = Instant::now();
        let mut state = inner.lock();
        if state.going.get(&prefixes).is_some_and(|since| since.elapsed() < SLOW) {
            return None;
        }
        state.going.insert(prefixes.clone(), since);
        Some(Going { inner: Arc::clone(inner), prefixes, since })
    }

    async fn list(self) -> Result<Vec<Vec<ObjectInfo>>> {
        let prefixes: Vec<&str> = self.prefixes.iter().map(String::as_str).collect();
        self.inner.list_now(&prefixes).await
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let mut state = self.inner.lock();
        if state.going.get(&self.prefixes) == Some(&self.since) {
            state.going.remove(&self.prefixes);
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store's answer, unless it failed to give one a moment ago; for what the cache may have an answer to.
    async fn ask<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        if let Some((_, error)) = self.lock().failed.as_ref().filter(|(since, _)| since.elapsed() < REST) {
            return Err(error.clone());
        }
        let answer = match tokio::time::timeout(PATIENCE, call).await {
            Ok(answer) => answer,
            Err(_) => Err(self.late()),
        };
        let failed = answer.as_ref().err().filter(|error| is_outage(error));
        self.lock().failed = failed.map(|error| (Instant::now(), error.clone()));
        answer
    }

    fn late(&self) -> Error {
        Error::new(Kind::TimedOut, format!("{}: no answer in {} s", self.store.name(), PATIENCE.as_secs()))
    }

    /// Asks for listings on a task of its own, which takes in what comes even when nobody waits for it any more.
    async fn ask_for_lists(self: &Arc<Self>, prefixes: &[&str]) -> Result<Vec<Vec<ObjectInfo>>> {
        let prefixes = prefixes.iter().map(|prefix| (*prefix).to_owned()).collect();
        self.ask(async {
            let going = Going::begin(self, prefixes).ok_or_else(|| self.late())?;
            let listed = tokio::spawn(going.list()).await;
            listed.map_err(|e| Error::caused_by(Kind::Internal, "listing ended", e))?
        })
        .await
    }

    /// From now on what was true `as_of` is shown, because of `error`. Errors: it is too old for that.
    fn go_without(&self, as_of: SystemTime, error: Error) -> Result<()> {
        let age = SystemTime::now().duration_since(as_of).unwrap_or_default();
        if self.oldest.is_some_and(|oldest| age > oldest) {
            let days = age.as_secs() / 86_400;
            let old = format!(
                "the store cannot be reached, and what the cache knows of it is {days} days old, which offline-max forbids"
            );
            return Err(error.context(old));
        }
        let mut state = self.lock();
        if state.outage.is_none() {
            tracing::warn!("{}: shown from the cache alone: {error}", self.store.name());
        }
        let error = state.outage.take().map_or(error, |outage| outage.error);
        state.outage = Some(Outage { error, as_of });
        Ok(())
    }

    async fn listed(self: &Arc<Self>, prefixes: &[&str]) -> Result<Vec<Vec<ObjectInfo>>> {
        let seen = prefixes.iter().any(|prefix| self.lock().seen.contains(*prefix));
        let kept = if seen { None } else { self.drawer.lists(prefixes).await };
        let Some(kept) = kept else { return self.list_now(prefixes).await };
        match self.ask_for_lists(prefixes).await {
            Err(error) if is_outage(&error) => self.go_without(kept.1, error).map(|()| kept.0),
            answer => answer,
        }
    }

    /// What the store says now, which is kept.
    async fn list_now(&self, prefixes: &[&str]) -> Result<Vec<Vec<ObjectInfo>>> {
        let lists = self.store.lists(prefixes).await?;
        self.drawer.put_lists(prefixes.iter().copied().zip(&lists));
        let mut state = self.lock();
        state.seen.extend(prefixes.iter().map(|prefix| (*prefix).to_owned()));
        state.failed = None;
        if state.outage.take().is_some() {
            tracing::warn!("{}: can be reached again", self.store.name());
        }
        Ok(lists)
    }

    async fn level(&self, prefix: &str) -> Result<Level> {
        let seen = self.lock().seen_levels.contains(prefix);
        let kept = if seen { None } else { self.drawer.level(prefix).await };
        let level = match kept {
            None => self.store.list_level(prefix).await?,
            Some((level, as_of)) => match self.ask(async { self.store.list_level(prefix).await }).await {
                Ok(level) => level,
                Err(error) if is_outage(&error) => return self.go_without(as_of, error).map(|()| level),
                Err(error) => return Err(error),
            },
        };
        self.drawer.put_level(prefix, &level);
        let mut state = self.lock();
        state.seen_levels.insert(prefix.to_owned());
        state.outage = None;
        Ok(level)
    }

    async fn whole(&self, key: &str, limit: u64) -> Result<Bytes> {
        let named = named_by_hash(key);
        let kept = self.drawer.object(key).await.filter(|kept| kept.len() as u64 <= limit);
        match (named, kept) {
            (Some(_), Some(kept)) => Ok(kept),
            (Some(hash), None) => {
                let object = self.store.get(key, limit).await?;
                if hash == digest(&SHA256, &object).as_ref() {
                    self.drawer.put_object(key, class_of(key), &object);
                }
                Ok(object)
            }
            (None, Some(kept)) => match self.ask(async { self.store.get(key, limit).await }).await {
                Ok(object) if object == kept => Ok(object),
                Ok(object) => {
                    // Another repository is here than the one that was listed.
                    if key == CONFIG {
                        self.drawer.forget_lists();
                    }
                    Ok(self.keep_small(key, object))
                }
                Err(error) if is_outage(&error) => Ok(kept),
                Err(error) => Err(error),
            },
            (None, None) => Ok(self.keep_small(key, self.store.get(key, limit).await?)),
        }
    }

    fn keep_small(&self, key: &str, object: Bytes) -> Bytes {
        if object.len() <= SMALL {
            self.drawer.put_object(key, Class::Metadata, &object);
        }
        object
    }
}

/// Whether the store could not be asked, rather than said no.
fn is_outage(error: &Error) -> bool {
    matches!(error.kind(), Kind::Unavailable | Kind::TimedOut)
}

/// The hash by which an object is named, if it is.
fn named_by_hash(key: &str) -> Option<[u8; 32]> {
    let name = key.rsplit('/').next().filter(|name| name.len() == 64)?;
    let mut hash = [0; 32];
    for (byte, digits) in hash.iter_mut().zip(name.as_bytes().as_chunks::<2>().0) {
        let digits = std::str::from_utf8(digits)
            .ok()
            .filter(|digits| digits.bytes().all(|d| d.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(hash)
}

/// Index files are large, and what they say is kept elsewhere too.
fn class_of(key: &str) -> Class {
    if key.starts_with("index/") { Class::Data } else { Class::Metadata }
}

impl ObjectStore for Cached {
    fn name(&self) -> &str {
        self.0.store.name()
    }

    fn pace(&self) -> Pace {
        self.0.store.pace()
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<ObjectInfo>>> {
        async move { Ok(self.0.listed(&[prefix]).await?.pop().unwrap_or_default()) }.boxed()
    }

    fn lists<'a>(&'a self, prefixes: &'a [&'a str]) -> BoxFuture<'a, Result<Vec<Vec<ObjectInfo>>>> {
        self.0.listed(prefixes).boxed()
    }

    fn list_level<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Level>> {
        self.0.level(prefix).boxed()
    }

    fn stat<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<ObjectInfo>> {
        self.0.store.stat(key)
    }

    fn get<'a>(&'a self, key: &'a str, limit: u64) -> BoxFuture<'a, Result<Bytes>> {
        self.0.whole(key, limit).boxed()
    }

    fn get_range<'a>(&'a self, key: &'a str, offset: u64, length: u64) -> BoxFuture<'a, Result<Bytes>> {
        self.0.store.get_range(key, offset, length)
    }

    fn outage(&self) -> Option<Outage> {
        self.0.lock().outage.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Disk, Folder};
    use crate::store::Memory;

    /// A store far away that can be unplugged; it remembers what it was asked.
    struct Far {
        inner: Memory,
        answers: Mutex<Option<Kind>>,
        asked: Mutex<Vec<String>>,
        stalls: std::sync::atomic::AtomicBool,
        /// How long a listing takes.
        slow: Mutex<Duration>,
        /// What alone fails.
        fails: Mutex<Option<&'static str>>,
    }

    impl Far {
        fn new(objects: &[(&str, &str)]) -> Arc<Self> {
            let inner = Memory::new();
            objects.iter().for_each(|(key, content)| inner.insert(key, (*content).to_owned()).unwrap());
            let stalls = std::sync::atomic::AtomicBool::new(false);
            let (answers, asked, slow) = (Mutex::default(), Mutex::default(), Mutex::default());
            Arc::new(Far { inner, answers, asked, stalls, slow, fails: Mutex::default() })
        }

        /// Listings of `prefix` alone fail.
        fn fail_on(&self, prefix: Option<&'static str>) {
            *self.fails.lock().unwrap() = prefix;
        }

        fn fail(&self, kind: Option<Kind>) {
            *self.answers.lock().unwrap() = kind;
        }

        fn asked(&self) -> Vec<String> {
            std::mem::take(&mut *self.asked.lock().unwrap())
        }

        fn meet<'a, T: Send + 'a>(
            &self,
            what: &str,
            call: BoxFuture<'a, Result<T>>,
        ) -> BoxFuture<'a, Result<T>> {
            self.asked.lock().unwrap().push(what.to_owned());
            let fails = (*self.fails.lock().unwrap() == Some(what)).then_some(Kind::Unavailable);
            let kind = fails.or(*self.answers.lock().unwrap());
            let stalls = self.stalls.load(std::sync::atomic::Ordering::SeqCst);
            async move {
                match kind {
                    _ if stalls => std::future::pending().await,
                    Some(kind) => Err(Error::new(kind, "unplugged")),
                    None => call.await,
                }
            }
            .boxed()
        }
    }

    impl ObjectStore for Far {
        fn name(&self) -> &str {
            "far"
        }

        fn pace(&self) -> Pace {
            Pace { latency: Duration::from_millis(30), bandwidth: 1 << 20 }
        }

        fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<ObjectInfo>>> {
            let slow = *self.slow.lock().unwrap();
            let listing = self.meet(prefix, self.inner.list(prefix));
            async move {
                tokio::time::sleep(slow).await;
                listing.await
            }
            .boxed()
        }

        fn list_level<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Level>> {
            self.meet(prefix, self.inner.list_level(prefix))
        }

        fn stat<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<ObjectInfo>> {
            self.meet(key, self.inner.stat(key))
        }

        fn get<'a>(&'a self, key: &'a str, limit: u64) -> BoxFuture<'a, Result<Bytes>> {
            self.meet(key, self.inner.get(key, limit))
        }

        fn get_range<'a>(&'a self, key: &'a str, offset: u64, length: u64) -> BoxFuture<'a, Result<Bytes>> {
            self.meet(key, self.inner.get_range(key, offset, length))
        }
    }

    struct Bed {
        dir: tempfile::TempDir,
        far: Arc<Far>,
    }

    impl Bed {
        fn new(objects: &[(&str, &str)]) -> Self {
            Bed { dir: tempfile::tempdir().unwrap(), far: Far::new(objects) }
        }

        /// The store as a new process sees it.
        fn opened(&self, oldest: Option<Duration>) -> (Cached, Arc<Disk>) {
            let disk = Disk::open(&Folder::open(self.dir.path()).unwrap(), 1 << 30).unwrap();
            let far: Arc<dyn ObjectStore> = Arc::<Far>::clone(&self.far);
            (Cached::new(far, Drawer::new(Arc::clone(&disk), "far", "far"), oldest), disk)
        }
    }

    const MUCH: u64 = 1 << 20;
    const LONG: Duration = Duration::from_secs(60);

    fn hash_of(content: &str) -> String {
        digest(&SHA256, content.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn keys(objects: &[ObjectInfo]) -> Vec<&str> {
        objects.iter().map(|object| object.key.as_str()).collect()
    }

    #[test]
    fn names_that_are_hashes_are_known() {
        let name = hash_of("x");
        assert_eq!(named_by_hash(&format!("snapshots/{name}")).unwrap(), digest(&SHA256, b"x").as_ref());
        assert!(named_by_hash(&name).is_some());
        for other in
            ["config", "", "keys/", &name[1..], &format!("{name}0"), &name.replacen(|_| true, "g", 1)]
        {
            assert_eq!(named_by_hash(other), None, "{other}");
        }
        assert_eq!(named_by_hash(&format!("+{}", &name[1..])), None, "a sign is no digit");
    }

    #[tokio::test]
    async fn what_is_named_by_its_hash_is_fetched_once() {
        let key = format!("snapshots/{}", hash_of("content"));
        let wrong = format!("snapshots/{}", hash_of("other"));
        let bed = Bed::new(&[(&key, "content"), (&wrong, "damaged")]);
        for _ in 0..2 {
            let (store, disk) = bed.opened(None);
            assert_eq!(store.get(&key, MUCH).await.unwrap(), "content");
            assert_eq!(store.get(&wrong, MUCH).await.unwrap(), "damaged", "as the store has it");
            disk.flush(LONG);
        }
        assert_eq!(bed.far.asked(), [&key, &wrong, &wrong].map(String::as_str), "what is wrong is not kept");
        let (store, _) = bed.opened(None);
        assert_eq!(store.get(&key, 3).await.unwrap_err().kind(), Kind::Unsupported);
    }

    #[tokio::test]
    async fn while_the_store_is_there_everything_is_as_it_says() {
        let bed = Bed::new(&[("config", "one"), ("keys/a", "")]);
        let (store, disk) = bed.opened(None);
        assert_eq!(store.get("config", MUCH).await.unwrap(), "one");
        assert_eq!(keys(&store.list("keys/").await.unwrap()), ["keys/a"]);
        disk.flush(LONG);
        bed.far.inner.insert("config", "other").unwrap();
        bed.far.inner.remove("keys/a");
        let (store, _) = bed.opened(None);
        assert_eq!(store.get("config", MUCH).await.unwrap(), "other");
        assert!(store.list("keys/").await.unwrap().is_empty());
        assert!(store.outage().is_none());
        bed.far.inner.remove("config");
        assert_eq!(store.get("config", MUCH).await.unwrap_err().kind(), Kind::NotFound);
    }

    #[tokio::test]
    async fn a_process_that_never_saw_the_store_is_told_what_it_said_last() {
        let bed = Bed::new(&[("config", "one"), ("keys/a", "")]);
        let (store, disk) = bed.opened(None);
        store.get("config", MUCH).await.unwrap();
        store.list("keys/").await.unwrap();
        disk.flush(LONG);
        for kind in [Kind::Unavailable, Kind::TimedOut] {
            bed.far.fail(Some(kind));
            bed.far.asked();
            let (store, _) = bed.opened(None);
            assert_eq!(keys(&store.list("keys/").await.unwrap()), ["keys/a"]);
            assert_eq!(store.get("config", MUCH).await.unwrap(), "one");
            assert_eq!(bed.far.asked().len(), 1, "it is not asked again at once");
            assert!(store.list("index/").await.is_err(), "never listed");
            let outage = store.outage().unwrap();
            assert_eq!(outage.error.to_string(), "unplugged");
            assert!(outage.as_of.elapsed().unwrap() < LONG);
        }
        for kind in [Kind::Denied, Kind::NotFound, Kind::Corrupt] {
            bed.far.fail(Some(kind));
            let (store, _) = bed.opened(None);
            assert_eq!(store.list("keys/").await.unwrap_err().kind(), kind, "it was reached, and said no");
            assert_eq!(store.get("config", MUCH).await.unwrap_err().kind(), kind);
        }
    }

    #[tokio::test]
    async fn a_process_that_saw_the_store_is_told_of_the_outage() {
        let bed = Bed::new(&[("keys/a", "")]);
        let (store, disk) = bed.opened(None);
        store.list("keys/").await.unwrap();
        disk.flush(LONG);
        bed.far.fail(Some(Kind::Unavailable));
        assert_eq!(store.list("keys/").await.unwrap_err().kind(), Kind::Unavailable);
        assert!(store.outage().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_store_is_asked_again_and_an_outage_ends() {
        let bed = Bed::new(&[("keys/a", "")]);
        let (store, disk) = bed.opened(None);
        store.list("keys/").await.unwrap();
        disk.flush(LONG);
        let (store, _) = bed.opened(None);
        bed.far.stalls.store(true, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(keys(&store.list("keys/").await.unwrap()), ["keys/a"]);
        assert_eq!(store.outage().unwrap().error.kind(), Kind::TimedOut);
        bed.far.stalls.store(false, std::sync::atomic::Ordering::SeqCst);
        bed.far.inner.insert("keys/b", "").unwrap();
        tokio::time::sleep(SLOW).await;
        assert_eq!(store.list("keys/").await.unwrap().len(), 2);
        assert!(store.outage().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_listing_is_answered_from_the_cache_and_taken_in_when_it_comes() {
        let bed = Bed::new(&[("keys/a", "")]);
        let (store, disk) = bed.opened(None);
        store.list("keys/").await.unwrap();
        disk.flush(LONG);
        let (store, disk) = bed.opened(None);
        bed.far.inner.insert("keys/b", "").unwrap();
        *bed.far.slow.lock().unwrap() = PATIENCE * 2;
        bed.far.asked();
        assert_eq!(keys(&store.list("keys/").await.unwrap()), ["keys/a"]);
        assert_eq!(store.outage().unwrap().error.kind(), Kind::TimedOut);
        assert_eq!(keys(&store.list("keys/").await.unwrap()), ["keys/a"]);
        tokio::time::sleep(PATIENCE * 2).await;
        assert!(store.outage().is_none(), "it came");
        assert_eq!(bed.far.asked().len(), 1, "and was asked for once");
        assert_eq!(store.list("keys/").await.unwrap().len(), 2, "who has seen it is not shown the past");
        disk.flush(LONG);
        bed.far.fail(Some(Kind::Unavailable));
        let (store, _) = bed.opened(None);
        assert_eq!(store.list("keys/").await.unwrap().len(), 2, "it was kept");
    }

    #[tokio::test]
    async fn lists_that_belong_together_are_all_new_or_all_from_the_cache() {
        let bed = Bed::new(&[("snapshots/a", ""), ("index/a", "")]);
        let both = &["snapshots/", "index/"];
        let (store, disk) = bed.opened(None);
        store.lists(both).await.unwrap();
        disk.flush(LONG);
        bed.far.inner.insert("snapshots/b", "").unwrap();
        bed.far.inner.insert("index/b", "").unwrap();
        bed.far.fail_on(Some("index/"));
        for _ in 0..2 {
            let (store, disk) = bed.opened(None);
            let lists = store.lists(both).await.unwrap();
            assert_eq!(
                lists.iter().map(|list| keys(list)).collect::<Vec<_>>(),
                [["snapshots/a"], ["index/a"]]
            );
            assert!(store.outage().is_some());
            disk.flush(LONG);
        }
        bed.far.fail_on(None);
        let (store, _) = bed.opened(None);
        assert!(store.lists(both).await.unwrap().iter().all(|list| list.len() == 2));
        bed.far.fail_on(Some("index/"));
        assert_eq!(store.lists(both).await.unwrap_err().kind(), Kind::Unavailable);
    }

    #[tokio::test]
    async fn what_is_too_old_is_no_answer() {
        let bed = Bed::new(&[("keys/a", "")]);
        let (store, disk) = bed.opened(None);
        store.list("keys/").await.unwrap();
        disk.flush(LONG);
        bed.far.fail(Some(Kind::Unavailable));
        let (store, _) = bed.opened(Some(Duration::ZERO));
        let error = store.list("keys/").await.unwrap_err();
        assert!(error.to_string().contains("which offline-max forbids: unplugged"), "{error}");
        assert_eq!(error.kind(), Kind::Unavailable);
        let (store, _) = bed.opened(Some(LONG));
        assert!(store.list("keys/").await.is_ok());
    }

    #[tokio::test]
    async fn one_level_is_told_as_it_was_last_and_is_no_listing_of_all() {
        let bed = Bed::new(&[("a/config", ""), ("b/config", ""), ("file", "")]);
        let (store, disk) = bed.opened(None);
        let seen = store.list_level("").await.unwrap();
        disk.flush(LONG);
        bed.far.fail(Some(Kind::Unavailable));
        assert_eq!(
            store.list_level("").await.unwrap_err().kind(),
            Kind::Unavailable,
            "it has seen the present"
        );
        let (store, _) = bed.opened(None);
        let level = store.list_level("").await.unwrap();
        assert_eq!((level.below.len(), keys(&level.objects)), (seen.below.len(), vec!["file"]));
        assert!(store.outage().is_some());
        assert!(store.list("").await.is_err() && store.list_level("a/").await.is_err(), "never listed");
    }

    #[tokio::test]
    async fn listings_of_a_repository_that_is_another_now_are_forgotten() {
        let bed = Bed::new(&[("config", "one"), ("keys/a", "")]);
        let (store, disk) = bed.opened(None);
        store.get("config", MUCH).await.unwrap();
        store.list("keys/").await.unwrap();
        disk.flush(LONG);
        bed.far.inner.insert("config", "other").unwrap();
        let (store, disk) = bed.opened(None);
        store.get("config", MUCH).await.unwrap();
        disk.flush(LONG);
        bed.far.fail(Some(Kind::Unavailable));
        let (store, _) = bed.opened(None);
        assert_eq!(store.get("config", MUCH).await.unwrap(), "other");
        assert!(store.list("keys/").await.is_err());
    }

    #[tokio::test]
    async fn stores_of_one_name_do_not_answer_for_each_other() {
        let bed = Bed::new(&[("config", "one"), ("keys/a", "")]);
        let (store, disk) = bed.opened(None);
        store.get("config", MUCH).await.unwrap();
        store.list("keys/").await.unwrap();
        disk.flush(LONG);
        bed.far.fail(Some(Kind::Unavailable));
        let far: Arc<dyn ObjectStore> = Arc::<Far>::clone(&bed.far);
        let other = Cached::new(far, Drawer::new(disk, "far", "far").of("another place"), None);
        assert!(other.get("config", MUCH).await.is_err() && other.list("keys/").await.is_err());
    }
}
