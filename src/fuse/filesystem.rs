//! The requests of the kernel, one method each: find the question, ask it, shape the reply.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use bytes::Bytes;
use fuser::{
    AccessFlags, BsdFileFlags, Errno, FileHandle, FopenFlags, INodeNo, InitFlags, KernelConfig, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow,
    WriteFlags,
};
use tracing::debug;

use super::XattrPolicy;
use super::answer::{Call, Desk};
use super::push::Watcher;
use super::replies::{send_attribute, send_entry, send_listing, send_listing_plus};
use super::rights::Registered;
use super::state::State;
use crate::observe::metrics;
use crate::tree::{Backing, FileType, OWN_XATTRS, Step, TRUSTED_XATTRS as TRUSTED};

const NAME_LIMIT: usize = 255;

/// Answers the kernel out of a [`State`].
pub(super) struct Filesystem {
    state: Arc<State>,
    desk: Desk,
    watcher: Watcher,
}

impl Filesystem {
    /// For `state`, with failures and waits going over `desk`; `watcher` hears of reads and listings.
    pub fn new(state: Arc<State>, desk: Desk, watcher: Watcher) -> Self {
        Filesystem { state, desk, watcher }
    }

    /// Whether only a node can tell if it has an attribute of this name.
    fn is_trusted(&self, name: &[u8]) -> bool {
        self.state.options.has_trusted && name.starts_with(TRUSTED)
    }

    fn metadata(&self, operation: &'static str, ino: INodeNo) -> Call {
        Call { operation, ino: ino.0, limit: self.state.options.metadata_timeout }
    }

    fn data(&self, operation: &'static str, ino: INodeNo) -> Call {
        Call { operation, ino: ino.0, limit: self.state.options.data_timeout }
    }
}

