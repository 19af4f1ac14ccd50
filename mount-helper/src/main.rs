//! `mount.backupfs`: what mount(8) executes for the type `backupfs`, and `mount.fuse.backupfs` for `fuse.backupfs`.
//!
//! mount(8) calls `mount.backupfs SPEC DIR [-sfnv] [-N NAMESPACE] [-t TYPE] -o OPTIONS`. This becomes
//! `backupfs mount --spec SPEC …`, whose exit code is then this one's. What SPEC and OPTIONS mean is decided there; here
//! they are looked at only as far as the process itself depends on them.

mod arguments;
mod process;

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::process::ExitCode;

use arguments::{Request, Typed};

/// What mount(8) understands as wrong usage.
const USAGE: u8 = 1;

/// What it understands as a system that lacks something.
const SYSTEM: u8 = 2;

const HELP: &str = "Usage: mount.backupfs SPEC DIR [-sfnv] [-N NAMESPACE] [-t TYPE] [-o OPTIONS]

Called by mount(8) for the types backupfs and fuse.backupfs; see mount.backupfs(8).

SPEC  all, none, a profile or source of /etc/backupfs/config.toml, or a repository
-f    check everything, mount nothing      -v  say more
-s -n are accepted, and change nothing

Exit codes: 0 mounted, 1 usage, 2 system, 4 a bug, 8 interrupted, 32 not mounted
";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    arguments.next();
    let request = match Typed::parse(arguments) {
        Ok(Typed::Request(request)) => request,
        Ok(Typed::Help) => return say(HELP),
        Ok(Typed::Version) => return say(concat!("mount.backupfs ", env!("CARGO_PKG_VERSION"), "\n")),
        Err(says) => return fail(USAGE, &says),
    };
    let (code, says) = mount(request);
    fail(code, &says)
}

/// Becomes `backupfs mount`. Returns only when that fails: an exit code, and why.
fn mount(mut request: Request) -> (u8, String) {
    if let Some(namespace) = request.namespace.take()
        && let Err(says) = process::enter(&namespace)
    {
        return (SYSTEM, says);
    }
    let program = match process::program() {
        Ok(program) => program,
        Err(says) => return (SYSTEM, says),
    };
    let user = match request.user.take().map(|user| process::become_user(&user)).transpose() {
        Ok(user) => user,
        Err(says) => return (USAGE, says),
    };
    (SYSTEM, process::execute(&program, &request.command(), user.as_ref()))
}

fn say(text: &str) -> ExitCode {
    // A closed stdout is no reason to complain.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// Says on stderr, and in the system's log, why nothing was mounted: autofs and systemd show nobody what stderr says.
fn fail(code: u8, says: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "mount.backupfs: {says}");
    // <27>: an error of a daemon. Where nobody listens stderr has to do.
    if let Ok(socket) = UnixDatagram::unbound() {
        let _ = socket.set_nonblocking(true);
        let _ = socket.send_to(format!("<27>mount.backupfs: {says}").as_bytes(), "/dev/log");
    }
    ExitCode::from(code)
}

/// Text for people: control characters cannot break the line.
fn shown(text: &OsString) -> String {
    text.to_string_lossy().escape_debug().collect()
}
