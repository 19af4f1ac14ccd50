//! The broker: the small process of root's that keeps what takes rights, so that the worker, which reads what strangers
//! wrote, has none.
//!
//! It has one thread, reads no repository and no password, and takes no path from its worker. It is started by whoever
//! mounts and starts the worker itself, which reads its own orders, secrets and all, from the line that the broker does
//! not listen to any more. They live and die together: a worker that ends takes its broker with it, which detaches the
//! mount if nobody did; when the broker is killed, the kernel kills the worker.

mod client;
mod hands;
mod keeper;
mod line;
mod steward;
mod warden;
mod words;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal as Arrivals, SignalKind, signal};
use tokio::time::Instant;

pub use client::Broker;
pub use hands::Wardens;
use keeper::Keeper;
pub use steward::{Steward, steward_handed_over};
pub use warden::warden_handed_over;
use words::Ask;

use super::handover::{Answer, Orders};
use super::{process, serve, signals};
use crate::error::{Error, Kind, Result};
use crate::observe::logging::{self, LogTarget};

/// A worker that was told to end and has not, so long after, is killed.
const GRACE: Duration = signals::DRAIN.saturating_add(Duration::from_secs(2));

/// Wardens clear up within this, or are left to do so alone: a unit whose main process ended has what is left killed. With
/// [`GRACE`] it is less than what packaging/systemd allows.
const CLEARING: Duration = Duration::from_secs(12);

/// A worker that can tell by itself that it is not ready in time does.
const SLACK: Duration = Duration::from_secs(1);

/// So many asks are answered before anything else is looked at.
const AT_ONCE: usize = 32;

/// Keeps the mount whose orders come on stdin, until its worker has ended. Answers with which code to end.
pub fn broker_handed_over() -> Result<u8> {
    process::close_inherited(process::DESCRIPTOR);
    process::take_name();
    process::keep_secrets()?;
    let mut line = process::take_stdin()?;
    let orders = Orders::receive_head(&mut line)?;
    let foreground = orders.foreground;
    if !foreground {
        // Until all is ready; who is told to end ends the worker too.
        process::end_with_parent(Some(Signal::TERM))?;
    }
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Error::io("broker", e).with_kind(Kind::System))?;
    let started = start_log(&orders).and_then(|()| {
        let _runtime = runtime.enter();
        Kept::start(orders, &line)
    });
    match started {
        Ok(kept) => {
            // Whoever mounts sees the worker's end by it.
            drop(line);
            Ok(runtime.block_on(kept.until_its_end()))
        }
        Err(error) if foreground => Err(error),
        Err(error) => Answer::Failed(error.kind(), error.to_string()).send(&mut line).map(|()| 0),
    }
}

/// Where the worker logs too, unless opening that may wait for somebody.
fn start_log(orders: &Orders) -> Result<()> {
    let file = orders.config.mount.log.file.as_deref();
    let may_wait = file.and_then(|file| file.metadata().ok()).is_some_and(|found| !found.is_file());
    if may_wait {
        return logging::start(LogTarget::System, orders.config.mount.log.level.into());
    }
    serve::start_log(orders)
}

/// A worker, and what is kept for it.
struct Kept {
    worker: Child,
    line: AsyncFd<OwnedFd>,
    keeper: Keeper,
    mountpoint: PathBuf,
    /// In the foreground, where nobody waits for an answer: when a worker that has not come to mount is given up. It may
    /// wait for its log, before it may have a second thread that would watch the time.
    unmounted_until: Option<Instant>,
    mount_timeout: Duration,
    terminate: Arrivals,
    interrupt: Arrivals,
    hangup: Arrivals,
}

/// What happens to a broker.
enum Event {
    Signal(Signal),
    Asked,
    Ended(Option<ExitStatus>),
    /// The worker takes too long to end.
    Late,
    /// The worker takes too long to begin.
    Unmounted,
}

