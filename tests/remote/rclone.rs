//! rclone on a pipe: what it says when it fails, and that it is started again.

use std::ffi::OsString;
use std::path::Path;

use backupfs::error::{Again, Kind};
use backupfs::store::rest::Rest;
use backupfs::store::{ObjectStore, rclone};

use crate::harness::child::{descendants, has};
use crate::machine::signal;
use crate::seen;

fn store(remote: &str, program: Option<&Path>) -> Rest {
    let environment: [(OsString, OsString); 2] =
        [("PATH".into(), "/usr/bin:/bin".into()), ("RCLONE_CONFIG".into(), "/dev/null".into())];
    rclone(remote, "rclone:test", program, environment.to_vec()).unwrap()
}

/// The rclones that this process started and that serve `remote`.
fn started(remote: &str) -> Vec<u32> {
    let mine = descendants(std::process::id());
    let serves = |pid: &u32| String::from_utf8_lossy(&crate::machine::arguments(*pid)).contains(remote);
    mine.into_iter().filter(serves).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_ends_is_started_again_and_one_is_enough() {
    if !has("rclone") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config"), "content").unwrap();
    let remote = format!(":local:{}", dir.path().display());
    let store = store(&remote, None);
    assert_eq!(started(&remote), [0; 0], "nothing is started before it is needed");
    let many = futures_util::future::join_all((0..20).map(|_| store.get("config", 99))).await;
    assert!(many.into_iter().all(|read| read.unwrap() == "content"));
    let first = started(&remote);
    assert_eq!(first.len(), 1);
    signal(first[0], "KILL");
    crate::machine::wait_for("rclone to end", || started(&remote).is_empty());
    // The call that finds it dead may fail; the next has another.
    let again = store.get("config", 99).await;
    assert!(again.is_ok() || seen(again) == (Kind::Unavailable, Again::Soon));
    assert_eq!(store.get("config", 99).await.unwrap(), "content");
    assert_ne!(started(&remote), first);
    drop(store);
    crate::machine::wait_for("rclone to end with its store", || started(&remote).is_empty());
}

#[tokio::test]
async fn its_own_words_tell_what_is_wrong() {
    if !has("rclone") {
        return;
    }
    let error = store("nosuchremote:path", None).stat("config").await.unwrap_err();
    assert_eq!((error.kind(), error.again()), (Kind::Invalid, Again::Never));
    assert!(error.to_string().contains("didn't find section in config file"), "{error}");
    let error = store("x:", Some(Path::new("/no/such/rclone"))).stat("config").await.unwrap_err();
    assert_eq!(error.kind(), Kind::System);
    assert!(error.to_string().contains("/no/such/rclone: is it installed"), "{error}");
}
