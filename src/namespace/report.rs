//! What the tree holds and how its sources are doing, for `status`, `snapshots` and `df`.

use std::collections::HashMap;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::clock::time_of;
use super::state::at;
use super::{Namespace, SnapshotRow, calendar};
use crate::tree::{SnapshotTime, SourceHealth, Usage};

impl Namespace {
    /// All sources together; a repository that is configured twice counts once.
    pub fn usage(&self) -> Usage {
        let usages: HashMap<&str, Usage> =
            self.members.iter().map(|m| (m.source.id(), m.source.health().usage)).collect();
        usages.values().fold(Usage::default(), |sum, one| Usage {
            bytes: sum.bytes.saturating_add(one.bytes),
            objects: sum.objects.saturating_add(one.objects),
        })
    }

    /// Every snapshot shown, by set and then by time; one row a date, which tells of the copy that is read first.
    pub fn snapshots(&self) -> Vec<SnapshotRow> {
        let state = self.state.load();
        let mut rows = Vec::new();
        for (set, date) in state.sets.iter().flat_map(|set| set.dates.iter().map(move |date| (set, date))) {
            let Some(copy) = date.copies.first() else { continue };
            let Some((snapshot, member)) = state.snapshot(*copy).zip(self.members.get(at(copy.member)))
            else {
                continue;
            };
            rows.push(SnapshotRow {
                set: String::from_utf8_lossy(&set.name).into_owned(),
                date: date.listed.to_string(),
                id: snapshot.id.to_string(),
                source: member.source.name().to_owned(),
                time: calendar::rfc3339(&snapshot.time),
                host: snapshot.host.as_deref().map(str::to_owned),
                user: snapshot.user.as_deref().map(str::to_owned),
                path: String::from_utf8_lossy(state.path(*copy)).into_owned(),
                tags: snapshot.tags.iter().map(|tag| tag.to_string()).collect(),
            });
        }
        rows
    }

    /// What `.backupfs/status.json` holds.
    pub fn status(&self) -> Value {
        let state = self.state.load();
        let sources: Vec<Value> = self
            .members
            .iter()
            .map(|member| {
                let SourceHealth { listed, error, usage, omitted } = member.source.health();
                json!({
                    "name": member.source.name(),
                    "id": member.source.id(),
                    "up": error.is_none() && listed.is_some(),
                    "error": error.map(|error| error.to_string()),
                    "listed": listed.map(written),
                    "snapshots": member.source.snapshots().len(),
                    "bytes": usage.bytes,
                    "objects": usage.objects,
                    "omitted": omitted,
                })
            })
            .collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "refresh_seconds": self.options.refresh.as_secs(),
            "sets": state.sets.len(),
            "dates": state.sets.iter().map(|set| set.dates.len()).sum::<usize>(),
            "sources": sources,
        })
    }
}

/// A moment as text, in UTC and whole seconds.
fn written(at: SystemTime) -> String {
    let instant = crate::tree::Time { nanos: 0, ..time_of(at) };
    calendar::rfc3339(&SnapshotTime { instant, offset: None })
}
