//! The contract of `store::ObjectStore`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backupfs::error::{Again, Error, Kind, Result};
use backupfs::store::ObjectStore;
use backupfs::store::distant::{self, Endpoint};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::join_all;

use crate::harness::child::has;
use crate::harness::counting::{Call, CountingStore};
use crate::harness::faulty::{Fault, FaultyStore, Rule};
use crate::served::*;
use crate::subjects::*;

/// More than any object here has.
const MUCH: u64 = 1 << 30;

macro_rules! checks {
    ($subject:expr, $program:expr; $($check:ident),* $(,)?) => {
        use super::*;
        $(
            #[tokio::test]
            async fn $check() {
                if has($program) {
                    let subject = $subject;
                    if subject.is_there() {
                        super::$check(&subject).await;
                    }
                }
            }
        )*
    };
}

/// A subject may need a program (`=> "rclone"`), without which it is skipped.
macro_rules! needed {
    () => {
        "sh"
    };
    ($program:literal) => {
        $program
    };
}

/// What holds for every store. Keys are those of a restic repository, because some stores take no others.
macro_rules! suite {
    ($($name:ident: $subject:expr $(=> $program:literal)?),* $(,)?) => {
        $(mod $name {
            checks! { $subject, needed!($($program)?);
                lists_below_a_prefix_at_any_depth,
                prefixes_that_hold_nothing_are_empty,
                stat_agrees_with_the_listing,
                gets_whole_objects,
                what_is_longer_than_wanted_is_unsupported,
                ranges_are_exact_at_all_edges,
                ranges_past_the_end_are_corrupt,
                missing_objects_are_not_found,
                what_is_no_key_is_invalid,
                names_may_be_any_text,
                nothing_is_remembered,
                many_calls_at_once_do_not_mix,
                an_abandoned_call_harms_nobody,
            }
        })*
    };
}

/// What holds besides for stores that take any key.
macro_rules! free_keys {
    ($($name:ident: $subject:expr $(=> $program:literal)?),* $(,)?) => {
        $(mod $name {
            checks! { $subject, needed!($($program)?);
                keys_may_be_any_text,
                prefixes_end_with_their_slash,
                one_level_names_what_lies_directly_below,
            }
        })*
    };
}

suite! {
    memory: InMemory::empty(),
    local: InDirectory::empty(),
    faulty_without_rules: Wrapped(InMemory::empty(), |inner| FaultyStore::new(inner)),
    counting: Wrapped(InMemory::empty(), |inner| CountingStore::new(inner)),
    s3: InBucket::empty(""),
    s3_below_a_prefix: InBucket::empty("some where/below"),
    s3_in_process: InS3s::empty(""),
    s3_in_small_pages: InS3s::in_small_pages(),
    s3_in_the_first_version: InS3s::in_the_first_version(),
    cached: InCache::empty(),
    rest_server: over_rest() => "rclone",
    rest_server_with_a_password: over_rest_with_a_password() => "rclone",
    rest_server_on_a_socket: over_a_socket() => "rclone",
    rclone: over_rclone() => "rclone",
    sftp_server: over_sftp_server() => "sshd",
    sshd: over_ssh() => "sshd",
    guarded: Wrapped(InMemory::empty(), guarded),
    guarded_where_some_calls_fail: Wrapped(InMemory::empty(), |inner| guarded(unreliable(inner))),
}

/// With the wrappers of distant stores around it, at a server of its own.
fn guarded(inner: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
    static SERVERS: AtomicU64 = AtomicU64::new(0);
    let name = format!("conformance://{}", SERVERS.fetch_add(1, Ordering::SeqCst));
    distant::guarded(inner, Endpoint::of(&name), Duration::from_secs(60))
}

/// Every tenth call fails in a way that may pass.
fn unreliable(inner: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
    let store = FaultyStore::new(inner);
    let error = Error::new(Kind::Unavailable, "reset by a test").worth(Again::Soon);
    store.add(Rule::new(Fault::Error(error.clone())).percent(10));
    store.add(Rule::new(Fault::Error(error)).lists().percent(10));
    store
}

