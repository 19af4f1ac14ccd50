//! What signals do to a mount: SIGTERM, SIGINT and the loss of the terminal end it, SIGHUP reads its configuration
//! anew and looks for new snapshots.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::life::{Life, Stage};
use super::reload::Reload;
use crate::error::{Error, Kind, Result};
use crate::namespace::Namespace;
use crate::observe::access::AccessLog;

/// How long requests under way and open files may keep a detached mount.
pub const DRAIN: Duration = Duration::from_secs(3);

/// The exit code of a mount that was interrupted before it was made.
pub const INTERRUPTED: i32 = 8;

/// Ends `life` at SIGTERM or SIGINT, and the process soon after. Answers where hangups arrive, which do nothing until
/// [`refresh_on`] is called.
pub fn watch(runtime: &Runtime, life: Arc<Life>) -> Result<Signal> {
    let _runtime = runtime.enter();
    let of = |kind| signal(kind).map_err(|e| Error::io("cannot watch signals", e).with_kind(Kind::System));
    let (mut terminate, mut interrupt) = (of(SignalKind::terminate())?, of(SignalKind::interrupt())?);
    let hangup = of(SignalKind::hangup())?;
    runtime.spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        end(life).await;
    });
    Ok(hangup)
}

/// Calls `then` at the first SIGINT or SIGTERM; the second ends this process at once.
pub fn on_interrupt(runtime: &Runtime, then: impl FnOnce() + Send + 'static) -> Result<()> {
    let _runtime = runtime.enter();
    let of = |kind| signal(kind).map_err(|e| Error::io("cannot watch signals", e).with_kind(Kind::System));
    let (mut terminate, mut interrupt) = (of(SignalKind::terminate())?, of(SignalKind::interrupt())?);
    let mut next = async move || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    runtime.spawn(async move {
        next().await;
        then();
        next().await;
        std::process::exit(INTERRUPTED);
    });
    Ok(())
}

async fn end(life: Arc<Life>) {
    // Unmounting may wait for fusermount3.
    if let Ok(Stage::Opening) = tokio::task::spawn_blocking(move || life.end()).await {
        std::process::exit(INTERRUPTED);
    }
    // The process ends by itself when the last open file is closed; those that stay open lose it now.
    tokio::time::sleep(DRAIN).await;
    std::process::exit(0);
}

/// Opens the access log anew, if there is one, reads the configuration anew, if it was read from files, and refreshes
/// `namespace` at each hangup, on the current runtime. A process in the `foreground` whose terminal was closed ends
/// instead: nobody could interrupt it any more.
pub fn refresh_on(
    mut hangups: Signal,
    access_log: Option<Arc<AccessLog>>,
    reload: Option<Reload>,
    namespace: Arc<Namespace>,
    life: Arc<Life>,
    foreground: bool,
) {
    let had_terminal = foreground && has_terminal();
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            if had_terminal && !has_terminal() {
                return end(life).await;
            }
            if let Some(log) = &access_log {
                log.reopen();
            }
            if let Some(reload) = &reload {
                reload.run().await;
            }
            namespace.refresh().await;
        }
    });
}

fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}
