//! What is done with ZFS for a source, in words that name nothing but its own snapshots and clones: so whoever shows the
//! source needs no rights, and may ask somebody who has them.

use std::os::fd::OwnedFd;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::name::SnapshotName;
use crate::error::{Error, Kind, Result};

/// What may be asked for. Names are text here: whoever does it believes none of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// What `zfs get` prints of the datasets and their snapshots.
    List,
    /// That clones go which ended processes left.
    SweepClones,
    /// That holds of ended processes on these snapshots go.
    SweepHolds(Vec<String>),
    /// A clone of a snapshot, mounted.
    Make(String),
    /// The end of a clone, by the last component of its name. One that is gone already is no error.
    Unmake(String),
    /// The top of a snapshot where ZFS shows it, and a hold on it where that is allowed.
    Look(String),
    /// The end of that hold.
    Release(String),
}

/// What came of it.
#[derive(Debug)]
pub enum Done {
    /// Nothing to be told.
    Done,
    /// What was printed.
    Printed(String),
    /// So many.
    Swept(usize),
    /// A clone: the last component of its name, and its top directory.
    Made(String, OwnedFd),
    /// The top directory of a snapshot.
    Seen {
        /// It.
        top: OwnedFd,
        /// The snapshot cannot be destroyed until it is released.
        is_held: bool,
    },
}

/// Who does it.
pub trait Hands: Send + Sync {
    /// Does what is asked for. Awaited where blocking is allowed, and to its end. Errors: `NotFound` when there is no such
    /// dataset or snapshot, `Denied` when rights or a key are missing or the name is none of this source's,
    /// `Unavailable` while somebody uses what is to go, `TimedOut` when a pool does not answer.
    fn ask(&self, ask: Ask) -> BoxFuture<'_, Result<Done>>;
}

/// So many snapshots are asked about at a time: their names fit into a message.
const MOST: usize = 100;

pub(super) async fn list(hands: &dyn Hands) -> Result<String> {
    match hands.ask(Ask::List).await? {
        Done::Printed(text) => Ok(text),
        other => Err(unexpected(&other)),
    }
}

pub(super) async fn sweep_clones(hands: &dyn Hands) -> Result<usize> {
    swept(hands.ask(Ask::SweepClones).await?)
}

pub(super) async fn sweep_holds(hands: &dyn Hands, snapshots: &[String]) -> Result<usize> {
    let mut sum = 0;
    for some in snapshots.chunks(MOST) {
        sum += swept(hands.ask(Ask::SweepHolds(some.to_vec())).await?)?;
    }
    Ok(sum)
}

fn swept(done: Done) -> Result<usize> {
    match done {
        Done::Swept(count) => Ok(count),
        other => Err(unexpected(&other)),
    }
}

/// The clone's name, and its top directory.
pub(super) async fn make(hands: &dyn Hands, snapshot: &SnapshotName) -> Result<(String, OwnedFd)> {
    match hands.ask(Ask::Make(snapshot.to_string())).await? {
        Done::Made(name, top) => Ok((name, top)),
        other => Err(unexpected(&other)),
    }
}

pub(super) async fn unmake(hands: &dyn Hands, clone: &str) -> Result<()> {
    hands.ask(Ask::Unmake(clone.to_owned())).await.map(drop)
}

/// The top directory, and whether the snapshot is held.
pub(super) async fn look(hands: &dyn Hands, snapshot: &SnapshotName) -> Result<(OwnedFd, bool)> {
    match hands.ask(Ask::Look(snapshot.to_string())).await? {
        Done::Seen { top, is_held } => Ok((top, is_held)),
        other => Err(unexpected(&other)),
    }
}

pub(super) async fn release(hands: &dyn Hands, snapshot: &SnapshotName) -> Result<()> {
    hands.ask(Ask::Release(snapshot.to_string())).await.map(drop)
}

fn unexpected(done: &Done) -> Error {
    Error::new(Kind::Internal, format!("ZFS: another answer than was asked for: {done:?}"))
}
