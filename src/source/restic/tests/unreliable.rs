//! A network that loses, delays and mixes up answers costs time and never content.

use std::time::Duration;

use super::*;
use crate::error::Again;
use crate::store::distant::{Endpoint, guarded};
use crate::store::faulty::{Fault, FaultyStore, Rule};

fn behind(store: Arc<dyn ObjectStore>) -> Spec {
    let password = std::fs::read(fixture("restic-v2").join("password")).unwrap();
    Spec {
        name: "distant".to_owned(),
        store,
        hot: None,
        drawer: None,
        password: password.trim_ascii().into(),
        key_hint: None,
    }
}

/// Every file of every snapshot, by snapshot and path.
async fn everything(source: &Arc<dyn Source>) -> BTreeMap<String, Result<Vec<u8>>> {
    let mut read = BTreeMap::new();
    for snapshot in source.snapshots().iter() {
        for number in 0..snapshot.paths.len() {
            let at = format!("{}/{number}", snapshot.id);
            match source.open(&snapshot.id, number).resolve().await {
                Ok(opened) => below(at, &opened.node, &mut read).await,
                Err(error) => drop(read.insert(at, Err(error))),
            }
        }
    }
    read
}

async fn below(at: String, root: &Node, read: &mut BTreeMap<String, Result<Vec<u8>>>) {
    let mut todo = vec![(at, root.clone())];
    while let Some((path, node)) = todo.pop() {
        match node.meta.kind {
            FileType::File => drop(read.insert(path, contents(&node).await)),
            FileType::Dir => match dir(&node).listing().resolve().await {
                Ok(_) => {
                    let named = entries(&*dir(&node)).await.into_iter();
                    todo.extend(named.map(|(name, node)| (format!("{path}/{}", printable(&name)), node)));
                }
                Err(error) => drop(read.insert(path, Err(error))),
            },
            _ => {}
        }
    }
}

async fn sound() -> BTreeMap<String, Vec<u8>> {
    let (_, source) = opened("restic-v2").await;
    let read: BTreeMap<_, _> =
        everything(&source).await.into_iter().map(|(path, read)| (path, read.unwrap())).collect();
    assert!(read.len() > 600);
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_wrong_once_is_fetched_again() {
    let watched = Watched::of(&fixture("restic-v2").join("repo"));
    let store = FaultyStore::new(Arc::<Watched>::clone(&watched));
    let rules: Vec<_> =
        watched.keys("").iter().map(|key| store.add(Rule::new(Fault::Garble).keys(key).times(1))).collect();
    let source = open(behind(store), shared()).await.unwrap();
    assert_eq!(source.snapshots().len(), 10);
    let good = sound().await;
    for (path, read) in everything(&source).await {
        assert_eq!(read.unwrap(), good[&path], "{path}");
    }
    assert!(rules.iter().filter(|rule| rule.hits() == 1).count() > 10);
    assert_eq!(source.health().omitted, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn some_failures_of_every_sort_are_not_seen() {
    let watched = Watched::of(&fixture("restic-v2").join("repo"));
    let store = FaultyStore::new(watched);
    let lost = Error::new(Kind::Unavailable, "reset").worth(Again::Soon);
    let busy = Error::new(Kind::Unavailable, "503").worth(Again::Slower(Some(Duration::from_millis(20))));
    let faults =
        [lost.clone(), busy.clone()].map(|error| store.add(Rule::new(Fault::Error(error)).percent(5)));
    let listings = [lost, busy].map(|error| store.add(Rule::new(Fault::Error(error)).lists().percent(20)));
    let guarded = guarded(store, Endpoint::of("test://unreliable"), Duration::from_secs(50));
    let source = open(behind(guarded), shared()).await.unwrap();
    let good = sound().await;
    for (path, read) in everything(&source).await {
        assert_eq!(read.unwrap(), good[&path], "{path}");
    }
    for _ in 0..20 {
        source.refresh().await.unwrap();
    }
    assert!(faults.iter().all(|rule| rule.hits() > 0));
    assert!(listings.iter().any(|rule| rule.hits() > 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_no_missing_file_and_no_empty_list() {
    let watched = Watched::of(&fixture("restic-v2").join("repo"));
    let store = FaultyStore::new(watched);
    let guarded =
        guarded(Arc::<FaultyStore>::clone(&store), Endpoint::of("test://outage"), Duration::from_secs(2));
    let source = open(behind(guarded), shared()).await.unwrap();
    let good = sound().await;
    let before: Vec<_> = source.snapshots().iter().map(|snapshot| snapshot.id.clone()).collect();
    let lost = Fault::Error(Error::new(Kind::Unavailable, "refused").worth(Again::Soon));
    store.add(Rule::new(lost.clone()));
    store.add(Rule::new(lost).lists());
    // Until it is known to be down each of the first calls takes its time.
    while source.refresh().await.is_err_and(|error| !matches!(error.again(), Again::Down(_))) {}
    for (path, read) in everything(&source).await {
        match read {
            Ok(bytes) => assert_eq!(bytes, good[&path], "{path}"),
            Err(error) => assert_eq!(error.kind(), Kind::Unavailable, "{path}: {error}"),
        }
    }
    for _ in 0..1000 {
        source.refresh().await.unwrap_err();
        assert!(source.snapshots().iter().map(|snapshot| &snapshot.id).eq(&before));
    }
    store.heal();
    while source.refresh().await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for (path, read) in everything(&source).await {
        assert_eq!(read.unwrap(), good[&path], "{path}");
    }
}
