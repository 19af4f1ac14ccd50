//! The contract of `tree::Source` and of everything that it hands out: directories, files, links, attributes.
//!
//! [`crate::harness::walk`] holds every node to its contract on the way; here it is sent through real repositories, and
//! two walks, two readers and two sources of one repository are compared.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backupfs::cache::Budget;
use backupfs::error::{Kind, Result};
use backupfs::source::chunked::Shared;
use backupfs::source::directory;
use backupfs::source::restic::{self, Spec};
use backupfs::store::{Local, ObjectStore, Place};
use backupfs::tree::{FileType, Opened, Snapshot, Source};
use futures_util::FutureExt;

use crate::harness::counting::{Call, CountingStore};
use crate::harness::faulty::{Fault, FaultyStore, Rule};
use crate::harness::walk::{Walked, count, walk};
use crate::objects::{versioned_bucket, versioned_bucket_in_process};
use crate::zfs::{self, zfs_by_clones, zfs_where_it_shows_snapshots};

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn local(path: PathBuf) -> Arc<dyn ObjectStore> {
    Arc::new(Local::new(path).unwrap())
}

async fn open(name: &str, store: Arc<dyn ObjectStore>, hot: Option<Arc<dyn ObjectStore>>) -> Arc<dyn Source> {
    try_open(name, store, hot).await.unwrap()
}

/// A source of what a fixture's repository is, which its password opens.
pub async fn try_open(
    name: &str,
    store: Arc<dyn ObjectStore>,
    hot: Option<Arc<dyn ObjectStore>>,
) -> Result<Arc<dyn Source>> {
    let password = std::fs::read(fixture(name).join("password")).unwrap();
    let spec = Spec {
        name: name.into(),
        store,
        hot,
        drawer: None,
        password: password.trim_ascii().into(),
        key_hint: None,
    };
    restic::open(spec, Shared::new(Budget::of(64 << 20))).await
}

async fn restic_v1() -> Arc<dyn Source> {
    open("restic-v1", local(fixture("restic-v1/repo")), None).await
}

async fn restic_v2() -> Arc<dyn Source> {
    open("restic-v2", local(fixture("restic-v2/repo")), None).await
}

async fn rustic_cold() -> Arc<dyn Source> {
    open("rustic-hotcold", local(fixture("rustic-hotcold/repo")), None).await
}

async fn rustic_hot_and_cold() -> Arc<dyn Source> {
    let hot = local(fixture("rustic-hotcold/hot"));
    open("rustic-hotcold", local(fixture("rustic-hotcold/repo")), Some(hot)).await
}

/// A source, if there is what it takes on this machine.
fn had(source: impl Into<Option<Arc<dyn Source>>>) -> Option<Arc<dyn Source>> {
    source.into()
}

/// What the fixtures are made of, as a machine's own directories of which each is a snapshot.
async fn directories() -> Arc<dyn Source> {
    let spec = directory::Spec {
        name: "directories".into(),
        pattern: fixture("{time}"),
        time_format: None,
        zone: jiff::tz::TimeZone::UTC,
        machine: None,
        refresh: std::time::Duration::from_secs(60),
        place: Place::alone(),
        under_way: Arc::new(directory::under_way),
        rights: None,
    };
    directory::open(spec, Shared::new(Budget::of(64 << 20))).await.unwrap()
}

