//! One source, read: every directory once, and of its files those of the day.

use std::collections::HashSet;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::pace::Pace;
use super::progress::Progress;
use super::{Damaged, Share, Verified};
use crate::error::{Error, Kind};
use crate::observe::printable;
use crate::tree::{Content, Cookie, Dir, Entry, File, FileType, Identity, Node, Snapshot, Source};

/// Files are read in pieces of this length.
const PIECE: usize = 1 << 20;

/// So many different things are told of one file.
const OF_A_FILE: usize = 16;

/// A source that cannot be asked so many times in a row is given up.
const PATIENCE: usize = 3;

/// The reading of one source.
pub(super) struct Walk<'a> {
    source: &'a dyn Source,
    share: Share,
    pace: Pace,
    progress: Progress,
    found: &'a mut Verified,
    told: &'a (dyn Fn(&Verified) + Sync),
    /// Directories that were seen in this run, by what they hold.
    seen: HashSet<u128>,
    /// The day's files that were read in this run.
    read: HashSet<u128>,
    failures: usize,
}

/// A directory that is still to be read.
struct Below {
    dir: Arc<dyn Dir>,
    path: String,
}

/// It is to end, now.
struct Ended;

type Going = Result<(), Ended>;

/// One of the day's files in a directory.
struct Chosen {
    at: Cookie,
    path: String,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        source: &'a dyn Source,
        share: Share,
        pace: Pace,
        progress: Progress,
        found: &'a mut Verified,
        told: &'a (dyn Fn(&Verified) + Sync),
    ) -> Self {
        let (seen, read) = (HashSet::new(), HashSet::new());
        Walk { source, share, pace, progress, found, told, seen, read, failures: 0 }
    }

    /// Reads everything, or until it is to end.
    pub(super) async fn run(&mut self) {
        let flaws = self.source.health().omitted;
        let mut snapshots = self.source.snapshots().to_vec();
        // The newest first: that is what would be restored.
        snapshots.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.time.instant));
        self.found.snapshots_of = snapshots.len();
        let mut ended = false;
        for snapshot in &snapshots {
            if self.snapshot(snapshot).await.is_err() {
                ended = true;
                break;
            }
            self.found.snapshots += 1;
            (self.told)(self.found);
        }
        // What cannot be read is counted there as well, once for each place.
        let places: HashSet<&str> = self.found.damaged.iter().map(|damaged| damaged.path.as_str()).collect();
        let flaws = self.source.health().omitted.saturating_sub(flaws);
        self.found.flaws = flaws.saturating_sub(places.len() as u64);
        if !ended {
            self.found.complete = true;
            self.progress.complete();
        }
    }

    async fn snapshot(&mut self, snapshot: &Snapshot) -> Going {
        for (number, path) in snapshot.paths.iter().enumerate() {
            let path = printable(&String::from_utf8_lossy(path)).to_string();
            let opened = self.ask(self.source.open(&snapshot.id, number).resolve()).await?;
            match opened {
                Ok(opened) => self.root(snapshot, opened.node, path).await?,
                Err(error) => self.failed(snapshot, &path, &error)?,
            }
        }
        Ok(())
    }

    async fn root(&mut self, snapshot: &Snapshot, node: Node, path: String) -> Going {
        let mut todo = Vec::new();
        match node.content {
            Content::Dir(dir) => todo.push(Below { dir, path: path.trim_end_matches('/').to_owned() }),
            Content::File(file) => {
                let number = number(node.meta.identity, &path);
                if self.is_next(number) {
                    self.file(snapshot, &*file, &path).await?;
                }
            }
            Content::Symlink(_) | Content::Special => {}
        }
        while let Some(below) = todo.pop() {
            self.directory(snapshot, below, &mut todo).await?;
        }
        Ok(())
    }

    async fn directory(&mut self, snapshot: &Snapshot, below: Below, todo: &mut Vec<Below>) -> Going {
        let Below { dir, path } = below;
        let content = dir.content();
        if content.is_some_and(|content| !self.seen.insert(content)) {
            return Ok(());
        }
        let listing = match self.ask(dir.listing().resolve()).await? {
            Ok(listing) => listing,
            Err(error) => return self.failed(snapshot, &path, &error),
        };
        self.found.directories += 1;
        let mut dirs = Vec::new();
        let mut chosen: Vec<Chosen> = Vec::new();
        let is_done = content.is_some_and(|content| self.progress.is_done(content));
        listing.visit(0, &mut |entry: &Entry<'_>| {
            let place = || format!("{path}/{}", printable(&String::from_utf8_lossy(entry.name)));
            match entry.kind {
                FileType::Dir => dirs.push((entry.at, place())),
                FileType::File if !is_done => {
                    let path = place();
                    if self.is_next(number(entry.identity, &path)) {
                        chosen.push(Chosen { at: entry.at, path });
                    }
                }
                _ => {}
            }
            std::ops::ControlFlow::Continue(())
        });
        for (at, path) in dirs {
            // Sources say of those that nest too deep that they are damaged.
            if let Some(Node { content: Content::Dir(dir), .. }) = listing.node(at) {
                todo.push(Below { dir, path });
            }
        }
        if chosen.is_empty() {
            return Ok(());
        }
        listing.will_read(&chosen.iter().map(|file| file.at).collect::<Vec<_>>());
        for Chosen { at, path } in &chosen {
            let Some(Node { content: Content::File(file), .. }) = listing.node(*at) else { continue };
            self.file(snapshot, &*file, path).await?;
        }
        if let Some(content) = content {
            self.progress.finish(content);
        }
        Ok(())
    }

    /// Whether file `number` is one of the day's that was not read in this run; it counts as read from here on.
    fn is_next(&mut self, number: u128) -> bool {
        self.share.has(number, self.found.day) && self.read.insert(number)
    }

    async fn file(&mut self, snapshot: &Snapshot, file: &dyn File, path: &str) -> Going {
        let reader = match self.ask(file.open().resolve()).await? {
            Ok(reader) => reader,
            Err(error) => return self.failed(snapshot, path, &error),
        };
        let (mut offset, mut last, mut told) = (0, String::new(), 0);
        while told < OF_A_FILE {
            match self.ask(reader.read_at(offset, PIECE).resolve()).await? {
                Ok(bytes) if bytes.is_empty() => break,
                Ok(bytes) => {
                    self.found.bytes += bytes.len() as u64;
                    offset += bytes.len() as u64;
                }
                // What lies behind is looked at too, and one blob told of once.
                Err(error) => {
                    let says = error.to_string();
                    if says != last {
                        self.failed(snapshot, path, &error)?;
                        told += 1;
                    }
                    last = says;
                    offset += PIECE as u64;
                }
            }
        }
        self.found.files += 1;
        (self.told)(self.found);
        Ok(())
    }

    /// What `work` answers, once the rate allows it.
    async fn ask<T>(&self, work: impl Future<Output = T>) -> Result<T, Ended> {
        if !self.pace.keep().await {
            return Err(Ended);
        }
        self.pace.stop.or(work).await.ok_or(Ended)
    }

    /// Takes note of damage. A source that does not answer is no damage, and is given up when it goes on like that.
    fn failed(&mut self, snapshot: &Snapshot, path: &str, error: &Error) -> Going {
        let says = error.to_string();
        if !matches!(error.kind(), Kind::Corrupt | Kind::NotFound | Kind::Unsupported | Kind::NotDirectory) {
            // A snapshot that was removed meanwhile.
            if error.kind() == Kind::Stale {
                return Ok(());
            }
            self.failures += 1;
            self.found.error = Some(says);
            return if self.failures < PATIENCE { Ok(()) } else { Err(Ended) };
        }
        let damaged = Damaged {
            snapshot: snapshot.id.to_string(),
            path: path.to_owned(),
            pack: id_behind(&says, "pack "),
            blob: id_behind(&says, "blob "),
            error: says,
        };
        if !self.found.damaged.contains(&damaged) {
            self.progress.damage(&damaged);
            self.found.damaged.push(damaged);
        }
        Ok(())
    }
}

