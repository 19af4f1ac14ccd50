//! Making and ending a mount: mount(2) as root, `fusermount3` for everybody else.
//!
//! The mountpoint's path is handed to the kernel as it came. It is never opened, asked or resolved here: below an
//! automounter that would wait for the very mount being made. Nothing is ever unmounted but on request: a daemon that
//! unmounts by name at its end may take away what others have mounted there since.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::mountinfo::{self, FSTYPE};
use super::{MountSpec, fusermount};
use crate::error::{Error, Kind, Result};

/// The kernel's side of a mount that nobody serves yet.
#[derive(Debug)]
pub struct Device {
    pub(super) fd: OwnedFd,
    /// `major:minor` of the mounted file system, where it could be told from the table of mounts.
    pub(super) number: Option<String>,
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Device {
    /// Takes over an open `/dev/fuse` that somebody else has mounted.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Device { fd, number: None }
    }
}

/// Mounts at `mountpoint`, `ro,nosuid,nodev,noatime`; the device is not yet served, and whoever looks at the mount
/// waits until it is.
///
/// Errors: `System` where the machine lacks `/dev/fuse` or `fusermount3`, `Denied` where mounting is not allowed.
/// Nothing is mounted when it fails.
pub fn mount(mountpoint: &Path, spec: &MountSpec) -> Result<Device> {
    let fd = if rustix::process::geteuid().is_root() {
        mount_directly(mountpoint, spec)?
    } else {
        fusermount::mount(mountpoint, spec)?
    };
    Ok(Device { fd, number: device_number(mountpoint) })
}

/// Unmounts what is on top at `mountpoint`; `lazy` detaches it even when it is busy: what is open stays readable.
///
/// Errors: `Unavailable` when it is busy, `Invalid` when nothing is mounted there.
pub fn unmount(mountpoint: &Path, lazy: bool) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return fusermount::unmount(mountpoint, lazy);
    }
    let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    rustix::mount::unmount(mountpoint, flags).map_err(|errno| {
        let what = mountpoint.display();
        match errno {
            Errno::BUSY => busy(mountpoint),
            Errno::INVAL => Error::new(Kind::Invalid, format!("{what}: not mounted")),
            Errno::NOENT => Error::new(Kind::Invalid, format!("{what}: no such directory")),
            Errno::PERM => {
                Error::caused_by(Kind::Denied, format!("{what}: unmounting is not allowed"), errno)
            }
            _ => Error::caused_by(Kind::System, format!("{what}: cannot unmount"), errno),
        }
    })
}

/// What unmounting a busy mount says, by whichever way it was tried.
pub(super) fn busy(mountpoint: &Path) -> Error {
    Error::new(Kind::Unavailable, format!("{}: busy, files or directories are in use", mountpoint.display()))
}

/// Opens the kernel's door. Errors: `System`, with what to do about it.
fn open_device() -> Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    const PATH: &str = "/dev/fuse";
    let opened = OpenOptions::new().read(true).write(true).custom_flags(libc::O_CLOEXEC).open(PATH);
    opened.map_err(|e| {
        let advice = match e.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
                "this kernel has no FUSE: load it with `modprobe fuse`, or give the container the device"
            }
            Some(libc::EACCES | libc::EPERM) => "may not be opened by this user",
            _ => "cannot be opened",
        };
        Error::caused_by(Kind::System, format!("{PATH}: {advice}"), e)
    })
}

fn mount_directly(mountpoint: &Path, spec: &MountSpec) -> Result<OwnedFd> {
    let device = open_device()?;
    let data = data(&device, spec)?;
    let source = CString::new(spec.source.as_bytes())
        .map_err(|_| Error::new(Kind::Invalid, "the mount's source holds a NUL"))?;
    let mounted = rustix::mount::mount(&source, mountpoint, FSTYPE, flags(spec), Some(data.as_c_str()));
    mounted.map_err(|errno| {
        let what = mountpoint.display();
        match errno {
            Errno::PERM | Errno::ACCESS => Error::caused_by(
                Kind::Denied,
                format!(
                    "{what}: mounting is not allowed here (it needs CAP_SYS_ADMIN; \
                     a container: --cap-add SYS_ADMIN --device /dev/fuse)"
                ),
                errno,
            ),
            Errno::NOENT | Errno::NOTDIR => {
                Error::caused_by(Kind::Invalid, format!("{what}: not a directory to mount on"), errno)
            }
            Errno::NODEV => Error::caused_by(Kind::System, "this kernel has no FUSE: `modprobe fuse`", errno),
            _ => Error::caused_by(Kind::System, format!("{what}: cannot mount"), errno),
        }
    })?;
    Ok(device.into())
}

fn flags(spec: &MountSpec) -> MountFlags {
    let always = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
    if spec.noexec { always | MountFlags::NOEXEC } else { always }
}

/// What the kernel's fuse takes as data. `allow_other` never goes without `default_permissions`: alone it would let
/// everybody read everything.
fn data(device: &File, spec: &MountSpec) -> Result<CString> {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let shared = if spec.allow_other { ",allow_other,default_permissions" } else { "" };
    let data = format!("fd={},rootmode=40000,user_id={uid},group_id={gid}{shared}", device.as_raw_fd());
    CString::new(data).map_err(|e| Error::caused_by(Kind::Internal, "mount data", e))
}

/// The device number of the mount just made, if the table shows one of ours under this very path.
fn device_number(mountpoint: &Path) -> Option<String> {
    let absolute: PathBuf = std::path::absolute(mountpoint).ok()?.components().collect();
    let entry = mountinfo::mounted_at(&absolute).ok()??;
    (entry.fstype == FSTYPE).then_some(entry.device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(allow_other: bool, noexec: bool) -> MountSpec {
        MountSpec { source: "repo".into(), allow_other, noexec }
    }

    #[test]
    fn others_are_never_let_in_without_permission_checks() {
        let device = File::open("/dev/null").unwrap();
        let data = |allow| data(&device, &spec(allow, false)).unwrap().into_string().unwrap();
        assert!(data(true).ends_with(",allow_other,default_permissions"), "{}", data(true));
        assert!(!data(false).contains("allow_other"), "{}", data(false));
        assert!(data(false).contains(",rootmode=40000,"), "{}", data(false));
    }

    #[test]
    fn mounts_are_always_read_only_and_without_privilege() {
        for noexec in [false, true] {
            let flags = flags(&spec(true, noexec));
            let always = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
            assert!(flags.contains(always));
            assert_eq!(flags.contains(MountFlags::NOEXEC), noexec);
        }
    }

    #[test]
    fn unmounting_what_is_no_mount_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let error = unmount(dir.path(), false).unwrap_err();
        assert!(error.to_string().contains(&dir.path().display().to_string()), "{error}");
        assert_eq!(error.kind(), Kind::Invalid, "{error}");
        assert_eq!(unmount(&dir.path().join("none"), true).unwrap_err().kind(), Kind::Invalid);
    }
}
