//! The source as a whole, on recorded answers of an OpenZFS.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::fake::Stage;
use super::*;
use crate::cache::Budget;
use crate::error::{Kind, Result};
use crate::source::chunked::Shared;
use crate::source::names::Times;
use crate::tree::{Content, Opened, Source, Step};

const ASKED: &str = "get -H -p -d 1 -o name,property,value type,creation,guid,mounted,mountpoint,used,userrefs,keystatus tank/b";
const CLONES: &str = "get -H -p -d 1 -o name,property,value type,origin,mountpoint,backupfs:owner tank/b";

fn line(name: &str, property: &str, value: &str) -> String {
    format!("{name}\t{property}\t{value}\n")
}

/// The dataset with snapshots, which `key` may lock.
fn listing(snapshots: &[&str], key: &str) -> String {
    let dataset = [("type", "filesystem"), ("mounted", "no"), ("used", "4096"), ("keystatus", key)];
    let mut text: String = dataset.iter().map(|(property, value)| line("tank/b", property, value)).collect();
    for (at, label) in snapshots.iter().enumerate() {
        let name = format!("tank/b@{label}");
        let (guid, creation) = ((at + 1).to_string(), (1_700_000_000 + at).to_string());
        let own = [("type", "snapshot"), ("guid", &*guid), ("creation", &*creation), ("userrefs", "0")];
        text.extend(own.iter().map(|(property, value)| line(&name, property, value)));
    }
    text
}

fn spec(stage: &Stage) -> Spec {
    Spec {
        name: "nightly".to_owned(),
        layout: Layout::parse("tank/b").unwrap(),
        hands: Arc::new(stage.own(4)),
        folder: stage.folder(),
        idle: Duration::from_secs(3600),
        most: 4,
        times: Times::new(None, TimeZone::UTC).unwrap(),
        mounted_at: Arc::new(|_| None),
        rights: None,
        shared: Shared::new(Budget::of(16 << 20)),
    }
}

fn stage(snapshots: &[&str]) -> Option<Stage> {
    let stage = Stage::new()?;
    stage.fake.answers(ASKED, &listing(snapshots, "-"));
    stage.fake.answers(CLONES, "");
    Some(stage)
}

async fn opened(source: &Zfs, at: usize) -> Result<Opened> {
    let id = Arc::clone(&source.snapshots()[at].id);
    source.open(&id, 0).resolve().await
}

async fn names(opened: &Opened) -> Vec<String> {
    let Content::Dir(dir) = &opened.node.content else { panic!("no directory") };
    let listing = dir.listing().resolve().await.unwrap();
    let mut names = Vec::new();
    listing.visit(0, &mut |entry: &crate::tree::Entry<'_>| {
        names.push(String::from_utf8(entry.name.to_vec()).unwrap());
        std::ops::ControlFlow::Continue(())
    });
    names
}

#[tokio::test]
async fn a_dataset_is_listed_opened_and_left_as_it_was() {
    let Some(stage) = stage(&["s1", "s2"]) else { return };
    stage.run(
        "mount",
        r#"d="$0/folder/$id"; mount -t tmpfs none "$d" && mkdir -p "$d/h@+x" && echo hi >"$d/h@+x/a""#,
    );
    let source = open(spec(&stage)).await.unwrap();
    let all: Vec<_> = source.snapshots().iter().map(|s| (s.host.clone(), s.given.set.clone())).collect();
    assert_eq!(all, vec![(Some("h".into()), Some(Arc::from(&b"h@+x"[..]))); 2]);
    let opened = opened(&source, 0).await.unwrap();
    assert_eq!((names(&opened).await, &*opened.name), (vec!["a".to_owned()], &b"h@+x"[..]));
    assert!(!source.refresh().await.unwrap(), "nothing changed");
    assert_eq!(source.health().usage.bytes, 4096);
    source.end().await;
    assert_eq!(fs::read_dir(stage.folder()).unwrap().count(), 0);
    let changes = stage.fake.changes();
    let count = |begins: &str| changes.iter().filter(|call| call.starts_with(begins)).count();
    assert_eq!((count("clone"), count("destroy")), (count("mount"), count("clone")), "{changes:?}");
}

