//! Mounting as an ordinary user: the set-uid helper `fusermount3` opens and mounts the device and hands it back over a
//! socket whose number it reads from `_FUSE_COMMFD`.
//!
//! It is looked for in fixed places only and gets no environment of ours.

use std::ffi::OsString;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::io::{Errno, FdFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
};

use super::MountSpec;
use super::mount::busy;
use crate::error::{Error, Kind, Result};

/// Where the program is looked for.
pub const PLACES: [&str; 2] = ["/usr/bin/fusermount3", "/bin/fusermount3"];

/// Mounts at `mountpoint` and returns the device. Errors: `System` when the machine lacks something, `Denied` with
/// fusermount3's own words otherwise.
pub(super) fn mount(mountpoint: &Path, spec: &MountSpec) -> Result<OwnedFd> {
    let program = find()?;
    if !Path::new("/dev/fuse").exists() {
        return Err(Error::new(
            Kind::System,
            "/dev/fuse: this kernel has no FUSE: load it with `modprobe fuse` as root",
        ));
    }
    let system = |errno: Errno| Error::caused_by(Kind::System, "socket for fusermount3", errno);
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(system)?;
    let mut command = bare(program);
    command.arg("-o").arg(options(spec)).arg("--").arg(mountpoint);
    command.env("_FUSE_COMMFD", theirs.as_raw_fd().to_string());
    leave_open(&mut command, theirs.as_fd());
    let child = command.spawn().map_err(|e| Error::caused_by(Kind::System, "fusermount3", e))?;
    drop(theirs);
    let device = receive(ours.as_fd());
    let output = child.wait_with_output().map_err(|e| Error::caused_by(Kind::System, "fusermount3", e))?;
    match device.map_err(system)? {
        Some(device) if output.status.success() => Ok(device),
        _ => Err(refusal(mountpoint, &output)),
    }
}

/// Unmounts. Errors: `Unavailable` when busy, `Denied` with fusermount3's own words otherwise.
pub(super) fn unmount(mountpoint: &Path, lazy: bool) -> Result<()> {
    let mut command = bare(find()?);
    command.arg("-u");
    if lazy {
        command.arg("-z");
    }
    let output = command.arg("--").arg(mountpoint).output();
    let output = output.map_err(|e| Error::caused_by(Kind::System, "fusermount3", e))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    if words.contains("busy") {
        Err(busy(mountpoint))
    } else if words.contains("not found in") || words.contains("Invalid argument") {
        Err(Error::new(Kind::Invalid, format!("{}: not mounted", mountpoint.display())))
    } else {
        Err(refusal(mountpoint, &output))
    }
}

fn find() -> Result<&'static Path> {
    PLACES.iter().map(Path::new).find(|place| place.exists()).ok_or_else(|| {
        Error::new(Kind::System, "mounting as an ordinary user needs fusermount3: install the package fuse3")
    })
}

fn bare(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Lets the child inherit `fd`, and only the child: everything of ours is otherwise closed on exec.
fn leave_open(command: &mut Command, fd: BorrowedFd<'_>) {
    let fd = fd.as_raw_fd();
    let clear = move || {
        // SAFETY: the parent keeps `fd` open until the child is spawned.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        Ok(rustix::io::fcntl_setfd(fd, FdFlags::empty())?)
    };
    // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(clear) };
}

fn options(spec: &MountSpec) -> OsString {
    let mut options = String::from("ro,nosuid,nodev,noatime");
    if spec.noexec {
        options.push_str(",noexec");
    }
    if spec.allow_other {
        options.push_str(",allow_other,default_permissions");
    }
    options.push_str(",subtype=backupfs,fsname=");
    for c in spec.source.chars() {
        if matches!(c, ',' | '\\') {
            options.push('\\');
        }
        options.push(c);
    }
    options.into()
}

/// The descriptor that comes over `socket`; `None` when fusermount3 closed it without sending one.
fn receive(socket: BorrowedFd<'_>) -> std::result::Result<Option<OwnedFd>, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0u8];
    loop {
        let mut buffers = [IoSliceMut::new(&mut byte)];
        match rustix::net::recvmsg(socket, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    }))
}

fn refusal(mountpoint: &Path, output: &Output) -> Error {
    let words = String::from_utf8_lossy(&output.stderr);
    let words = words.trim().replace('\n', "; ");
    if words.contains("user_allow_other") {
        return Error::new(
            Kind::Denied,
            "allow_other: an ordinary user may let others in only where /etc/fuse.conf has the line `user_allow_other`",
        );
    }
    if words.contains("/dev/fuse: Permission denied") {
        return Error::new(
            Kind::System,
            "/dev/fuse: may not be opened by ordinary users here; as root: `chmod 666 /dev/fuse`, or mount as root",
        );
    }
    let kind = if words.contains("/dev/fuse") || words.contains("device not found") {
        Kind::System
    } else {
        Kind::Denied
    };
    let words = if words.is_empty() { format!("fusermount3 ended with {}", output.status) } else { words };
    Error::new(kind, format!("{}: {words}", mountpoint.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn failed(words: &str) -> Output {
        Output {
            status: std::process::ExitStatus::from_raw(256),
            stdout: Vec::new(),
            stderr: words.as_bytes().to_vec(),
        }
    }

    #[test]
    fn a_source_cannot_smuggle_in_options() {
        let spec = MountSpec { source: "a,suid\\,dev".into(), allow_other: false, noexec: true };
        assert_eq!(
            options(&spec),
            "ro,nosuid,nodev,noatime,noexec,subtype=backupfs,fsname=a\\,suid\\\\\\,dev"
        );
        let shared = MountSpec { source: "r".into(), allow_other: true, noexec: false };
        assert_eq!(
            options(&shared),
            "ro,nosuid,nodev,noatime,allow_other,default_permissions,subtype=backupfs,fsname=r"
        );
    }

    #[test]
    fn refusals_say_what_to_do() {
        let words =
            "fusermount3: option allow_other only allowed if 'user_allow_other' is set in /etc/fuse.conf\n";
        let error = refusal(Path::new("/m"), &failed(words));
        assert_eq!(error.kind(), Kind::Denied);
        assert!(error.to_string().contains("/etc/fuse.conf"), "{error}");
        let error =
            refusal(Path::new("/m"), &failed("fusermount3: failed to open /dev/fuse: Permission denied"));
        assert_eq!(error.kind(), Kind::System);
        assert!(error.to_string().contains("chmod 666 /dev/fuse"), "{error}");
        let error = refusal(Path::new("/m"), &failed(""));
        assert_eq!(error.to_string(), "/m: fusermount3 ended with exit status: 1");
    }

    #[test]
    fn receives_a_descriptor_and_notices_when_none_comes() {
        use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
        let pair =
            || rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let (ours, theirs) = pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [file.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        rustix::net::sendmsg(&theirs, &[std::io::IoSlice::new(b"x")], &mut control, SendFlags::empty())
            .unwrap();
        let fd = receive(ours.as_fd()).unwrap().unwrap();
        assert!(rustix::io::fcntl_getfd(&fd).unwrap().contains(FdFlags::CLOEXEC));
        let (ours, theirs) = pair().unwrap();
        drop(theirs);
        assert!(receive(ours.as_fd()).unwrap().is_none());
    }

    #[test]
    fn is_looked_for_in_fixed_places() {
        assert!(PLACES.iter().all(|place| Path::new(place).is_absolute()));
    }
}
