//! A file system that costs nothing: the ceiling for what FUSE allows on a machine.
//!
//! It shows the names, sizes and modes of a directory that it reads once, before it mounts. Every request is answered
//! from memory, the data of every file is one static buffer. What it asks of the kernel is what backupfs asks: listings
//! with attributes, opens and closes without messages, 1 MiB reads, everything kept for ever, a descriptor that is
//! polled instead of waited for. What backupfs is slower than this is its own work; the rest is the kernel's.
//!
//! `cargo run --release --example null -- [--noxattr] [--push] DIRECTORY MOUNTPOINT`, until it is unmounted.
//! `--noxattr` says once that there are no attributes, `--push` sends small files to the kernel as they are listed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a benchmark's helper may stop where it fails"
)]

use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyXattr, Request, Session,
};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

const FOREVER: Duration = Duration::from_secs(1 << 30);
const LARGEST_READ: usize = 1 << 20;
/// Files up to this size are pushed.
const SMALL: u64 = 128 << 10;

static DATA: [u8; LARGEST_READ] = [b'.'; LARGEST_READ];

/// One file or directory; its inode is its place in the tree plus one.
struct Node {
    name: OsString,
    attr: FileAttr,
    children: Vec<usize>,
}

struct Tree(Vec<Node>);

impl Tree {
    fn read(root: &Path) -> Tree {
        let mut tree = Tree(Vec::new());
        tree.add(root, OsString::new());
        tree
    }

    fn add(&mut self, path: &Path, name: OsString) -> usize {
        let (at, meta) = (self.0.len(), path.symlink_metadata().unwrap());
        let kind = match () {
            () if meta.is_dir() => FileType::Directory,
            () if meta.is_symlink() => FileType::Symlink,
            () => FileType::RegularFile,
        };
        let time = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let attr = FileAttr {
            ino: INodeNo(at as u64 + 1),
            size: meta.size(),
            blocks: meta.size().div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm: (meta.mode() & 0o7777) as u16,
            nlink: 1,
            uid: meta.uid(),
            gid: meta.gid(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        };
        self.0.push(Node { name, attr, children: Vec::new() });
        if meta.is_dir() {
            let mut names: Vec<OsString> =
                std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort_unstable();
            self.0[at].children = names.into_iter().map(|name| self.add(&path.join(&name), name)).collect();
        }
        at
    }

    fn node(&self, ino: INodeNo) -> &Node {
        &self.0[ino.0 as usize - 1]
    }
}

struct Null {
    tree: &'static Tree,
    xattrs: bool,
    /// Where to say which nodes the kernel has just been told of.
    listed: Option<Sender<Vec<usize>>>,
}

impl Filesystem for Null {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for wanted in [
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_NO_OPEN_SUPPORT,
        ] {
            config.add_capabilities(wanted).map_err(|_| io::Error::other(format!("{wanted:?}")))?;
        }
        let _ = config.set_max_background(128);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let children = &self.tree.node(parent).children;
        match children.binary_search_by(|&at| self.tree.0[at].name.as_os_str().cmp(name)) {
            Ok(found) => reply.entry(&FOREVER, &self.tree.0[children[found]].attr, Generation(0)),
            Err(_) => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOREVER, &self.tree.node(ino).attr);
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        reply.data(&DATA[..self.tree.node(ino).attr.size as usize]);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let left = self.tree.node(ino).attr.size.saturating_sub(offset);
        reply.data(&DATA[..left.min(u64::from(size)).min(LARGEST_READ as u64) as usize]);
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn releasedir(&self, _: &Request, _: INodeNo, _: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        reply.ok();
    }

    fn readdirplus(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let (children, mut told) = (&self.tree.node(ino).children, Vec::new());
        for (nth, &at) in children.iter().enumerate().skip(offset as usize) {
            let Node { name, attr, .. } = &self.tree.0[at];
            if reply.add(attr.ino, nth as u64 + 1, name, &FOREVER, attr, Generation(0)) {
                break;
            }
            told.push(at);
        }
        reply.ok();
        if let Some(listed) = &self.listed {
            listed.send(told).unwrap();
        }
    }

