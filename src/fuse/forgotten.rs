//! What the kernel forgot last: whoever has a handle of it (name_to_handle_at(2), a server of NFS) may still ask for it.
//!
//! The kernel makes handles by itself and tells nobody, so any inode may have one. Each is kept by its number, its identity
//! and its place, which is less than what was known of it; the oldest go.

use std::collections::{HashMap, VecDeque};

use super::inodes::Place;
use super::trails::Trail;

/// So many are kept in each part of the table of inodes.
const MOST: usize = 512;

/// An inode without look-ups.
pub(super) struct Forgotten {
    /// Its 128 bits.
    pub identity: u128,
    /// Where it was last found.
    pub place: Place,
    /// How, where that is kept.
    pub trail: Option<Trail>,
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
    use std::sync::Arc;

    use super::super::inodes::{Origin, ROOT};
    use super::*;
    use crate::tree::{Content, Meta, Node, Time, Validity};

    fn forgotten(identity: u128) -> Forgotten {
        let meta = Meta::directory(Time::default(), Validity::Forever);
        let node = Node { meta, content: Content::Special, xattrs: None };
        let origin = Arc::new(Origin::Held { parent: ROOT, node });
        Forgotten { identity, place: Place { origin, at: 0, plain: true }, trail: None }
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
