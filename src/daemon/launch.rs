//! Starts the process that serves a mount, and waits until the tree is ready.
//!
//! The program executes itself anew, with a clean environment, and hands over what to serve on the new process's
//! stdin: nothing of it can be seen in arguments or environment. The line stays open until the answer has come, so each
//! side notices when the other one dies, and nothing is left behind when it does.

use std::fs::File;
use std::io::{Seek, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::confine::Limits;
use super::given::Given;
use super::handover::{Answer, Orders};
use super::ours;
use super::programs::Inherited;
use super::{mountpoint, notify, places, process, recognise};
use crate::config::{Config, SourceKind, Typed};
use crate::error::{Context, Error, Kind, Result};
use crate::fuse;

/// Of the environment, only these reach the serving process. Of Amazon's, those that say where credentials are to be had;
/// credentials themselves are handed over.
const KEPT: &[&str] = &[
    "PATH",
    "HOME",
    "TZ",
    "TZDIR",
    "RUST_BACKTRACE",
    "AWS_CONFIG_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_DEFAULT_REGION",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    // Sources that are added while it is mounted have their passwords there too.
    "CREDENTIALS_DIRECTORY",
];

/// How long a serving process may take to clean up after itself.
const GRACE: Duration = Duration::from_secs(5);

/// Mounts at `mountpoint` and returns when the tree is ready, with what is worth telling, a line each. In the foreground
/// this process becomes the serving one and returns only errors. `typed` is what led to the configuration where its files
/// are to be read again at SIGHUP.
pub fn mount(
    mut config: Config,
    typed: Option<Typed>,
    mountpoint: &Path,
    foreground: bool,
) -> Result<Vec<String>> {
    process::keep_secrets()?;
    let said = typed.clone().unwrap_or_default();
    let (mountpoint, device, limits, mut notes) = match Given::at(mountpoint)? {
        Some(given) => {
            given.check_places(places::of(&config).into_iter())?;
            // Who is let in was decided by whoever mounted.
            config.mount.allow_other = given.allow_other;
            let limits = limits_alone(&config, &said);
            let notes = read_passwords(&mut config)?;
            (given.mountpoint, Some(given.device), limits, notes)
        }
        None => {
            let mountpoint = mountpoint::absolute(mountpoint)?;
            mountpoint::remove_dead(&mountpoint)?;
            let limits = process::may_mount().then(|| Limits::of(&config, &said));
            let notes = look_ahead(&mut config, &mountpoint)?;
            (mountpoint, None, limits, notes)
        }
    };
    if rustix::process::geteuid().is_root() && !config.mount.allow_other {
        notes.push(format!("only root can see {}; -o allow_other lets others in", mountpoint.display()));
    }
    let (inherited, given) = (Inherited::of_process(), device.is_some());
    let orders = Orders { config, mountpoint, given, foreground, typed, limits, inherited };
    if foreground {
        for note in notes {
            tracing::warn!("{note}");
        }
        return Err(become_server(&orders, device.as_ref()));
    }
    notes.extend(start_server(&orders, device)?);
    Ok(notes)
}

/// Everything of [`mount`] that only looks, with its errors and what it tells: the mountpoint, the passwords. Nobody is
/// asked, and no server.
pub fn rehearse(mut config: Config, mountpoint: &Path) -> Result<Vec<String>> {
    process::keep_secrets()?;
    let mountpoint = mountpoint::absolute(mountpoint)?;
    if mountpoint::is_taken(&mountpoint)? {
        return Ok(vec![format!("the server of {} died; mounting would replace it", mountpoint.display())]);
    }
    look_ahead(&mut config, &mountpoint)
}

/// What a process is to be confined to that serves, or looks at, `config` without a broker; `None` where it keeps what it
/// has: nobody else calls the programs of ZFS for it.
fn limits_alone(config: &Config, typed: &Typed) -> Option<Limits> {
    let has_zfs = config.sources.iter().any(|source| source.kind == SourceKind::Zfs);
    (!has_zfs).then(|| Limits::of(config, typed))
}

/// What a command is to be confined to that looks at `config` as a mount would; `None` where it keeps what it has.
pub fn sandbox_limits(config: &Config, typed: &Typed) -> Option<Limits> {
    process::may_mount().then(|| limits_alone(config, typed)).flatten()
}

/// Makes sure that nobody is asked for a password from here on: there may be a terminal, but nobody who expects it.
pub fn ask_nothing() -> Result<()> {
    rustix::stdio::dup2_stdin(process::null()?)
        .map_err(|e| Error::io("stdin", e.into()).with_kind(Kind::System))
}

/// Looks at the mountpoint ([`mountpoint::absolute`]) and reads the passwords. Answers what is worth telling.
fn look_ahead(config: &mut Config, mountpoint: &Path) -> Result<Vec<String>> {
    mountpoint::check(mountpoint, places::of(config).iter().map(PathBuf::as_path))?;
    let mut notes = read_passwords(config)?;
    if mountpoint::hides_something(mountpoint) {
        notes.push(format!(
            "{} is not empty; what is in it is hidden while it is mounted",
            mountpoint.display()
        ));
    }
    Ok(notes)
}

/// Reads every password, so that prompts and files are those of whoever typed the command. Of several sources those
/// whose password cannot be had are left out, with a note each; one alone is the error.
fn read_passwords(config: &mut Config) -> Result<Vec<String>> {
    if let ([only], []) = (config.sources.as_slice(), config.groups.as_slice())
        && only.kind == SourceKind::Restic
        && let Some(path) = only.location.as_path()
    {
        // Nobody should type a password for what is not there.
        recognise::restic_at(path).context(|| only.title.clone())?;
    }
    let mut failures = Vec::new();
    let mut keep = |read: Result<()>| read.map_err(|error| failures.push(error)).is_ok();
    config.sources.retain_mut(|source| keep(source.read_secrets()));
    config.groups.retain_mut(|group| keep(group.read_secrets()));
    let notes = failures.iter().map(|error| format!("left out: {error}")).collect();
    match failures.into_iter().next() {
        Some(error) if config.sources.is_empty() && config.groups.is_empty() => Err(error),
        _ => Ok(notes),
    }
}

/// This program, to be executed anew.
fn this_program(orders: &Orders, stdin: OwnedFd) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("backupfs").arg(if has_broker(orders) { "broker" } else { "serve" });
    command.args(orders.given.then_some("--given")).arg(&orders.mountpoint).stdin(stdin);
    // In the background a service manager would hear of a mount that is not the service.
    let of_service: &[&str] = if orders.foreground { &notify::VARIABLES } else { &[] };
    let kept = KEPT.iter().chain(of_service).filter_map(|name| Some((name, std::env::var_os(name)?)));
    command.env_clear().envs(kept);
    command
}

