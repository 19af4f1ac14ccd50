//! What a process does to itself: no core dumps, a name, few heaps, leaving the terminal.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;

use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};

use crate::error::{Error, Kind, Result};

/// Sees to it that no password can end in a core dump or be read by another process of the same user, and that memory
/// for it may be locked. To be called before any is read.
pub fn keep_secrets() -> Result<()> {
    let failed =
        |e: rustix::io::Errno| Error::io("cannot forbid core dumps", e.into()).with_kind(Kind::System);
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed)?;
    let nothing = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, nothing).map_err(failed)?;
    allow_locking();
    Ok(())
}

/// As many keys as 40,000 repositories have.
const LOCKED: u64 = 64 << 20;

/// Lets this process, and those that it starts, lock memory for keys, as far as it may say so: without rights the kernel
/// locks no more than this limit.
fn allow_locking() {
    let Rlimit { maximum, .. } = rustix::process::getrlimit(Resource::Memlock);
    let most = Some(LOCKED).filter(|most| maximum.is_some_and(|maximum| maximum < *most)).or(maximum);
    for maximum in [most, maximum] {
        if rustix::process::setrlimit(Resource::Memlock, Rlimit { current: maximum, maximum }).is_ok() {
            return;
        }
    }
}

/// Keeps what the allocator holds near what is in use. Blobs of a megabyte come and go on several threads: left alone,
/// glibc gives each thread an arena, and the holes in them add up to more than all caches (314 MiB against 89 after
/// reading 512 MiB). Smaller thresholds cost processor time, for pages that are given back and taken again.
pub fn bound_allocator() {
    #[cfg(target_env = "gnu")]
    {
        const LARGE: libc::c_int = 4 << 20;
        for (parameter, value) in
            [(libc::M_ARENA_MAX, 2), (libc::M_MMAP_THRESHOLD, LARGE), (libc::M_TRIM_THRESHOLD, 2 * LARGE)]
        {
            // SAFETY: sets a number inside the allocator; refused, it stays as it was.
            unsafe { libc::mallopt(parameter, value) };
        }
    }
}

/// Calls this process `backupfs`: executed through `/proc/self/exe` it would be called `exe`.
pub fn take_name() {
    // A cosmetic failure is no reason to end.
    let _ = rustix::thread::set_name(c"backupfs");
}

/// Closes what was inherited from the descriptor `first` on, which is beyond stdin, stdout and stderr: somebody may be
/// waiting for the other end of it.
pub fn close_inherited(first: i32) {
    // SAFETY: called first thing in the process, when nothing here owns a descriptor above 2 yet.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0_u32) };
}

/// Stdin as a file of our own; `/dev/null` takes its place.
pub fn take_stdin() -> Result<std::fs::File> {
    let lost = |e| Error::io("the line to whoever mounts", e).with_kind(Kind::System);
    let line = std::io::stdin().as_fd().try_clone_to_owned().map_err(lost)?;
    rustix::stdio::dup2_stdin(null()?).map_err(|e| lost(e.into()))?;
    Ok(line.into())
}

/// Which descriptor is left open to a process that is started to keep or serve a mount: its line to the broker, or the
/// device that it was given.
pub const DESCRIPTOR: i32 = 3;

/// Takes what [`leave_open`] left open. To be called once.
pub fn take_left_open() -> Result<OwnedFd> {
    // SAFETY: whoever started this process has put it there for this, and it is taken once.
    let fd = unsafe { OwnedFd::from_raw_fd(DESCRIPTOR) };
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)
        .map_err(|e| Error::caused_by(Kind::System, "what was left open", e))?;
    Ok(fd)
}

/// Has a child that is about to be started find `fd` at [`DESCRIPTOR`]. The answer has to live until then.
pub fn leave_open(command: &mut std::process::Command, fd: &OwnedFd) -> Result<OwnedFd> {
    // Not the number that it is to have, where nothing would be done and it would close on exec.
    let fd = rustix::io::fcntl_dupfd_cloexec(fd, DESCRIPTOR + 1);
    let fd = fd.map_err(|e| Error::caused_by(Kind::System, "cannot duplicate a descriptor", e))?;
    let raw = fd.as_raw_fd();
    let place = move || {
        // SAFETY: both are numbers; nothing of this process is known by the second in the child, which is executed next.
        match unsafe { libc::dup2(raw, DESCRIPTOR) } {
            -1 => Err(std::io::Error::last_os_error()),
            _ => Ok(()),
        }
    };
    // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(place) };
    Ok(fd)
}

/// Whether this process may mount by itself: then a broker does that, and whoever serves may not.
pub fn may_mount() -> bool {
    let may = rustix::thread::capabilities(None);
    may.is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::SYS_ADMIN))
        && rustix::process::geteuid().is_root()
}

/// Has the kernel send this process a signal when the one that started it ends; `None` ends that.
pub fn end_with_parent(signal: Option<Signal>) -> Result<()> {
    rustix::process::set_parent_process_death_signal(signal)
        .map_err(|e| Error::caused_by(Kind::System, "the process that started this one cannot be watched", e))
}

/// Leaves the session, the directory and the stdio of whoever started this process.
pub fn leave() -> Result<()> {
    let failed =
        |e: rustix::io::Errno| Error::io("cannot go to the background", e.into()).with_kind(Kind::System);
    // Fails for the leader of a process group, which has no terminal to lose then either.
    let _ = rustix::process::setsid();
    rustix::process::chdir("/").map_err(failed)?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let null = null()?;
    rustix::stdio::dup2_stdin(&null).map_err(failed)?;
    rustix::stdio::dup2_stdout(&null).map_err(failed)?;
    rustix::stdio::dup2_stderr(&null).map_err(failed)
}

/// `/dev/null`, for reading and writing.
pub fn null() -> Result<OwnedFd> {
    let file = std::fs::File::options().read(true).write(true).open("/dev/null");
    file.map(OwnedFd::from).map_err(|e| Error::io("/dev/null", e).with_kind(Kind::System))
}
