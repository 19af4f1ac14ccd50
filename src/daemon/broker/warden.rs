//! The warden: a process beside the broker that has the rights for the ZFS of one source, so that whoever serves needs
//! none. A broker has to be there at once, to unmount, and a pool may hang.
//!
//! It is told once, by the broker, which source it is for; what its worker then asks ([`Ask`]) names snapshots and clones of
//! that source and nothing else. Each question comes with a socket for its answer, so that none waits for another. When
//! nobody has the other end of its line any more, because the worker ended or was killed, it destroys the clones and
//! ends the holds that are left, and ends.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use super::line;
use crate::config::{self, Log};
use crate::daemon::kind::zfs;
use crate::daemon::process;
use crate::error::{Error, Kind, Result};
use crate::observe::logging::{self, LogTarget};
use crate::source::zfs::{Ask, Done, Hands, Own};

/// So many questions are answered at a time; one more is refused.
const AT_ONCE: usize = 64;

/// Whoever got a clone or a hold says so within this; else it is undone.
const TAKEN: Duration = Duration::from_secs(5);

/// So often what could not be undone is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// What a warden is for.
#[derive(Debug, Serialize, Deserialize)]
struct Orders {
    place: config::Location,
    clones: config::Clones,
    log: Log,
}

/// What came of a question, as it goes over the line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Said {
    /// Nothing to be told.
    Done,
    /// What was printed lies in the file that comes with this.
    Printed,
    /// So many.
    Swept(usize),
    /// A clone, whose top directory comes with this.
    Made(String),
    /// A snapshot, whose top directory comes with this, and whether it is held.
    Seen(bool),
    /// It could not be done.
    Failed(Kind, String),
}

/// What whoever asked answers when it has a clone or a snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Taken;

/// Starts one for `source`; answers with the worker's end of its line.
pub(super) fn start(source: &config::Source, log: &Log) -> Result<(Child, OwnedFd)> {
    let failed = |e| Error::io("cannot start the process that keeps ZFS", e).with_kind(Kind::System);
    let (ours, theirs) = line::pair()?;
    let orders = Orders { place: source.location.clone(), clones: source.clones.clone(), log: log.clone() };
    // Before anybody else has this end.
    line::send(&ours, &orders, &[])?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("backupfs").arg("warden");
    // Whoever mounts waits for all who have its stdio.
    let null = || process::null().map(std::process::Stdio::from);
    command.stdin(null()?).stdout(null()?).stderr(null()?);
    let _line = process::leave_open(command.as_std_mut(), &theirs)?;
    Ok((command.spawn().map_err(failed)?, ours))
}

/// Answers what comes over the line that was left open until its other end is closed, and clears up.
pub fn warden_handed_over() -> Result<()> {
    process::close_inherited(process::DESCRIPTOR + 1);
    process::take_name();
    process::keep_secrets()?;
    let line = process::take_left_open()?;
    let Some((orders, _)) = line::receive::<Orders>(&line)? else { return Ok(()) };
    start_log(&orders.log)?;
    process::leave()?;
    let failed = |e| Error::io("cannot start threads", e).with_kind(Kind::System);
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(AT_ONCE)
        .enable_all()
        .build()
        .map_err(failed)?;
    // What ends a whole group or unit ends the worker; after that this has still something to do.
    let _ignored = {
        let _runtime = runtime.enter();
        [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal)
    };
    attend(&line, || zfs::own(&orders.place, &orders.clones), &runtime);
    runtime.shutdown_background();
    Ok(())
}

/// Where the worker logs, unless opening that may wait for somebody.
fn start_log(log: &Log) -> Result<()> {
    let is_plain = |file: &std::path::PathBuf| file.metadata().is_ok_and(|found| found.is_file());
    let file = log.file.clone().filter(is_plain);
    logging::start(file.map_or(LogTarget::System, LogTarget::File), log.level.into())
}