#[tokio::test]
async fn a_tree_outlives_its_clone() {
    let Some(stage) = stage(&["s1"]) else { return };
    stage.run("mount", r#"d="$0/folder/$id"; mount -t tmpfs none "$d" && echo hi >"$d/a""#);
    let source = open(Spec { idle: Duration::ZERO, ..spec(&stage) }).await.unwrap();
    let opened = opened(&source, 0).await.unwrap();
    source.host.close();
    source.shelf.tidy().await;
    assert_eq!(source.shelf.count(), 0);
    assert_eq!(names(&opened).await, ["a"], "whoever still has it looks again");
    source.end().await;
}

#[tokio::test]
async fn of_more_snapshots_than_clones_all_can_be_looked_at() {
    let Some(stage) = stage(&["s1", "s2", "s3"]) else { return };
    let source = open(Spec { most: 1, hands: Arc::new(stage.own(1)), ..spec(&stage) }).await.unwrap();
    for round in 0..2 {
        for at in 0..3 {
            let opened = opened(&source, at).await.unwrap();
            assert!(names(&opened).await.is_empty(), "{round}, {at}");
        }
    }
    source.end().await;
}

#[tokio::test]
async fn what_was_destroyed_is_stale_and_then_gone() {
    let Some(stage) = stage(&["s1", "s2"]) else { return };
    let source = open(spec(&stage)).await.unwrap();
    stage.refuse("clone", "cannot open 'tank/b@s1': dataset does not exist");
    let error = opened(&source, 0).await.err().unwrap();
    assert_eq!(error.kind(), Kind::Stale, "listed, and gone since: {error}");
    stage.run("clone", ":");
    let id = Arc::clone(&source.snapshots()[0].id);
    stage.fake.answers(ASKED, &listing(&["s1"], "-"));
    assert!(source.refresh().await.unwrap());
    assert_eq!(source.snapshots().len(), 1);
    stage.fake.answers(ASKED, &listing(&[], "-"));
    assert!(source.refresh().await.unwrap());
    let Step::Ready(Err(error)) = source.open(&id, 0) else { panic!("waits for what is known") };
    assert_eq!((error.kind(), error.to_string().contains("nightly: snapshot")), (Kind::Stale, true));
    source.end().await;
}

#[tokio::test]
async fn without_its_key_a_dataset_says_so() {
    let Some(stage) = stage(&["s1"]) else { return };
    stage.fake.answers(ASKED, &listing(&["s1"], "unavailable"));
    let error = open(spec(&stage)).await.err().unwrap();
    assert_eq!(error.kind(), Kind::Denied);
    let says = error.to_string();
    assert!(says.starts_with("nightly: ") && says.ends_with("(zfs load-key tank/b)"), "{says}");
}

#[tokio::test]
async fn who_may_not_clone_is_told_when_it_is_opened() {
    let Some(stage) = stage(&["s1"]) else { return };
    stage.refuse("clone", "cannot create 'tank/b/backupfs-0': permission denied");
    let error = open(spec(&stage)).await.err().unwrap();
    assert_eq!(error.kind(), Kind::Denied);
    assert!(error.to_string().contains("cannot make a clone (docs/zfs.md"), "{error}");
    stage.fake.refuses(ASKED, "cannot open 'tank/b': dataset does not exist");
    let error = open(spec(&stage)).await.err().unwrap();
    assert_eq!(error.to_string(), "nightly: cannot open 'tank/b': dataset does not exist");
}

#[tokio::test]
async fn what_zfs_shows_needs_no_clone() {
    let Some(stage) = stage(&["s1", "s2"]) else { return };
    let at = stage.folder().join("mounted");
    for (label, set) in [("s1", "h@+x"), ("s2", "h@+y")] {
        fs::create_dir_all(at.join(".zfs/snapshot").join(label).join(set)).unwrap();
    }
    let mounted = at.clone();
    let mounted_at = Arc::new(move |_: &str| Some(mounted.clone()));
    let hands = Arc::new(stage.own_seeing(4, Some(at)));
    let source = open(Spec { mounted_at, hands, ..spec(&stage) }).await.unwrap();
    let sets: Vec<_> = source.snapshots().iter().map(|s| s.given.set.clone().unwrap()).collect();
    assert_eq!(sets, [Arc::from(&b"h@+x"[..]), Arc::from(&b"h@+y"[..])]);
    opened(&source, 1).await.unwrap();
    source.end().await;
    assert!(
        stage.fake.changes().iter().all(|call| call.starts_with("hold ") || call.starts_with("release "))
    );
}
