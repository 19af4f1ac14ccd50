//! Counters of this process, for `status`.
//!
//! A process serves one mount, so they are statics: counting is one relaxed addition wherever something happens. Names
//! are `<room>_<what>`, stable, and listed in `docs/performance.md`.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a counter counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Events.
    Count,
    /// Bytes.
    Bytes,
}

/// A number that only grows.
#[derive(Debug)]
pub struct Counter {
    /// Its name in `status`.
    pub name: &'static str,
    /// What it counts in.
    pub unit: Unit,
    /// What it counts.
    pub help: &'static str,
    value: AtomicU64,
}

impl Counter {
    const fn new(name: &'static str, unit: Unit, help: &'static str) -> Self {
        Counter { name, unit, help, value: AtomicU64::new(0) }
    }

    /// Counts `n` more.
    pub fn add(&self, n: u64) {
        self.value.fetch_add(n, Ordering::Relaxed);
    }

    /// What was counted since the process started.
    pub fn value(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($(#[doc = $help:literal] $name:ident: $text:literal, $unit:ident;)*) => {
        $(#[doc = $help] pub static $name: Counter = Counter::new($text, Unit::$unit, $help.trim_ascii());)*

        /// Every counter, in the order in which `status` prints them.
        pub static ALL: &[&Counter] = &[$(&$name),*];
    };
}

counters! {
    /// Objects and ranges that stores delivered.
    STORE_READS: "store_reads", Count;
    /// Bytes that stores delivered.
    STORE_BYTES: "store_bytes", Bytes;
    /// Listings asked of stores.
    STORE_LISTS: "store_lists", Count;
    /// Requests to servers that failed, repeated or not.
    STORE_FAILURES: "store_failures", Count;
    /// Requests to servers that were sent once more.
    STORE_RETRIES: "store_retries", Count;
    /// Calls that were refused at once because their server is down.
    STORE_REFUSALS: "store_refusals", Count;
    /// What was looked for in the disk cache and was there.
    CACHE_HITS: "cache_hits", Count;
    /// Bytes found in the disk cache.
    CACHE_HIT_BYTES: "cache_hit_bytes", Bytes;
    /// What was looked for in the disk cache and was not there.
    CACHE_MISSES: "cache_misses", Count;
    /// Bytes written to the disk cache.
    CACHE_WRITTEN_BYTES: "cache_written_bytes", Bytes;
    /// Requests of the kernel: names looked up.
    FUSE_LOOKUP: "fuse_lookup", Count;
    /// Requests of the kernel: attributes asked for by themselves.
    FUSE_GETATTR: "fuse_getattr", Count;
    /// Requests of the kernel: targets of links.
    FUSE_READLINK: "fuse_readlink", Count;
    /// Requests of the kernel: files opened.
    FUSE_OPEN: "fuse_open", Count;
    /// Opens after which the kernel reads a file of this machine by itself.
    FUSE_PASSTHROUGHS: "fuse_passthroughs", Count;
    /// Requests of the kernel: reads of file data.
    FUSE_READ: "fuse_read", Count;
    /// Bytes of file data that the kernel was given when it asked for them.
    FUSE_READ_BYTES: "fuse_read_bytes", Bytes;
    /// Requests of the kernel: closes announced.
    FUSE_FLUSH: "fuse_flush", Count;
    /// Requests of the kernel: files let go of.
    FUSE_RELEASE: "fuse_release", Count;
    /// Requests of the kernel: searches for data or a hole.
    FUSE_LSEEK: "fuse_lseek", Count;
    /// Requests of the kernel: directories opened.
    FUSE_OPENDIR: "fuse_opendir", Count;
    /// Requests of the kernel: pieces of listings without attributes.
    FUSE_READDIR: "fuse_readdir", Count;
    /// Requests of the kernel: pieces of listings with attributes.
    FUSE_READDIRPLUS: "fuse_readdirplus", Count;
    /// Requests of the kernel: directories let go of.
    FUSE_RELEASEDIR: "fuse_releasedir", Count;
    /// Requests of the kernel: questions about the whole file system.
    FUSE_STATFS: "fuse_statfs", Count;
    /// Requests of the kernel: extended attributes asked for by name, ACLs included.
    FUSE_GETXATTR: "fuse_getxattr", Count;
    /// Requests of the kernel: lists of extended attributes.
    FUSE_LISTXATTR: "fuse_listxattr", Count;
    /// Requests of the kernel: questions whether access is allowed.
    FUSE_ACCESS: "fuse_access", Count;
    /// Requests of the kernel that had to wait for something that was not in memory.
    FUSE_WAITS: "fuse_waits", Count;
    /// Small files whose content was given to the kernel before it was asked for.
    FUSE_PUSHES: "fuse_pushes", Count;
    /// Bytes given to the kernel before they were asked for.
    FUSE_PUSHED_BYTES: "fuse_pushed_bytes", Bytes;
    /// Files that were pushed and that the kernel did not know.
    FUSE_PUSHES_REFUSED: "fuse_pushes_refused", Count;
    /// Errors logged.
    LOG_ERRORS: "log_errors", Count;
    /// Warnings logged.
    LOG_WARNINGS: "log_warnings", Count;
    /// Opens written to the access log.
    LOG_OPENS: "log_opens", Count;
    /// Opens that the access log lacks, because it could not be written.
    LOG_OPENS_LOST: "log_opens_lost", Count;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_of_one_form() {
        let mut names: Vec<_> = ALL.iter().map(|counter| counter.name).collect();
        assert!(
            names.iter().all(|n| n.contains('_') && n.chars().all(|c| c == '_' || c.is_ascii_lowercase()))
        );
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }

    #[test]
    fn every_counter_is_documented() {
        let page = include_str!("../../docs/performance.md");
        let missing: Vec<_> =
            ALL.iter().map(|c| c.name).filter(|name| !page.contains(&format!("| `{name}` |"))).collect();
        assert_eq!(missing, Vec::<&str>::new());
    }

    #[test]
    fn counting_adds_up_over_threads() {
        static COUNTER: Counter = Counter::new("test_counter", Unit::Count, "A test.");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| COUNTER.add(2)));
            }
        });
        assert_eq!(COUNTER.value(), 8000);
    }
}
