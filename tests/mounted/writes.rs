//! Nothing can be written, by any call, and everybody is told so in the same way.

use std::os::fd::AsFd;

use backupfs::tree::FileType;
use rustix::fs::{
    Access, AtFlags, CWD, FallocateFlags, FileType as Kind, Gid, Mode, OFlags, Timespec, Timestamps, Uid,
    XattrFlags,
};
use rustix::io::Errno;

use crate::guard::{Mounted, mounted, options};
use crate::memory::{dir, file, special, symlink};

fn tree() -> backupfs::tree::Node {
    dir([
        ("file", file("content")),
        ("dir", dir([("below", file("x"))])),
        ("link", symlink("file")),
        ("pipe", special(FileType::Fifo, 0)),
    ])
}

fn outcomes(mount: &Mounted) -> Vec<(&'static str, rustix::io::Result<()>)> {
    let p = |name: &str| mount.path(name);
    let open = |name: &str, flags| rustix::fs::open(p(name), flags, Mode::from(0o644)).map(drop);
    let mode = Mode::from(0o644);
    let read = rustix::fs::open(p("file"), OFlags::RDONLY, Mode::empty()).unwrap();
    let now = Timespec { tv_sec: 1, tv_nsec: 0 };
    let times = Timestamps { last_access: now, last_modification: now };
    let (uid, gid) = (Some(Uid::from_raw(1)), Some(Gid::from_raw(1)));
    vec![
        ("open for writing", open("file", OFlags::WRONLY)),
        ("open for both", open("file", OFlags::RDWR)),
        ("open to append", open("file", OFlags::WRONLY | OFlags::APPEND)),
        ("open to truncate", open("file", OFlags::WRONLY | OFlags::TRUNC)),
        ("create", open("new", OFlags::CREATE | OFlags::WRONLY)),
        ("create for reading", open("new", OFlags::CREATE | OFlags::RDONLY)),
        ("unnamed file", open("dir", OFlags::TMPFILE | OFlags::WRONLY)),
        ("mkdir", rustix::fs::mkdir(p("new"), mode)),
        ("rmdir", rustix::fs::rmdir(p("dir"))),
        ("unlink", rustix::fs::unlink(p("file"))),
        ("unlink what is not there", rustix::fs::unlink(p("none"))),
        ("rename", rustix::fs::rename(p("file"), p("other"))),
        ("link", rustix::fs::link(p("file"), p("other"))),
        ("symlink", rustix::fs::symlink("file", p("other"))),
        ("mknod", rustix::fs::mknodat(CWD, p("new"), Kind::Fifo, mode, 0)),
        ("truncate", truncate(&p("file"))),
        ("chmod", rustix::fs::chmod(p("file"), mode)),
        ("chown", rustix::fs::chown(p("file"), uid, gid)),
        ("chown of a link", rustix::fs::chownat(CWD, p("link"), uid, gid, AtFlags::SYMLINK_NOFOLLOW)),
        ("fchmod", rustix::fs::fchmod(read.as_fd(), mode)),
        ("utimens", rustix::fs::utimensat(CWD, p("file"), &times, AtFlags::empty())),
        ("setxattr", rustix::fs::setxattr(p("file"), "user.x", b"1", XattrFlags::empty())),
        ("removexattr", rustix::fs::removexattr(p("file"), "user.x")),
        ("access for writing", rustix::fs::access(p("file"), Access::WRITE_OK)),
        ("access for writing of a directory", rustix::fs::access(p("dir"), Access::WRITE_OK)),
    ]
}

fn truncate(path: &std::path::Path) -> rustix::io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: a C string that lives through the call.
    match unsafe { libc::truncate(path.as_ptr(), 0) } {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap()),
    }
}

#[test]
fn every_write_is_erofs_and_changes_nothing() {
    let Some(mount) = mounted(tree(), options()) else { return };
    for (what, outcome) in outcomes(&mount) {
        assert_eq!(outcome, Err(Errno::ROFS), "{what}");
    }
    assert_eq!(mount.sh("cat file dir/below"), "contentx");
    let read = rustix::fs::open(mount.path("file"), OFlags::RDONLY, Mode::empty()).unwrap();
    assert_eq!(rustix::fs::fallocate(&read, FallocateFlags::empty(), 0, 1), Err(Errno::BADF));
}

#[test]
fn what_posix_allows_on_a_read_only_file_system_works() {
    let Some(mount) = mounted(tree(), options()) else { return };
    let create = rustix::fs::open(mount.path("file"), OFlags::CREATE | OFlags::RDONLY, Mode::empty());
    assert!(create.is_ok(), "{create:?}");
    rustix::fs::fsync(create.unwrap()).unwrap();
    assert_eq!(rustix::fs::mkdir(mount.path("dir"), Mode::empty()), Err(Errno::EXIST));
    rustix::fs::access(mount.path("file"), Access::READ_OK).unwrap();
    assert_eq!(rustix::fs::access(mount.path("file"), Access::EXEC_OK), Err(Errno::ACCESS));
    rustix::fs::access(mount.path("dir"), Access::EXEC_OK).unwrap();
}

#[test]
fn a_remount_for_writing_gives_no_way_to_write() {
    let Some(mount) = mounted(tree(), options()) else { return };
    let flags = rustix::mount::MountFlags::NOSUID | rustix::mount::MountFlags::NODEV;
    let remounted = rustix::mount::mount_remount(mount.root(), flags, c"");
    eprintln!("remount,rw: {remounted:?}");
    // Opening may succeed and unnamed files be unknown; writing must fail.
    for (what, outcome) in outcomes(&mount) {
        let opens = what.starts_with("open ") || what.starts_with("access ");
        let refused = [Errno::ROFS, Errno::OPNOTSUPP, Errno::NOENT].map(Err).contains(&outcome);
        assert!(refused || (opens && outcome.is_ok()), "{what}: {outcome:?}");
    }
    let _ = std::fs::write(mount.path("file"), "overwritten");
    assert_eq!(mount.sh("cat file; dd if=file iflag=direct status=none"), "contentcontent");
}
