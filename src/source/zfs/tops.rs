//! What lies at the tops of a dataset's snapshots: the directories that are sets.
//!
//! Looking costs a clone where ZFS does not show snapshots, so not all are looked at: the newest, the oldest, and between
//! two that differ the one in the middle, until what differs stands side by side. Of the others is assumed what their
//! neighbours hold; where somebody looks into one, it is known.

use std::collections::HashMap;
use std::sync::Arc;

/// The names of the directories that are sets, in order.
pub(super) type Sets = Arc<[Arc<[u8]>]>;

/// What is known, by a snapshot's guid.
#[derive(Default)]
pub(super) struct Tops {
    known: HashMap<u64, Sets>,
}

impl Tops {
    /// Notes what a snapshot holds.
    pub(super) fn learn(&mut self, guid: u64, sets: Sets) {
        self.known.insert(guid, sets);
    }

    /// Whether it is known what a snapshot holds.
    pub(super) fn knows(&self, guid: u64) -> bool {
        self.known.contains_key(&guid)
    }

    /// Forgets what is not among `all`.
    pub(super) fn keep(&mut self, all: &[u64]) {
        let all: std::collections::HashSet<_> = all.iter().collect();
        self.known.retain(|guid, _| all.contains(guid));
    }

    /// The snapshot to look at next, of those in `order` of time; `None` when enough is known. `thorough`: until all are.
    pub(super) fn next(&self, order: &[u64], thorough: bool) -> Option<u64> {
        let ends = [order.last(), order.first()];
        if let Some(unknown) = ends.into_iter().flatten().find(|guid| !self.knows(**guid)) {
            return Some(*unknown);
        }
        let known: Vec<(usize, &Sets)> =
            order.iter().enumerate().filter_map(|(at, guid)| Some((at, self.known.get(guid)?))).collect();
        let gaps = known.iter().zip(known.iter().skip(1));
        let differing = gaps.filter(|((from, one), (to, other))| to - from > 1 && one != other);
        let widest = differing.max_by_key(|((from, _), (to, _))| to - from);
        let middle = widest.map(|((from, _), (to, _))| from + (to - from) / 2);
        let middle = middle.and_then(|at| order.get(at));
        middle.or_else(|| order.iter().rev().find(|guid| thorough && !self.knows(**guid))).copied()
    }

    /// What each snapshot in `order` of time holds, known or assumed: of one that lies between two that differ, what
    /// either holds.
    pub(super) fn all(&self, order: &[u64]) -> Vec<Sets> {
        let mut after: Vec<Option<&Sets>> = Vec::with_capacity(order.len());
        let mut next = None;
        for guid in order.iter().rev() {
            next = self.known.get(guid).or(next);
            after.push(next);
        }
        let mut before: Option<&Sets> = None;
        let mut all = Vec::with_capacity(order.len());
        for (guid, after) in order.iter().zip(after.into_iter().rev()) {
            if let Some(known) = self.known.get(guid) {
                before = Some(known);
            }
            all.push(match (self.known.get(guid).or(before), after) {
                (Some(one), Some(other)) if one != other && !self.knows(*guid) => union(one, other),
                (Some(one), _) | (None, Some(one)) => Arc::clone(one),
                (None, None) => Sets::default(),
            });
        }
        all
    }
}

fn union(one: &Sets, other: &Sets) -> Sets {
    let mut all: Vec<Arc<[u8]>> = one.iter().chain(other.iter()).cloned().collect();
    all.sort();
    all.dedup();
    all.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(names: &str) -> Sets {
        names.split_whitespace().map(|name| Arc::from(name.as_bytes())).collect()
    }

    /// Looks until enough is known; answers how often it looked.
    fn survey(tops: &mut Tops, truth: &[Sets], thorough: bool) -> usize {
        let order: Vec<u64> = (0..truth.len() as u64).collect();
        let mut looks = 0;
        while let Some(guid) = tops.next(&order, thorough) {
            assert!(!tops.knows(guid), "{guid} was known");
            tops.learn(guid, truth[usize::try_from(guid).unwrap()].clone());
            looks += 1;
        }
        assert_eq!(tops.all(&order).len(), truth.len());
        looks
    }

    #[test]
    fn where_nothing_changed_the_ends_tell() {
        let truth = vec![sets("a b"); 365];
        let mut tops = Tops::default();
        assert_eq!(tops.next(&[0, 1, 2], false), Some(2), "the newest first");
        assert_eq!(survey(&mut tops, &truth, false), 2);
        assert_eq!(tops.all(&(0..365).collect::<Vec<_>>()), truth);
        assert_eq!(survey(&mut Tops::default(), &truth[..1], false), 1);
        assert_eq!(survey(&mut Tops::default(), &[], false), 0);
    }

    #[test]
    fn what_changed_is_found_by_halving() {
        let truth: Vec<Sets> = (0..365)
            .map(|day| {
                sets(if day < 17 {
                    "a"
                } else if day < 300 {
                    "a b"
                } else {
                    "b"
                })
            })
            .collect();
        let mut tops = Tops::default();
        let looks = survey(&mut tops, &truth, false);
        assert!(looks <= 22, "{looks}");
        assert_eq!(tops.all(&(0..365).collect::<Vec<_>>()), truth);
    }

    #[test]
    fn what_came_and_went_between_is_found_by_looking_at_all() {
        let mut truth = vec![sets("a"); 20];
        truth[7] = sets("a b");
        let mut tops = Tops::default();
        survey(&mut tops, &truth, false);
        assert_ne!(tops.all(&(0..20).collect::<Vec<_>>()), truth);
        survey(&mut tops, &truth, true);
        assert_eq!(tops.all(&(0..20).collect::<Vec<_>>()), truth);
    }

    #[test]
    fn nothing_is_hidden_while_it_is_not_known() {
        let mut tops = Tops::default();
        assert_eq!(tops.all(&[1, 2]), [sets(""), sets("")]);
        tops.learn(1, sets("a b"));
        assert_eq!(tops.all(&[0, 1, 2]), [sets("a b"), sets("a b"), sets("a b")]);
        tops.learn(3, sets("b c"));
        assert_eq!(tops.all(&[0, 1, 2, 3]), [sets("a b"), sets("a b"), sets("a b c"), sets("b c")]);
        tops.keep(&[3]);
        assert_eq!(tops.all(&[0, 1, 2, 3]), vec![sets("b c"); 4]);
        assert!(!tops.knows(1) && tops.knows(3));
    }
}
