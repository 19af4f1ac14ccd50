//! Single flight: one fetch of a thing however many want it.
//!
//! The first to ask leads and fetches, the others wait for what the leader lands. Leaders run as tasks of their own, so
//! a waiter that is dropped cancels nothing, and a leader that dies without landing leaves its waiters an answer too.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// The fetches under way, by key.
pub struct Flights<K: Eq + Hash + Clone, V> {
    open: Mutex<HashMap<K, watch::Receiver<Option<V>>>>,
}

/// What asking for a thing makes of the caller.
pub enum Boarding<K: Eq + Hash + Clone, V> {
    /// Nobody fetches it: the caller must.
    Lead(Landing<K, V>),
    /// Somebody does.
    Join(Waiter<V>),
}

/// The duty of a leader. Dropped without landing, the waiters hear that nothing came.
pub struct Landing<K: Eq + Hash + Clone, V> {
    flights: Arc<Flights<K, V>>,
    key: K,
    sender: watch::Sender<Option<V>>,
}

/// Waits for a leader.
pub struct Waiter<V>(watch::Receiver<Option<V>>);

impl<K: Eq + Hash + Clone, V: Clone> Flights<K, V> {
    /// No fetch under way.
    pub fn new() -> Arc<Self> {
        Arc::new(Flights { open: Mutex::default() })
    }

    /// Joins the fetch of `key`, or leads it.
    pub fn board(self: &Arc<Self>, key: K) -> Boarding<K, V> {
        match self.open.lock().unwrap_or_else(PoisonError::into_inner).entry(key) {
            Entry::Occupied(open) => Boarding::Join(Waiter(open.get().clone())),
            Entry::Vacant(free) => {
                let key = free.key().clone();
                let (sender, receiver) = watch::channel(None);
                free.insert(receiver);
                Boarding::Lead(Landing { flights: Arc::clone(self), key, sender })
            }
        }
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Landing<K, V> {
    /// What is fetched.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// Whether anybody waits for it.
    pub fn is_awaited(&self) -> bool {
        // The table holds one receiver.
        self.sender.receiver_count() > 1
    }

    /// A waiter for the caller's own flight.
    pub fn waiter(&self) -> Waiter<V> {
        Waiter(self.sender.subscribe())
    }

    /// Answers all who wait.
    pub fn land(self, value: V) {
        self.sender.send_replace(Some(value));
    }
}

impl<K: Eq + Hash + Clone, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        self.flights.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl<V: Clone> Waiter<V> {
    /// What the leader landed; `None` when it ended without.
    pub async fn landed(mut self) -> Option<V> {
        let value = self.0.wait_for(Option::is_some).await.ok()?;
        value.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(flights: &Arc<Flights<u8, u8>>, key: u8) -> Landing<u8, u8> {
        match flights.board(key) {
            Boarding::Lead(landing) => landing,
            Boarding::Join(_) => panic!("somebody else leads {key}"),
        }
    }

    fn join(flights: &Arc<Flights<u8, u8>>, key: u8) -> Waiter<u8> {
        match flights.board(key) {
            Boarding::Join(waiter) => waiter,
            Boarding::Lead(_) => panic!("nobody leads {key}"),
        }
    }

    #[tokio::test]
    async fn one_leads_and_all_hear() {
        let flights = Flights::new();
        let landing = lead(&flights, 1);
        assert!(!landing.is_awaited());
        let (a, b) = (join(&flights, 1), join(&flights, 1));
        assert!(landing.is_awaited());
        drop(b);
        landing.land(7);
        assert_eq!(a.landed().await, Some(7));
        assert_eq!(*lead(&flights, 1).key(), 1, "the next to ask starts afresh");
    }

    #[tokio::test]
    async fn a_leader_that_dies_leaves_nobody_waiting() {
        let flights = Flights::new();
        let landing = lead(&flights, 1);
        let (own, other) = (landing.waiter(), join(&flights, 1));
        drop(landing);
        assert_eq!(own.landed().await, None);
        assert_eq!(other.landed().await, None);
        lead(&flights, 1).land(2);
    }
}
