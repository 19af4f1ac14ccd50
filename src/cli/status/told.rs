//! What a mount says of itself: of its `status.json` what is shown here. What an older mount does not say is nothing.

use serde::Deserialize;

#[derive(Deserialize)]
pub(super) struct Status {
    pub sets: usize,
    pub dates: usize,
    #[serde(default)]
    pub coverage: Coverage,
    #[serde(default)]
    pub ages: Vec<Age>,
    pub sources: Vec<Source>,
    #[serde(default)]
    pub groups: Vec<Group>,
    #[serde(default)]
    pub servers: Vec<Server>,
    #[serde(default)]
    pub waiting: Waiting,
    #[serde(default)]
    pub counters: Counters,
}

#[derive(Default, Deserialize)]
pub(super) struct Coverage {
    pub sets: usize,
    pub fresh: usize,
    pub percent: f64,
}

/// The newest snapshot of a set.
#[derive(Clone, Deserialize)]
pub(super) struct Age {
    pub set: String,
    pub newest: String,
    pub age_seconds: u64,
    pub expected_seconds: u64,
    pub late: bool,
}

#[derive(Deserialize)]
pub(super) struct Source {
    pub name: String,
    pub up: bool,
    pub error: Option<String>,
    pub listed: Option<String>,
    pub snapshots: u64,
    pub newest: Option<String>,
    pub omitted: u64,
}

/// Many repositories under one name.
#[derive(Deserialize)]
pub(super) struct Group {
    pub name: String,
    pub up: bool,
    pub error: Option<String>,
    pub members: Option<usize>,
    pub open: usize,
    #[serde(default)]
    pub survey: Survey,
}

/// What is known of a group's members without opening them.
#[derive(Default, Deserialize)]
pub(super) struct Survey {
    /// How many a survey under way has asked.
    pub counting: Option<usize>,
    pub last: Option<Counted>,
    #[serde(default)]
    pub expected_seconds: u64,
}

#[derive(Deserialize)]
pub(super) struct Counted {
    pub as_of: String,
    pub fresh: usize,
    pub late: usize,
    pub unknown: usize,
    pub why_unknown: Option<String>,
    pub oldest: Vec<Member>,
}

#[derive(Deserialize)]
pub(super) struct Member {
    pub member: String,
    /// None where it has no snapshot.
    pub age_seconds: Option<u64>,
}

/// A server that repositories are read from.
#[derive(Deserialize)]
pub(super) struct Server {
    pub name: String,
    pub down_seconds: Option<u64>,
    pub error: Option<String>,
    pub in_flight: usize,
    pub limit: usize,
    pub requests: u64,
    pub failures: u64,
}

/// Requests of the kernel that wait.
#[derive(Default, Deserialize)]
pub(super) struct Waiting {
    pub requests: usize,
    pub longest: Option<Longest>,
}

#[derive(Deserialize)]
pub(super) struct Longest {
    pub operation: String,
    pub inode: u64,
    pub seconds: f64,
}

/// The counters that are told in words.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Counters {
    pub store_reads: u64,
    pub store_bytes: u64,
    pub store_lists: u64,
    pub cache_hits: u64,
    pub cache_misses: u64,
    pub cache_hit_bytes: u64,
    pub fuse_lookup: u64,
    pub fuse_getattr: u64,
    pub fuse_read: u64,
    pub fuse_readdir: u64,
    pub fuse_readdirplus: u64,
    pub fuse_getxattr: u64,
    pub fuse_waits: u64,
    pub fuse_read_bytes: u64,
    pub fuse_pushed_bytes: u64,
}

impl Counters {
    /// Requests of the kernel that may have to wait.
    pub fn requests(&self) -> u64 {
        [
            self.fuse_lookup,
            self.fuse_getattr,
            self.fuse_read,
            self.fuse_readdir,
            self.fuse_readdirplus,
            self.fuse_getxattr,
        ]
        .into_iter()
        .sum()
    }

    /// Bytes of file data that the kernel was given.
    pub fn served(&self) -> u64 {
        self.fuse_read_bytes.saturating_add(self.fuse_pushed_bytes)
    }
}
