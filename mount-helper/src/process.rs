//! What this process becomes: in which mount namespace, as whom, and which program.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::File;
use std::io::Error;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shown;

/// Where it is installed.
const INSTALLED: &str = "/usr/bin/backupfs";

/// Where this program is then.
const SYSTEM_DIRECTORIES: &[&str] = &["/sbin", "/usr/sbin"];

/// Where programs are that the file system calls (ssh, rclone, zfs), when nobody says: units of systemd have no PATH.
const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The program to execute: the installed one, or what lies beside this one when it is not installed itself. PATH, which
/// is the caller's, is never asked.
pub fn program() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|e| format!("cannot tell where this program is: {e}"))?;
    Ok(match own.parent() {
        Some(directory) if !SYSTEM_DIRECTORIES.iter().any(|system| directory == Path::new(system)) => {
            directory.join("backupfs")
        }
        _ => INSTALLED.into(),
    })
}

/// Enters a mount namespace: the path of one, or the number of a process in it.
pub fn enter(namespace: &OsString) -> Result<(), String> {
    let path = match namespace.to_str().and_then(|text| text.parse::<u32>().ok()) {
        Some(process) => PathBuf::from(format!("/proc/{process}/ns/mnt")),
        None => namespace.into(),
    };
    let failed = |e: Error| format!("mount namespace {}: {e}", shown(namespace));
    let file = File::open(path).map_err(failed)?;
    // SAFETY: takes a descriptor that is open, and no memory.
    if unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNS) } == 0 {
        Ok(())
    } else {
        Err(failed(Error::last_os_error()))
    }
}

/// What is known of a user.
struct Account {
    name: CString,
    uid: libc::uid_t,
    gid: libc::gid_t,
    home: OsString,
}

/// Becomes `user`, with that user's groups, for good. Answers the user's home. Errors: there is nobody of that name, or
/// this process may not.
pub fn become_user(user: &OsString) -> Result<OsString, String> {
    let account = account(user).ok_or_else(|| format!("setuid={}: there is no such user", shown(user)))?;
    let failed = || format!("setuid={}: {}", shown(user), Error::last_os_error());
    // SAFETY: `name` is a C string that lives until the call returns.
    if unsafe { libc::geteuid() } == 0 && unsafe { libc::initgroups(account.name.as_ptr(), account.gid) } != 0
    {
        return Err(failed());
    }
    // SAFETY: numbers alone; this process has one thread.
    if unsafe { libc::setgid(account.gid) } != 0 || unsafe { libc::setuid(account.uid) } != 0 {
        return Err(failed());
    }
    Ok(account.home)
}

fn account(user: &OsStr) -> Option<Account> {
    let name = CString::new(user.as_bytes()).ok()?;
    // SAFETY: `name` is a C string. What is answered is the library's, valid until the next such call; this process has
    // one thread, and copies it at once.
    unsafe {
        let entry = libc::getpwnam(name.as_ptr()).as_ref()?;
        let home = CStr::from_ptr(entry.pw_dir).to_bytes().to_vec();
        Some(Account { name, uid: entry.pw_uid, gid: entry.pw_gid, home: OsString::from_vec(home) })
    }
}

/// Executes `program`, with `home` as the home if there is one. Returns only when that fails: why.
pub fn execute(program: &Path, arguments: &[OsString], home: Option<&OsString>) -> String {
    let mut command = Command::new(program);
    command.arg0("backupfs").args(arguments);
    if std::env::var_os("PATH").is_none_or(|path| path.is_empty()) {
        command.env("PATH", USUAL_PATH);
    }
    if let Some(home) = home {
        command.env("HOME", home);
    }
    let error = command.exec();
    format!("{}: {error}", program.display())
}
