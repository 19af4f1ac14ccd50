//! Damage costs what it touches.

use super::*;

/// The content of every file below `root`, and the packs that it came from.
async fn read_all_good(store: &Watched, root: &Node) -> (HashMap<String, Vec<u8>>, Vec<String>) {
    let read = read_all(root).await;
    let mut packs = store.take_asked("data/");
    packs.sort();
    packs.dedup();
    assert!(packs.len() > 1 && read.len() > 600);
    (read.into_iter().map(|(path, read)| (path, read.unwrap())).collect(), packs)
}

/// Every file below `root` with what reading it gives, and every directory that cannot be listed.
async fn read_all(root: &Node) -> Vec<(String, Result<Vec<u8>>)> {
    let mut read = Vec::new();
    let mut todo = vec![(String::new(), root.clone())];
    while let Some((path, node)) = todo.pop() {
        if let Err(error) = dir(&node).listing().resolve().await {
            read.push((path, Err(error)));
            continue;
        }
        for (name, node) in entries(&*dir(&node)).await {
            let path = format!("{path}/{}", printable(&name));
            match node.meta.kind {
                FileType::Dir => todo.push((path, node)),
                FileType::File => read.push((path, contents(&node).await)),
                _ => {}
            }
        }
    }
    read
}

/// Opens the repository anew and reads the path: how many things fail. What does not fail is exact, and what fails is
/// `Corrupt`.
async fn failures(store: &Arc<Watched>, snapshot: &Snapshot, good: &HashMap<String, Vec<u8>>) -> usize {
    let source = open(spec("restic-v2", store), shared()).await.unwrap();
    let read = match source.open(&snapshot.id, 0).resolve().await {
        Ok(opened) => read_all(&opened.node).await,
        Err(error) => vec![(String::new(), Err(error))],
    };
    let mut failed = 0;
    for (path, read) in read {
        match read {
            Ok(bytes) => assert_eq!(&bytes, &good[&path], "{path}"),
            Err(error) => {
                assert_eq!(error.kind(), Kind::Corrupt, "{path}: {error}");
                failed += 1;
            }
        }
    }
    failed
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_the_listed_folders_is_left_out_and_counted() {
    let store = Watched::of(&fixture("restic-v2").join("repo"));
    store.inner.insert("snapshots/README", "not a snapshot").unwrap();
    store.inner.insert(&format!("snapshots/{}-tmp-1", "a".repeat(64)), "left over").unwrap();
    store.inner.insert(&format!("snapshots/{}", "b".repeat(64)), "garbage").unwrap();
    store.inner.insert(&format!("index/{}", "c".repeat(64)), "garbage").unwrap();
    let source = open(spec("restic-v2", &store), shared()).await.unwrap();
    assert_eq!(source.snapshots().len(), 10);
    assert_eq!(source.health().omitted, 2);
    let left_out = source.health().left_out;
    let tells = |what: &str| left_out.iter().filter(|line| line.contains(what)).count();
    assert_eq!((left_out.len(), tells("snapshot bbbb"), tells("index cccc")), (2, 1, 1), "{left_out:?}");
    store.take_asked("");
    assert!(!source.refresh().await.unwrap());
    assert_eq!(store.take_asked(""), ["snapshots/", "index/"], "garbage is not fetched again");
    assert_eq!(source.health().omitted, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_index_or_snapshot_file_that_can_be_read_is_an_error() {
    for (kind, folder) in [("index", "index/"), ("snapshot", "snapshots/")] {
        let store = Watched::of(&fixture("restic-v2").join("repo"));
        for key in store.keys(folder) {
            store.change(&key, |bytes| bytes.truncate(40));
        }
        let Err(error) = open(spec("restic-v2", &store), shared()).await else { panic!("it opened") };
        assert_eq!(error.kind(), Kind::Corrupt);
        assert!(error.to_string().contains(&format!("no {kind} file can be read")), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_index_file_costs_its_blobs() {
    let store = Watched::of(&fixture("restic-v2").join("repo"));
    // The one of the snapshot of alpha, the largest.
    let mut keys = store.keys("index/");
    keys.sort_by_key(|key| {
        futures_util::FutureExt::now_or_never(store.inner.get(key, u64::MAX)).unwrap().unwrap().len()
    });
    store.change(keys.last().unwrap(), |bytes| bytes[50] ^= 1);
    let source = open(spec("restic-v2", &store), shared()).await.unwrap();
    assert_eq!(source.snapshots().len(), 10);
    assert_eq!(source.health().omitted, 1);
    let beta = snapshot(&source, "beta", "/opt/app", 0);
    let root = open_path(&source, &beta, "/opt/app").await.node;
    assert_same(&manifest(&root).await, &expected("restic-v2", "beta-opt-app"), "beta");
    let alpha = snapshot(&source, "alpha", "/srv/data", 0);
    let Err(error) = source.open(&alpha.id, 0).resolve().await else { panic!("it opened") };
    assert_eq!(error.kind(), Kind::Corrupt, "never NotFound: {error}");
    assert!(error.to_string().contains("/srv/data"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_a_pack_costs_few_files_and_a_lost_pack_never_hides_one() {
    let (store, source) = opened("restic-v2").await;
    let alpha = snapshot(&source, "alpha", "/srv/data", 0);
    let root = open_path(&source, &alpha, "/srv/data").await.node;
    let (good, packs) = read_all_good(&store, &root).await;
    for pack in &packs {
        let stored = store.inner.remove(pack).unwrap();
        let lost = failures(&store, &alpha, &good).await;
        let mut flipped = stored.to_vec();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        store.inner.insert(pack, flipped).unwrap();
        let damaged = failures(&store, &alpha, &good).await;
        store.inner.insert(pack, stored.slice(..stored.len() / 2)).unwrap();
        let cut = failures(&store, &alpha, &good).await;
        store.inner.insert(pack, stored).unwrap();
        assert!(damaged <= 3 && lost > 0 && cut > 0, "{pack}: {lost} {damaged} {cut}");
    }
    assert_eq!(failures(&store, &alpha, &good).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_packs_that_were_swapped_are_noticed() {
    let (store, source) = opened("restic-v2").await;
    let alpha = snapshot(&source, "alpha", "/srv/data", 0);
    let root = open_path(&source, &alpha, "/srv/data").await.node;
    let (good, packs) = read_all_good(&store, &root).await;
    let [a, b, ..] = &packs[..] else { panic!("several packs") };
    let (first, second) = (store.inner.remove(a).unwrap(), store.inner.remove(b).unwrap());
    store.inner.insert(a, second).unwrap();
    store.inner.insert(b, first).unwrap();
    assert!(failures(&store, &alpha, &good).await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_hot_half_is_made_good_by_the_cold_one() {
    let name = "rustic-hotcold";
    let (cold, hot) = (Watched::of(&fixture(name).join("repo")), Watched::of(&fixture(name).join("hot")));
    for key in hot.keys("").into_iter().filter(|key| key != "config") {
        hot.change(&key, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        });
    }
    let mut spec = spec(name, &cold);
    // A key file whose middle is wrong opens nothing: that one has to be good.
    for key in hot.keys("keys/") {
        hot.inner.remove(&key).unwrap();
    }
    spec.hot = Some(Arc::<Watched>::clone(&hot) as _);
    let source = open(spec, shared()).await.unwrap();
    let snapshot = snapshot(&source, "alpha", "/srv/data", 0);
    let root = open_path(&source, &snapshot, "/srv/data").await.node;
    let found = manifest(&root).await;
    let (first, second) = (expected(name, "alpha-1"), expected(name, "alpha-2"));
    assert_same(&found, if found.len() == first.len() { &first } else { &second }, name);
}