/// Whether somebody is to keep what takes rights.
fn has_broker(orders: &Orders) -> bool {
    !orders.given && process::may_mount()
}

/// Sends the orders, to a broker first and then to the process that serves.
fn send(orders: &Orders, to: &mut impl Write) -> Result<()> {
    if has_broker(orders) {
        orders.send_head(to)?;
    }
    orders.send(to)
}

/// Becomes the serving process, with the orders in memory that has no name. Returns only when that fails.
fn become_server(orders: &Orders, device: Option<&OwnedFd>) -> Error {
    let failed =
        |e: std::io::Error| Error::io("cannot hand over to the serving process", e).with_kind(Kind::System);
    let handed = || -> Result<OwnedFd> {
        let memory = rustix::fs::memfd_create(c"orders", rustix::fs::MemfdFlags::CLOEXEC);
        let mut memory = File::from(memory.map_err(|e| failed(e.into()))?);
        send(orders, &mut memory)?;
        memory.flush().and_then(|()| memory.rewind()).map_err(failed)?;
        Ok(memory.into())
    };
    match handed() {
        Ok(memory) => {
            let mut program = this_program(orders, memory);
            match device.map(|device| process::leave_open(&mut program, device)).transpose() {
                Ok(_left) => failed(program.exec()),
                Err(error) => error,
            }
        }
        Err(error) => error,
    }
}

