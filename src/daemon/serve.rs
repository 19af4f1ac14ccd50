//! The process that serves a mount, from its orders to its end.
//!
//! Whatever happens before the tree is ready leaves nothing mounted; after that the mount ends when the kernel lets go
//! of it, or when a signal asks for it.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::broker::Broker;
use super::given::GivenMount;
use super::handover::{Answer, Orders};
use super::life::{Life, Mounter, Served};
use super::metrics::Socket;
use super::notify::Manager;
use super::own::OwnMount;
use super::reload::Reload;
use super::{access, confine, open, process, runtime, signals, translate};
use crate::error::{Error, Kind, Result};
use crate::fuse;
use crate::observe::logging::{self, LogTarget};

/// The exit code of a mount that failed, as mount(8) has it.
pub const FAILED: u8 = 32;

/// What was left open to the process that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOpen {
    /// Nothing: it mounts by itself.
    Nothing,
    /// A line to the broker, which mounts and unmounts.
    Line,
    /// The device of what somebody else mounted.
    Device,
}

/// Serves the mount whose orders come on stdin, until it is gone.
pub fn serve_handed_over(left: LeftOpen) -> Result<()> {
    process::close_inherited(process::DESCRIPTOR + i32::from(left != LeftOpen::Nothing));
    process::take_name();
    process::bound_allocator();
    process::keep_secrets()?;
    let brokered = left == LeftOpen::Line;
    let broker = brokered.then(Broker::inherited).transpose()?;
    let device = (left == LeftOpen::Device).then(process::take_left_open).transpose()?;
    if brokered {
        process::end_with_parent(Some(rustix::process::Signal::KILL))?;
    }
    let mut line = process::take_stdin()?;
    let mut orders = Orders::receive(&mut line)?;
    std::mem::take(&mut orders.inherited).install();
    let life = Arc::new(Life::new(mounter(&orders, broker.as_ref(), device)));
    if orders.foreground {
        let access = prepare(&orders, broker.as_ref())?;
        give_up_after(orders.config.mount.mount_timeout, life.clone());
        return serve(&orders, &life, broker.as_ref(), access, |_| {
            tracing::info!(mountpoint = %orders.mountpoint.display(), "ready");
            life.set_ready()?;
            if let Some(manager) = Manager::of_process() {
                manager.ready(&orders.mountpoint);
            }
            Ok(())
        });
    }
    let prepared = prepare(&orders, broker.as_ref());
    watch(line.try_clone().map_err(lost)?, life.clone());
    let served = prepared.and_then(|access| {
        serve(&orders, &life, broker.as_ref(), access, |notes| {
            if let Some(broker) = &broker {
                broker.leave()?;
            }
            process::leave()?;
            life.set_ready()?;
            Answer::Ready(notes).send(&mut line)
        })
    });
    match served {
        Err(error) if !life.is_ready() => Answer::Failed(error.kind(), error.to_string()).send(&mut line),
        Err(error) => {
            tracing::error!(%error, "ended");
            Err(error)
        }
        Ok(()) => Ok(()),
    }
}

/// The socket for metrics. A broker makes and removes it itself.
fn listen(path: &Path, broker: Option<&Arc<Broker>>) -> Result<(Option<Socket>, UnixListener)> {
    match broker {
        Some(broker) => Ok((None, broker.listen()?)),
        None => Socket::open(path).map(|(socket, listener)| (Some(socket), listener)),
    }
}

/// Who makes and ends the mount.
fn mounter(orders: &Orders, broker: Option<&Arc<Broker>>, device: Option<OwnedFd>) -> Box<dyn Mounter> {
    match (broker, device) {
        (Some(broker), _) => Box::new(Arc::clone(broker)),
        (None, Some(device)) => Box::new(GivenMount::new(device)),
        (None, None) => {
            Box::new(OwnMount::new(orders.mountpoint.clone(), translate::mount_spec(&orders.config)))
        }
    }
}

fn lost(error: std::io::Error) -> Error {
    Error::io("the line to whoever mounts", error).with_kind(Kind::System)
}

/// In the foreground lines go to stderr unless a file is named.
pub fn start_log(orders: &Orders) -> Result<()> {
    let log = &orders.config.mount.log;
    let target = match &log.file {
        Some(path) => LogTarget::File(path.clone()),
        None if orders.foreground => LogTarget::Stderr,
        None => LogTarget::System,
    };
    logging::start(target, log.level.into())?;
    // Stderr is gone by the time most of them could happen.
    std::panic::set_hook(Box::new(|panic| tracing::error!("a bug: {panic}")));
    Ok(())
}

