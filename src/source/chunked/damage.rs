//! What was found damaged in a repository: counted, and logged once each.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, PoisonError};

/// More things than this are counted but no longer told apart, so that a hostile repository cannot fill memory.
const MOST_REMEMBERED: usize = 100_000;

/// The damaged things of one repository.
#[derive(Default)]
pub struct Damage {
    seen: Mutex<HashSet<u64>>,
    hasher: RandomState,
}

impl Damage {
    /// Whether `thing` is met for the first time: then the caller logs it.
    pub fn first(&self, thing: impl Hash) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.len() < MOST_REMEMBERED && seen.insert(self.hasher.hash_one(thing))
    }

    /// How many things were met.
    pub fn count(&self) -> u64 {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_is_told_once_and_counted_once() {
        let damage = Damage::default();
        assert!(damage.first("pack a"));
        assert!(!damage.first("pack a"));
        assert!(damage.first(("pack a", 1)));
        assert_eq!(damage.count(), 2);
    }

    #[test]
    fn a_flood_of_things_is_bounded() {
        let damage = Damage::default();
        let told = (0..MOST_REMEMBERED + 10).filter(|thing| damage.first(thing)).count();
        assert_eq!(told, MOST_REMEMBERED);
        assert_eq!(damage.count(), MOST_REMEMBERED as u64);
    }
}
