//! Sets, dates, `latest`, `current`, `at`: the directories around the backups.

mod options;

pub use options::{Access, Filter, Member, Options, Rename, TimeStyle};

use std::sync::Arc;

use crate::error::Result;
use crate::tree::{ChangeSink, Node, Usage};

/// The shown tree over all sources.
pub struct Namespace {}

/// One snapshot as `backupfs snapshots` prints it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct SnapshotRow {
    /// Name of the set directory.
    pub set: String,
    /// Name of the date directory.
    pub date: String,
    /// Snapshot id in its source.
    pub id: String,
    /// Name of the source it is read from.
    pub source: String,
    /// RFC 3339 time with the recorded offset.
    pub time: String,
    /// Host as recorded.
    pub host: Option<String>,
    /// User as recorded.
    pub user: Option<String>,
    /// Path as recorded, lossy.
    pub path: String,
    /// Tags.
    pub tags: Vec<String>,
}

impl Namespace {
    /// Builds the tree from what the members' sources have listed so far. Errors: a template or rename rule that
    /// yields a reserved name.
    pub fn new(_members: Vec<Member>, _options: Options) -> Result<Arc<Namespace>> {
        todo!()
    }

    /// The root directory.
    pub fn root(self: &Arc<Self>) -> Node {
        todo!()
    }

    /// Where changes are told; replaces an earlier sink.
    pub fn on_change(&self, _sink: ChangeSink) {
        todo!()
    }

    /// Refreshes every source once, concurrently, and rebuilds what changed. A failing source keeps its last list and
    /// never delays another.
    pub async fn refresh(self: &Arc<Self>) {
        todo!()
    }

    /// Refreshes every `Options::refresh` on the current runtime until the returned task is dropped or aborted.
    pub fn spawn_refresh(self: &Arc<Self>) -> tokio::task::JoinHandle<()> {
        todo!()
    }

    /// All sources together.
    pub fn usage(&self) -> Usage {
        todo!()
    }

    /// Every snapshot shown, by set and then by time.
    pub fn snapshots(&self) -> Vec<SnapshotRow> {
        todo!()
    }

    /// What `.backupfs/status.json` holds.
    pub fn status(&self) -> serde_json::Value {
        todo!()
    }
}
