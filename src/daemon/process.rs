//! What a process does to itself: no core dumps, a name, few heaps, leaving the terminal.

use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{DumpableBehavior, Resource, Rlimit};

use crate::error::{Error, Kind, Result};

/// Sees to it that no password can end in a core dump or be read by another process of the same user. To be called
/// before any is read.
pub fn keep_secrets() -> Result<()> {
    let failed =
        |e: rustix::io::Errno| Error::io("cannot forbid core dumps", e.into()).with_kind(Kind::System);
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed)?;
    let nothing = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, nothing).map_err(failed)
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

/// Whether this process may mount by itself: then a broker does that, and whoever serves may not.
pub fn may_mount() -> bool {
    let may = rustix::thread::capabilities(None);
    may.is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::SYS_ADMIN))
        && rustix::process::geteuid().is_root()
}

/// Has the kernel kill this process when the one that started it ends.
pub fn end_with_parent() -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|e| Error::caused_by(Kind::System, "the broker cannot be watched", e))
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
