//! What only the privileged may do for a mount, so that whoever serves it need not be: making files known to the kernel
//! which it then reads by itself, and how far the kernel reads ahead.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use fuser::BackingId;
use rustix::ioctl::{Setter, ioctl, opcode};
use tracing::debug;

use super::mount::Device;
use crate::error::{Error, Kind, Result};

/// Somebody who may.
pub trait Rights: Send + Sync {
    /// Makes an open file known to the kernel and answers its number, which is to be given back by `close_backing`.
    /// Errors: `EPERM` where nobody may.
    fn open_backing(&self, file: BorrowedFd<'_>) -> io::Result<u32>;

    /// Has the kernel forget a file; who reads it now reads on.
    fn close_backing(&self, id: u32);

    /// Lets the kernel read 1 MiB ahead instead of 128 KiB: eight times fewer round trips on sequential reads. It counts
    /// from the handshake on, which sets its own. No loss where it fails.
    fn raise_read_ahead(&self);
}

/// The rights of this process over a mount that it made.
#[derive(Debug)]
pub struct OwnRights {
    device: OwnedFd,
    number: Option<String>,
}

impl OwnRights {
    /// Over what is served by `device`. It holds the device open.
    pub fn of(device: &Device) -> Result<Self> {
        let fd = device.fd.try_clone();
        let fd = fd.map_err(|e| Error::caused_by(Kind::System, "cannot duplicate a descriptor", e))?;
        Ok(OwnRights { device: fd, number: device.number.clone() })
    }
}

/// `FUSE_DEV_IOC_BACKING_CLOSE` of linux/fuse.h.
const BACKING_CLOSE: rustix::ioctl::Opcode = opcode::write::<u32>(229, 2);

impl Rights for OwnRights {
    fn open_backing(&self, file: BorrowedFd<'_>) -> io::Result<u32> {
        BackingId::create_raw(self.device.as_fd(), file)
    }

    fn close_backing(&self, id: u32) {
        // SAFETY: the kernel reads a number of 32 bits and writes nothing.
        let closed = unsafe { ioctl(&self.device, Setter::<BACKING_CLOSE, u32>::new(id)) };
        if let Err(errno) = closed {
            debug!("a file stays known to the kernel: {errno}");
        }
    }

    fn raise_read_ahead(&self) {
        let Some(number) = &self.number else { return };
        let path = format!("/sys/class/bdi/{number}/read_ahead_kb");
        if let Err(error) = std::fs::write(&path, "1024") {
            debug!("{path}: {error}");
        }
    }
}

/// A file that the kernel knows, until this is dropped.
pub(super) struct Registered {
    id: u32,
    rights: Arc<dyn Rights>,
}

impl Registered {
    /// Makes `file` known.
    pub fn new(rights: &Arc<dyn Rights>, file: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Registered { id: rights.open_backing(file)?, rights: Arc::clone(rights) })
    }

    /// What the kernel calls it.
    pub fn id(&self) -> u32 {
        self.id
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.rights.close_backing(self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Notes(Mutex<Vec<String>>);

    impl Rights for Notes {
        fn open_backing(&self, _: BorrowedFd<'_>) -> io::Result<u32> {
            self.0.lock().unwrap().push("open".into());
            Ok(7)
        }
        fn close_backing(&self, id: u32) {
            self.0.lock().unwrap().push(format!("close {id}"));
        }
        fn raise_read_ahead(&self) {}
    }

    #[test]
    fn what_was_made_known_is_forgotten_once() {
        let notes = Arc::new(Notes::default());
        let rights: Arc<dyn Rights> = notes.clone();
        let file = std::fs::File::open("/dev/null").unwrap();
        let registered = Registered::new(&rights, file.as_fd()).unwrap();
        assert_eq!(registered.id(), 7);
        assert_eq!(*notes.0.lock().unwrap(), ["open"]);
        drop(registered);
        assert_eq!(*notes.0.lock().unwrap(), ["open", "close 7"]);
    }

    #[test]
    fn who_may_not_is_told_so() {
        let device = Device::from_fd(std::fs::File::open("/dev/null").unwrap().into());
        let rights = OwnRights::of(&device).unwrap();
        assert!(rights.open_backing(std::fs::File::open("/dev/null").unwrap().as_fd()).is_err());
        rights.close_backing(1);
        rights.raise_read_ahead();
    }
}