impl Kept {
    /// Starts the worker, whose orders come on `stdin`.
    fn start(orders: Orders, stdin: &File) -> Result<Self> {
        let failed = |e| Error::io("cannot start the serving process", e).with_kind(Kind::System);
        let of = |kind| signal(kind).map_err(failed);
        // Before there is a worker, so that none comes too early to be told to it.
        let (terminate, interrupt) = (of(SignalKind::terminate())?, of(SignalKind::interrupt())?);
        let hangup = of(SignalKind::hangup())?;
        let (ours, theirs) = line::pair()?;
        let worker = worker(&orders, stdin.try_clone().map_err(failed)?.into(), theirs)?;
        rustix::io::ioctl_fionbio(&ours, true).map_err(|e| failed(e.into()))?;
        // SAFETY: an owned descriptor stays open, and the same, until it is dropped.
        let line = unsafe { AsyncFd::register_with_interest(ours, Interest::READABLE) };
        let line = line.map_err(|e| failed(e.into()))?;
        let mount_timeout = orders.config.mount.mount_timeout;
        let unmounted_until = orders.foreground.then(|| Instant::now() + mount_timeout + SLACK);
        let Orders { config, mountpoint, .. } = orders;
        let keeper = Keeper::new(config, mountpoint.clone());
        Ok(Kept {
            worker,
            line,
            keeper,
            mountpoint,
            unmounted_until,
            mount_timeout,
            terminate,
            interrupt,
            hangup,
        })
    }

    /// Does what the worker asks for until it ends. Answers with which code this process is to end.
    async fn until_its_end(mut self) -> u8 {
        let mut listening = true;
        let mut deadline = None;
        loop {
            match self.next(listening, deadline).await {
                Event::Ended(status) => {
                    let code = self.ended(status);
                    let _ = tokio::time::timeout(CLEARING, self.keeper.wardens_ended()).await;
                    return code;
                }
                Event::Asked => {
                    listening = self.answer();
                    // What else has happened is noticed here, however much is asked for.
                    tokio::task::yield_now().await;
                }
                Event::Late => {
                    tracing::error!("the serving process does not end, and is killed");
                    self.keeper.end();
                    self.send(Signal::KILL);
                    deadline = None;
                }
                Event::Unmounted => {
                    let seconds = self.mount_timeout.as_secs();
                    eprintln!("backupfs: not mounted: not ready within {seconds} s (mount-timeout)");
                    self.unmounted_until = None;
                    self.send(Signal::KILL);
                }
                Event::Signal(signal) => {
                    self.send(signal);
                    if signal != Signal::HUP {
                        deadline = deadline.or(Some(Instant::now() + GRACE));
                    }
                }
            }
        }
    }

    async fn next(&mut self, listening: bool, deadline: Option<Instant>) -> Event {
        let unmounted = self.unmounted_until;
        tokio::select! {
            // What is asked for comes last, or a worker that asks without end would keep its broker from all else.
            biased;
            _ = self.terminate.recv() => Event::Signal(Signal::TERM),
            _ = self.interrupt.recv() => Event::Signal(Signal::INT),
            _ = self.hangup.recv() => Event::Signal(Signal::HUP),
            status = self.worker.wait() => Event::Ended(status.ok()),
            () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => Event::Late,
            () = tokio::time::sleep_until(unmounted.unwrap_or_else(Instant::now)), if unmounted.is_some() => Event::Unmounted,
            _ = self.line.readable(), if listening => Event::Asked,
        }
    }

    /// Answers what is asked for, up to [`AT_ONCE`]. False when nothing more will be: the worker is about to end.
    fn answer(&mut self) -> bool {
        for _ in 0..AT_ONCE {
            // The line is ready until there was nothing: what is left is answered next.
            let received = self.line.try_io(Interest::READABLE, |line| match line::receive::<Ask>(line) {
                Err(error) if error.kind() == Kind::TimedOut => Err(io::ErrorKind::WouldBlock.into()),
                received => Ok(received),
            });
            let Ok(received) = received else { return true };
            match received.and_then(|asked| self.answer_one(asked)) {
                Ok(true) => {}
                Ok(false) => return false,
                Err(error) => {
                    tracing::error!(%error, "the serving process is not listened to any more");
                    return false;
                }
            }
        }
        true
    }

