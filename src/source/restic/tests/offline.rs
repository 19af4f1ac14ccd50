//! A distant repository with a warm disk cache, unplugged.

use std::time::{Duration, SystemTime};

use super::*;
use crate::cache::{Cached, Disk, Drawer, Folder};

struct Bed {
    dir: tempfile::TempDir,
    name: &'static str,
    store: Arc<Watched>,
}

impl Bed {
    fn new(name: &'static str) -> Self {
        let store = Watched::of(&fixture(name).join("repo"));
        Bed { dir: tempfile::tempdir().unwrap(), name, store }
    }

    /// The repository as a new process opens it. Decoded indexes are kept only where `shelf` says so.
    async fn opened(&self, oldest: Option<Duration>, shelf: bool) -> (Arc<Disk>, Result<Arc<dyn Source>>) {
        let folder = || Folder::open(self.dir.path()).unwrap();
        let disk = Disk::open(&folder(), 1 << 30).unwrap();
        let drawer = Drawer::new(Arc::clone(&disk), "watched", "home");
        let store: Arc<dyn ObjectStore> = Arc::<Watched>::clone(&self.store);
        let store: Arc<dyn ObjectStore> = Arc::new(Cached::new(store, drawer.clone(), oldest));
        let spec = Spec { store, drawer: Some(drawer), ..spec(self.name, &self.store) };
        let shared = Shared::with_cache(Budget::of(64 << 20), shelf.then(folder));
        (disk, open(spec, shared).await)
    }

    /// Every entry of every path of every snapshot.
    async fn everything(source: &Arc<dyn Source>) -> BTreeMap<String, BTreeMap<String, Value>> {
        let mut all = BTreeMap::new();
        for snapshot in &*source.snapshots() {
            for (number, path) in snapshot.paths.iter().enumerate() {
                let node = source.open(&snapshot.id, number).resolve().await.unwrap().node;
                let rows = match node.content {
                    Content::Dir(_) => manifest(&node).await,
                    _ => BTreeMap::from([(String::new(), row("", &node).await)]),
                };
                all.insert(format!("{} {}", snapshot.id, printable(path)), rows);
            }
        }
        all
    }

    /// Reads everything once, as a process does that ends then.
    async fn warm(&self) -> BTreeMap<String, BTreeMap<String, Value>> {
        let (disk, source) = self.opened(None, false).await;
        let all = Self::everything(&source.unwrap()).await;
        disk.flush(Duration::from_secs(60));
        self.store.take_asked("");
        all
    }

    fn plug(&self, is_in: bool) {
        self.store.is_down.store(!is_in, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_once_is_all_there_without_the_store() {
    for name in ["restic-v1", "restic-v2"] {
        let bed = Bed::new(name);
        let before = SystemTime::now() - Duration::from_secs(1);
        let warm = bed.warm().await;
        bed.plug(false);
        for shelf in [false, true, true] {
            let (_disk, source) = bed.opened(None, shelf).await;
            let source = source.unwrap();
            assert_eq!(Bed::everything(&source).await, warm, "{name}");
            let health = source.health();
            let told = health.error.unwrap().to_string();
            assert!(
                told.contains("shown from the cache alone: ") && told.ends_with("the store is down"),
                "{told}"
            );
            assert!(health.listed.unwrap() > before && health.listed.unwrap() <= SystemTime::now());
            assert!(source.refresh().await.is_err(), "a refresh says so too");
            assert_eq!(Bed::everything(&source).await, warm, "and changes nothing");
        }
        assert_eq!(bed.store.take_asked("data/"), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_cache_is_asked_before_the_store() {
    let bed = Bed::new("restic-v2");
    let warm = bed.warm().await;
    let (_disk, source) = bed.opened(None, true).await;
    assert_eq!(Bed::everything(&source.unwrap()).await, warm);
    let mut asked = bed.store.take_asked("");
    asked.sort();
    assert_eq!(asked, ["config", "index/", "keys/", "snapshots/"], "what may have changed, and nothing else");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_when_the_store_is_back() {
    let bed = Bed::new("restic-v2");
    let warm = bed.warm().await;
    bed.plug(false);
    let (_disk, source) = bed.opened(None, false).await;
    let source = source.unwrap();
    bed.plug(true);
    // Nobody knocks again at once.
    let back = async {
        while source.refresh().await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await
        }
    };
    tokio::time::timeout(Duration::from_secs(60), back).await.unwrap();
    assert!(source.health().error.is_none());
    assert_eq!(Bed::everything(&source).await, warm);
    bed.plug(false);
    assert!(source.refresh().await.is_err());
    assert!(!source.health().error.unwrap().to_string().contains("cache"), "it was seen meanwhile");
    assert_eq!(Bed::everything(&source).await, warm);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_read_is_an_error_and_no_absence() {
    let bed = Bed::new("restic-v2");
    let (disk, source) = bed.opened(None, true).await;
    let count = source.unwrap().snapshots().len();
    disk.flush(Duration::from_secs(60));
    drop(disk);
    bed.plug(false);
    let (_disk, source) = bed.opened(None, true).await;
    let source = source.unwrap();
    assert_eq!(source.snapshots().len(), count);
    let snapshot = snapshot(&source, "alpha", "/srv/data", 0);
    let error = source.open(&snapshot.id, 0).resolve().await.err().unwrap();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_nobody_knows_and_one_listed_too_long_ago_cannot_be_opened() {
    let bed = Bed::new("restic-v2");
    bed.plug(false);
    let (_, source) = bed.opened(None, true).await;
    assert_eq!(source.err().unwrap().kind(), Kind::Unavailable);
    bed.plug(true);
    bed.warm().await;
    bed.plug(false);
    let (_, source) = bed.opened(Some(Duration::ZERO), true).await;
    let error = source.err().unwrap();
    assert!(error.to_string().contains("offline-max"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_anywhere_in_the_cache_is_fetched_again() {
    let bed = Bed::new("restic-v2");
    let warm = bed.warm().await;
    let stored = bed.dir.path().join("stored");
    for file in std::fs::read_dir(&stored).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some() {
            let mut bytes = std::fs::read(&path).unwrap();
            (50..bytes.len()).step_by(997).for_each(|at| bytes[at] ^= 1);
            std::fs::write(path, bytes).unwrap();
        }
    }
    let (_disk, source) = bed.opened(None, false).await;
    let source = source.unwrap();
    assert_eq!(Bed::everything(&source).await, warm);
    assert_eq!((source.health().omitted, source.health().error.is_none()), (0, true));
    assert!(!bed.store.take_asked("data/").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_in_the_cache_tells_more_than_the_repository() {
    let bed = Bed::new("restic-v2");
    bed.warm().await;
    let (disk, source) = bed.opened(None, true).await;
    Bed::everything(&source.unwrap()).await;
    disk.flush(Duration::from_secs(60));
    for (name, bytes) in files(bed.dir.path(), "") {
        for secret in ["\"hostname\"", "alpha", "srv/data", "\"tree\"", "scrypt", "hunter"] {
            let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!found, "{name} holds {secret}");
        }
    }
}
