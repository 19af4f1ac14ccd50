//! Directories of this machine, shown by the kernel: equal to what they are, and read where they lie.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use backupfs::fuse::{Options, XattrPolicy};
use backupfs::observe::metrics;
use backupfs::tree::Node;
use rustix::fs::{SeekFrom, XattrFlags};

use crate::guard::{Mounted, mounted, options, shared};
use crate::harness::directory::shown;

/// The directory `path` as the top of a snapshot.
fn tree(path: &Path) -> Node {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(shown(path, 32 << 20))
}

/// Opens are answered: what lies here can be passed through.
fn answering() -> Options {
    Options { immutable: false, ..options() }
}

fn mounted_tree(path: &Path, options: Options) -> Option<Mounted> {
    mounted(tree(path), options)
}

/// A directory with some of everything.
fn everything() -> tempfile::TempDir {
    let top = tempfile::tempdir().unwrap();
    let path = |name: &str| top.path().join(name);
    for dir in ["a/b/c", "many", "private"] {
        fs::create_dir_all(path(dir)).unwrap();
    }
    for n in 0..500_u32 {
        fs::write(path(&format!("many/{n}")), n.to_string().repeat(n as usize)).unwrap();
    }
    fs::write(path("a/large"), vec![7; 3 << 20]).unwrap();
    fs::hard_link(path("a/large"), path("a/b/linked")).unwrap();
    symlink("../b", path("a/b/c/link")).unwrap();
    symlink("/etc/passwd", path("a/absolute")).unwrap();
    fs::write(path("a/new\nline \u{e9}"), "x").unwrap();
    fs::write(path("a/suid"), "x").unwrap();
    fs::set_permissions(path("a/suid"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::set_permissions(path("private"), fs::Permissions::from_mode(0o700)).unwrap();
    let sparse = File::create(path("a/sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    sparse.write_at(b"data", 32 << 20).unwrap();
    for (name, value) in [("user.comment", &b"hello"[..]), ("user.large", &[3; 3000]), ("trusted.t", b"t")] {
        rustix::fs::setxattr(path("a/large"), name, value, XattrFlags::empty()).unwrap();
    }
    let mode = rustix::fs::Mode::RUSR;
    let open = File::open(path("a")).unwrap();
    rustix::fs::mknodat(&open, "pipe", rustix::fs::FileType::Fifo, mode, 0).unwrap();
    rustix::fs::mknodat(&open, "null", rustix::fs::FileType::CharacterDevice, mode, 0x103).unwrap();
    top
}

/// What rsync would have to change to make the one the other: nothing, when all is equal.
fn differences(from: &Path, to: &Path) -> String {
    let slashed = |path: &Path| format!("{}/", path.display());
    let mut rsync = Command::new("rsync");
    let output = rsync.args(["-aHAXSni", "--checksum", "--delete", &slashed(from), &slashed(to)]).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_tree_is_shown_as_it_is_and_copied_as_it_was() {
    let top = everything();
    for options in [answering(), options()] {
        let Some(mount) = mounted_tree(top.path(), options) else { return };
        assert_eq!(differences(top.path(), mount.root()), "");
        let copy = tempfile::tempdir().unwrap();
        mount.sh(&format!("cp -a . {}/copy", copy.path().display()));
        let copied = copy.path().join("copy");
        assert_eq!(differences(top.path(), &copied), "");
        assert!(copied.join("a/sparse").metadata().unwrap().blocks() * 512 < 1 << 20);
        mount.end();
    }
}

#[test]
fn large_files_are_read_by_the_kernel_itself() {
    let top = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0_u32..300_000).flat_map(u32::to_le_bytes).collect();
    fs::write(top.path().join("large"), &content).unwrap();
    let Some(mount) = mounted_tree(top.path(), answering()) else { return };
    let before = metrics::FUSE_PASSTHROUGHS.value();
    let open = File::open(mount.path("large")).unwrap();
    assert!(metrics::FUSE_PASSTHROUGHS.value() > before, "this kernel can");
    let other = File::open(mount.path("large")).unwrap();
    let mut piece = vec![0; 100_000];
    for file in [&open, &other] {
        file.read_exact_at(&mut piece, 12_345).unwrap();
        assert_eq!(piece, content[12_345..112_345]);
    }
    assert_eq!(fs::read(mount.path("large")).unwrap(), content);
    // No pages of the mount lie between a reader and the file.
    let inside = File::options().write(true).open(top.path().join("large")).unwrap();
    inside.write_at(b"written since", 12_345).unwrap();
    open.read_exact_at(&mut piece[..13], 12_345).unwrap();
    assert_eq!(&piece[..13], b"written since");
    assert_eq!(rustix::fs::seek(&open, SeekFrom::Hole(0)).unwrap(), content.len() as u64);
    drop((open, other));
    assert_eq!(fs::read(top.path().join("large")).unwrap().len(), content.len());
    mount.end();
}

#[test]
fn many_readers_need_few_descriptors() {
    let top = tempfile::tempdir().unwrap();
    for n in 0..1500_u32 {
        fs::write(top.path().join(n.to_string()), n.to_le_bytes()).unwrap();
    }
    let Some(mount) = mounted_tree(top.path(), answering()) else { return };
    // In processes of their own, as many as it takes where each may open 512: what this one may open, the mount may open.
    let script = "import os, struct
ready, go = os.pipe(), os.pipe()
for part in range(5):
    if os.fork() == 0:
        os.close(go[1])
        files = {n: os.open(str(n), os.O_RDONLY) for n in range(part, 1500, 5)}
        os.write(ready[1], b'r')
        os.read(go[0], 1)
        for n, fd in files.items(): assert os.pread(fd, 4, 0) == struct.pack('<I', n), n
        os._exit(0)
os.close(ready[1])
opened = sum(len(os.read(ready[0], 1)) for part in range(5))
os.close(go[1])
assert [os.wait()[1] for part in range(5)] == [0] * 5 and opened == 5";
    mount.sh(&format!("python3 -c \"{script}\""));
    mount.end();
}

#[test]
fn others_see_what_they_may_see_where_it_lies() {
    let top = everything();
    fs::set_permissions(top.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let Some(mount) = mounted_tree(top.path(), Options { immutable: false, ..shared() }) else { return };
    let fails = |command: &str| !mount.sh_as(1000, command).status.success();
    assert!(fails("ls private") && fails("cat a/pipe") && fails("head -c1 a/null"));
    assert!(!fails("cat a/large > /dev/null"));
    mount.end();
}

#[test]
fn what_was_removed_is_stale_and_never_an_empty_directory() {
    let top = everything();
    let Some(mount) = mounted_tree(top.path(), answering()) else { return };
    assert_eq!(fs::read_dir(mount.path("many")).unwrap().count(), 500);
    let open = File::open(mount.path("a/large")).unwrap();
    fs::remove_dir_all(top.path().join("a")).unwrap();
    let mut byte = [0];
    open.read_exact_at(&mut byte, 1 << 20).unwrap();
    assert_eq!(byte, [7], "what is open can be read on");
    let stale = |error: std::io::Error| error.raw_os_error() == Some(libc::ESTALE);
    let entries = fs::read_dir(mount.path("a")).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    assert!(stale(entries.unwrap_err()));
    drop(open);
    mount.end();
}

#[test]
fn without_attributes_all_is_listed_all_the_same() {
    let top = everything();
    let none = Options { xattrs: XattrPolicy::None, ..answering() };
    let Some(mount) = mounted_tree(top.path(), none) else { return };
    let find = "find . -type f -size +0 | LC_ALL=C sort";
    let there = Command::new("sh").args(["-c", find]).current_dir(top.path()).output().unwrap();
    assert_eq!(mount.sh(find).into_bytes(), there.stdout);
    mount.end();
}