    fn answer_one(&mut self, asked: Option<(Ask, Vec<OwnedFd>)>) -> Result<bool> {
        let Some((ask, descriptors)) = asked else { return Ok(false) };
        if matches!(ask, Ask::Mount) {
            self.unmounted_until = None;
        }
        let (said, led_to) = self.keeper.answer(&ask, descriptors.first());
        let led_to: Vec<_> = led_to.iter().map(AsFd::as_fd).collect();
        line::send(self.line.get_ref(), &said, &led_to).map(|()| true)
    }

    fn send(&self, signal: Signal) {
        let pid = self.worker.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may be ending by itself.
            let _ = kill_process(pid, signal);
        }
    }

    fn ended(&self, status: Option<ExitStatus>) -> u8 {
        // Does nothing where the worker had it done, or somebody else has.
        self.keeper.end();
        let code = status.and_then(|status| status.code()).and_then(|code| u8::try_from(code).ok());
        code.unwrap_or_else(|| {
            let how = status.map_or_else(|| "unknown".to_owned(), |status| status.to_string());
            let mountpoint = self.mountpoint.display();
            tracing::error!("the process that served {mountpoint} has ended ({how}); it is unmounted");
            serve::FAILED
        })
    }
}

/// Starts the worker with the orders on `stdin` and its line to this process.
fn worker(orders: &Orders, stdin: OwnedFd, line: OwnedFd) -> Result<Child> {
    let failed = |e| Error::io("cannot start the serving process", e).with_kind(Kind::System);
    let mut command = Command::new("/proc/self/exe");
    command.arg0("backupfs").arg("serve").arg("--brokered").arg(&orders.mountpoint).stdin(stdin);
    let _line = process::leave_open(command.as_std_mut(), &line)?;
    command.spawn().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Typed, resolve};
    use words::Said;

    /// One whose worker asks for nothing by itself, and the worker's end of its line.
    fn kept() -> (Kept, OwnedFd) {
        let (ours, theirs) = line::pair().unwrap();
        rustix::io::ioctl_fionbio(&ours, true).unwrap();
        rustix::io::ioctl_fionbio(&theirs, true).unwrap();
        // SAFETY: an owned descriptor stays open, and the same, until it is dropped.
        let line = unsafe { AsyncFd::register_with_interest(ours, Interest::READABLE) }.unwrap();
        let config = resolve(&Typed { repos: vec!["/a".into()], ..Typed::default() }).unwrap();
        let never = || signal(SignalKind::user_defined2()).unwrap();
        let kept = Kept {
            worker: Command::new("sleep").arg("600").kill_on_drop(true).spawn().unwrap(),
            line,
            keeper: Keeper::new(config, "/no/mountpoint".into()),
            mountpoint: "/no/mountpoint".into(),
            unmounted_until: None,
            mount_timeout: GRACE,
            terminate: never(),
            interrupt: never(),
            hangup: never(),
        };
        (kept, theirs)
    }

    #[tokio::test]
    async fn many_asks_are_answered_some_at_a_time_and_none_is_forgotten() {
        let (mut kept, theirs) = kept();
        let many = AT_ONCE + 5;
        for _ in 0..many {
            line::send(&theirs, &Ask::CloseBacking(1), &[]).unwrap();
        }
        for expected in [AT_ONCE, 5] {
            assert!(matches!(kept.next(true, None).await, Event::Asked));
            assert!(kept.answer());
            let answered = std::iter::from_fn(|| line::receive::<Said>(&theirs).ok());
            assert_eq!(answered.count(), expected);
        }
        let idle = tokio::time::timeout(Duration::from_millis(20), kept.next(true, None));
        assert!(idle.await.is_err(), "nothing is asked for, and yet it is awake");
        line::send(&theirs, &Ask::CloseBacking(1), &[]).unwrap();
        drop(theirs);
        assert!(matches!(kept.next(true, None).await, Event::Asked));
        assert!(!kept.answer(), "nobody is left to ask");
    }
}
