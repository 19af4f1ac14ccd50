//! Groups, without a mount: what is listed, what is opened, and what of it stays.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, join_all};

use super::fake::{self, Describe, FakeSource};
use super::testbed::{Bed, dir, list, member};
use super::{Access, Member, Members, Options};
use crate::error::{Error, Kind, Result};
use crate::tree::{Identity, Meta, Step};

/// Members in memory.
struct FakeMembers {
    names: Mutex<Result<Vec<String>>>,
    sources: Mutex<HashMap<String, Result<Arc<FakeSource>>>>,
    listed: bool,
    opens: AtomicUsize,
    has_access: bool,
    gap: Mutex<Option<Error>>,
}

impl FakeMembers {
    fn new(names: &[&str]) -> Arc<Self> {
        Self::with(names, true, false)
    }

    fn with(names: &[&str], listed: bool, has_access: bool) -> Arc<Self> {
        Arc::new(FakeMembers {
            names: Mutex::new(Ok(names.iter().map(|name| (*name).to_owned()).collect())),
            sources: Mutex::default(),
            listed,
            opens: AtomicUsize::new(0),
            has_access,
            gap: Mutex::default(),
        })
    }

    fn put(&self, names: Result<Vec<String>>) {
        *self.names.lock().unwrap() = names;
    }

    fn fail(&self, name: &str, error: Error) {
        self.sources.lock().unwrap().insert(name.to_owned(), Err(error));
    }

    fn opens(&self) -> usize {
        self.opens.load(Ordering::SeqCst)
    }

    fn now(&self) -> Result<Arc<[Arc<str>]>> {
        let mut names = self.names.lock().unwrap().clone()?;
        names.sort();
        Ok(names.into_iter().map(Arc::from).collect())
    }
}

impl Members for FakeMembers {
    fn name(&self) -> &str {
        "group"
    }

    fn names(&self) -> Option<Arc<[Arc<str>]>> {
        self.now().ok().filter(|_| self.listed)
    }

    fn list(&self) -> BoxFuture<'_, Result<Arc<[Arc<str>]>>> {
        Box::pin(async move { self.now() })
    }

    fn failure(&self) -> Option<Error> {
        self.now().err()
    }

    fn gap(&self) -> Option<Error> {
        self.gap.lock().unwrap().clone()
    }

    fn open<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Member>>> {
        self.opens.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            tokio::task::yield_now().await;
            let mut sources = self.sources.lock().unwrap();
            let new = || Ok(FakeSource::with(name, vec![fake::snapshot("aa").host("h")]));
            let source = sources.entry(name.to_owned()).or_insert_with(new).clone()?;
            Ok(vec![Member {
                member: name.to_owned(),
                set: Some("{member}@+{path}".into()),
                ..member(&source)
            }])
        })
    }

    fn has_access(&self) -> bool {
        self.has_access
    }

    fn access(&self, member: &str) -> Option<Access> {
        (member != "nobody").then_some(Access { uid: 7, gid: 8, perm: 0o750 })
    }

    fn known_access(&self, member: &str) -> Option<Option<Access>> {
        (member == "known").then_some(Some(Access { uid: 9, gid: 9, perm: 0o500 }))
    }
}

fn bed(members: &Arc<FakeMembers>, shared: bool) -> Bed {
    let options = Options { shared, ..Options::default() };
    Bed::with_groups(Vec::new(), vec![members.clone()], options, "UTC")
}

async fn names(bed: &Bed, path: &str) -> Vec<String> {
    let node = bed.wait(path).await.unwrap().unwrap();
    let listing = dir(&node).listing().resolve().await.unwrap();
    let mut names = Vec::new();
    listing.visit(0, &mut |entry: &crate::tree::Entry<'_>| {
        names.push(String::from_utf8(entry.name.to_vec()).unwrap());
        std::ops::ControlFlow::Continue(())
    });
    names
}

async fn meta(bed: &Bed, path: &str) -> Meta {
    bed.wait(path).await.unwrap().unwrap().meta
}

