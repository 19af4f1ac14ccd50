//! What a broker does for its worker.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::process::Child;

use super::line;
use super::words::{Ask, Said};
use super::{steward, warden};
use crate::config::{Config, SourceKind};
use crate::daemon::life::{Mounter, Served};
use crate::daemon::metrics::Socket;
use crate::daemon::own::OwnMount;
use crate::daemon::{process, translate};
use crate::error::{Error, Kind, Result};
use crate::fuse::Rights;
use crate::observe::access;
use crate::source::directory;

/// What it keeps: the mount, and what goes with it.
pub(super) struct Keeper {
    config: Config,
    mount: OwnMount,
    rights: Option<Arc<dyn Rights>>,
    /// Goes with this.
    socket: Option<Socket>,
    stewards: Stewards,
    /// By the number of their source. They outlive this: they have to clear up.
    wardens: HashMap<usize, Child>,
}

impl Keeper {
    pub fn new(config: Config, mountpoint: PathBuf) -> Self {
        let mount = OwnMount::new(mountpoint, translate::mount_spec(&config));
        let stewards = Stewards::up_to(MOST_STEWARDS);
        Keeper { config, mount, rights: None, socket: None, stewards, wardens: HashMap::new() }
    }

    /// Detaches the mount if it is there and is ours.
    pub fn end(&self) {
        self.mount.unmount();
    }

    /// Does what is asked for; what it led to may be a descriptor.
    pub fn answer(&mut self, ask: &Ask, descriptor: Option<&OwnedFd>) -> (Said, Option<OwnedFd>) {
        let done = match ask {
            Ask::OpenBacking => return (self.open_backing(descriptor), None),
            Ask::UnderWay => return (under_way(), None),
            Ask::Mount => self.mount().map(Some),
            Ask::Listen => self.listen().map(Some),
            Ask::Steward => self.stewards.add(steward::start).map(Some),
            Ask::Warden(source) => self.warden(*source).map(Some),
            Ask::AccessLog => self.access_log().map(Some),
            Ask::Leave => process::end_with_parent(None).and_then(|()| process::leave()).map(|()| None),
            Ask::Unmount => {
                self.end();
                Ok(None)
            }
            Ask::ReadAhead => {
                self.rights.iter().for_each(|rights| rights.raise_read_ahead());
                Ok(None)
            }
            Ask::CloseBacking(id) => {
                self.rights.iter().for_each(|rights| rights.close_backing(*id));
                Ok(None)
            }
        };
        match done {
            Ok(led_to) => (Said::Done, led_to),
            Err(error) => (Said::Failed(error.kind(), error.to_string()), None),
        }
    }

    fn mount(&mut self) -> Result<OwnedFd> {
        if self.rights.is_some() {
            return Err(Error::new(Kind::Internal, "broker: it is mounted already"));
        }
        let Served { device, rights } = self.mount.mount()?;
        self.rights = Some(rights);
        let failed = |e| Error::caused_by(Kind::System, "cannot duplicate a descriptor", e);
        device.as_fd().try_clone_to_owned().map_err(failed)
    }

    fn open_backing(&self, file: Option<&OwnedFd>) -> Said {
        let (Some(rights), Some(file)) = (&self.rights, file) else { return Said::Errno(libc::EBADF) };
        match line::opened(file).map_err(std::io::Error::from).and_then(|file| rights.open_backing(file)) {
            Ok(id) => Said::Known(id),
            Err(error) => Said::Errno(error.raw_os_error().unwrap_or(libc::EIO)),
        }
    }

    fn warden(&mut self, number: usize) -> Result<OwnedFd> {
        let source = self.config.sources.get(number).filter(|source| source.kind == SourceKind::Zfs);
        let source = source.ok_or_else(|| Error::new(Kind::Internal, "broker: no such source of ZFS"))?;
        if let Some(before) = self.wardens.get_mut(&number)
            && matches!(before.try_wait(), Ok(None))
        {
            return Err(Error::new(Kind::Unavailable, "the process that keeps ZFS has not ended yet"));
        }
        let (warden, line) = warden::start(source, &self.config.mount.log)?;
        self.wardens.insert(number, warden);
        Ok(line)
    }

    /// Waits for the end of the wardens, which nobody asks any more. What else is kept goes before: with the device the
    /// kernel has readers of a worker that was killed wait.
    pub async fn wardens_ended(&mut self) {
        (self.rights, self.socket) = (None, None);
        for warden in self.wardens.values_mut() {
            // One that cannot be waited for is gone.
            let _ = warden.wait().await;
        }
    }

