//! What opening a repository says when it cannot.

use super::*;

async fn refusal(spec: Spec) -> Error {
    match open(spec, shared()).await {
        Ok(_) => panic!("it opened"),
        Err(error) => error,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_as_such() {
    let store = Watched::of(&fixture("restic-v2").join("repo"));
    let mut spec = spec("restic-v2", &store);
    spec.password = b"wrong".as_slice().into();
    let error = refusal(spec).await;
    assert_eq!(error.kind(), Kind::Password);
    assert!(error.to_string().starts_with("restic-v2: "), "{error}");
}

/// How often what `work` asks of a store has to wait for what it asked before.
async fn rounds<T>(store: &Watched, work: impl Future<Output = T>) -> (u64, T) {
    const ROUND: Duration = Duration::from_secs(1);
    *store.distance.lock().unwrap() = ROUND;
    let begun = tokio::time::Instant::now();
    let done = work.await;
    (begun.elapsed().as_secs() / ROUND.as_secs(), done)
}

#[tokio::test(start_paused = true)]
async fn opening_takes_three_rounds_however_many_files_there_are() {
    for name in ["restic-v1", "restic-v2"] {
        let store = Watched::of(&fixture(name).join("repo"));
        // config and the lists of keys and snapshots; keys and the list of index files; the files of both lists.
        let (rounds, source) = rounds(&store, open(spec(name, &store), shared())).await;
        assert_eq!(rounds, 3, "{name}");
        assert!(store.take_asked("").len() > 10, "{name}");
        assert!(source.unwrap().snapshots().len() > 1, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_wrong_listing_is_not_seen() {
    let nowhere = "0".repeat(64);
    let lies: [(&str, &[&str]); 5] = [
        ("keys/", &[]),
        ("keys/", &["c0ffee\u{1}"]),
        ("keys/", &[&nowhere]),
        ("snapshots/", &["x"]),
        ("index/", &["x"]),
    ];
    for (prefix, names) in lies {
        let store = Watched::of(&fixture("restic-v2").join("repo"));
        store.lie(prefix, names);
        let source = open(spec("restic-v2", &store), shared()).await.unwrap();
        assert!(store.lies.lock().unwrap().is_empty());
        assert_eq!(source.snapshots().len(), 10, "{prefix} {names:?}");
        let alpha = snapshot(&source, "alpha", "/srv/data", 0);
        entries(&*dir(&open_path(&source, &alpha, "/srv/data").await.node)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_repository_is_told_with_a_remedy() {
    let store = Watched::of(&fixture("restic-v2").join("repo"));
    store.inner.remove("config").unwrap();
    let error = refusal(spec("restic-v2", &store)).await;
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.to_string().contains("is the path right"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_down_is_not_a_missing_repository() {
    let store = Watched::of(&fixture("restic-v2").join("repo"));
    store.is_down.store(true, Ordering::SeqCst);
    assert_eq!(refusal(spec("restic-v2", &store)).await.kind(), Kind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_key_file_is_named() {
    let store = Watched::of(&fixture("restic-v2").join("repo"));
    for key in store.keys("keys/") {
        store.change(&key, |bytes| bytes.truncate(20));
        let error = refusal(spec("restic-v2", &store)).await;
        assert!(error.to_string().contains(&key["keys/".len()..][..8]), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hot_half_alone_is_refused_and_so_is_a_stranger_in_its_place() {
    let name = "rustic-hotcold";
    let (cold, hot) = (Watched::of(&fixture(name).join("repo")), Watched::of(&fixture(name).join("hot")));
    let error = refusal(spec(name, &hot)).await;
    assert!(error.to_string().contains("repo-hot"), "{error}");

    let mut twice = spec(name, &cold);
    twice.hot = Some(Arc::<Watched>::clone(&cold) as _);
    let error = refusal(twice).await;
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.to_string().contains("not the hot part"), "{error}");

    let mut stranger = spec(name, &cold);
    stranger.hot = Some(Watched::of(&fixture("restic-v2").join("repo")) as _);
    assert!(refusal(stranger).await.to_string().contains("repo-hot"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hot_half_that_is_down_is_done_without() {
    let name = "rustic-hotcold";
    let (cold, hot) = (Watched::of(&fixture(name).join("repo")), Watched::of(&fixture(name).join("hot")));
    let mut pair = spec(name, &cold);
    pair.hot = Some(Arc::<Watched>::clone(&hot) as _);
    hot.is_down.store(true, Ordering::SeqCst);
    let source = open(pair, shared()).await.unwrap();
    for snapshot in &*source.snapshots() {
        source.open(&snapshot.id, 0).resolve().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_s3_layout_is_read() {
    let new = Watched::of(&fixture("restic-v1").join("repo"));
    let old = Watched::empty();
    for key in new.keys("") {
        let bytes = new.inner.remove(&key).unwrap();
        let moved = match key.split('/').collect::<Vec<_>>()[..] {
            ["keys", id] => format!("key/{id}"),
            ["snapshots", id] => format!("snapshot/{id}"),
            ["data", _, id] => format!("data/{id}"),
            _ => key.clone(),
        };
        old.inner.insert(&moved, bytes).unwrap();
    }
    let source = open(spec("restic-v1", &old), shared()).await.unwrap();
    assert_eq!(source.snapshots().len(), 10);
    let snapshot = snapshot(&source, "gamma", "/home/bob", 0);
    let root = open_path(&source, &snapshot, "/home/bob").await.node;
    assert_same(&manifest(&root).await, &expected("restic-v1", "gamma-home-bob"), "old layout");
}

#[tokio::test(flavor = "multi_thread")]
async fn opening_fetches_each_file_once_and_no_pack() {
    let store = Watched::of(&fixture("restic-v2").join("repo"));
    let _source = open(spec("restic-v2", &store), shared()).await.unwrap();
    let mut asked = store.take_asked("");
    let data = asked.iter().filter(|key| key.starts_with("data/")).count();
    assert_eq!(data, 0);
    asked.sort();
    let before = asked.len();
    asked.dedup();
    assert_eq!(asked.len(), before, "something was asked twice");
}