/// A number that a file keeps for as long as it is the same one at the same place.
pub(super) fn number(identity: Identity, path: &str) -> u128 {
    match identity {
        Identity::Key(key) => key,
        Identity::Path => {
            let hash = Sha256::digest(path);
            hash.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte))
        }
    }
}

/// The id of 64 digits that a message names behind `word`.
fn id_behind(says: &str, word: &str) -> Option<String> {
    let ids = says.match_indices(word).filter_map(|(at, _)| says.get(at + word.len()..)?.get(..64));
    ids.filter(|id| id.bytes().all(|byte| byte.is_ascii_hexdigit())).map(str::to_owned).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_blob_and_pack() {
        let (blob, pack) = ("ab".repeat(32), "cd".repeat(32));
        let says =
            format!("r: snapshot 12345678: /a pack of blobs: data blob {blob} at 7 of pack {pack}: gone");
        assert_eq!((id_behind(&says, "blob "), id_behind(&says, "pack ")), (Some(blob), Some(pack)));
        assert_eq!(id_behind("pack of wolves", "pack "), None);
    }

    #[test]
    fn numbers_go_by_content_or_else_by_place() {
        assert_eq!(number(Identity::Key(7), "/a"), 7);
        assert_eq!(number(Identity::Path, "/a"), number(Identity::Path, "/a"));
        assert_ne!(number(Identity::Path, "/a"), number(Identity::Path, "/b"));
    }
}
