//! Snapshot files of every writer: all but the time and the tree may be missing.

use serde::Deserialize;

use super::time;
use crate::error::{Error, Kind, Result};
use crate::source::chunked::Id;
use crate::tree::SnapshotTime;

/// A snapshot as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawSnapshot {
    /// When it was taken.
    pub time: SnapshotTime,
    /// The tree blob of its root.
    pub tree: Id,
    /// What was backed up, in the writer's own form; may be empty.
    pub paths: Vec<Vec<u8>>,
    /// The machine; `None` when missing or empty.
    pub hostname: Option<String>,
    /// Who ran the backup; `None` when missing or empty.
    pub username: Option<String>,
    /// Tags in recorded order.
    pub tags: Vec<String>,
    /// The id of the snapshot that this one was first, before tags or a rewrite gave it a new name.
    pub original: Option<String>,
}

#[derive(Deserialize)]
struct Raw {
    time: String,
    tree: String,
    paths: Option<Vec<String>>,
    hostname: Option<String>,
    username: Option<String>,
    tags: Option<Vec<String>>,
    original: Option<String>,
}

/// Parses the plaintext of a snapshot file. Everything wrong is `Corrupt`.
pub fn parse(json: &[u8]) -> Result<RawSnapshot> {
    let raw: Raw =
        serde_json::from_slice(json).map_err(|e| Error::caused_by(Kind::Corrupt, "malformed snapshot", e))?;
    let (instant, offset) = time::parse(&raw.time)?;
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    Ok(RawSnapshot {
        time: SnapshotTime { instant, offset },
        tree: raw.tree.parse()?,
        paths: raw.paths.unwrap_or_default().into_iter().map(String::into_bytes).collect(),
        hostname: given(raw.hostname),
        username: given(raw.username),
        tags: raw.tags.unwrap_or_default(),
        original: given(raw.original),
    })
}
