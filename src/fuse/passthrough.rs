//! Files of this machine that the kernel reads by itself, once it was given a descriptor of them.
//!
//! While an inode is open it is read in one way only: the kernel refuses to mix its own pages of a file with those of
//! the file behind it. So the first open decides, and those that follow do as it did.

use std::any::Any;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use crate::tree::Backing;

/// Smaller files are as fast when they are read here, and may be in the kernel before they are opened.
const SMALLEST: u64 = (128 << 10) + 1;

/// The inodes that are open, of those worth passing through. `Id` is what the kernel knows a descriptor by.
pub(super) struct Passthrough<Id> {
    is_on: AtomicBool,
    open: Mutex<HashMap<u64, Open<Id>>>,
}

struct Open<Id> {
    handles: usize,
    behind: Option<Arc<Behind<Id>>>,
}

/// A file behind an inode, known to the kernel, which keeps it open by itself. What it lies on stays as long as this.
pub(super) struct Behind<Id> {
    /// Its number.
    pub id: Id,
    _lease: Option<Arc<dyn Any + Send + Sync>>,
}

impl<Id> Passthrough<Id> {
    /// Off: all is read here.
    pub fn off() -> Self {
        Passthrough { is_on: AtomicBool::new(false), open: Mutex::default() }
    }

    /// Agreed with the kernel.
    pub fn turn_on(&self) {
        self.is_on.store(true, Ordering::Relaxed);
    }

    /// One more handle of `ino`, a file of `size` bytes: what is behind it if the kernel is to read that. `file` is it,
    /// and `register` makes it known to the kernel.
    pub fn open(
        &self,
        ino: u64,
        size: u64,
        file: impl FnOnce() -> Option<Backing>,
        register: impl FnOnce(&Backing) -> io::Result<Id>,
    ) -> Option<Arc<Behind<Id>>> {
        if size < SMALLEST {
            return None;
        }
        match self.lock().entry(ino) {
            Entry::Occupied(mut open) => {
                let open = open.get_mut();
                open.handles += 1;
                open.behind.clone()
            }
            // It is never turned on again, so whatever comes after this is read here too.
            Entry::Vacant(_) if !self.is_on.load(Ordering::Relaxed) => None,
            Entry::Vacant(slot) => {
                let behind = file().and_then(|file| self.behind(file, register));
                slot.insert(Open { handles: 1, behind }).behind.clone()
            }
        }
    }

    fn behind(
        &self,
        file: Backing,
        register: impl FnOnce(&Backing) -> io::Result<Id>,
    ) -> Option<Arc<Behind<Id>>> {
        match register(&file) {
            Ok(id) => Some(Arc::new(Behind { id, _lease: file.lease })),
            Err(error) => {
                // Only the privileged may, and they will not become so. Other failures are the file's.
                if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) {
                    self.is_on.store(false, Ordering::Relaxed);
                }
                tracing::debug!("a file is not passed through: {error}");
                None
            }
        }
    }

    /// One handle of `ino` less.
    pub fn release(&self, ino: u64) {
        let mut open = self.lock();
        if let Entry::Occupied(mut slot) = open.entry(ino) {
            slot.get_mut().handles -= 1;
            if slot.get().handles == 0 {
                slot.remove();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Open<Id>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: u64 = 1 << 20;

    fn file() -> Option<Backing> {
        Some(Backing { file: Arc::new(std::fs::File::open("/dev/null").unwrap()), lease: None })
    }

    fn on() -> Passthrough<u32> {
        let passthrough = Passthrough::off();
        passthrough.turn_on();
        passthrough
    }

    fn id(behind: Option<Arc<Behind<u32>>>) -> Option<u32> {
        behind.map(|behind| behind.id)
    }

    #[test]
    fn all_handles_of_an_inode_have_the_same_behind_them() {
        let passthrough = on();
        assert_eq!(id(passthrough.open(5, LARGE, file, |_| Ok(1))), Some(1));
        assert_eq!(id(passthrough.open(5, LARGE, file, |_| Ok(2))), Some(1));
        assert_eq!(id(passthrough.open(6, LARGE, file, |_| Ok(3))), Some(3));
        passthrough.release(5);
        assert_eq!(id(passthrough.open(5, LARGE, file, |_| Ok(4))), Some(1));
        passthrough.release(5);
        passthrough.release(5);
        assert_eq!(id(passthrough.open(5, LARGE, file, |_| Ok(5))), Some(5), "all were closed");
    }

    #[test]
    fn what_was_opened_here_is_read_here_until_it_is_closed() {
        let passthrough = on();
        assert_eq!(id(passthrough.open(5, LARGE, || None, |_| Ok(1))), None);
        assert_eq!(id(passthrough.open(5, LARGE, file, |_| Ok(2))), None);
        passthrough.release(5);
        passthrough.release(5);
        assert_eq!(id(passthrough.open(5, LARGE, file, |_| Ok(3))), Some(3));
    }

    #[test]
    fn what_a_file_lies_on_stays_as_long_as_a_handle_and_its_descriptor_does_not() {
        let (passthrough, lease) = (on(), Arc::new(()));
        let given = Backing { lease: Some(lease.clone()), ..file().unwrap() };
        let descriptor = Arc::downgrade(&given.file);
        drop(passthrough.open(5, LARGE, move || Some(given), |_| Ok(1)));
        assert_eq!((Arc::strong_count(&lease), descriptor.strong_count()), (2, 0));
        passthrough.release(5);
        assert_eq!(Arc::strong_count(&lease), 1);
    }

    #[test]
    fn nothing_small_is_passed_through_and_nothing_where_it_is_not_allowed() {
        let passthrough = on();
        assert_eq!(id(passthrough.open(5, SMALLEST - 1, file, |_| Ok(1))), None);
        passthrough.release(5);
        let fails = |errno: Errno| move |_: &Backing| Err(io::Error::from(errno));
        assert_eq!(id(passthrough.open(6, LARGE, file, fails(Errno::LOOP))), None, "a file on an overlay");
        assert_eq!(id(passthrough.open(7, LARGE, file, |_| Ok(2))), Some(2), "costs only itself");
        assert_eq!(id(passthrough.open(8, LARGE, file, fails(Errno::PERM))), None);
        assert_eq!(id(passthrough.open(9, LARGE, file, |_| Ok(3))), None, "nobody asks again");
        assert_eq!(id(passthrough.open(7, LARGE, file, |_| Ok(4))), Some(2), "what is open stays so");
        assert_eq!(id(Passthrough::off().open(5, LARGE, file, |_| Ok(1))), None);
    }
}
