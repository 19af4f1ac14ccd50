//! The segments of one repository in the cache directory, shared by all processes that read it.
//!
//! A segment's file has a name of its own and appears whole (written under another name, synced, renamed) or not at all.
//! Names are only removed by who holds the lock, and only of segments whose index files another one on the shelf has,
//! or that nobody asked for in a long time; who has such a file open reads on. Without the lock everything may be read and
//! nothing changed.

use std::collections::HashSet;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use super::layout;
use super::merge::{Input, merge};
use super::pages::Pages;
use super::segment::Segment;
use super::stack::{BlobIndex, Shown};
use super::table;
use super::write::Writer;
use crate::cache::{Folder, Lock};
use crate::error::{Context, Kind, Result};

/// What the name of a segment's file ends in, and of one that is not finished.
const SEGMENT: &str = ".segment";
const UNFINISHED: &str = ".unfinished";

/// A segment of index files that no listing names is removed when it is so old: another process may have listed later.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);

/// How often a directory is read whose files are being merged by somebody else.
const TRIES: usize = 3;

/// The segments of one repository.
pub struct Shelf {
    directory: Folder,
    pages: Arc<Pages>,
}

impl Shelf {
    /// The shelf of `repository`, which is called by its id, in the cache directory.
    pub fn open(cache: &Folder, repository: &str, pages: Arc<Pages>) -> Result<Shelf> {
        let directory = cache.below("index").and_then(|index| index.below(repository))?;
        Ok(Shelf { directory, pages })
    }

    /// Notes that it belongs to what bears `mark` ([`crate::cache::Drawer::mark`]).
    pub fn note(&self, mark: &str) -> Result<()> {
        let is_noted = || self.directory.stat(mark).is_ok();
        if is_noted() {
            return Ok(());
        }
        // Another mount may be first.
        self.directory.create(mark).map(drop).or_else(|error| if is_noted() { Ok(()) } else { Err(error) })
    }

    /// An index of what lies here, which waits for its first listing.
    pub fn index(&self) -> Result<BlobIndex> {
        let mut segments = Vec::new();
        for _ in 0..TRIES {
            let names = self.names()?;
            segments = names.iter().filter_map(|name| self.open_segment(name).ok()).collect();
            let vanished = names.len() > segments.len() && self.names()? != names;
            if !vanished {
                break;
            }
        }
        // Of two that have the same index files the larger one was merged from the other.
        segments.sort_by_key(|segment: &Arc<Segment>| std::cmp::Reverse(segment.len()));
        Ok(BlobIndex::of(segments))
    }

    /// Moves rows from memory to a file that has no name: it is gone with this process. Stays in memory where that fails.
    pub(super) fn aside(&self, segment: Segment) -> Segment {
        let shown = vec![Shown::Current; segment.files.len()];
        self.merged_aside(&[(&segment, &shown)]).unwrap_or_else(|error| {
            tracing::warn!("index cache: {error}; the index stays in memory");
            segment
        })
    }

    /// Merges `inputs` into a file that has no name.
    pub(super) fn merged_aside(&self, inputs: &[Input<'_>]) -> Result<Segment> {
        let name = unique(UNFINISHED);
        let file = self.directory.create(&name)?;
        self.directory.remove(&name)?;
        write(inputs, &file)?;
        table::open(file, None, &self.pages)
    }

    /// The lock that who changes the shelf must hold; `None` while another holds it.
    pub(super) fn lock(&self) -> Result<Option<Lock>> {
        self.directory.lock()
    }

    /// The names of all segments, in order.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        let mut names = self.directory.names()?;
        names.retain(|name| name.ends_with(SEGMENT));
        names.sort();
        Ok(names)
    }

    /// Opens a segment by name.
    pub(super) fn open_segment(&self, name: &str) -> Result<Arc<Segment>> {
        let opened = table::open(self.directory.open_file(name)?, Some(name.to_owned()), &self.pages);
        opened.map(Arc::new).context(|| format!("index cache, segment {name}"))
    }

    /// Merges `inputs` into a new segment with a name. With the lock held.
    pub(super) fn put(&self, _: &Lock, inputs: &[Input<'_>]) -> Result<Arc<Segment>> {
        let (unfinished, name) = (unique(UNFINISHED), unique(SEGMENT));
        let written = || {
            let file = self.directory.create(&unfinished)?;
            write(inputs, &file)?;
            self.directory.finish(&file, &unfinished, &name)
        };
        if let Err(error) = written() {
            // The first error is the one to tell.
            let _ = self.directory.remove(&unfinished);
            return Err(error);
        }
        self.open_segment(&name)
    }

    /// Removes what is of no use beside `kept`: `spent` segments, unfinished and damaged files, segments whose index files
    /// `kept` has, and those that were forgotten. With the lock held.
    pub(super) fn sweep(&self, _: &Lock, kept: &BlobIndex, spent: &HashSet<String>) -> Result<()> {
        let held = kept.files();
        for name in self.directory.names()? {
            let is_kept = || kept.segments().any(|segment| segment.name() == Some(name.as_str()));
            let useless = if name.ends_with(UNFINISHED) || spent.contains(&name) {
                true
            } else if !name.ends_with(SEGMENT) || is_kept() {
                false
            } else {
                match self.open_segment(&name) {
                    Ok(other) => {
                        let covered = other.files.iter().all(|file| held.contains(&file.id));
                        covered || self.directory.age(&name)? > FORGOTTEN
                    }
                    Err(error) => error.kind() == Kind::Corrupt,
                }
            };
            if useless {
                self.directory.remove(&name)?;
            }
        }
        Ok(())
    }
}

/// Writes what a merge of `inputs` gives.
fn write(inputs: &[Input<'_>], file: &File) -> Result<()> {
    let mut writer = Writer::new(file);
    let files = merge(inputs, &mut writer)?;
    writer.finish(&files)
}

/// A name that no other process or thread takes.
fn unique(ending: &str) -> String {
    format!("{:016x}{ending}", layout::salt())
}
