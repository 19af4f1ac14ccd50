//! What the kernel forgot last: whoever has a handle of it (name_to_handle_at(2), a server of NFS) may still ask for it.
//!
//! The kernel makes handles by itself and tells nobody, so any inode may have one. What is kept is how each is found from
//! the directory above, which may be forgotten too, and nothing that a source could need memory for. The oldest go.

use std::collections::{HashMap, VecDeque};

use super::directory::directory;
use super::inodes::{Lineage, resolve};
use crate::error::{Error, Kind, Result};
use crate::tree::{Cookie, Identity, Node};

/// So many are kept in each part of the table of inodes.
const MOST: usize = 512;

/// An inode without look-ups.
#[derive(Clone)]
pub(super) struct Forgotten {
    /// Its 128 bits.
    pub identity: u128,
    /// The number of the directory it was found in.
    pub parent: u64,
    /// How it is found there.
    pub how: How,
}

/// How something is found in a directory.
#[derive(Clone)]
pub(super) enum How {
    /// At this position.
    At(Cookie),
    /// By this name.
    Called(Box<[u8]>),
}

impl Forgotten {
    /// The node, in the directory `above`. Errors: `Stale` when it is no longer where it was.
    pub async fn node(&self, above: &Node) -> Result<Node> {
        let dir = directory(above)?;
        let found = match &self.how {
            How::At(at) => dir.listing().resolve().await?.node(*at),
            How::Called(name) => dir.lookup(name).resolve().await?,
        };
        let is_it = |node: &Node| match node.meta.identity {
            // It lies where it lay.
            Identity::Path => true,
            key @ Identity::Key(_) => {
                resolve(key, node.meta.kind, Lineage { identity: 0, apart: None }, b"") == self.identity
            }
        };
        found.filter(is_it).ok_or_else(|| Error::new(Kind::Stale, "no longer where it was"))
    }
}

/// The last ones, by number.
#[derive(Default)]
pub(super) struct LastForgotten {
    kept: HashMap<u64, (u64, Forgotten)>,
    /// Numbers and turns, oldest first; of a number that was kept again only the last turn counts.
    order: VecDeque<(u64, u64)>,
    turn: u64,
}

impl LastForgotten {
    /// Keeps what was forgotten just now.
    pub fn keep(&mut self, ino: u64, forgotten: Forgotten) {
        self.turn += 1;
        self.kept.insert(ino, (self.turn, forgotten));
        self.order.push_back((ino, self.turn));
        if self.order.len() > MOST
            && let Some((oldest, turn)) = self.order.pop_front()
            && self.kept.get(&oldest).is_some_and(|(last, _)| *last == turn)
        {
            self.kept.remove(&oldest);
        }
    }

    /// What is kept of `ino`.
    pub fn get(&self, ino: u64) -> Option<&Forgotten> {
        self.kept.get(&ino).map(|(_, forgotten)| forgotten)
    }
}

#[cfg(test)]
mod tests {
    use super::super::inodes::ROOT;
    use super::*;

    fn forgotten(identity: u128) -> Forgotten {
        Forgotten { identity, parent: ROOT, how: How::At(0) }
    }

    #[test]
    fn the_last_ones_are_kept_and_no_more() {
        let mut last = LastForgotten::default();
        let most = MOST as u64;
        for ino in 1..=most {
            last.keep(ino, forgotten(u128::from(ino)));
        }
        last.keep(1, forgotten(1000));
        assert_eq!(
            last.get(1).map(|kept| kept.identity),
            Some(1000),
            "kept again: its first turn does not count"
        );
        last.keep(most + 1, forgotten(0));
        assert!(last.get(2).is_none() && last.get(3).is_some());
        for ino in most + 2..most * 3 {
            last.keep(ino, forgotten(0));
        }
        assert_eq!((last.kept.len(), last.order.len()), (MOST, MOST));
        assert!(last.get(1).is_none() && last.get(most * 3 - 1).is_some());
    }
}