#[tokio::test(start_paused = true)]
async fn every_member_has_a_tree_of_its_own() {
    let members = FakeMembers::new(&["b", "a"]);
    let bed = bed(&members, false);
    assert_eq!(bed.ls("/"), ["current", "at", "group"]);
    assert_eq!(bed.ls("group"), ["a", "b"]);
    assert_eq!(names(&bed, "group/a").await, ["current", "at", "a@+"]);
    assert_eq!(names(&bed, "group/b/b@+").await, ["latest", "20260301_030000"]);
    assert_eq!(names(&bed, "group/b/at").await, ["2026-03-01"]);
    assert!(bed.ls("current").is_empty(), "those of the root leave groups out");
    assert!(bed.wait("group/c").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn listing_and_stat_open_no_member() {
    let all: Vec<String> = (0..36_102).map(|n| format!("cback-{n:05}")).collect();
    let members = FakeMembers::new(&all.iter().map(String::as_str).collect::<Vec<_>>());
    let began = Instant::now();
    let bed = bed(&members, false);
    let listed = list(&bed.at("group"), 0);
    assert_eq!(listed.len(), 36_102);
    assert!(listed.iter().all(|entry| entry.meta.is_some()));
    println!("36,102 members: made and listed with attributes in {:?}", began.elapsed());
    assert_eq!(list(&bed.at("group"), listed[36_000].at).len(), 102);
    for name in all.iter().step_by(100) {
        assert!(bed.has(&format!("group/{name}")));
    }
    assert_eq!(members.opens(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_member_is_opened_once_for_all_who_look() {
    let members = FakeMembers::new(&["a", "b"]);
    let bed = bed(&members, false);
    let looks = (0..50).map(|n| {
        let bed = &bed;
        async move { names(bed, if n % 2 == 0 { "group/a" } else { "group/b" }).await }
    });
    join_all(looks).await;
    assert_eq!(members.opens(), 2);
    assert!(matches!(dir(&bed.at("group/a")).listing(), Step::Ready(Ok(_))), "open: the answer is there");
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_waiting_harms_nobody() {
    let members = FakeMembers::new(&["a"]);
    let bed = bed(&members, false);
    let look = dir(&bed.at("group/a")).listing().resolve();
    assert!(futures_util::FutureExt::now_or_never(look).is_none());
    assert_eq!(names(&bed, "group/a").await.len(), 3);
    assert_eq!(members.opens(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_broken_member_harms_itself_and_is_not_opened_at_every_look() {
    let members = FakeMembers::new(&["a", "broken"]);
    members.fail("broken", Error::new(Kind::Password, "group/broken: wrong password"));
    let bed = bed(&members, false);
    for _ in 0..10 {
        let error = bed.wait("group/broken/x").await.err().unwrap();
        assert_eq!(error.to_string(), "group/broken: wrong password");
    }
    assert_eq!(members.opens(), 1);
    assert_eq!(bed.ls("group"), ["a", "broken"]);
    assert_eq!(names(&bed, "group/a").await.len(), 3);
    members.sources.lock().unwrap().clear();
    bed.clock.pass(Duration::from_secs(6));
    assert_eq!(names(&bed, "group/broken").await.len(), 3, "tried again later");
}

#[tokio::test(start_paused = true)]
async fn members_come_and_go_and_positions_stay() {
    let members = FakeMembers::new(&["b", "d"]);
    let bed = bed(&members, false);
    let before = list(&bed.at("group"), 0);
    names(&bed, "group/d").await;
    members.put(Ok(vec!["a".into(), "b".into(), "c".into()]));
    bed.clock.pass(Duration::from_secs(1));
    bed.ns.refresh().await;
    assert_eq!(bed.ls("group"), ["b", "a", "c"], "new ones come last");
    assert_eq!(list(&bed.at("group"), 0)[0].at, before[0].at);
    assert_eq!(bed.told(), ["/group: a c d"]);
    assert!(!bed.has("group/d"));
    assert!(bed.at("group").meta.mtime > before[0].meta.unwrap().mtime);
}

#[tokio::test(start_paused = true)]
async fn a_failing_listing_keeps_what_was_listed_last() {
    let members = FakeMembers::new(&["a", "b"]);
    let bed = bed(&members, false);
    let before = list(&bed.at("group"), 0);
    members.put(Err(Error::new(Kind::Unavailable, "away")));
    for _ in 0..100 {
        bed.ns.refresh().await;
        assert_eq!(list(&bed.at("group"), 0), before);
    }
    assert!(bed.told().is_empty());
    let status = bed.ns.status();
    assert_eq!((&status["groups"][0]["members"], &status["groups"][0]["error"]), (&2.into(), &"away".into()));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_that_a_name_does_not_exist_while_not_all_are_known() {
    let members = FakeMembers::new(&["a"]);
    let bed = bed(&members, false);
    *members.gap.lock().unwrap() = Some(Error::new(Kind::Unavailable, "one of two places is away"));
    assert_eq!(bed.ls("group"), ["a"]);
    assert_eq!(names(&bed, "group/a").await.len(), 3);
    assert_eq!(bed.wait("group/b").await.err().unwrap().kind(), Kind::Unavailable);
    *members.gap.lock().unwrap() = None;
    assert!(bed.wait("group/b").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn the_first_look_waits_for_the_first_listing() {
    let members = FakeMembers::with(&["a"], false, false);
    let bed = bed(&members, false);
    assert!(matches!(dir(&bed.at("group")).listing(), Step::Wait(_)));
    assert_eq!(names(&bed, "group").await, ["a"]);
    let away = FakeMembers::with(&[], false, false);
    away.put(Err(Error::new(Kind::Denied, "may not list buckets")));
    let bed = self::bed(&away, false);
    let error = bed.wait("group/a").await.err().unwrap();
    assert_eq!(error.kind(), Kind::Denied, "never \"no such name\"");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_looks_at_is_closed_and_the_kernel_forgets_it() {
    let members = FakeMembers::new(&["a", "b"]);
    let bed = bed(&members, false);
    let (kept, other) = (names(&bed, "group/a").await, names(&bed, "group/b").await);
    assert_eq!(bed.ns.status()["groups"][0]["open"], 2);
    bed.clock.pass(Duration::from_secs(299));
    names(&bed, "group/a").await;
    bed.clock.pass(Duration::from_secs(2));
    bed.ns.refresh().await;
    assert_eq!(bed.ns.status()["groups"][0]["open"], 1);
    assert_eq!(bed.told(), ["/group: b"]);
    assert_eq!(names(&bed, "group/b").await.len(), other.len(), "a look opens it again");
    assert_eq!((names(&bed, "group/a").await.len(), members.opens()), (kept.len(), 3));
}

#[tokio::test(start_paused = true)]
async fn not_too_many_stay_open() {
    let all: Vec<String> = (0..1000).map(|n| format!("m{n:04}")).collect();
    let members = FakeMembers::new(&all.iter().map(String::as_str).collect::<Vec<_>>());
    let bed = bed(&members, false);
    for name in &all {
        names(&bed, &format!("group/{name}")).await;
        bed.clock.pass(Duration::from_millis(1));
    }
    let open = bed.ns.status()["groups"][0]["open"].as_u64().unwrap();
    assert!((64..=256).contains(&open), "{open}");
    names(&bed, "group/m0999").await;
    assert_eq!(members.opens(), 1000, "those looked at last are the ones that are open");
}

#[tokio::test(start_paused = true)]
async fn equal_dates_of_two_members_are_two_directories() {
    let members = FakeMembers::new(&["a", "b"]);
    let bed = bed(&members, false);
    let mut seen: Vec<Identity> = Vec::new();
    for path in [
        "group/a/a@+/20260301_030000",
        "group/b/b@+/20260301_030000",
        "group/a/current/a@+",
        "group/b/a@+/latest",
    ] {
        let Some(node) = bed.wait(path).await.unwrap() else { continue };
        assert!(!seen.contains(&node.meta.identity), "{path}");
        seen.push(node.meta.identity);
    }
    assert_eq!(seen.len(), 3);
    let same = FakeSource::with("same", vec![fake::snapshot("aa").host("h")]);
    for name in ["c", "d"] {
        members.sources.lock().unwrap().insert(name.into(), Ok(same.clone()));
    }
    members.put(Ok(vec!["c".into(), "d".into()]));
    bed.ns.refresh().await;
    let identity = async |path: &str| meta(&bed, path).await.identity;
    assert_ne!(identity("group/c/current/c@+").await, identity("group/d/current/d@+").await);
}

#[tokio::test(start_paused = true)]
async fn news_of_an_open_member_are_told_with_its_whole_path() {
    let members = FakeMembers::new(&["a"]);
    let bed = bed(&members, false);
    let task = bed.ns.spawn_refresh();
    names(&bed, "group/a").await;
    let source = members.sources.lock().unwrap()["a"].clone().unwrap();
    source.put(vec![fake::snapshot("bb").host("h").at("2026-03-02T00:00:00Z")]);
    bed.clock.pass(Duration::from_secs(61));
    names(&bed, "group/a").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(
        bed.told().iter().any(|line| line.starts_with("/group/a/a@+: ") && line.contains("20260302_000000"))
    );
    assert_eq!(names(&bed, "group/a/a@+").await, ["latest", "20260302_000000"]);
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_shared_mount_lets_into_a_member_whom_access_names_and_else_only_root() {
    let shown = |meta: Meta| (meta.uid, meta.gid, meta.perm);
    let closed = FakeMembers::new(&["a"]);
    let bed_of = |members| bed(members, true);
    let closed_bed = bed_of(&closed);
    assert_eq!(shown(meta(&closed_bed, "group/a").await), (0, 0, 0o700));
    assert_eq!(shown(list(&closed_bed.at("group"), 0)[0].meta.unwrap()), (0, 0, 0o700));
    let own = FakeMembers::with(&["a", "known", "nobody"], true, true);
    let own_bed = bed_of(&own);
    assert_eq!(shown(meta(&own_bed, "group/a").await), (7, 8, 0o750));
    assert_eq!(shown(meta(&own_bed, "group/nobody").await), (0, 0, 0o700), "no such user");
    assert_eq!(shown(own_bed.at("group/known").meta), (9, 9, 0o500), "without waiting");
    assert!(list(&own_bed.at("group"), 0)[0].meta.is_none(), "asked for one by one");
    assert_eq!(shown(meta(&own_bed, "group").await), (0, 0, 0o755));
    assert_eq!((closed.opens(), own.opens()), (0, 0));
}
