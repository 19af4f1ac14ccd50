//! A repository whose index was kept by an earlier mount.

use super::*;
use crate::cache::Folder;

/// A cache directory that goes with the test.
struct Cache(tempfile::TempDir);

impl Cache {
    fn new() -> Self {
        Cache(tempfile::tempdir().unwrap())
    }

    /// What a new process shares.
    fn shared(&self) -> Arc<Shared> {
        Shared::with_cache(Budget::of(64 << 20), Some(Folder::open(self.0.path()).unwrap()))
    }

    async fn opened(&self, store: &Arc<Watched>) -> Arc<dyn Source> {
        open(spec("restic-v2", store), self.shared()).await.unwrap()
    }

    fn files(&self) -> Vec<PathBuf> {
        let below = files(self.0.path(), "").into_iter().map(|(key, _)| self.0.path().join(key));
        below.filter(|path| !path.ends_with("lock")).collect()
    }

    /// The only segment, once it is the only file. The patience is for slow machines.
    async fn settled(&self) -> PathBuf {
        for _ in 0..2000 {
            match &self.files()[..] {
                [one] if one.extension().is_some_and(|extension| extension == "segment") => {
                    return one.clone();
                }
                _ => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            }
        }
        panic!("never settled: {:?}", self.files())
    }
}

fn store() -> Arc<Watched> {
    Watched::of(&fixture("restic-v2").join("repo"))
}

async fn check(source: &Arc<dyn Source>, what: &str) {
    let alpha = snapshot(source, "alpha", "/srv/data", 0);
    let root = open_path(source, &alpha, "/srv/data").await.node;
    assert_same(&manifest(&root).await, &expected("restic-v2", "alpha-1"), what);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_process_reads_no_index_file() {
    let (cache, store) = (Cache::new(), store());
    let first = cache.opened(&store).await;
    let read = store.take_asked("index/");
    assert_eq!(read.len(), 1 + store.keys("index/").len(), "a listing, and every file: {read:?}");
    check(&first, "the first").await;
    cache.settled().await;

    let second = cache.opened(&store).await;
    assert_eq!(store.take_asked("index/"), ["index/"]);
    check(&second, "the second").await;
    assert_eq!(store.take_asked("index/"), Vec::<String>::new());
    assert_eq!(first.health().usage.objects, second.health().usage.objects);
    assert_eq!(first.health().usage.bytes, second.health().usage.bytes);

    let without = open(spec("restic-v2", &store), shared()).await.unwrap();
    assert_eq!(store.take_asked("index/"), read, "without a cache every process reads all");
    assert_eq!(without.health().usage.objects, second.health().usage.objects);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_new_index_files_are_read() {
    let (cache, store) = (Cache::new(), store());
    let mut indexes = store.keys("index/");
    indexes.sort_by_key(|key| {
        store.inner.remove(key).map(|bytes| (bytes.len(), store.inner.insert(key, bytes).is_ok()))
    });
    let later = indexes.pop().unwrap();
    let bytes = store.inner.remove(&later).unwrap();
    drop(cache.opened(&store).await);
    cache.settled().await;
    store.inner.insert(&later, bytes).unwrap();
    store.take_asked("");

    let source = cache.opened(&store).await;
    assert_eq!(store.take_asked("index/"), ["index/".to_owned(), later]);
    check(&source, "old and new").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_segment_is_rebuilt_and_nothing_is_lost() {
    let (cache, store) = (Cache::new(), store());
    drop(cache.opened(&store).await);
    let segment = cache.settled().await;
    let good = std::fs::read(&segment).unwrap();
    // Every page of rows and packs; then the header.
    for (page, at_open) in [(1..good.len() / 4096, false), (0..1, true)] {
        let mut bytes = good.clone();
        page.for_each(|page| bytes[page * 4096 + 50] ^= 1);
        std::fs::write(&segment, &bytes).unwrap();
        store.take_asked("");
        let source = cache.opened(&store).await;
        let read = store.take_asked("index/").len();
        assert_eq!(read > 1, at_open, "{read}");
        check(&source, "over damage").await;
        assert_eq!(store.take_asked("index/").len() > 1, !at_open);
        assert_eq!(source.health().omitted, 0, "the repository is not damaged");
        while !std::fs::read(cache.settled().await).unwrap().starts_with(b"backupfs index 1")
            || segment.exists()
        {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let rebuilt = cache.settled().await;
        store.take_asked("");
        check(&cache.opened(&store).await, "rebuilt").await;
        assert_eq!(store.take_asked("index/"), ["index/"]);
        std::fs::remove_file(rebuilt).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_cannot_be_used_is_done_without() {
    let (cache, store) = (Cache::new(), store());
    std::fs::write(cache.0.path().join("index"), "in the way").unwrap();
    check(&cache.opened(&store).await, "without a cache").await;
    assert_eq!(cache.files().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_index_files_are_told_by_each_process() {
    let (cache, store) = (Cache::new(), store());
    let mut indexes = store.keys("index/");
    indexes.sort();
    store.change(&indexes[0], |bytes| bytes[20] ^= 1);
    let first = cache.opened(&store).await;
    assert_eq!(first.health().left_out.len(), 1);
    cache.settled().await;
    store.take_asked("");
    let second = cache.opened(&store).await;
    let damaged = indexes[0].as_str();
    assert_eq!(store.take_asked("index/"), ["index/", damaged, damaged], "it might have come wrong");
    assert_eq!(second.health().left_out, first.health().left_out);
}