free_keys! {
    any_keys_in_memory: InMemory::empty(),
    any_keys_in_a_directory: InDirectory::empty(),
    any_keys_in_a_cache: InCache::empty(),
    any_keys_wrapped: Wrapped(InMemory::empty(), |inner| FaultyStore::new(inner)),
    any_keys_in_s3: InBucket::empty(""),
    any_keys_in_s3_below_a_prefix: InBucket::empty("some where/below"),
    any_keys_in_s3_in_process: InS3s::empty(""),
    any_keys_in_s3_in_small_pages: InS3s::in_small_pages(),
    any_keys_in_s3_in_the_first_version: InS3s::in_the_first_version(),
    any_keys_over_sftp: over_sftp_server() => "sshd",
}

/// `length` bytes in which every offset looks different from its neighbours.
fn bytes(length: usize) -> Vec<u8> {
    (0..length as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn kind<T>(result: Result<T>) -> Kind {
    result.err().as_ref().map(Error::kind).expect("an error")
}

async fn listed(store: &dyn ObjectStore, prefix: &str) -> BTreeMap<String, u64> {
    let objects = store.list(prefix).await.unwrap();
    let count = objects.len();
    let objects: BTreeMap<_, _> = objects.into_iter().map(|o| (o.key, o.size)).collect();
    assert_eq!(objects.len(), count, "a key was listed twice");
    objects
}

async fn lists_below_a_prefix_at_any_depth(subject: &dyn Subject) {
    let put = [("config", 1), ("data/00/00a", 0), ("data/01/01b", 2), ("index/c", 3), ("locks/d", 4)];
    for (key, size) in put {
        subject.put(key, &bytes(size));
    }
    let store = subject.store();
    let expected = |keys: &[(&str, usize)]| -> BTreeMap<_, _> {
        keys.iter().map(|&(k, s)| (k.to_owned(), s as u64)).collect()
    };
    assert_eq!(listed(&*store, "").await, expected(&put));
    assert_eq!(listed(&*store, "data/").await, expected(&put[1..3]));
    assert_eq!(listed(&*store, "data/00/").await, expected(&put[1..2]));
    assert_eq!(listed(&*store, "index/").await, expected(&put[3..4]));
}

async fn prefixes_that_hold_nothing_are_empty(subject: &dyn Subject) {
    let store = subject.store();
    assert!(listed(&*store, "").await.is_empty());
    assert!(listed(&*store, "snapshots/").await.is_empty());
    subject.put("config", b"x");
    assert!(listed(&*store, "config/").await.is_empty());
    assert!(listed(&*store, "con/").await.is_empty());
    assert!(listed(&*store, "config/deeper/").await.is_empty());
}

async fn one_level_names_what_lies_directly_below(subject: &dyn Subject) {
    for key in ["config", "data/00/a", "data/00/deep/er/x", "data/01/b", "data/c", "database/d"] {
        subject.put(key, key.as_bytes());
    }
    let store = subject.store();
    for (prefix, objects, below) in [
        ("", &["config"][..], &["data/", "database/"][..]),
        ("data/", &["data/c"], &["data/00/", "data/01/"]),
        ("data/00/", &["data/00/a"], &["data/00/deep/"]),
        ("data/00/deep/", &[], &["data/00/deep/er/"]),
        ("dat/", &[], &[]),
        ("config/", &[], &[]),
    ] {
        let mut level = store.list_level(prefix).await.unwrap();
        level.below.sort();
        level.objects.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(level.below, below, "{prefix:?}");
        let sized: Vec<_> = level.objects.iter().map(|o| (o.key.as_str(), o.size)).collect();
        let expected: Vec<_> = objects.iter().map(|key| (*key, key.len() as u64)).collect();
        assert_eq!(sized, expected, "{prefix:?}");
    }
    for prefix in ["data", "/", "../", "data//"] {
        assert_eq!(kind(store.list_level(prefix).await), Kind::Invalid, "{prefix:?}");
    }
}

async fn prefixes_end_with_their_slash(subject: &dyn Subject) {
    for key in ["data/c", "database/d", "data.e"] {
        subject.put(key, key.as_bytes());
    }
    let store = subject.store();
    assert_eq!(listed(&*store, "data/").await.into_keys().collect::<Vec<_>>(), ["data/c"]);
    assert_eq!(listed(&*store, "").await.len(), 3);
}

async fn stat_agrees_with_the_listing(subject: &dyn Subject) {
    subject.put("data/00/00a", &bytes(70_000));
    subject.put("keys/empty", b"");
    let store = subject.store();
    for info in store.list("").await.unwrap() {
        assert_eq!(store.stat(&info.key).await.unwrap(), info);
    }
    assert_eq!(store.stat("data/00/00a").await.unwrap().size, 70_000);
}

async fn gets_whole_objects(subject: &dyn Subject) {
    let store = subject.store();
    for size in [0, 1, 4096, 3 << 20] {
        subject.put("index/object", &bytes(size));
        assert_eq!(store.get("index/object", MUCH).await.unwrap(), bytes(size));
    }
}

async fn what_is_longer_than_wanted_is_unsupported(subject: &dyn Subject) {
    subject.put("index/object", &bytes(1000));
    subject.put("index/empty", b"");
    let store = subject.store();
    assert_eq!(store.get("index/object", 1000).await.unwrap().len(), 1000);
    assert_eq!(kind(store.get("index/object", 999).await), Kind::Unsupported);
    assert_eq!(kind(store.get("index/object", 0).await), Kind::Unsupported);
    assert_eq!(store.get("index/empty", 0).await.unwrap(), "");
}

async fn ranges_are_exact_at_all_edges(subject: &dyn Subject) {
    const SIZE: usize = 300_000;
    let content = bytes(SIZE);
    subject.put("data/xx/xxx", &content);
    let store = subject.store();
    let edges = [0, 1, 4095, 4096, 4097, 131_072, SIZE - 1, SIZE];
    for start in edges {
        for end in edges.into_iter().filter(|&end| end >= start) {
            let range = store.get_range("data/xx/xxx", start as u64, (end - start) as u64).await.unwrap();
            assert!(range == content[start..end], "{start}..{end}");
        }
    }
}

async fn ranges_past_the_end_are_corrupt(subject: &dyn Subject) {
    subject.put("data/xx/xxx", &bytes(10));
    subject.put("index/empty", b"");
    let store = subject.store();
    for (offset, length) in
        [(0, 11), (9, 2), (10, 1), (11, 0), (1 << 62, 1), (0, 1 << 62), (u64::MAX, u64::MAX)]
    {
        let range = store.get_range("data/xx/xxx", offset, length).await;
        assert_eq!(kind(range), Kind::Corrupt, "{offset} {length}");
    }
    assert_eq!(kind(store.get_range("index/empty", 0, 1).await), Kind::Corrupt);
}

async fn missing_objects_are_not_found(subject: &dyn Subject) {
    subject.put("data/00/00x", b"x");
    let store = subject.store();
    for key in ["missing", "index/missing", "data", "data/00", "data/00/00y", "data/00/00x/y", "Data/00/00x"]
    {
        assert_eq!(kind(store.stat(key).await), Kind::NotFound, "{key}");
        assert_eq!(kind(store.get(key, MUCH).await), Kind::NotFound, "{key}");
        assert_eq!(kind(store.get_range(key, 0, 0).await), Kind::NotFound, "{key}");
        assert_eq!(kind(store.get_range(key, 0, 5).await), Kind::NotFound, "{key}");
    }
}

async fn what_is_no_key_is_invalid(subject: &dyn Subject) {
    subject.put("index/x", b"x");
    let store = subject.store();
    for key in ["", "/index/x", "../x", "index/../index/x", "index//x", "index/x/", "./index/x", "a\0b"] {
        assert_eq!(kind(store.stat(key).await), Kind::Invalid, "{key:?}");
        assert_eq!(kind(store.get(key, MUCH).await), Kind::Invalid, "{key:?}");
        assert_eq!(kind(store.get_range(key, 0, 1).await), Kind::Invalid, "{key:?}");
    }
    for prefix in ["index", "/", "../", "/index/", "index//"] {
        assert_eq!(kind(store.list(prefix).await), Kind::Invalid, "{prefix:?}");
    }
}

/// Texts that are something else to a shell, a URL or a terminal.
const TEXTS: &[&str] = &["with space", "-dash", "%2F", "a..b", "...", "?x#y&z=1+", "é日本"];

async fn names_may_be_any_text(subject: &dyn Subject) {
    let store = subject.store();
    for name in TEXTS {
        let key = format!("snapshots/{name}");
        subject.put(&key, name.as_bytes());
        assert_eq!(store.get(&key, MUCH).await.unwrap(), name.as_bytes());
        assert_eq!(listed(&*store, "snapshots/").await.get(&key), Some(&(name.len() as u64)));
    }
}

async fn keys_may_be_any_text(subject: &dyn Subject) {
    let store = subject.store();
    for key in TEXTS.iter().chain(&["日本/é", "line\nbreak"]) {
        subject.put(key, key.as_bytes());
        assert_eq!(store.get(key, MUCH).await.unwrap(), key.as_bytes());
        assert_eq!(listed(&*store, "").await.get(*key), Some(&(key.len() as u64)));
    }
}

async fn nothing_is_remembered(subject: &dyn Subject) {
    let store = subject.store();
    assert_eq!(kind(store.get("keys/x", MUCH).await), Kind::NotFound);
    subject.put("keys/x", b"one");
    assert_eq!(store.get("keys/x", MUCH).await.unwrap(), "one");
    subject.put("keys/x", b"other");
    assert_eq!(store.get("keys/x", MUCH).await.unwrap(), "other");
    assert_eq!(store.stat("keys/x").await.unwrap().size, 5);
    subject.remove("keys/x");
    assert_eq!(kind(store.stat("keys/x").await), Kind::NotFound);
    assert!(listed(&*store, "").await.is_empty());
}

async fn many_calls_at_once_do_not_mix(subject: &dyn Subject) {
    let content = bytes(100_000);
    for n in 0..10 {
        subject.put(&format!("index/{n}"), &content[n..]);
    }
    let store = subject.store();
    // Each may take five descriptors here, and a process may have no more than 1024.
    let calls = (0..100).map(|i| {
        let (store, content) = (&store, &content);
        async move {
            let (n, offset) = (i % 10, i * 900);
            let range = store.get_range(&format!("index/{n}"), offset as u64, 500).await.unwrap();
            assert!(range == content[n + offset..][..500]);
        }
    });
    join_all(calls).await;
}

async fn an_abandoned_call_harms_nobody(subject: &dyn Subject) {
    subject.put("index/x", &bytes(1 << 20));
    let store = subject.store();
    for _ in 0..100 {
        drop(store.get("index/x", MUCH));
        drop(store.list("").now_or_never());
        drop(store.get("index/x", MUCH).now_or_never());
    }
    assert_eq!(store.get("index/x", MUCH).await.unwrap(), bytes(1 << 20));
}

#[tokio::test]
async fn faults_hit_the_calls_that_their_rule_names() {
    let memory = InMemory::empty();
    memory.put("data/x", b"0123456789");
    memory.put("index/y", b"y");
    let store = FaultyStore::new(memory.store());

    let rule = store.add(Rule::new(Fault::Fail(Kind::Unavailable)).keys("data/").after(1).times(2));
    let kinds = [
        store.get("data/x", MUCH).await,
        store.get("data/x", MUCH).await,
        store.get_range("data/x", 0, 1).await,
    ]
    .map(|result| result.err().map(|e| e.kind()));
    assert_eq!(kinds, [None, Some(Kind::Unavailable), Some(Kind::Unavailable)]);
    assert_eq!(store.get("data/x", MUCH).await.unwrap(), "0123456789");
    assert_eq!(store.get("index/y", MUCH).await.unwrap(), "y");
    assert_eq!(rule.hits(), 2);

    store.add(Rule::new(Fault::Fail(Kind::Denied)).lists());
    assert_eq!(kind(store.list("data/").await), Kind::Denied);
    store.heal();

    store.add(Rule::new(Fault::Truncate(5)));
    store.add(Rule::new(Fault::Flip(3)));
    assert_eq!(store.get("data/x", MUCH).await.unwrap(), Bytes::from_static(b"01224"));
    assert_eq!(store.get_range("data/x", 2, 3).await.unwrap(), "224");
    assert_eq!(kind(store.get_range("data/x", 2, 4).await), Kind::Corrupt);
    assert_eq!(store.stat("data/x").await.unwrap().size, 5);
    store.heal();

    store.add(Rule::new(Fault::Stall).times(1));
    assert!(store.get("data/x", MUCH).now_or_never().is_none());
    assert!(store.get("data/x", MUCH).now_or_never().is_some());
}

#[tokio::test]
async fn calls_are_remembered_in_order() {
    let memory = InMemory::empty();
    memory.put("x", b"x");
    let store = CountingStore::new(memory.store());
    store.list("").await.unwrap();
    store.get_range("x", 0, 1).await.unwrap();
    let range = Call::Range { key: "x".into(), offset: 0, length: 1 };
    assert_eq!(store.take(), [Call::List(String::new()), range]);
    assert!(store.take().is_empty());
}