/// Opens the logs, and gives up the rights that serving does not take: before there is another thread, which would keep
/// what it has.
fn prepare(orders: &Orders, broker: Option<&Arc<Broker>>) -> Result<Option<access::Opened>> {
    start_log(orders)?;
    let access = access::Opened::of(&orders.config, broker)?;
    give_up(orders)?;
    Ok(access)
}

/// Gives up the rights that serving does not take.
fn give_up(orders: &Orders) -> Result<()> {
    let Some(limits) = &orders.limits else { return Ok(()) };
    let confined = confine::confine(limits)?;
    let left = match confined.capabilities.join(" ") {
        none if none.is_empty() => "none".to_owned(),
        left => left,
    };
    tracing::info!(capabilities = %left, files = ?confined.files, "confined");
    Ok(())
}

/// Ends this process when whoever started it is gone before the tree is ready.
fn watch(mut line: File, life: Arc<Life>) {
    std::thread::spawn(move || {
        // Nothing more is ever sent: any return is the end of the line.
        let _ = line.read(&mut [0]);
        if !life.is_ready() {
            life.end();
            std::process::exit(signals::INTERRUPTED);
        }
    });
}

/// Ends this process when the tree is not ready in time. In the background whoever waits for the answer does that.
fn give_up_after(patience: Duration, life: Arc<Life>) {
    std::thread::spawn(move || {
        std::thread::sleep(patience);
        if !life.is_ready() {
            eprintln!("backupfs: not mounted: not ready within {} s (mount-timeout)", patience.as_secs());
            life.end();
            std::process::exit(FAILED.into());
        }
    });
}

/// Opens, mounts, serves. `ready` is called with what is worth telling once the tree can be walked.
fn serve(
    orders: &Orders,
    life: &Arc<Life>,
    broker: Option<&Arc<Broker>>,
    access: Option<access::Opened>,
    ready: impl FnOnce(Vec<String>) -> Result<()>,
) -> Result<()> {
    let runtime = runtime()?;
    let served = serve_on(&runtime, orders, life, broker, access, ready);
    life.end();
    // Nobody waits for what may still be under way.
    runtime.shutdown_background();
    served
}

fn serve_on(
    runtime: &Runtime,
    orders: &Orders,
    life: &Arc<Life>,
    broker: Option<&Arc<Broker>>,
    access: Option<access::Opened>,
    ready: impl FnOnce(Vec<String>) -> Result<()>,
) -> Result<()> {
    let hangups = signals::watch(runtime, life.clone())?;
    let config = &orders.config;
    let tree = open::open_brokered(config, runtime.handle(), broker.cloned())?;
    for error in &tree.failed {
        tracing::warn!(%error, "cannot be opened now");
    }
    let socket = config.mount.metrics_socket.as_deref().map(|path| listen(path, broker)).transpose()?;
    let Served { device, rights } = life.mount()?;
    let namespace = tree.namespace;
    let usage = {
        let namespace = namespace.clone();
        Arc::new(move || namespace.usage())
    };
    // Directories may come with a reload where not all is immutable.
    let has_trusted = broker.is_some() && !tree.immutable;
    let access = access.map(|opened| opened.start(&orders.mountpoint)).transpose()?;
    let options = translate::serving(config, tree.immutable, has_trusted, access.clone(), usage);
    let session = fuse::serve(device, rights, namespace.root(), options, runtime.handle().clone())?;
    namespace.on_change(session.changes());
    let _runtime = runtime.enter();
    let refreshing = namespace.spawn_refresh();
    // Its file goes with it.
    let socket =
        socket.map(|(socket, listener)| Socket::serve(listener, &namespace).map(|()| socket)).transpose()?;
    if tree.is_opening {
        let namespace = namespace.clone();
        runtime.spawn(async move { namespace.refresh().await });
    }
    let reload = Reload::new(orders, &tree.common, &namespace);
    signals::refresh_on(hangups, access.clone(), reload, namespace, life.clone(), orders.foreground);
    let failed = tree.failed.iter().map(|error| format!("cannot be opened now: {error}"));
    ready(failed.chain(tree.left_out).collect())?;
    let ended = session.wait();
    // In the order of what is worse to lose: a signal leaves little time.
    drop(socket);
    if let Some(log) = access {
        log.flush();
    }
    refreshing.abort();
    drop(tree.at_end);
    tree.common.flush();
    ended
}
