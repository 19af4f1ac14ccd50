//! The broker, as its worker sees it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt;

use super::line;
use super::words::{Ask, Said};
use crate::daemon::life::{Mounter, Served};
use crate::daemon::process;
use crate::error::{Error, Kind, Result};
use crate::fuse::{Device, Rights};

/// A broker does nothing that takes long.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Asks are answered in turn. There is no line any more once one was not: what came later would be taken for the answer
/// to the next.
pub struct Broker {
    line: Mutex<Option<OwnedFd>>,
}

impl Broker {
    /// The broker that started this process and left its line open. To be called once.
    pub fn inherited() -> Result<Arc<Self>> {
        Self::at(process::take_left_open()?)
    }

    fn at(line: OwnedFd) -> Result<Arc<Self>> {
        sockopt::set_socket_timeout(&line, sockopt::Timeout::Recv, Some(PATIENCE))
            .map_err(|e| Error::caused_by(Kind::System, "the line to the broker", e))?;
        Ok(Arc::new(Broker { line: Mutex::new(Some(line)) }))
    }

    fn ask(&self, ask: &Ask, descriptors: &[BorrowedFd<'_>]) -> Result<(Said, Option<OwnedFd>)> {
        let mut kept = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let unusable = "the broker did not answer before, and is not asked any more: mount anew";
        let line = kept.take().ok_or_else(|| Error::new(Kind::Unavailable, unusable))?;
        line::send(&line, ask, descriptors)?;
        let answer = line::receive(&line)?;
        let (said, descriptors) =
            answer.ok_or_else(|| Error::new(Kind::Unavailable, "the broker is gone"))?;
        *kept = Some(line);
        Ok((said, descriptors.into_iter().next()))
    }

    /// What is done without a number to be told.
    fn have_done(&self, ask: &Ask) -> Result<Option<OwnedFd>> {
        match self.ask(ask, &[])? {
            (Said::Done, descriptor) => Ok(descriptor),
            (Said::Failed(kind, message), _) => Err(Error::new(kind, message)),
            (said, _) => Err(Error::new(Kind::Internal, format!("broker: {said:?}"))),
        }
    }

    fn have(&self, ask: &Ask) -> Result<OwnedFd> {
        self.have_done(ask)?.ok_or_else(|| Error::new(Kind::Internal, "broker: no descriptor"))
    }

    /// Has it leave the session and the stdio of whoever started it.
    pub fn leave(&self) -> Result<()> {
        self.have_done(&Ask::Leave).map(drop)
    }

    /// The directories into which rsync may be writing. None where nobody can tell.
    pub fn under_way(&self) -> Vec<PathBuf> {
        match self.ask(&Ask::UnderWay, &[]) {
            Ok((Said::Places(places), _)) => places.into_iter().map(PathBuf::from).collect(),
            _ => Vec::new(),
        }
    }

    /// A line to a new steward, which ends when that is closed.
    pub(super) fn steward(&self) -> Result<OwnedFd> {
        self.have(&Ask::Steward)
    }

    /// A line to a new warden of one source, by its number in the configuration.
    pub(super) fn warden(&self, source: usize) -> Result<OwnedFd> {
        self.have(&Ask::Warden(source))
    }

    /// The socket at which metrics are asked for, which goes with the broker.
    pub fn listen(&self) -> Result<UnixListener> {
        self.have(&Ask::Listen).map(UnixListener::from)
    }

    /// The access log.
    pub fn access_log(&self) -> Result<File> {
        self.have(&Ask::AccessLog).map(File::from)
    }
}

impl Mounter for Arc<Broker> {
    fn mount(&self) -> Result<Served> {
        let device = Device::from_fd(self.have(&Ask::Mount)?);
        Ok(Served { device, rights: Arc::clone(self) as _ })
    }

    fn unmount(&self) {
        if let Err(error) = self.have_done(&Ask::Unmount) {
            tracing::error!(%error, "cannot unmount");
        }
    }
}

impl Rights for Broker {
    fn open_backing(&self, file: BorrowedFd<'_>) -> io::Result<u32> {
        match self.ask(&Ask::OpenBacking, &[file.as_fd()]) {
            Ok((Said::Known(id), _)) => Ok(id),
            Ok((Said::Errno(errno), _)) => Err(io::Error::from_raw_os_error(errno)),
            // Without a broker nobody may.
            _ => Err(Errno::PERM.into()),
        }
    }

    fn close_backing(&self, id: u32) {
        if let Err(error) = self.have_done(&Ask::CloseBacking(id)) {
            tracing::debug!("a file stays known to the kernel: {error}");
        }
    }

    fn raise_read_ahead(&self) {
        if let Err(error) = self.have_done(&Ask::ReadAhead) {
            tracing::debug!("read-ahead stays as it is: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A broker that answers what is given, in turn, and then is gone.
    fn broker(answers: Vec<Said>) -> Arc<Broker> {
        let (ours, theirs) = line::pair().unwrap();
        std::thread::spawn(move || {
            for said in answers {
                let Ok(Some(_)) = line::receive::<Ask>(&theirs) else { return };
                line::send(&theirs, &said, &[]).unwrap();
            }
        });
        Broker::at(ours).unwrap()
    }

    #[test]
    fn what_the_broker_says_is_what_whoever_asks_is_told() {
        let null = std::fs::File::open("/dev/null").unwrap();
        let told = broker(vec![
            Said::Failed(Kind::Denied, "not here".into()),
            Said::Known(5),
            Said::Errno(libc::ELOOP),
            Said::Done,
        ]);
        let refused = Mounter::mount(&told).err().unwrap();
        assert_eq!((refused.kind(), refused.to_string().as_str()), (Kind::Denied, "not here"));
        assert_eq!(told.open_backing(null.as_fd()).unwrap(), 5);
        assert_eq!(told.open_backing(null.as_fd()).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        assert_eq!(told.listen().unwrap_err().kind(), Kind::Internal, "no descriptor came");
    }

    #[test]
    fn an_answer_that_comes_late_is_taken_for_no_other() {
        let (ours, theirs) = line::pair().unwrap();
        let late = Broker::at(ours).unwrap();
        let soon = Some(Duration::from_millis(50));
        let line = late.line.lock().unwrap().as_ref().unwrap().try_clone().unwrap();
        sockopt::set_socket_timeout(&line, sockopt::Timeout::Recv, soon).unwrap();
        assert_eq!(late.leave().unwrap_err().kind(), Kind::TimedOut);
        let asked = || line::receive::<Ask>(&theirs).unwrap().unwrap().0;
        assert!(matches!(asked(), Ask::Leave));
        line::send(&theirs, &Said::Done, &[]).unwrap();
        let refused = late.leave().unwrap_err();
        assert_eq!(refused.kind(), Kind::Unavailable);
        assert!(refused.to_string().contains("not asked any more"), "{refused}");
        drop(line);
        assert!(
            line::receive::<Ask>(&theirs).unwrap().is_none(),
            "the line is closed, and nothing else was asked"
        );
    }

    #[test]
    fn without_a_broker_nobody_may_and_nothing_hangs() {
        let alone = broker(Vec::new());
        let null = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(alone.open_backing(null.as_fd()).unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert_eq!(alone.leave().unwrap_err().kind(), Kind::Unavailable);
        alone.close_backing(1);
        alone.raise_read_ahead();
        alone.unmount();
    }
}