/// Starts the serving process and waits for its answer.
fn start_server(orders: &Orders, device: Option<OwnedFd>) -> Result<Vec<String>> {
    let failed = |e| Error::io("cannot start the serving process", e).with_kind(Kind::System);
    let wait = Wait::new()?;
    let (mut ours, theirs) = UnixStream::pair().map_err(failed)?;
    let line = ours.try_clone().map_err(failed)?;
    let mut program = this_program(orders, theirs.into());
    let left = device.as_ref().map(|device| process::leave_open(&mut program, device)).transpose()?;
    let mut child = program.stdout(Stdio::null()).spawn().map_err(failed)?;
    // Who looks at what nobody serves any more is not to wait for this process.
    drop((left, device, program));
    // A process that ends without reading them has a reason, which `answer` tells.
    let _ = send(orders, &mut ours);
    match wait.answer(line, orders.config.mount.mount_timeout) {
        Ok(Answer::Ready(notes)) => Ok(notes),
        Ok(Answer::Failed(kind, message)) => {
            end(&mut child, &ours, &orders.mountpoint);
            Err(Error::new(kind, message))
        }
        Err(error) => {
            let status = end(&mut child, &ours, &orders.mountpoint);
            Err(if error.kind() == Kind::Internal { error.context(status) } else { error })
        }
    }
}

/// Waits for an answer. Made before the other process is, so that no signal finds this one unprepared.
struct Wait {
    runtime: Runtime,
    interrupt: Signal,
    terminate: Signal,
}

impl Wait {
    fn new() -> Result<Self> {
        let failed = |e| Error::io("cannot wait for the serving process", e).with_kind(Kind::System);
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let of = |kind| {
            let _runtime = runtime.enter();
            signal(kind).map_err(failed)
        };
        let (interrupt, terminate) = (of(SignalKind::interrupt())?, of(SignalKind::terminate())?);
        Ok(Wait { runtime, interrupt, terminate })
    }

    /// The answer, unless it takes too long, the other process ends without one, or a signal comes.
    fn answer(mut self, mut line: UnixStream, patience: Duration) -> Result<Answer> {
        let interrupted = |how| Err(Error::new(Kind::Interrupted, format!("not mounted: {how}")));
        let answer = self.runtime.block_on(async {
            let reading = tokio::task::spawn_blocking(move || Answer::receive(&mut line));
            tokio::select! {
                answer = reading => match answer {
                    Ok(Ok(answer)) => Ok(answer),
                    _ => Err(Error::new(Kind::Internal, "it gave no answer")),
                },
                () = tokio::time::sleep(patience) => Err(Error::new(
                    Kind::TimedOut,
                    format!("not mounted: not ready within {} s (mount-timeout)", patience.as_secs()),
                )),
                _ = self.interrupt.recv() => interrupted("interrupted"),
                _ = self.terminate.recv() => interrupted("terminated"),
            }
        });
        self.runtime.shutdown_background();
        answer
    }
}

/// Lets the serving process clean up, then makes sure that it is gone and that nothing of it is left mounted. Answers
/// how it ended.
fn end(child: &mut Child, line: &UnixStream, mountpoint: &Path) -> String {
    // It takes the closed line for the end of this process. It may be gone already.
    let _ = line.shutdown(Shutdown::Both);
    // One that waits for something else before it looks at the line hears this. It may be gone already.
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM));
    let deadline = Instant::now() + GRACE;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
            _ => {
                let _ = child.kill();
                break child.wait().ok();
            }
        }
    };
    if ours::is_dead(mountpoint) {
        // What could not be cleaned up now, the next mount does.
        let _ = fuse::unmount(mountpoint, true);
    }
    status.map_or_else(
        || "the serving process".to_owned(),
        |status| format!("the serving process ended ({status})"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(line: &UnixStream, patience: Duration) -> Result<Answer> {
        Wait::new().unwrap().answer(line.try_clone().unwrap(), patience)
    }

    #[test]
    fn a_server_that_says_nothing_is_given_up() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        assert_eq!(answer(&ours, Duration::from_millis(20)).unwrap_err().kind(), Kind::TimedOut);
        drop(theirs);
        assert_eq!(answer(&ours, Duration::from_secs(60)).unwrap_err().kind(), Kind::Internal);
    }

    #[test]
    fn the_answer_arrives() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        Answer::Ready(vec!["note".into()]).send(&mut theirs).unwrap();
        let Answer::Ready(notes) = answer(&ours, Duration::from_secs(60)).unwrap() else { panic!() };
        assert_eq!(notes, ["note"]);
    }
}