    fn getxattr(&self, _: &Request, _: INodeNo, name: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(match self.xattrs {
            false => Errno::ENOSYS,
            // Said once, `ls` asks no more for it.
            true if name == "security.selinux" => Errno::ENOTSUP,
            true => Errno::ENODATA,
        });
    }

    fn listxattr(&self, _: &Request, _: INodeNo, size: u32, reply: ReplyXattr) {
        match (self.xattrs, size) {
            (false, _) => reply.error(Errno::ENOSYS),
            (true, 0) => reply.size(0),
            (true, _) => reply.data(&[]),
        }
    }
}

/// Sends the small ones of the files that were listed to the kernel, by messages that fuser would hide the result of.
fn push(tree: &Tree, listed: &Receiver<Vec<usize>>, kernel: &OwnedFd) {
    const STORE: i32 = 4;
    const HEADERS: u32 = 16 + 24;
    for attr in listed.iter().flatten().map(|at| &tree.0[at].attr) {
        if attr.kind != FileType::RegularFile || attr.size == 0 || attr.size > SMALL {
            continue;
        }
        let size = attr.size as u32;
        let mut headers = Vec::with_capacity(HEADERS as usize);
        headers.extend((HEADERS + size).to_ne_bytes());
        headers.extend(STORE.to_ne_bytes());
        headers.extend([0; 8]);
        headers.extend(attr.ino.0.to_ne_bytes());
        headers.extend([0; 8]);
        headers.extend(size.to_ne_bytes());
        headers.extend([0; 4]);
        let message = [IoSlice::new(&headers), IoSlice::new(&DATA[..attr.size as usize])];
        // The kernel links what it was told of a moment after it has the reply.
        for _ in 0..20 {
            match rustix::io::writev(kernel, &message) {
                Err(rustix::io::Errno::NOENT) => std::thread::sleep(Duration::from_micros(100)),
                Err(rustix::io::Errno::NODEV) => return,
                sent => {
                    sent.unwrap();
                    break;
                }
            }
        }
    }
}

/// The mount's read-ahead, as backupfs sets it.
fn raise_read_ahead(mountpoint: &Path) {
    let device = mountpoint.metadata().unwrap().dev();
    let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    std::fs::write(format!("/sys/class/bdi/{number}/read_ahead_kb"), "1024").unwrap();
}

fn main() {
    let (mut options, mut paths) = (Vec::new(), Vec::new());
    for word in std::env::args_os().skip(1) {
        if word.to_str().is_some_and(|word| word.starts_with("--")) {
            options.push(word);
        } else {
            paths.push(PathBuf::from(word));
        }
    }
    let [directory, mountpoint] = paths.try_into().expect("null [--noxattr] [--push] DIRECTORY MOUNTPOINT");
    let tree: &'static Tree = Box::leak(Box::new(Tree::read(&directory)));
    let (sender, listed) = channel();
    let pushes = options.iter().any(|option| option == "--push");
    let xattrs = !options.iter().any(|option| option == "--noxattr");
    let null = Null { tree, xattrs, listed: pushes.then_some(sender) };
    let mut config = fuser::Config::default();
    config.mount_options = vec![MountOption::FSName("null".into()), MountOption::RO];
    let session = Session::new(null, &mountpoint, &config).unwrap();
    let kernel = session.as_fd().try_clone_to_owned().unwrap();
    // Its reader then asks again at once instead of sleeping until it is woken.
    fcntl_setfl(&kernel, fcntl_getfl(&kernel).unwrap() | OFlags::NONBLOCK).unwrap();
    if pushes {
        std::thread::spawn(move || push(tree, &listed, &kernel));
    }
    let served = session.spawn().unwrap();
    raise_read_ahead(&mountpoint);
    served.join().unwrap();
}
