//! What was told already, within bounds.

use std::collections::{HashSet, VecDeque};

/// So many opens are remembered; a file whose open was forgotten is told again.
const MOST: usize = 1 << 16;

/// A user, and what stands for a file.
type Open = (u32, u128);

/// The opens that were told last.
#[derive(Default)]
pub(super) struct Seen {
    known: HashSet<Open>,
    order: VecDeque<Open>,
}

impl Seen {
    pub(super) fn has(&self, open: Open) -> bool {
        self.known.contains(&open)
    }

    /// False when it was there.
    pub(super) fn insert(&mut self, open: Open) -> bool {
        if !self.known.insert(open) {
            return false;
        }
        if self.order.len() == MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(open);
        true
    }

    /// Forgets one: mostly of the last.
    pub(super) fn remove(&mut self, open: Open) {
        if self.known.remove(&open)
            && let Some(at) = self.order.iter().rposition(|known| *known == open)
        {
            self.order.remove(at);
        }
    }

    pub(super) fn clear(&mut self) {
        self.known.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_and_file_is_new_once_and_the_oldest_are_forgotten() {
        let mut seen = Seen::default();
        assert!(seen.insert((0, 5)) && seen.insert((1, 5)) && !seen.insert((0, 5)));
        for file in 0..MOST as u128 {
            seen.insert((2, file));
        }
        assert_eq!((seen.known.len(), seen.order.len()), (MOST, MOST));
        assert!(!seen.has((0, 5)) && seen.has((2, 0)));
        assert!(seen.insert((0, 5)));
        seen.clear();
        assert!(seen.insert((0, 5)) && seen.insert((1, 5)));
        seen.remove((0, 5));
        seen.remove((3, 5));
        assert_eq!((seen.known.len(), seen.order.len()), (1, 1));
        assert!(seen.has((1, 5)) && seen.insert((0, 5)));
    }
}
