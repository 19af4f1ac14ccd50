//! A cache bounded by the weight of what it holds, least recently used out first.
//!
//! A value too heavy for it is kept all the same while it is in use: the last two such values lie beside the cache, so
//! that a directory or a blob larger than the budget is decoded once and not once per request.

use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

/// What an entry costs beyond its own weight: key, links, counters.
const OVERHEAD: u64 = 256;

/// Values this heavy make the cache settle its books at once; the light ones wait for the next time it does so itself.
const HEAVY: u64 = 64 * 1024;

/// How many values too heavy for the cache are kept beside it.
const MOST_OVERSIZE: usize = 2;

/// Values by key, up to a budget in bytes.
pub struct Weighed<K, V> {
    cache: Cache<K, (V, u32)>,
    largest: u64,
    oversize: Mutex<Vec<Oversize<K, V>>>,
}

/// A value too heavy for the cache, with the time of its last use.
struct Oversize<K, V> {
    key: K,
    value: V,
    used: Instant,
}

impl<K, V> Weighed<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// An empty cache of at most `budget` bytes.
    pub fn new(budget: u64) -> Self {
        let cache = Cache::builder()
            .max_capacity(budget)
            .eviction_policy(EvictionPolicy::lru())
            .weigher(|_, (_, weight): &(V, u32)| *weight)
            .build();
        Weighed { cache, largest: budget / 4, oversize: Mutex::default() }
    }

    /// The value of `key`.
    pub fn get(&self, key: &K) -> Option<V> {
        if let Some((value, _)) = self.cache.get(key) {
            return Some(value);
        }
        let mut oversize = self.oversize.lock().unwrap_or_else(PoisonError::into_inner);
        let held = oversize.iter_mut().find(|held| held.key == *key)?;
        held.used = Instant::now();
        Some(held.value.clone())
    }

    /// Holds `value`, which takes `weight` bytes.
    pub fn insert(&self, key: K, value: V, weight: u64) {
        let weight = weight.saturating_add(OVERHEAD);
        match u32::try_from(weight) {
            Ok(fits) if weight <= self.largest => {
                self.cache.insert(key, (value, fits));
                if weight >= HEAVY {
                    self.cache.run_pending_tasks();
                }
            }
            _ => {
                let mut oversize = self.oversize.lock().unwrap_or_else(PoisonError::into_inner);
                oversize.retain(|held| held.key != key);
                oversize.sort_by_key(|held| std::cmp::Reverse(held.used));
                oversize.truncate(MOST_OVERSIZE - 1);
                oversize.push(Oversize { key, value, used: Instant::now() });
            }
        }
    }

    /// Lets go of a value.
    pub fn forget(&self, key: &K) {
        self.cache.invalidate(key);
    }

    /// Lets go of the values beside the cache that nobody used for `idle`.
    pub fn drop_idle(&self, idle: Duration) {
        let mut oversize = self.oversize.lock().unwrap_or_else(PoisonError::into_inner);
        oversize.retain(|held| held.used.elapsed() < idle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_within_its_budget_and_keeps_what_was_used_last() {
        let cache: Weighed<u32, u32> = Weighed::new(1_000_000);
        for n in 0..100 {
            cache.insert(n, n * 2, 100_000);
            assert_eq!(cache.get(&n), Some(n * 2));
            assert!(cache.cache.weighted_size() <= 1_000_000, "after {n}");
        }
        assert_eq!(cache.get(&99), Some(198));
        assert_eq!(cache.get(&0), None);
        cache.forget(&99);
        assert_eq!(cache.get(&99), None);
    }

    #[test]
    fn a_new_value_is_admitted_even_when_the_others_are_used_more() {
        let cache: Weighed<u32, u32> = Weighed::new(1_000_000);
        for n in 0..9 {
            cache.insert(n, n, 100_000);
        }
        for _ in 0..50 {
            for n in 0..9 {
                cache.get(&n);
            }
        }
        cache.insert(100, 1, 100_000);
        assert_eq!(cache.get(&100), Some(1));
    }

    #[test]
    fn what_is_too_heavy_lies_beside_it_two_at_a_time() {
        let cache: Weighed<u32, u32> = Weighed::new(1000);
        cache.insert(1, 10, 5_000_000_000);
        cache.insert(2, 20, 5000);
        assert_eq!((cache.get(&1), cache.get(&2)), (Some(10), Some(20)));
        cache.get(&1);
        cache.insert(3, 30, 5000);
        assert_eq!((cache.get(&1), cache.get(&2), cache.get(&3)), (Some(10), None, Some(30)));
        cache.drop_idle(Duration::from_secs(3600));
        assert_eq!(cache.get(&1), Some(10));
        cache.drop_idle(Duration::ZERO);
        assert_eq!(cache.get(&1), None);
    }
}
