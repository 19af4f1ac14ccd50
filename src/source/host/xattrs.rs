//! Extended attributes of entries, whatever their type: a device is asked too, without being opened.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::{lgetxattr, llistxattr, llistxattr_query};
use rustix::io::Errno;

use super::descriptor::Descriptor;
use super::directory::HostDir;
use super::rights::Rights;
use crate::error::{Error, Result};
use crate::tree::{Step, TRUSTED_XATTRS as TRUSTED, Xattrs};

/// The largest value and the largest list that Linux has.
const LARGEST: usize = 64 << 10;

/// Extended attributes of the entry `name` of a directory, or of the directory itself where that is empty.
pub(super) struct HostXattrs {
    pub dir: HostDir,
    pub name: Box<[u8]>,
}

impl HostXattrs {
    /// Asks where that may block.
    fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&HostDir, &Descriptor, &[u8]) -> Result<T> + Send + 'static,
    ) -> Step<T> {
        let (dir, name) = (self.dir.clone(), self.name.clone());
        self.dir.wait(move || {
            let place = dir.place();
            let answer = place.open().and_then(|open| question(&dir, &open, &name));
            answer.map_err(|error| place.explain(Some(&*name).filter(|name| !name.is_empty()), error))
        })
    }

    /// Their names; those of `trusted.` as far as `rights` tell them.
    fn listed(&self, rights: Option<Arc<dyn Rights>>) -> Step<Vec<Bytes>> {
        let is_bare = self.dir.has_no_xattrs(&self.name);
        if is_bare && rights.is_none() {
            return Step::ok(Vec::new());
        }
        self.ask(move |dir, open, name| {
            let failed = |e: Errno| Error::io("listxattr", e.into());
            let list = if is_bare { Vec::new() } else { list(Way::into(open).to(name)).map_err(failed)? };
            if list.is_empty() {
                dir.note_no_xattrs(name);
            }
            let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
            let mut names: Vec<_> = names.map(Bytes::copy_from_slice).collect();
            if let Some(rights) = rights
                && dir.may_be_trusted(&*rights, open, name).map_err(failed)?
            {
                let trusted = rights.names(open.as_fd(), name).map_err(failed)?;
                names.extend(trusted.into_iter().map(Bytes::from));
            }
            Ok(names)
        })
    }
}

impl Xattrs for HostXattrs {
    fn get(&self, name: &[u8]) -> Step<Option<Bytes>> {
        let wanted = name.to_vec();
        let failed = |e: Errno| Error::io("getxattr", e.into());
        if name.starts_with(TRUSTED)
            && let Some(rights) = self.dir.rights()
        {
            if self.dir.is_trusted(&self.name) == Some(false) {
                return Step::ok(None);
            }
            return self.ask(move |_, open, name| {
                rights.value(open.as_fd(), name, &wanted).map(|value| value.map(Bytes::from)).map_err(failed)
            });
        }
        if name.is_empty() || name.contains(&0) || self.dir.has_no_xattrs(&self.name) {
            return Step::ok(None);
        }
        self.ask(move |dir, open, name| {
            let mut way = Way::into(open);
            let path = way.to(name);
            let found = value(path, &wanted).map_err(failed)?;
            // Whoever asks for one will ask for others, and of most files there are none.
            if found.is_none() && list(path).is_ok_and(|list| list.is_empty()) {
                dir.note_no_xattrs(name);
            }
            Ok(found.map(Bytes::from))
        })
    }

    fn names(&self) -> Step<Vec<Bytes>> {
        let rights = self.dir.rights();
        self.listed(rights.filter(|_| self.dir.is_trusted_for_all(&self.name) != Some(false)))
    }

    fn names_but_trusted(&self) -> Step<Vec<Bytes>> {
        self.listed(None)
    }
}

/// Paths of what is in an open directory, for calls that take no descriptor: the directory is the one that is open,
/// wherever its name leads by now, and of the entry itself no link is followed.
pub(super) struct Way {
    path: Vec<u8>,
    length: usize,
}

impl Way {
    /// Into `dir`, as long as it is open.
    pub(super) fn into(dir: impl AsFd) -> Self {
        let path = format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd()).into_bytes();
        Way { length: path.len(), path }
    }

    /// The entry `name`, or the directory itself where that is empty.
    pub(super) fn to(&mut self, name: &[u8]) -> &[u8] {
        self.path.truncate(self.length);
        self.path.extend_from_slice(if name.is_empty() { b"." } else { name });
        &self.path
    }

    /// Whether it may have any extended attributes: only a clear answer is taken for a no.
    pub(super) fn has_any(&mut self, name: &[u8]) -> bool {
        !matches!(llistxattr_query(self.to(name)), Ok(0) | Err(Errno::OPNOTSUPP))
    }
}

pub(super) fn list(path: &[u8]) -> rustix::io::Result<Vec<u8>> {
    filled(|buffer| llistxattr(path, spare_capacity(buffer)))
        .or_else(|e| if e == Errno::OPNOTSUPP { Ok(Vec::new()) } else { Err(e) })
}

pub(super) fn value(path: &[u8], name: &[u8]) -> rustix::io::Result<Option<Vec<u8>>> {
    match filled(|buffer| lgetxattr(path, name, spare_capacity(buffer))) {
        Ok(value) => Ok(Some(value)),
        // One of `trusted.` may not be read by everybody, and then does not exist for them.
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What `call` writes into a buffer: a small one first.
pub(super) fn filled(
    call: impl Fn(&mut Vec<u8>) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Vec<u8>> {
    for room in [256, LARGEST] {
        let mut buffer = Vec::with_capacity(room);
        match call(&mut buffer) {
            Err(Errno::RANGE) if room < LARGEST => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(buffer),
        }
    }
    Err(Errno::RANGE)
}
