//! The contract of `tree::Dir` and of all below it, for directories of this machine.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;

use backupfs::tree::{FileType, Identity};
use rustix::fs::{Mode, XattrFlags};

use crate::harness::directory::shown;
use crate::harness::walk::{Walked, walk};

fn made() -> tempfile::TempDir {
    let top = tempfile::tempdir().unwrap();
    fill(top.path(), 300);
    top
}

/// Puts into `top` everything that a file system of Linux can hold; `many` files, 8 at least, stand in one directory.
pub fn fill(top: &Path, many: usize) {
    let path = |name: &str| top.join(name);
    fs::create_dir_all(path("deep/er/and/deeper")).unwrap();
    fs::create_dir_all(path("empty")).unwrap();
    fs::create_dir_all(path("many")).unwrap();
    for n in 0..many {
        fs::write(path(&format!("many/{n}")), n.to_string().repeat(n * n)).unwrap();
    }
    for name in [&b"\xff\xfe"[..], b"new\nline", b"-rf", b"\x1b[31m", &[b'x'; 255], b".hidden"] {
        fs::write(top.join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
    }
    for n in 0..40 {
        fs::hard_link(path("many/7"), path(&format!("deep/er/link {n}"))).unwrap();
    }
    symlink("../nowhere", path("deep/dangling")).unwrap();
    symlink("x".repeat(4000), path("deep/long")).unwrap();
    let sparse = File::create(path("sparse")).unwrap();
    sparse.set_len(5 << 20).unwrap();
    sparse.write_at(&[1; 10_000], 3 << 20).unwrap();
    rustix::fs::setxattr(path("many/1"), "user.comment", b"hello", XattrFlags::empty()).unwrap();
    rustix::fs::setxattr(path("many"), "user.dir", &[9; 2000], XattrFlags::empty()).unwrap();
    fs::set_permissions(path("empty"), fs::Permissions::from_mode(0o1777)).unwrap();
    let here = File::open(top).unwrap();
    rustix::fs::mknodat(&here, "pipe", rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
}

/// A walk through a directory by a source of its own.
async fn walked(path: &Path, memory: u64) -> Walked {
    walk(shown(path, memory).await).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_keeps_to_the_contract_and_is_there() {
    let top = made();
    let walked = walked(top.path(), 8 << 20).await;
    for (at, found) in &walked {
        let at = String::from_utf8_lossy(at);
        assert!(found.content.is_ok() && found.xattrs.is_ok(), "{at}: {found:?}");
    }
    let count = |kind: FileType| walked.values().filter(|found| found.meta.kind == kind).count();
    assert_eq!((count(FileType::Dir), count(FileType::File)), (7, 300 + 40 + 7));
    assert_eq!((count(FileType::Symlink), count(FileType::Fifo), count(FileType::Socket)), (2, 1, 1));
    let identity = |at: &str| walked[at.as_bytes()].meta.identity;
    assert!(matches!(identity("many/7"), Identity::Key(_)));
    assert_eq!(identity("many/7"), identity("deep/er/link 39"));
    assert_ne!(identity("many/7"), identity("many/8"));
}

/// What does not stay in memory is read again and is the same; so is what another mount reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_and_mounts_make_no_difference() {
    let top = made();
    let first = walked(top.path(), 8 << 20).await;
    assert!(first == walked(top.path(), 0).await, "without memory");
    assert!(first == walked(top.path(), 8 << 20).await, "by another source");
}
