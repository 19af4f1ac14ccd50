//! Faults that no real S3 server makes on demand. What lies behind one is shown as it is, or is an error: never less than
//! there is, never absence, and never other bytes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backupfs::error::{Again, Error, Kind};
use backupfs::source::chunked::Shared;
use backupfs::source::objects;
use backupfs::store::distant::{self, Endpoint};
use backupfs::store::s3::S3;
use backupfs::store::{Local, ObjectStore};
use backupfs::tree::{Content, Dir, Node, Reader, Source};

use crate::harness::walk::{Walked, walk};
use crate::objects::spec;
use crate::s3::{key, keys, options, seen, store};
use crate::s3s::{Fault, Rule, S3s};
use crate::source::{everything, fixture, try_open};

const REPOSITORY: &str = "restic-v2";

/// A server whose bucket `bucket` is a repository, listed two entries at a time.
fn repository() -> S3s {
    let server = S3s::start();
    server.set_page(2);
    upload(&server, &fixture(REPOSITORY).join("repo"), "");
    server
}

fn upload(server: &S3s, directory: &Path, prefix: &str) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let key = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        match entry.file_type().unwrap().is_dir() {
            true => upload(server, &entry.path(), &format!("{key}/")),
            false => server.put("bucket", &key, &std::fs::read(entry.path()).unwrap()),
        }
    }
}

/// A server with a few small objects, listed two at a time.
fn letters() -> (S3s, S3) {
    let server = S3s::start();
    server.set_page(2);
    for key in ["a", "b", "c", "d", "e"] {
        server.put("bucket", key, key.as_bytes());
    }
    let store = store(options(&server.endpoint()));
    (server, store)
}

fn bare(server: &S3s) -> Arc<dyn ObjectStore> {
    Arc::new(store(options(&server.endpoint())))
}

/// Every path of a repository, by snapshot.
type Saved = Vec<((String, usize), Walked)>;

/// What the repository holds, read from this machine.
async fn saved() -> Saved {
    let local = Arc::new(Local::new(fixture(REPOSITORY).join("repo")).unwrap());
    everything(&*try_open(REPOSITORY, local, None).await.unwrap()).await
}

/// An error that tells of no absence, and is no fault of ours.
fn is_honest(error: &Error) {
    assert!(!matches!(error.kind(), Kind::NotFound | Kind::Internal), "{error:?}");
}

