//! What a broker does for its worker.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::process::Child;

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
    _socket: Option<Socket>,
    /// Likewise; each source has its own.
    stewards: VecDeque<Child>,
    /// By the number of their source. They outlive this: they have to clear up.
    wardens: HashMap<usize, Child>,
}

impl Keeper {
    pub fn new(config: Config, mountpoint: PathBuf) -> Self {
        let mount = OwnMount::new(mountpoint, translate::mount_spec(&config));
        Keeper {
            config,
            mount,
            rights: None,
            _socket: None,
            stewards: VecDeque::new(),
            wardens: HashMap::new(),
        }
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
            Ask::Steward => self.steward().map(Some),
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
        match rights.open_backing(file.as_fd()) {
            Ok(id) => Said::Known(id),
            Err(error) => Said::Errno(error.raw_os_error().unwrap_or(libc::EIO)),
        }
    }

    fn steward(&mut self) -> Result<OwnedFd> {
        let (steward, line) = steward::start()?;
        self.stewards.retain_mut(|before| matches!(before.try_wait(), Ok(None)));
        // One that waits for a disk lives on.
        if self.stewards.len() > self.config.sources.len() {
            self.stewards.pop_front();
        }
        self.stewards.push_back(steward);
        Ok(line)
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

    /// Waits for the end of the wardens, which nobody asks any more.
    pub async fn wardens_ended(&mut self) {
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
        self._socket = Some(socket);
        Ok(listener.into())
    }
}

/// So many directories fit into an answer; more rsyncs at a time are nobody's.
const MOST: usize = 50;

fn under_way() -> Said {
    let fits = |place: &PathBuf| place.as_os_str().len() < 256;
    Said::Places(directory::under_way().into_iter().filter(fits).take(MOST).map(OsString::from).collect())
}