impl fuser::Filesystem for Filesystem {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let options = &self.state.options;
        let mut wanted = vec![
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_CACHE_SYMLINKS,
            // Who has a handle may ask for what was forgotten.
            InitFlags::FUSE_EXPORT_SUPPORT,
        ];
        // Enforcing ACLs implies default_permissions, which would lock the mounter out of files recorded as others'.
        if options.allow_other && options.acls && options.xattrs == XattrPolicy::All {
            wanted.push(InitFlags::FUSE_POSIX_ACL);
        }
        for capability in wanted {
            if config.add_capabilities(capability).is_err() {
                debug!(?capability, "this kernel does not offer it");
            }
        }
        let zero_message = options.immutable
            && options.access_log.is_none()
            && config.add_capabilities(InitFlags::FUSE_NO_OPEN_SUPPORT).is_ok();
        self.state.zero_message_opens.store(zero_message, Ordering::Relaxed);
        // The files behind lie on no stacked file system themselves: then one may be stacked on this.
        if !zero_message
            && config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
            && config.set_max_stack_depth(1).is_ok()
        {
            self.state.passthrough.turn_on();
        }
        // Requests that the kernel makes on its own, read-ahead above all; the default of 16 starves distant stores.
        let _ = config.set_max_background(128);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        metrics::FUSE_LOOKUP.add(1);
        let name = name.as_bytes();
        if name.len() > NAME_LIMIT {
            return reply.error(Errno::ENAMETOOLONG);
        }
        let state = self.state.clone();
        self.desk.answer(
            self.metadata("lookup", parent),
            reply,
            || match name {
                b"." => self.state.again(parent.0),
                b".." => self.state.above(parent.0),
                name => self.state.lookup(parent.0, name),
            },
            move |reply, found| send_entry(&state, reply, found),
        );
    }

    fn forget(&self, _: &Request, ino: INodeNo, count: u64) {
        self.state.forget(ino.0, count);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        metrics::FUSE_GETATTR.add(1);
        self.desk.answer(
            self.metadata("getattr", ino),
            reply,
            || self.state.attributes(ino.0),
            |reply, (attr, ttl)| reply.attr(&ttl, &attr),
        );
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        metrics::FUSE_READLINK.add(1);
        self.desk.answer(
            self.metadata("readlink", ino),
            reply,
            || self.state.target(ino.0),
            |reply, target| reply.data(&target),
        );
    }

    fn open(&self, request: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        metrics::FUSE_OPEN.add(1);
        if self.state.opens_need_no_message() {
            return reply.error(Errno::ENOSYS);
        }
        let (state, uid) = (self.state.clone(), request.uid());
        self.desk.answer(
            self.metadata("open", ino),
            reply,
            || self.state.open_file(ino.0),
            move |reply, file| {
                state.tell_opened(ino.0, uid);
                let handle = FileHandle(state.files.insert(Arc::clone(&file)));
                let register = |file: &Backing| Registered::new(&state.rights, file.file.as_fd());
                match state.passthrough.open(ino.0, file.size(), || file.backing(), register) {
                    Some(behind) => {
                        metrics::FUSE_PASSTHROUGHS.add(1);
                        // SAFETY: the number stays the kernel's as long as `behind`, and is not closed by the wrapper.
                        let wrapped = unsafe { reply.wrap_backing(behind.id.id()) };
                        reply.opened_passthrough(handle, FopenFlags::FOPEN_NOFLUSH, &wrapped);
                        wrapped.into_raw();
                    }
                    None => reply.opened(handle, FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH),
                }
            },
        );
    }

    fn read(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        metrics::FUSE_READ.add(1);
        self.desk.answer(
            self.data("read", ino),
            reply,
            || self.state.file(ino.0, handle.0).then(move |file| file.read(offset, size)),
            |reply, data| {
                metrics::FUSE_READ_BYTES.add(data.len() as u64);
                reply.data(&data);
            },
        );
        if offset == 0 {
            self.watcher.read(&self.state, request.pid(), ino.0);
        }
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        metrics::FUSE_RELEASE.add(1);
        self.state.files.remove(handle.0);
        self.state.passthrough.release(ino.0);
        reply.ok();
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        metrics::FUSE_FLUSH.add(1);
        // There is nothing to flush, and this is how the kernel learns never to ask again.
        reply.error(Errno::ENOSYS);
    }

    fn lseek(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        metrics::FUSE_LSEEK.add(1);
        let hole = whence == libc::SEEK_HOLE;
        let offset = match u64::try_from(offset) {
            Ok(offset) if hole || whence == libc::SEEK_DATA => offset,
            _ => return reply.error(Errno::EINVAL),
        };
        self.desk.answer(
            self.data("lseek", ino),
            reply,
            || self.state.file(ino.0, handle.0).then(move |file| file.seek(offset, hole)),
            |reply, found| match found.and_then(|found| i64::try_from(found).ok()) {
                Some(found) => reply.offset(found),
                None => reply.error(Errno::ENXIO),
            },
        );
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        metrics::FUSE_OPENDIR.add(1);
        let state = self.state.clone();
        self.desk.answer(
            self.metadata("opendir", ino),
            reply,
            || self.state.open_dir(ino.0),
            move |reply, dir| {
                let flags = if dir.unchanging {
                    FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE
                } else {
                    FopenFlags::empty()
                };
                reply.opened(FileHandle(state.dirs.insert(dir)), flags);
            },
        );
    }

    fn readdir(&self, _: &Request, ino: INodeNo, handle: FileHandle, offset: u64, reply: ReplyDirectory) {
        metrics::FUSE_READDIR.add(1);
        let state = self.state.clone();
        self.desk.answer(
            self.metadata("readdir", ino),
            reply,
            || self.state.listing(handle.0, offset),
            move |reply, opened| send_listing(&state, reply, opened, offset),
        );
    }

    fn readdirplus(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        metrics::FUSE_READDIRPLUS.add(1);
        let (state, watcher, pid) = (self.state.clone(), self.watcher.clone(), request.pid());
        self.desk.answer(
            self.metadata("readdirplus", ino),
            reply,
            || self.state.listing(handle.0, offset),
            move |reply, opened| {
                if send_listing_plus(&state, reply, opened, offset) {
                    watcher.listed(pid, ino.0);
                }
            },
        );
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        metrics::FUSE_RELEASEDIR.add(1);
        self.state.dirs.remove(handle.0);
        reply.ok();
    }

    fn statfs(&self, _: &Request, ino: INodeNo, reply: ReplyStatfs) {
        metrics::FUSE_STATFS.add(1);
        const BLOCK: u32 = 4096;
        let work = || Step::ok((self.state.options.usage)());
        self.desk.answer(self.metadata("statfs", ino), reply, work, |reply, usage| {
            // Never zero: df hides file systems of no size.
            let blocks = usage.bytes.div_ceil(u64::from(BLOCK)).max(1);
            reply.statfs(blocks, 0, 0, usage.objects.max(1), 0, BLOCK, 255, BLOCK);
        });
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        metrics::FUSE_GETXATTR.add(1);
        if self.state.options.xattrs == XattrPolicy::None {
            return reply.error(Errno::ENOSYS);
        }
        let none = if self.state.rules.supports(name.as_bytes()) { Errno::ENODATA } else { Errno::ENOTSUP };
        let work = || {
            // A word in memory: `ls -l` asks for two ACLs of each file.
            let may_be = name.as_bytes().starts_with(OWN_XATTRS) || self.is_trusted(name.as_bytes());
            if self.state.inodes.is_plain(ino.0) && !may_be {
                return Step::ok(None);
            }
            let (rules, name) = (self.state.rules.clone(), name.as_bytes().to_vec());
            self.state.ask(ino.0, move |node| rules.get(&node, &name))
        };
        self.desk.answer(self.metadata("getxattr", ino), reply, work, move |reply, value| match value {
            Some(value) => send_attribute(reply, &value, size),
            None => reply.error(none),
        });
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        metrics::FUSE_LISTXATTR.add(1);
        if self.state.options.xattrs == XattrPolicy::None {
            return reply.error(Errno::ENOSYS);
        }
        let work = || {
            let privileged = request.uid() == 0;
            if self.state.inodes.is_plain(ino.0) && !(privileged && self.is_trusted(TRUSTED)) {
                return Step::ok(Bytes::new());
            }
            let rules = self.state.rules.clone();
            self.state.ask(ino.0, move |node| rules.list(&node, privileged))
        };
        self.desk.answer(self.metadata("listxattr", ino), reply, work, move |reply, list| {
            send_attribute(reply, &list, size);
        });
    }

    /// Asked only in a private mount, where the kernel checks nothing and the mounter may read all. What cannot be run
    /// is still not runnable; that nothing can be written is the kernel's own answer.
    fn access(&self, _: &Request, ino: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        metrics::FUSE_ACCESS.add(1);
        if !mask.contains(AccessFlags::X_OK) {
            return reply.ok();
        }
        self.desk.answer(
            self.metadata("access", ino),
            reply,
            || self.state.ask(ino.0, |node| Step::ok(node.meta)),
            |reply, meta| {
                let runs = meta.kind == FileType::Dir || meta.perm & 0o111 != 0;
                if runs { reply.ok() } else { reply.error(Errno::EACCES) }
            },
        );
    }

    // Root can remount what the kernel mounted read-only. It stays read-only.

    fn setattr(
        &self,
        _: &Request,
        _: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.error(Errno::EROFS);
    }

    fn mknod(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn rmdir(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &Path, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _: INodeNo,
        _: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(Errno::EROFS);
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(Errno::EROFS);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        reply.error(Errno::EROFS);
    }

    fn create(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        reply.error(Errno::EROFS);
    }

    fn setxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: &[u8], _: i32, _: u32, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }

    fn fallocate(&self, _: &Request, _: INodeNo, _: FileHandle, _: u64, _: u64, _: i32, reply: ReplyEmpty) {
        reply.error(Errno::EROFS);
    }
}
