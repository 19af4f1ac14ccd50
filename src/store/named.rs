//! Things of which there is one of each name, for as long as anybody has it.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Those that are in use, by name.
pub(super) struct Named<K, T>(Mutex<BTreeMap<K, Weak<T>>>);

impl<K: Ord, T> Named<K, T> {
    /// None.
    pub const fn new() -> Self {
        Named(Mutex::new(BTreeMap::new()))
    }

    /// The one called `name`, which is made when nobody has it.
    pub fn get<N>(&self, name: &N, make: impl FnOnce() -> Arc<T>) -> Arc<T>
    where
        K: Borrow<N>,
        N: Ord + ToOwned<Owned = K> + ?Sized,
    {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(name).and_then(Weak::upgrade) {
            return found;
        }
        known.retain(|_, one| one.strong_count() > 0);
        let made = make();
        known.insert(name.to_owned(), Arc::downgrade(&made));
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_of_each_name_while_anybody_has_it() {
        static NUMBERS: Named<String, u32> = Named::new();
        let one = NUMBERS.get("one", || Arc::new(1));
        let same = NUMBERS.get("one", || unreachable!("somebody has it"));
        assert!(Arc::ptr_eq(&one, &same));
        assert_eq!(*NUMBERS.get("two", || Arc::new(2)), 2);
        drop((one, same));
        assert_eq!(*NUMBERS.get("one", || Arc::new(7)), 7, "nobody had it any more");
        assert_eq!(NUMBERS.0.lock().unwrap().len(), 1, "and of who is gone no name is kept");
    }
}