/// Has every question answered that comes, by hands that are made for the first, and clears up when none will come.
fn attend(line: &OwnedFd, hands: impl Fn() -> Result<Own>, runtime: &Runtime) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut own: Option<Arc<Own>> = None;
    loop {
        let (ask, reply) = match line::receive::<Ask>(line) {
            Ok(Some((ask, descriptors))) => match descriptors.into_iter().next() {
                Some(reply) => (ask, reply),
                None => continue,
            },
            Ok(None) => break,
            // What is no question is not answered: its socket is closed.
            Err(error) if error.kind() == Kind::Internal => {
                tracing::warn!(%error, "a question about ZFS cannot be read");
                continue;
            }
            Err(error) => {
                tracing::error!(%error, "nobody is listened to any more");
                break;
            }
        };
        if own.is_none() {
            match hands() {
                Ok(made) => {
                    let made = own.insert(Arc::new(made));
                    drop(runtime.spawn(keep_trying(Arc::downgrade(made))));
                }
                Err(error) => drop(say(&reply, Err(error))),
            }
        }
        let Some(own) = own.clone() else { continue };
        match Arc::clone(&room).try_acquire_owned() {
            Ok(turn) => {
                let handle = runtime.handle().clone();
                drop(runtime.spawn_blocking(move || {
                    answer(&own, ask, &reply, &handle);
                    drop(turn);
                }));
            }
            Err(_) => {
                let error = Error::new(Kind::Unavailable, "ZFS is asked too much at a time");
                drop(say(&reply, Err(error)));
            }
        }
    }
    if let Some(own) = own {
        runtime.block_on(own.end(|| room.available_permits() == AT_ONCE));
    }
}

/// Has it tried again and again to undo what could not be undone.
async fn keep_trying(own: Weak<Own>) {
    loop {
        tokio::time::sleep(AGAIN).await;
        let Some(own) = own.upgrade() else { return };
        own.retry().await;
    }
}

/// Answers a question. What nobody takes is undone.
fn answer(own: &Own, ask: Ask, reply: &OwnedFd, runtime: &Handle) {
    let undo = match &ask {
        Ask::Look(snapshot) => Some(Ask::Release(snapshot.clone())),
        _ => None,
    };
    let done = runtime.block_on(own.ask(ask));
    let undo = match &done {
        Ok(Done::Made(name, _)) => Some(Ask::Unmake(name.clone())),
        Ok(Done::Seen { is_held: true, .. }) => undo,
        _ => None,
    };
    let said = say(reply, done);
    if let Some(undo) = undo
        && let Err(error) = said.and_then(|()| taken(reply))
    {
        tracing::debug!(%error, "what was asked of ZFS is undone");
        runtime.block_on(own.undo(undo));
    }
}

/// Waits until whoever asked has what it was sent. Errors: it never will.
fn taken(reply: &OwnedFd) -> Result<()> {
    let failed = |e| Error::caused_by(Kind::Unavailable, "the socket of an answer", e);
    set_socket_timeout(reply, Timeout::Recv, Some(TAKEN)).map_err(failed)?;
    rustix::io::ioctl_fionbio(reply, false).map_err(failed)?;
    match line::receive::<Taken>(reply)? {
        Some((Taken, _)) => Ok(()),
        None => Err(Error::new(Kind::Unavailable, "nobody waits for it")),
    }
}

fn say(reply: &OwnedFd, done: Result<Done>) -> Result<()> {
    // Whoever asks may have given anything for a socket, and need not read from it.
    rustix::io::ioctl_fionbio(reply, true)
        .map_err(|e| Error::caused_by(Kind::Unavailable, "the socket of an answer", e))?;
    let (said, with) = match done {
        Ok(Done::Done) => (Said::Done, None),
        Ok(Done::Printed(text)) => match file(&text) {
            Ok(file) => (Said::Printed, Some(file)),
            Err(error) => (Said::Failed(error.kind(), error.to_string()), None),
        },
        Ok(Done::Swept(count)) => (Said::Swept(count), None),
        Ok(Done::Made(name, top)) => (Said::Made(name), Some(top)),
        Ok(Done::Seen { top, is_held }) => (Said::Seen(is_held), Some(top)),
        Err(error) => (Said::Failed(error.kind(), error.to_string()), None),
    };
    let with: Vec<_> = with.iter().map(AsFd::as_fd).collect();
    line::send(reply, &said, &with)
}

