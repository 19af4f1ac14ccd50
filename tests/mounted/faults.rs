//! What goes wrong costs the request that met it, and is told as what it is.

use std::time::{Duration, Instant};

use backupfs::error::{Error, Kind};
use backupfs::fuse::{self, Options};
use backupfs::tree::Step;

use crate::guard::{mounted, options};
use crate::memory::{Manner, dir, file, looks, odd, special};

fn errno(result: std::io::Result<impl Sized>) -> Option<i32> {
    result.err().and_then(|e| e.raw_os_error())
}

#[test]
fn a_panic_costs_one_request() {
    let panics = looks(|name| match name {
        b"at once" => panic!("forced"),
        b"later" => Step::wait(async { panic!("forced") }),
        _ => Step::ok(Some(file("fine"))),
    });
    let Some(mount) = mounted(dir([("d", panics), ("read", odd("x", Manner::Panics))]), options()) else {
        return;
    };
    for _ in 0..3 {
        for path in ["d/at once", "d/later"] {
            assert_eq!(errno(std::fs::metadata(mount.path(path))), Some(libc::EIO), "{path}");
        }
        assert_eq!(errno(std::fs::read(mount.path("read"))), Some(libc::EIO));
        assert_eq!(mount.sh("cat d/good"), "fine");
    }
}

#[test]
fn what_never_answers_times_out_and_holds_up_nobody() {
    let never = || looks(|_| Step::wait(std::future::pending()));
    let tree = dir([("never", never()), ("data", odd("x", Manner::Never)), ("good", file("good"))]);
    let options = Options {
        metadata_timeout: Duration::from_secs(3),
        data_timeout: Duration::from_secs(3),
        ..options()
    };
    let Some(mount) = mounted(tree, options) else { return };
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..20)
            .map(|i| {
                let path = if i == 0 { mount.path("data") } else { mount.path(format!("never/{i}")) };
                scope.spawn(move || errno(std::fs::read(path)))
            })
            .collect();
        // Far more are waiting than there are threads.
        assert_eq!(std::fs::read(mount.path("good")).unwrap(), b"good");
        assert!(!waiting.iter().all(|w| w.is_finished()), "the others are still waiting");
        for waiting in waiting {
            assert_eq!(waiting.join().unwrap(), Some(libc::ETIMEDOUT));
        }
    });
}

#[test]
fn an_outage_is_never_a_missing_file_or_an_unknown_call() {
    let cases = [
        (Kind::Unavailable, libc::EIO),
        (Kind::Corrupt, libc::EIO),
        (Kind::TimedOut, libc::ETIMEDOUT),
        (Kind::Denied, libc::EACCES),
        (Kind::Stale, libc::ESTALE),
        (Kind::Internal, libc::EIO),
    ];
    for (kind, expected) in cases {
        let fails = looks(move |_| Step::err(Error::new(kind, "made to fail")));
        let tree = dir([("d", fails), ("data", odd("x", Manner::Fails(kind))), ("good", file("good"))]);
        let Some(mount) = mounted(tree, options()) else { return };
        assert_eq!(errno(std::fs::metadata(mount.path("d/x"))), Some(expected), "{kind:?}");
        assert_eq!(errno(std::fs::read(mount.path("data"))).map(|e| e != libc::ENOENT), Some(true));
        assert_eq!(std::fs::read(mount.path("good")).unwrap(), b"good", "after {kind:?}");
    }
}

#[test]
fn a_failed_answer_is_not_remembered() {
    let up = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let store = up.clone();
    let tree = looks(move |_| match store.load(std::sync::atomic::Ordering::Relaxed) {
        true => Step::ok(Some(file("back"))),
        false => Step::err(Error::new(Kind::Unavailable, "store is down")),
    });
    let Some(mount) = mounted(tree, options()) else { return };
    assert_eq!(errno(std::fs::read(mount.path("f"))), Some(libc::EIO));
    up.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(std::fs::read(mount.path("f")).unwrap(), b"back");
}

#[test]
fn operations_on_the_wrong_type_are_refused() {
    let pipe = special(backupfs::tree::FileType::Socket, 0);
    let Some(mount) = mounted(dir([("file", file("x")), ("d", dir::<&str>([])), ("s", pipe)]), options())
    else {
        return;
    };
    assert_eq!(errno(std::fs::read(mount.path("d"))), Some(libc::EISDIR));
    assert_eq!(errno(std::fs::read_dir(mount.path("file"))), Some(libc::ENOTDIR));
    assert_eq!(errno(std::fs::read_link(mount.path("file"))), Some(libc::EINVAL));
    assert_eq!(errno(std::fs::read(mount.path("s"))), Some(libc::ENXIO));
    assert_eq!(errno(std::fs::metadata(mount.path("file/below"))), Some(libc::ENOTDIR));
}

#[test]
fn a_busy_mount_stays_and_a_detached_one_is_readable_until_it_is_closed() {
    let Some(mount) = mounted(dir([("f", file("content"))]), options()) else { return };
    let open = std::fs::File::open(mount.path("f")).unwrap();
    let error = fuse::unmount(mount.root(), false).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.to_string().contains("busy"), "{error}");
    assert_eq!(std::fs::read(mount.path("f")).unwrap(), b"content");
    fuse::unmount(mount.root(), true).unwrap();
    assert!(fuse::mounted_at(mount.root()).unwrap().is_none());
    let mut content = String::new();
    std::io::Read::read_to_string(&mut &open, &mut content).unwrap();
    assert_eq!(content, "content");
}

#[test]
fn a_session_ends_with_its_mount() {
    let Some(mount) = mounted(dir([("f", file("x"))]), options()) else { return };
    let before = Instant::now();
    let changes = mount.session().changes();
    mount.end();
    assert!(before.elapsed() < Duration::from_secs(10));
    // Whoever still has changes to tell finds nobody, and no harm.
    changes(backupfs::tree::Change { dir: vec![], names: vec![b"x".to_vec()] });
}

#[test]
fn a_dead_mount_is_recognised_and_can_be_taken_away() {
    let Some(mount) = mounted(dir::<&str>([]), options()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let spec = fuse::MountSpec { source: "dead".into(), allow_other: false, noexec: true };
    drop(fuse::mount(dir.path(), &spec).unwrap());
    assert!(fuse::is_dead(dir.path()).unwrap());
    assert!(!fuse::is_dead(mount.root()).unwrap());
    let entry = fuse::mounted_at(dir.path()).unwrap().unwrap();
    assert!(entry.options.split(',').any(|o| o == "noexec"), "{}", entry.options);
    fuse::unmount(dir.path(), false).unwrap();
    assert!(!fuse::is_dead(dir.path()).unwrap());
}