    fn access_log(&self) -> Result<OwnedFd> {
        let path = self.config.mount.access_log.as_deref();
        let path = path.ok_or_else(|| Error::new(Kind::Internal, "broker: no access-log"))?;
        access::open(path).map(OwnedFd::from)
    }

    fn listen(&mut self) -> Result<OwnedFd> {
        let path = self.config.mount.metrics_socket.as_deref();
        let path = path.ok_or_else(|| Error::new(Kind::Internal, "broker: no metrics-socket"))?;
        let (socket, listener) = Socket::open(path)?;
        self.socket = Some(socket);
        Ok(listener.into())
    }
}

/// So many directories fit into an answer; more rsyncs at a time are nobody's.
const MOST: usize = 50;

fn under_way() -> Said {
    let fits = |place: &PathBuf| place.as_os_str().len() < 256;
    Said::Places(directory::under_way().into_iter().filter(fits).take(MOST).map(OsString::from).collect())
}

/// So many stewards live at a time at most: one for each source that has attributes for them, and those that wait for a
/// disk which does not answer.
const MOST_STEWARDS: usize = 256;

/// The stewards of a mount, which end with their broker. Before that none is ended from here, since it may be answering:
/// each ends by itself when nobody has the other end of its line.
struct Stewards {
    started: Vec<Child>,
    most: usize,
}

impl Stewards {
    fn up_to(most: usize) -> Self {
        Stewards { started: Vec::new(), most }
    }

    /// Starts one more; answers with the worker's end of its line.
    fn add(&mut self, start: impl FnOnce() -> Result<(Child, OwnedFd)>) -> Result<OwnedFd> {
        self.started.retain_mut(|steward| !matches!(steward.try_wait(), Ok(Some(_))));
        if self.started.len() >= self.most {
            let says = format!("{} processes that read attributes are at work already", self.most);
            return Err(Error::new(Kind::Unavailable, says));
        }
        let (steward, line) = start()?;
        self.started.push(steward);
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io;
    use std::os::fd::BorrowedFd;
    use std::process::Stdio;

    use rustix::fs::{Mode, OFlags};
    use tokio::process::Command;

    use super::*;
    use crate::config::{Typed, resolve};

    struct All;

    impl Rights for All {
        fn open_backing(&self, _: BorrowedFd<'_>) -> io::Result<u32> {
            Ok(7)
        }
        fn close_backing(&self, _: u32) {}
        fn raise_read_ahead(&self) {}
    }

    #[test]
    fn what_was_not_opened_the_kernel_is_not_told_of() {
        let config = resolve(&Typed { repos: vec!["/a".into()], ..Typed::default() }).unwrap();
        let mut keeper = Keeper::new(config, "/no/mountpoint".into());
        let file = OwnedFd::from(File::open("/dev/null").unwrap());
        let path = rustix::fs::open("/dev/null", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let ask = |keeper: &mut Keeper, file: &OwnedFd| keeper.answer(&Ask::OpenBacking, Some(file)).0;
        assert!(matches!(ask(&mut keeper, &file), Said::Errno(libc::EBADF)), "nothing is mounted");
        keeper.rights = Some(Arc::new(All));
        assert!(matches!(ask(&mut keeper, &file), Said::Known(7)));
        assert!(matches!(ask(&mut keeper, &path), Said::Errno(libc::EBADF)));
    }

    /// What ends when its line does, as a steward.
    fn steward() -> Result<(Child, OwnedFd)> {
        let (ours, theirs) = line::pair()?;
        let mut command = Command::new("cat");
        let child = command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).kill_on_drop(true).spawn();
        Ok((child.unwrap(), ours))
    }

    #[tokio::test]
    async fn a_steward_lives_as_long_as_its_line_whoever_starts_another() {
        let mut stewards = Stewards::up_to(3);
        let mut lines: Vec<_> = (0..3).map(|_| stewards.add(steward).unwrap()).collect();
        assert_eq!(stewards.started.len(), 3);
        for child in &mut stewards.started {
            assert!(child.try_wait().unwrap().is_none(), "it was ended for another");
        }
        assert_eq!(stewards.add(steward).unwrap_err().kind(), Kind::Unavailable, "there are enough");
        drop(lines.remove(1));
        stewards.started[1].wait().await.unwrap();
        assert!(stewards.add(|| Err(Error::new(Kind::System, "no process"))).is_err());
        assert_eq!(stewards.started.len(), 2, "one that ended is forgotten");
        stewards.add(steward).unwrap();
        assert_eq!(stewards.started.len(), 3);
    }
}