/// Walks every snapshot that was saved. What is shown is what was saved, and all of it; answers how many paths were shown,
/// and how many were errors.
async fn compared(source: &dyn Source, saved: &Saved) -> (usize, usize) {
    let (mut right, mut failed) = (0, 0);
    for ((id, path), saved) in saved {
        let opened = match source.open(&id.as_str().into(), *path).resolve().await {
            Ok(opened) => opened,
            Err(error) => {
                is_honest(&error);
                failed += 1;
                continue;
            }
        };
        let walked = walk(opened.node).await;
        for (at, saved) in saved {
            let shown = String::from_utf8_lossy(at);
            let Some(found) = walked.get(at) else {
                let above = at.iter().rposition(|byte| *byte == b'/').map_or(&b""[..], |slash| &at[..slash]);
                let is_listed = walked.get(above).is_some_and(|above| above.content.is_ok());
                assert!(!is_listed, "{id} {shown} is missing from a directory that was listed");
                continue;
            };
            assert_eq!(found.meta, saved.meta, "{id} {shown}");
            match (&found.content, &found.xattrs) {
                (Ok(content), Ok(xattrs)) => {
                    assert!(
                        Ok(content) == saved.content.as_ref(),
                        "{id} {shown}: other bytes than were saved"
                    );
                    assert!(Ok(xattrs) == saved.xattrs.as_ref(), "{id} {shown}: other attributes");
                    right += 1;
                }
                _ => failed += 1,
            }
        }
        assert!(walked.keys().all(|at| saved.contains_key(at)), "{id}: more than was saved");
    }
    (right, failed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_often_refuses_makes_a_repository_slower_and_nothing_else() {
    let saved = saved().await;
    for fault in [Fault::Busy, Fault::Failing] {
        let server = repository();
        let rule = server.add(Rule::new(fault).every(20));
        let endpoint = Endpoint::of(&server.endpoint());
        let store = distant::guarded(bare(&server), endpoint, Duration::from_secs(60));
        let source = try_open(REPOSITORY, store, None).await.unwrap();
        let (right, failed) = compared(&*source, &saved).await;
        assert!(right > 100 && failed == 0, "{fault:?}: {right} {failed}");
        assert!(rule.hits() > 3, "{fault:?}: only {} of {} requests", rule.hits(), server.requests());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_with_another_bit_or_of_another_object_is_never_shown() {
    // A third of them: each is walked a dozen times.
    let saved: Saved = saved().await.into_iter().step_by(3).collect();
    for fault in [Fault::Flipped, Fault::Swapped] {
        for (keys, every) in
            [("data/", 2), ("data/", 1), ("index/", 2), ("snapshots/", 2), ("keys/", 1), ("config", 1)]
        {
            let server = repository();
            let rule = server.add(Rule::new(fault).keys(keys).every(every));
            match try_open(REPOSITORY, bare(&server), None).await {
                Err(error) => is_honest(&error),
                Ok(source) => {
                    let (right, failed) = compared(&*source, &saved).await;
                    assert!(
                        every > 1 || failed > 0,
                        "{fault:?} {keys}: {right} paths were shown of what is damaged"
                    );
                    let health = source.health();
                    let listed = source.snapshots();
                    let is_listed = |id: &str| listed.iter().any(|snapshot| *snapshot.id == *id);
                    let is_less = !saved.iter().all(|((id, _), _)| is_listed(id));
                    assert!(
                        !is_less || health.omitted > 0 || health.error.is_some(),
                        "{fault:?} {keys}: {health:?}"
                    );
                }
            }
            assert!(rule.hits() > 0, "{fault:?} {keys}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_without_a_page_makes_errors_and_no_absence_of_what_is_known() {
    let saved = saved().await;
    let server = repository();
    let rule = server.add(Rule::new(Fault::PageMissing).keys("index/"));
    let source = try_open(REPOSITORY, bare(&server), None).await.unwrap();
    let (_, failed) = compared(&*source, &saved).await;
    assert!(failed > 0 && rule.hits() > 0);
    server.heal();
    source.refresh().await.unwrap();
    let (right, failed) = compared(&*source, &saved).await;
    assert!(right > 100 && failed == 0, "{right} {failed}");
}

#[tokio::test]
async fn a_listing_that_repeats_a_page_or_forgets_where_it_was_is_an_error() {
    let (server, store) = letters();
    for (fault, worth) in [(Fault::PageAgain, Again::Soon), (Fault::TokenRefused, Again::Never)] {
        let rule = server.add(Rule::new(fault));
        for (kind, again, says) in [seen(store.list("").await), seen(store.list_level("").await)] {
            assert_eq!((kind, again), (Kind::Unavailable, worth), "{fault:?}: {says}");
        }
        let bucket = spec(&server.endpoint(), "bucket");
        // It goes on behind a key, and needs no token.
        match objects::open(bucket, Shared::new(backupfs::cache::Budget::of(1 << 20))).await {
            Err(error) => is_honest(&error),
            Ok(_) => assert_eq!(fault, Fault::TokenRefused),
        }
        assert!(rule.hits() > 1);
        server.heal();
        assert_eq!(keys(&store).await, ["a", "b", "c", "d", "e"]);
    }
}

#[tokio::test]
async fn a_page_that_holds_nothing_is_not_the_end_of_a_listing() {
    let (server, store) = letters();
    let rule = server.add(Rule::new(Fault::PageEmpty).every(2).times(2));
    assert_eq!(keys(&store).await, ["a", "b", "c", "d", "e"]);
    assert_eq!(rule.hits(), 2);
}

#[tokio::test]
async fn listings_go_on_page_after_page_over_one_connection() {
    let (server, store) = letters();
    assert_eq!(keys(&store).await, ["a", "b", "c", "d", "e"]);
    assert_eq!(server.requests(), 3);
    assert_eq!(server.connections(), 1, "connections are kept");
}

#[tokio::test]
async fn a_server_of_the_first_version_is_asked_for_the_second_once() {
    let (server, store) = letters();
    let rule = server.add(Rule::new(Fault::OldListings));
    assert_eq!(keys(&store).await, ["a", "b", "c", "d", "e"]);
    assert_eq!(keys(&store).await, ["a", "b", "c", "d", "e"]);
    assert_eq!((rule.hits(), server.requests()), (1, 7), "asked once, and never again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archived_packs_say_what_to_thaw() {
    let server = repository();
    server.add(Rule::new(Fault::Archived).keys("data/"));
    let source = try_open(REPOSITORY, bare(&server), None).await.unwrap();
    for snapshot in source.snapshots().iter() {
        let error = source.open(&snapshot.id, 0).resolve().await.err().unwrap();
        assert_eq!(error.kind(), Kind::Unsupported, "{error}");
        for word in ["restore-object --bucket bucket --key data/", "DEEP_ARCHIVE"] {
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}

/// The directory that a bucket is, and a file of it, open.
async fn opened(server: &S3s, name: &[u8]) -> (Arc<dyn Dir>, Arc<dyn Reader>) {
    let shared = Shared::new(backupfs::cache::Budget::of(64 << 20));
    let source = objects::open(spec(&server.endpoint(), "bucket"), shared).await.unwrap();
    let root: Node = source.open(&source.snapshots()[0].id.clone(), 0).resolve().await.unwrap().node;
    let Content::Dir(dir) = root.content else { panic!("no directory") };
    let Content::File(file) = dir.lookup(name).resolve().await.unwrap().unwrap().content else {
        panic!("no file")
    };
    (dir, file.open().resolve().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archived_object_is_listed_and_says_what_to_thaw() {
    let (server, _) = letters();
    server.add(Rule::new(Fault::Archived).keys("b"));
    let (dir, reader) = opened(&server, b"b").await;
    let error = reader.read_at(0, 1).resolve().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported, "{error}");
    assert!(error.to_string().contains("restore-object --bucket bucket --key b"), "{error}");
    assert!(dir.lookup(b"b").resolve().await.unwrap().is_some());
    let (_, reader) = opened(&server, b"c").await;
    assert_eq!(reader.read_at(0, 1).resolve().await.unwrap(), "c");
}

/// The server says with each answer which object it is of, and that is heeded where `If-Match` is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_changes_between_two_ranges_is_stale_at_a_server_that_knows_no_conditions() {
    let server = S3s::start();
    server.put("bucket", "big", &[1; 8 << 20]);
    let (_, reader) = opened(&server, b"big").await;
    assert_eq!(reader.read_at(0, 4).resolve().await.unwrap(), [1; 4][..]);
    let rule = server.add(Rule::new(Fault::Replaced));
    let error = reader.read_at(6 << 20, 4).resolve().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Stale, "{error}");
    assert!(rule.hits() > 0);
}

#[tokio::test]
async fn a_clock_that_is_off_is_put_right_by_the_server_s() {
    for ahead in [3600, -3600] {
        let (server, store) = letters();
        server.set_ahead(ahead);
        assert_eq!(store.get("a", 9).await.unwrap(), "a");
        assert_eq!(server.requests(), 2);
        assert_eq!(store.get("b", 9).await.unwrap(), "b");
        assert_eq!(server.requests(), 3, "the difference is remembered");
    }
}

/// A renewal of credentials costs one look, not one for each request.
#[tokio::test]
async fn given_credentials_that_have_expired_are_told_at_once() {
    let (server, store) = letters();
    server.add(Rule::new(Fault::Expired).times(1));
    let (kind, again, says) = seen(store.get("a", 9).await);
    assert_eq!((kind, again), (Kind::Denied, Again::Never), "{says}");
    assert!(says.contains("get new credentials"), "{says}");
    assert_eq!(server.requests(), 1);
    assert_eq!(store.get("a", 9).await.unwrap(), "a", "the next one is asked all the same");
}

#[tokio::test]
async fn what_is_signed_with_another_secret_is_refused() {
    let (server, right) = letters();
    let wrong =
        backupfs::store::s3::Options { identity: key("not the secret"), ..options(&server.endpoint()) };
    let (kind, _, says) = seen(store(wrong).get("a", 9).await);
    assert_eq!(kind, Kind::Denied, "{says}");
    assert_eq!(right.get("a", 9).await.unwrap(), "a");
}
