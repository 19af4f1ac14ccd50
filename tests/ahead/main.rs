//! Directories are read ahead of whoever walks them, in few reads, and never at the price of an answer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test may stop where it fails"
)]

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../harness/hostile/mod.rs"]
mod writer;

use std::sync::Arc;

use backupfs::cache::Budget;
use backupfs::error::Kind;
use backupfs::source::chunked::Shared;
use backupfs::source::restic::{self, Spec};
use backupfs::tree::{Content, Dir, Entry, Listing, Node, Snapshot, Source};
use harness::counting::{Call, CountingStore};
use serde_json::json;
use writer::{PASSWORD, Repository, node};

async fn open(repository: Repository) -> (Arc<CountingStore>, Arc<dyn Source>) {
    let store = CountingStore::new(repository.into_store());
    let password = PASSWORD.as_bytes().into();
    let spec =
        Spec { name: "r".into(), store: store.clone(), hot: None, drawer: None, password, key_hint: None };
    let source = restic::open(spec, Shared::new(Budget::of(64 << 20))).await.unwrap();
    store.take();
    (store, source)
}

/// How often parts of packs were read since the last time this was asked.
fn reads(store: &CountingStore) -> usize {
    store.take().iter().filter(|call| matches!(call, Call::Range { .. })).count()
}

async fn root(source: &Arc<dyn Source>, snapshot: &Snapshot) -> Arc<dyn Dir> {
    dir(&source.open(&snapshot.id, 0).resolve().await.unwrap().node)
}

fn dir(node: &Node) -> Arc<dyn Dir> {
    let Content::Dir(dir) = &node.content else { panic!("not a directory") };
    Arc::clone(dir)
}

/// The subdirectories as the kernel comes to them: by their position in the listing.
fn subdirectories(listing: &Arc<dyn Listing>) -> Vec<Arc<dyn Dir>> {
    let mut positions = Vec::new();
    listing.visit(0, &mut |entry: &Entry<'_>| {
        positions.push(entry.at);
        std::ops::ControlFlow::Continue(())
    });
    positions.into_iter().map(|at| dir(&listing.node(at).unwrap())).collect()
}

/// A tree of 200 directories with a file each; the ids of their trees.
fn many(repository: &mut Repository) -> Vec<String> {
    let trees: Vec<String> =
        (0..200).map(|n| repository.tree(&[node::symlink("link", &format!("to {n}"))])).collect();
    let nodes: Vec<_> =
        trees.iter().enumerate().map(|(n, tree)| node::dir(&format!("{n:03}"), tree)).collect();
    let root = repository.tree(&nodes);
    repository.snapshot("/data", &root);
    trees
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_over_many_directories_takes_few_reads() {
    let mut repository = Repository::new(2);
    many(&mut repository);
    let (store, source) = open(repository).await;
    let root = root(&source, &source.snapshots()[0]).await;
    let listing = root.listing().resolve().await.unwrap();
    let opening = reads(&store);
    let subdirectories = subdirectories(&listing);
    subdirectories[7].listing().resolve().await.unwrap();
    assert_eq!((opening, reads(&store)), (2, 1), "who looks into one directory does not walk");
    let mut links = 0;
    for dir in &subdirectories {
        let listing = dir.listing().resolve().await.unwrap();
        listing.visit(0, &mut |entry: &Entry<'_>| {
            links += usize::from(entry.name == b"link");
            std::ops::ControlFlow::Continue(())
        });
    }
    assert_eq!(links, 200);
    let walking = reads(&store);
    assert!(walking <= 12, "{walking} reads");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_ahead_costs_itself_and_is_told_to_who_asks() {
    let mut repository = Repository::new(2);
    let trees = many(&mut repository);
    // A directory that is no tree, and one of which a part stands elsewhere.
    let junk = repository.tree_text(b"junk");
    let inner = repository.tree(&[node::symlink("inner", "x")]);
    let spliced = repository.tree(&[node::dir(".", &inner), node::symlink("own", "y")]);
    let unknown = "11".repeat(32);
    let nodes: Vec<_> = [&trees[0], &trees[1], &junk, &unknown, &spliced, &trees[2]]
        .iter()
        .enumerate()
        .map(|(n, tree)| node::dir(&n.to_string(), tree))
        .collect();
    let tree = repository.tree(&nodes);
    repository.snapshot("/mixed", &tree);
    let (_, source) = open(repository).await;
    let mixed = source.snapshots().iter().find(|s| *s.paths[0] == *b"/mixed").cloned().unwrap();
    let listing = root(&source, &mixed).await.listing().resolve().await.unwrap();
    let mut found = Vec::new();
    for dir in subdirectories(&listing) {
        found.push(match dir.listing().resolve().await {
            Err(error) => Err(error.kind()),
            Ok(listing) => {
                let mut names = 0;
                listing.visit(0, &mut |_: &Entry<'_>| {
                    names += 1;
                    std::ops::ControlFlow::Continue(())
                });
                Ok(names)
            }
        });
    }
    assert_eq!(found, [Ok(1), Ok(1), Err(Kind::Corrupt), Err(Kind::Corrupt), Ok(2), Ok(1)]);
}

/// A snapshot of `day` with the file `a/b/c/file`, of which `c` is another one every day and all else too.
fn date(repository: &mut Repository, day: usize, c: &str) {
    let b = repository.tree(&[node::dir("c", c), node::symlink("day", &day.to_string())]);
    let a = repository.tree(&[node::dir("b", &b)]);
    let data = repository.tree(&[node::dir("a", &a)]);
    let root = repository.tree(&[node::dir("data", &data)]);
    let time = format!("2026-{:02}-{:02}T03:00:00Z", day / 28 + 1, day % 28 + 1);
    repository.json("snapshots", &json!({"time": time, "tree": root, "paths": ["/data"], "hostname": "h"}));
}

async fn look(source: &Arc<dyn Source>, snapshot: &Snapshot) {
    let mut dir = root(source, snapshot).await;
    for name in [b"a", b"b", b"c"] {
        dir = self::dir(&dir.lookup(name).resolve().await.unwrap().unwrap());
    }
    assert!(dir.lookup(b"file").resolve().await.unwrap().is_some());
    assert!(dir.lookup(b"other").resolve().await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn dates_opened_one_after_the_other_are_opened_ahead_together() {
    const DAYS: usize = 200;
    for backwards in [false, true] {
        let mut repository = Repository::new(2);
        let c = repository.tree(&[node::symlink("file", "the same every day")]);
        (0..DAYS).for_each(|day| date(&mut repository, day, &c));
        let (store, source) = open(repository).await;
        let mut dates = source.snapshots().to_vec();
        dates.sort_by_key(|snapshot| snapshot.time.instant);
        if backwards {
            dates.reverse();
        }
        for date in &dates {
            look(&source, date).await;
        }
        let reads = reads(&store);
        assert!(reads < DAYS, "{reads} reads for {DAYS} dates of 4 directories each");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dates_opened_here_and_there_are_not_opened_ahead() {
    let mut repository = Repository::new(2);
    let c = repository.tree(&[node::symlink("file", "x")]);
    (0..60).for_each(|day| date(&mut repository, day, &c));
    let (store, source) = open(repository).await;
    let mut dates = source.snapshots().to_vec();
    dates.sort_by_key(|snapshot| snapshot.time.instant);
    for day in [30, 2, 50] {
        look(&source, &dates[day]).await;
    }
    assert_eq!(reads(&store), 3 * 4 + 1);
    look(&source, &dates[50]).await;
    assert_eq!(reads(&store), 0, "what is in memory is not read again");
}
