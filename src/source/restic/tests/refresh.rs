//! A repository that changes while it is read.

use super::*;
use crate::store::faulty::{Fault, FaultyStore, Rule};

/// Moves a file out of the store; the answer puts it back.
fn take(store: &Watched, key: &str) -> (String, Bytes) {
    (key.to_owned(), store.inner.remove(key).unwrap())
}

fn put(store: &Watched, files: Vec<(String, Bytes)>) {
    for (key, bytes) in files {
        store.inner.insert(&key, bytes).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_snapshots_appear_and_removed_ones_go() {
    let (store, source) = opened("restic-v2").await;
    assert!(!source.refresh().await.unwrap());
    assert_eq!(store.take_asked(""), ["snapshots/", "index/"]);

    let gone = snapshot(&source, "beta", "/opt/app", 0);
    let file = take(&store, &format!("snapshots/{}", gone.id));
    assert!(source.refresh().await.unwrap());
    assert_eq!(source.snapshots().len(), 9);
    assert!(!source.refresh().await.unwrap());
    let Err(error) = source.open(&gone.id, 0).resolve().await else { panic!("it opened") };
    assert_eq!(error.kind(), Kind::Stale);

    store.take_asked("");
    put(&store, vec![file]);
    assert!(source.refresh().await.unwrap());
    assert_eq!(source.snapshots().len(), 10);
    assert_eq!(store.take_asked("snapshots/").len(), 2, "one listing, one new file");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_wrong_listing_removes_nothing() {
    let (store, source) = opened("restic-v2").await;
    let index = store.keys("index/").remove(0);
    store.lie("snapshots/", &[index.strip_prefix("index/").unwrap()]);
    assert!(!source.refresh().await.unwrap(), "nothing changed");
    assert!(store.lies.lock().unwrap().is_empty());
    assert_eq!(source.snapshots().len(), 10);
    let error = source.health().error.unwrap();
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    assert!(!source.refresh().await.unwrap());
    assert!(source.health().error.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_changes_nothing_and_is_told() {
    let (store, source) = opened("restic-v2").await;
    let alpha = snapshot(&source, "alpha", "/srv/data", 0);
    let root = open_path(&source, &alpha, "/srv/data").await.node;
    entries(&*dir(&root)).await;
    store.is_down.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(source.refresh().await.unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(source.snapshots().len(), 10);
    }
    assert_eq!(source.health().error.unwrap().kind(), Kind::Unavailable);
    assert!(!entries(&*dir(&root)).await.is_empty(), "what is in memory stays readable");
    store.is_down.store(false, Ordering::SeqCst);
    assert!(!source.refresh().await.unwrap());
    assert!(source.health().error.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_listed_and_cannot_be_found_is_told_and_never_taken_for_removed() {
    let watched = Watched::of(&fixture("restic-v2").join("repo"));
    let store = FaultyStore::new(Arc::<Watched>::clone(&watched));
    let behind = |store: &Arc<FaultyStore>| {
        let store: Arc<dyn ObjectStore> = Arc::<FaultyStore>::clone(store);
        Spec { store, ..spec("restic-v2", &watched) }
    };
    let lying = store.add(Rule::new(Fault::Fail(Kind::NotFound)).keys("snapshots/"));
    let error = open(behind(&store), shared()).await.err().unwrap();
    assert_eq!(error.kind(), Kind::Unavailable, "not an empty repository: {error}");
    assert!(lying.hits() > 0);
    store.heal();
    store.add(Rule::new(Fault::Fail(Kind::NotFound)).keys("snapshots/").times(1));
    let source = open(behind(&store), shared()).await.unwrap();
    assert_eq!(source.snapshots().len(), 9);
    let error = source.health().error.unwrap();
    assert!(error.to_string().contains("it is listed"), "{error}");
    store.heal();
    assert!(source.refresh().await.unwrap());
    assert_eq!((source.snapshots().len(), source.health().error.is_none()), (10, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_went_away_is_not_an_empty_repository() {
    let (store, source) = opened("restic-v2").await;
    let everything: Vec<_> = store.keys("").iter().map(|key| take(&store, key)).collect();
    assert_eq!(source.refresh().await.unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(source.snapshots().len(), 10);
    put(&store, everything);
    assert!(!source.refresh().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn content_of_a_removed_snapshot_is_stale_once_it_is_gone() {
    let (store, source) = opened("restic-v2").await;
    let alpha = snapshot(&source, "alpha", "/srv/data", 0);
    let root = open_path(&source, &alpha, "/srv/data").await.node;
    let file = entries(&*dir(&root)).await.into_iter().find(|(_, node)| node.meta.kind == FileType::Dir);
    let inner = file.unwrap().1;
    for pack in store.keys("data/") {
        store.inner.remove(&pack).unwrap();
    }
    let error = dir(&inner).listing().resolve().await.map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "while it is listed: {error}");
    store.inner.remove(&format!("snapshots/{}", alpha.id)).unwrap();
    source.refresh().await.unwrap();
    let error = dir(&inner).listing().resolve().await.map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), Kind::Stale, "{error}");
    let (name, text) = (inner.meta.kind, error.to_string());
    assert!(text.contains("/srv/data/"), "{name:?} {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_of_an_index_file_that_appears_later_are_found_when_needed() {
    let store = Watched::of(&fixture("restic-v2").join("repo"));
    let mut indexes: Vec<_> = store.keys("index/").iter().map(|key| take(&store, key)).collect();
    indexes.sort_by_key(|(_, bytes)| bytes.len());
    let large = indexes.pop().unwrap();
    put(&store, indexes);
    let source = open(spec("restic-v2", &store), shared()).await.unwrap();
    put(&store, vec![large]);
    let alpha = snapshot(&source, "alpha", "/srv/data", 0);
    let root = open_path(&source, &alpha, "/srv/data").await.node;
    assert_same(&manifest(&root).await, &expected("restic-v2", "alpha-1"), "after one listing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_repository_is_not_listed_for_each_damaged_file() {
    let (store, source) = opened("restic-v2").await;
    let alpha = snapshot(&source, "alpha", "/srv/data", 0);
    let root = open_path(&source, &alpha, "/srv/data").await.node;
    let many = dir(&root).lookup(b"many").resolve().await.unwrap().unwrap();
    let files = entries(&*dir(&many)).await;
    for pack in store.keys("data/") {
        store.inner.remove(&pack).unwrap();
    }
    store.take_asked("");
    for (_, node) in files.iter().filter(|(_, node)| node.meta.size > 0).take(100) {
        assert_eq!(contents(node).await.unwrap_err().kind(), Kind::Corrupt);
    }
    let listings = store.take_asked("index/").len();
    assert!((1..20).contains(&listings), "{listings} listings for 100 files");
    assert_eq!(source.health().omitted, 100, "each is counted, once");
}
