//! What `check` finds out beyond opening: how far away each source is, and what its groups hold.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::discovery::Discovery;
use super::keep::Common;
use super::stores::store;
use crate::config::{self, Config, SourceKind};
use crate::error::{Error, Kind, Result};
use crate::namespace::Members;
use crate::store::ObjectStore;

/// What does not answer for so long hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long one small request to each source takes once its connection stands, in the order of `config.sources`; all at
/// once. The secrets of `config` are known.
pub fn round_trips(config: &Config, runtime: &Handle) -> Vec<Result<Duration>> {
    let _runtime = runtime.enter();
    runtime.block_on(join_all(config.sources.iter().map(|source| async {
        let late = |_| Error::new(Kind::TimedOut, format!("no answer in {} s", PATIENCE.as_secs()));
        timeout(PATIENCE, far(source)).await.map_err(late)?
    })))
}

async fn far(source: &config::Source) -> Result<Duration> {
    match source.kind {
        SourceKind::Restic | SourceKind::Objects => {
            round_trip(store(&source.location, &source.credentials)).await
        }
        SourceKind::Directory => look(source.local_place().unwrap_or_default()).await,
        SourceKind::Zfs => Err(Error::new(Kind::Unsupported, "is asked through a program")),
    }
}

/// How long one look at a directory of this machine takes.
async fn look(place: PathBuf) -> Result<Duration> {
    let asked = move || {
        let began = Instant::now();
        std::fs::metadata(&place).map_err(|e| Error::io(place.display().to_string(), e))?;
        Ok(began.elapsed())
    };
    let ended = |e| Error::caused_by(Kind::Internal, "looking ended", e);
    tokio::task::spawn_blocking(asked).await.map_err(ended)?
}

async fn round_trip(store: Result<Arc<dyn ObjectStore>>) -> Result<Duration> {
    let store = store?;
    // The first one makes the connection.
    let asked = || async {
        match store.stat("config").await {
            // That there is none is an answer.
            Err(error) if error.kind() != Kind::NotFound => Err(error),
            _ => Ok(()),
        }
    };
    asked().await?;
    let began = Instant::now();
    asked().await?;
    Ok(began.elapsed())
}

/// How many members each group lists, in the order of `config.groups`; all at once. The secrets of `config` are known.
/// Errors: of a group of several places, too, of which one cannot be listed.
pub fn members(config: &Config, runtime: &Handle) -> Vec<Result<usize>> {
    let (common, _) = Common::new(config);
    let count = |group: config::Group| {
        let discovery = Discovery::new(group, common.clone());
        async move {
            let names = discovery.list().await?;
            discovery.failure().map_or(Ok(names.len()), Err)
        }
    };
    let counting = join_all(config.groups.iter().cloned().map(|group| runtime.spawn(count(group))));
    let ended = |e| Error::caused_by(Kind::Internal, "listing ended", e);
    runtime.block_on(counting).into_iter().map(|count| count.unwrap_or_else(|e| Err(ended(e)))).collect()
}