/// Memory that holds `text`: a listing is longer than a message.
fn file(text: &str) -> Result<OwnedFd> {
    let failed = |e: std::io::Error| Error::io("the answer of ZFS", e).with_kind(Kind::System);
    let memory = rustix::fs::memfd_create(c"zfs", rustix::fs::MemfdFlags::CLOEXEC);
    let mut memory = File::from(memory.map_err(|e| failed(e.into()))?);
    memory.write_all(text.as_bytes()).and_then(|()| memory.rewind()).map_err(failed)?;
    Ok(memory.into())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A warden in a thread, with the rights of this process; the end of the answer is that of the thread.
    pub fn attending(
        hands: impl Fn() -> Result<Own> + Send + 'static,
    ) -> (OwnedFd, std::thread::JoinHandle<()>) {
        let (ours, theirs) = line::pair().unwrap();
        let thread = std::thread::spawn(move || {
            let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            attend(&theirs, hands, &runtime);
        });
        (ours, thread)
    }

    fn asked(line: &OwnedFd, ask: &Ask) -> Said {
        let (ours, theirs) = line::pair().unwrap();
        line::send(line, ask, &[theirs.as_fd()]).unwrap();
        drop(theirs);
        line::receive::<Said>(&ours).unwrap().unwrap().0
    }

    /// Hands whose programs print what they are called with and fail.
    fn own() -> Result<Own> {
        let clones = config::Clones {
            zfs: ["sh", "-c", "echo said >&2; exit 1", "zfs"].map(str::to_owned).into(),
            ..config::Clones::default()
        };
        let place = config::Location::Zfs("tank/b".into());
        zfs::own_in(&place, &clones, "/nowhere".into())
    }

    #[test]
    fn hostile_questions_are_refused_and_the_next_is_answered() {
        let (line, thread) = attending(own);
        // No question, one without a socket, and sockets that are none or that nobody reads.
        line::send(&line, &"zfs destroy -r tank", &[]).unwrap();
        line::send(&line, &Ask::List, &[]).unwrap();
        let null = File::open("/dev/null").unwrap();
        line::send(&line, &Ask::List, &[null.as_fd()]).unwrap();
        let (ours, theirs) = line::pair().unwrap();
        while rustix::net::send(&theirs, &[0; 4096], rustix::net::SendFlags::DONTWAIT).is_ok() {}
        line::send(&line, &Ask::List, &[theirs.as_fd()]).unwrap();
        for ask in [
            Ask::Make("tank/other@s".into()),
            Ask::Make("tank/b@s -o mountpoint=/etc".into()),
            Ask::Unmake("tank/b".into()),
            Ask::Look("tank@s".into()),
            Ask::Release("rpool@s".into()),
            Ask::SweepHolds(vec!["rpool@s".into()]),
        ] {
            let said = asked(&line, &ask);
            assert!(matches!(said, Said::Failed(Kind::Denied, _)), "{ask:?}: {said:?}");
        }
        let said = asked(&line, &Ask::List);
        assert!(matches!(&said, Said::Failed(Kind::Unavailable, says) if says == "said"), "{said:?}");
        drop((line, ours));
        thread.join().unwrap();
    }

    #[test]
    fn what_it_cannot_be_is_told_whoever_asks_and_tried_again() {
        let tries = std::sync::atomic::AtomicUsize::new(0);
        let hands = move || match tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 | 1 => Err(Error::new(Kind::System, "no directory for clones")),
            _ => own(),
        };
        let (line, thread) = attending(hands);
        for says in ["no directory for clones", "no directory for clones", "said", "said"] {
            let said = asked(&line, &Ask::List);
            assert!(matches!(&said, Said::Failed(_, told) if told == says), "{said:?}, not {says}");
        }
        drop(line);
        thread.join().unwrap();
    }

    #[test]
    fn a_long_text_is_handed_over_whole() {
        let text = "a line of a listing\n".repeat(100_000);
        let file = File::from(file(&text).unwrap());
        assert_eq!(std::io::read_to_string(file).unwrap(), text);
    }
}