macro_rules! suite {
    ($($source:ident),* $(,)?) => { suite! { @all [] $($source)* } };
    // By a test that gives them what they need.
    (inside: $($source:ident),* $(,)?) => { suite! { @all [#[ignore = "run by the test above"]] $($source)* } };
    (@all $mark:tt $($source:ident)*) => { $(suite! { @one $mark $source })* };
    (@one [$($mark:tt)*] $source:ident) => {
        mod $source {
            $($mark)*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn every_path_of_every_snapshot_can_be_walked() {
                let Some(source) = super::had(super::$source().await) else { return };
                super::every_path_of_every_snapshot_can_be_walked(&*source).await;
            }

            $($mark)*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn two_walks_find_the_same() {
                let Some(one) = super::had(super::$source().await) else { return };
                let Some(other) = super::had(super::$source().await) else { return };
                super::two_walks_find_the_same(&*one, &*other).await;
            }

            $($mark)*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn listings_stay_until_something_changes() {
                let Some(source) = super::had(super::$source().await) else { return };
                super::listings_stay_until_something_changes(&*source).await;
            }

            $($mark)*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn what_is_not_there_cannot_be_opened() {
                let Some(source) = super::had(super::$source().await) else { return };
                super::what_is_not_there_cannot_be_opened(&*source).await;
            }
        }
    };
}

suite! {
    restic_v1, restic_v2, rustic_cold, rustic_hot_and_cold, directories, versioned_bucket, versioned_bucket_in_process,
}

/// The same on a real ZFS, which has to have namespaces of its own.
#[test]
fn the_suites_hold_on_a_real_zfs() {
    zfs::run_inside(
        &["source::zfs_by_clones::", "source::zfs_where_it_shows_snapshots::", "zfs::inside::"],
        10,
    );
}

suite! { inside: zfs_by_clones, zfs_where_it_shows_snapshots }

/// Every path of every snapshot, by snapshot and number of the path.
pub async fn everything(source: &dyn Source) -> Vec<((String, usize), Walked)> {
    let mut found = Vec::new();
    for snapshot in source.snapshots().iter() {
        for path in 0..snapshot.paths.len() {
            let opened = source.open(&snapshot.id, path).resolve().await.unwrap();
            assert!(!opened.name.contains(&b'/'), "{:?}", opened.name);
            found.push(((snapshot.id.to_string(), path), walk(opened.node).await));
        }
    }
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

async fn every_path_of_every_snapshot_can_be_walked(source: &dyn Source) {
    let everything = everything(source).await;
    assert!(everything.len() > 1);
    for ((snapshot, path), walked) in &everything {
        for (at, found) in walked {
            let at = String::from_utf8_lossy(at);
            assert!(found.content.is_ok(), "{snapshot} {path} {at}: {:?}", found.content);
            assert!(found.xattrs.is_ok(), "{snapshot} {path} {at}: {:?}", found.xattrs);
        }
    }
    let files = everything.iter().flat_map(|(_, walked)| walked.values());
    assert!(files.filter(|found| found.meta.kind == FileType::File && found.meta.size > 0).count() > 10);
}

async fn two_walks_find_the_same(one: &dyn Source, other: &dyn Source) {
    assert_eq!(one.id(), other.id());
    let first = everything(one).await;
    let again = everything(one).await;
    for ((at, first), (_, again)) in first.iter().zip(&again) {
        for (path, found) in first {
            assert_eq!(
                again.get(path),
                Some(found),
                "{at:?}: {}, of one source",
                String::from_utf8_lossy(path)
            );
        }
    }
    assert!(first == again, "of one source");
    assert!(
        first == everything(other).await,
        "of two sources of one repository: inodes must outlive a remount"
    );
}

async fn listings_stay_until_something_changes(source: &dyn Source) {
    let before = source.snapshots();
    assert!(!source.refresh().await.unwrap(), "nothing changed");
    let after = source.snapshots();
    let ids = |snapshots: &[Snapshot]| snapshots.iter().map(|s| s.id.clone()).collect::<BTreeSet<_>>();
    assert_eq!(ids(&before), ids(&after));
    let health = source.health();
    assert!(health.error.is_none() && health.listed.is_some() && health.omitted == 0, "{health:?}");
    assert!(health.usage.bytes > 0 && health.usage.objects > 0);
}

async fn what_is_not_there_cannot_be_opened(source: &dyn Source) {
    let known = source.snapshots()[0].clone();
    let path = source.open(&known.id, known.paths.len()).resolve().await.err().unwrap();
    assert_eq!(path.kind(), Kind::NotFound);
    let unknown = "00".repeat(32);
    let snapshot = source.open(&unknown.as_str().into(), 0).resolve().await.err().unwrap();
    assert_eq!(snapshot.kind(), Kind::Stale);
    for (error, id) in [(path, &*known.id), (snapshot, &unknown)] {
        let named = format!("{}: snapshot {}", source.name(), &id[..8]);
        assert!(error.to_string().contains(&named), "{error} does not say {named}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ways_to_a_pair_show_the_same() {
    assert!(everything(&*rustic_cold().await).await == everything(&*rustic_hot_and_cold().await).await);
}

/// A second look asks the store for nothing: what was listed is in memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listing_again_asks_the_store_for_nothing() {
    let store = CountingStore::new(local(fixture("restic-v2/repo")));
    let source = open("restic-v2", store.clone(), None).await;
    let snapshot = source.snapshots()[0].clone();
    let names = async || {
        let opened = source.open(&snapshot.id, 0).resolve().await.unwrap();
        count(opened.node).await
    };
    let first = names().await;
    let calls = store.take();
    assert!(calls.iter().any(|call| matches!(call, Call::Range { .. })), "{calls:?}");
    assert!(
        !calls.iter().any(|call| matches!(call, Call::Get(key) if key.starts_with("data/"))),
        "whole packs"
    );
    assert_eq!(names().await, first);
    assert_eq!(store.take(), []);
}

/// An outage shows as such, and ends when the store is back; what was listed before stays listed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_no_absence_and_ends() {
    for kind in [Kind::Unavailable, Kind::TimedOut, Kind::Denied] {
        let store = FaultyStore::new(local(fixture("restic-v2/repo")));
        let source = open("restic-v2", store.clone(), None).await;
        let before = source.snapshots();
        store.add(Rule::new(Fault::Fail(kind)));
        store.add(Rule::new(Fault::Fail(kind)).lists());
        assert_eq!(source.refresh().await.err().unwrap().kind(), kind);
        assert!(source.health().error.is_some());
        assert_eq!(source.snapshots().len(), before.len());
        let error = source.open(&before[0].id, 0).resolve().await.err().unwrap();
        assert_eq!(error.kind(), kind);
        store.heal();
        assert!(!source.refresh().await.unwrap());
        assert!(source.health().error.is_none());
        let opened = opened_at_last(&*source, &before[0]).await;
        assert!(walk(opened.node).await.values().all(|found| found.content.is_ok()));
    }
}

/// What was asked for during the outage may still be under way, and whoever joins it shares its failure; once it has
/// ended nothing is left of it.
async fn opened_at_last(source: &dyn Source, snapshot: &Snapshot) -> Opened {
    for _ in 0..100 {
        if let Ok(opened) = source.open(&snapshot.id, 0).resolve().await {
            return opened;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the store works again, and the source does not");
}

/// A disk that was unmounted leaves an empty directory: no snapshot was forgotten because of that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_directory_is_no_repository_without_snapshots() {
    let directory = tempfile::tempdir().unwrap();
    let repository = directory.path().join("repo");
    let mut copy = std::process::Command::new("cp");
    assert!(copy.arg("-r").arg(fixture("restic-v2/repo")).arg(&repository).status().unwrap().success());
    let source = open("restic-v2", local(repository.clone()), None).await;
    let before = source.snapshots().len();
    std::fs::rename(&repository, directory.path().join("away")).unwrap();
    std::fs::create_dir(&repository).unwrap();
    assert_eq!(source.refresh().await.err().unwrap().kind(), Kind::Unavailable);
    assert_eq!(source.snapshots().len(), before);
}

/// A reader that is dropped while it waits harms nobody who waits for the same bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abandoned_read_harms_nobody() {
    let source = restic_v2().await;
    for snapshot in source.snapshots().iter() {
        drop(source.open(&snapshot.id, 0).resolve().now_or_never());
        let opened = source.open(&snapshot.id, 0).resolve().await.unwrap();
        assert!(walk(opened.node).await.values().all(|found| found.content.is_ok()));
    }
}
