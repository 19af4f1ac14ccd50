//! Directories that are read before anybody asks: those that follow one that was just entered, where somebody goes
//! through all of them. A walk waits for the disk at every directory; while it looks at one, the next are under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Semaphore;

use super::directory::HostDir;
use super::entries::Entries;
use crate::tree::{Cookie, FileType};

/// So many directories are under way before whoever walks.
const AHEAD: usize = 16;

/// They are looked for among so many entries that follow.
const NEAR: usize = 1024;

/// So many are read at a time.
const AT_ONCE: usize = 2;

/// One with more entries is left to who asks for it.
pub(super) const MOST: usize = 20_000;

/// Reads at a time of one source.
pub(super) fn limit() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(AT_ONCE))
}

/// How far somebody has gone through the directories in a directory.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// How many were entered.
    entered: AtomicU64,
    /// Up to which position they are under way.
    until: AtomicU64,
}

impl Walk {
    /// Whoever enters one will enter others: the directory itself was read ahead.
    pub(super) fn expect(&self) {
        self.entered.fetch_add(1, Ordering::Relaxed);
    }

    /// The directory at `at` of `entries` is entered: which others are to be read, by name. None at the first, which
    /// somebody may only look at.
    fn enter(&self, entries: &Entries, at: Cookie) -> Vec<Vec<u8>> {
        if self.entered.fetch_add(1, Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let until = self.until.load(Ordering::Relaxed);
        let following = entries.from(at + 1).take(NEAR);
        let directories =
            following.filter(|found| found.stat.kind() == FileType::Dir && !found.stat.is_border);
        let new = directories.take(AHEAD).filter(|found| found.at >= until);
        let (mut names, mut last) = (Vec::new(), until);
        for found in new {
            last = found.at + 1;
            names.push(found.name.to_vec());
        }
        self.until.fetch_max(last, Ordering::Relaxed);
        names
    }
}

/// Begins to read what is likely to be asked for after `dir`.
pub(super) fn after(dir: &HostDir) {
    let Some((above, name)) = dir.place().above() else { return };
    let above = HostDir::at(Arc::new(above));
    let Some(entries) = above.at_hand() else { return };
    let Some(at) = entries.find(name).map(|found| found.at) else { return };
    for name in entries.walk.enter(&entries, at) {
        above.below(&name).read_ahead();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    use tokio::runtime::Handle;

    use super::super::place::Place;
    use super::super::tests::{host, tree};
    use super::super::view::View;
    use super::*;
    use crate::tree::{Dir, Validity};

    /// A directory of directories, and itself as it is shown, listed.
    async fn many(count: usize, validity: Validity) -> (tempfile::TempDir, HostDir, Vec<Vec<u8>>) {
        let top = tempfile::tempdir().unwrap();
        for n in 0..count {
            fs::create_dir_all(top.path().join(format!("d{n}/in/side"))).unwrap();
            fs::write(top.path().join(format!("f{n}")), "x").unwrap();
        }
        let dir = shown(top.path(), validity);
        enter(&dir).await;
        let entries = dir.at_hand().unwrap();
        let directories = entries.from(0).filter(|found| found.stat.kind() == FileType::Dir);
        let names = directories.map(|found| found.name.to_vec()).collect();
        (top, dir, names)
    }

    fn shown(path: &Path, validity: Validity) -> HostDir {
        let view = View::new(host(), &tree(path, "2026", validity), Handle::current());
        HostDir::at(Arc::new(Place::top(view)))
    }

    async fn enter(dir: &HostDir) {
        dir.listing().resolve().await.unwrap();
    }

    async fn until(what: impl Fn() -> bool) {
        let patience = async {
            while !what() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), patience).await.unwrap();
    }

    #[tokio::test]
    async fn who_walks_finds_the_next_ones_read_and_who_looks_does_not() {
        let (_top, dir, names) = many(60, Validity::Forever).await;
        let is_read = |n: usize| dir.below(&names[n]).at_hand().is_some();
        enter(&dir.below(&names[30])).await;
        enter(&dir.below(&names[5])).await;
        until(|| (6..=5 + AHEAD).all(is_read)).await;
        let others = (0..60).filter(|n| is_read(*n) && !(5..=5 + AHEAD).contains(n));
        assert_eq!(others.collect::<Vec<_>>(), [30], "the first was a look, and only what follows is read");
        // What was read ahead is part of a walk: its own first directory is no look.
        enter(&dir.below(&names[6])).await;
        until(|| is_read(6 + AHEAD)).await;
        let inside = dir.below(&names[6]);
        fs::create_dir(_top.path().join(String::from_utf8_lossy(&names[6]).as_ref()).join("new")).unwrap();
        assert!(inside.at_hand().unwrap().find(b"new").is_none(), "it is not read again");
        assert_eq!(inside.at_hand().unwrap().walk.enter(&inside.at_hand().unwrap(), 0), [b"in"]);
    }

    #[tokio::test]
    async fn each_is_read_ahead_once_in_a_walk() {
        let (_top, dir, names) = many(60, Validity::Forever).await;
        let entries = dir.at_hand().unwrap();
        let at = |n: usize| entries.find(&names[n]).unwrap().at;
        assert!(entries.walk.enter(&entries, at(0)).is_empty());
        let mut begun: Vec<Vec<u8>> = Vec::new();
        for n in 1..60 {
            begun.extend(entries.walk.enter(&entries, at(n)));
        }
        assert_eq!(begun, names[2..]);
        assert!(entries.walk.enter(&entries, at(7)).is_empty(), "not again");
    }

    #[tokio::test]
    async fn one_that_is_large_or_cannot_be_read_is_left_to_who_asks() {
        let (top, dir, names) = many(20, Validity::Forever).await;
        let path = |n: usize| top.path().join(String::from_utf8_lossy(&names[n]).as_ref());
        for n in 0..=MOST {
            fs::File::create(path(2).join(n.to_string())).unwrap();
        }
        fs::remove_dir_all(path(3)).unwrap();
        enter(&dir.below(&names[0])).await;
        enter(&dir.below(&names[1])).await;
        until(|| dir.below(&names[4]).at_hand().is_some()).await;
        assert!(dir.below(&names[2]).at_hand().is_none() && dir.below(&names[3]).at_hand().is_none());
        enter(&dir.below(&names[2])).await;
        assert_eq!(dir.below(&names[2]).at_hand().unwrap().from(0).count(), MOST + 2);
        assert!(dir.below(&names[3]).listing().resolve().await.is_err());
    }

    #[tokio::test]
    async fn the_way_up_and_down_is_the_same() {
        let dir = shown("/".as_ref(), Validity::Forever);
        assert!(dir.place().above().is_none());
        let below = dir.below(b"a").below(b"b");
        let (above, name) = below.place().above().unwrap();
        assert_eq!((above.key(), name), (dir.below(b"a").place().key(), &b"b"[..]));
        assert_eq!(above.above().unwrap().0.key(), dir.place().key());
    }
}
