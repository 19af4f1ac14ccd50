//! Single flight: one fetch of a thing however many want it.
//!
//! The first to ask leads and fetches, the others wait for what the leader lands. Leaders run as tasks of their own, so
//! a waiter that is dropped cancels nothing, and a leader that dies without landing leaves its waiters an answer too.
//! A flight costs one allocation: a walk through small files makes one for each.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The fetches under way, by key.
pub struct Flights<K: Eq + Hash + Clone, V> {
    open: Mutex<HashMap<K, Arc<Flight<V>>>>,
}

/// What a leader and its waiters share.
struct Flight<V> {
    state: Mutex<State<V>>,
    waiters: AtomicUsize,
    ticket: AtomicU64,
}

struct State<V> {
    /// What landed, once the leader is done.
    outcome: Option<Option<V>>,
    wakers: Vec<Waker>,
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
    flight: Arc<Flight<V>>,
}

/// Waits for a leader.
pub struct Waiter<V>(Arc<Flight<V>>);

impl<K: Eq + Hash + Clone, V: Clone> Flights<K, V> {
    /// No fetch under way.
    pub fn new() -> Arc<Self> {
        Arc::new(Flights { open: Mutex::default() })
    }

    /// Joins the fetch of `key`, or leads it.
    pub fn board(self: &Arc<Self>, key: K) -> Boarding<K, V> {
        match self.lock().entry(key) {
            Entry::Occupied(open) => Boarding::Join(Waiter::of(open.get())),
            Entry::Vacant(free) => {
                let key = free.key().clone();
                let flight = Arc::clone(free.insert(Arc::default()));
                Boarding::Lead(Landing { flights: Arc::clone(self), key, flight })
            }
        }
    }
}

impl<K: Eq + Hash + Clone, V> Flights<K, V> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Arc<Flight<V>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many fetches are under way.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }
}

impl<V> Default for Flight<V> {
    fn default() -> Self {
        let state = State { outcome: None, wakers: Vec::new() };
        Flight { state: Mutex::new(state), waiters: AtomicUsize::new(0), ticket: AtomicU64::new(0) }
    }
}

impl<V> Flight<V> {
    fn lock(&self) -> MutexGuard<'_, State<V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it, unless it has ended.
    fn end(&self, value: Option<V>) {
        let mut state = self.lock();
        if state.outcome.is_none() {
            state.outcome = Some(value);
            let wakers = std::mem::take(&mut state.wakers);
            drop(state);
            wakers.into_iter().for_each(Waker::wake);
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
        self.flight.waiters.load(Ordering::SeqCst) > 0
    }

    /// A waiter for the caller's own flight.
    pub fn waiter(&self) -> Waiter<V> {
        Waiter::of(&self.flight)
    }

    /// Notes where the fetch stands in a queue, for those who join: 0 when it stands in none.
    pub fn set_ticket(&self, ticket: u64) {
        self.flight.ticket.store(ticket, Ordering::SeqCst);
    }

    /// Answers all who wait.
    pub fn land(self, value: V) {
        self.flight.end(Some(value));
    }
}

impl<K: Eq + Hash + Clone, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.key);
        self.flight.end(None);
    }
}

impl<V> Waiter<V> {
    fn of(flight: &Arc<Flight<V>>) -> Self {
        flight.waiters.fetch_add(1, Ordering::SeqCst);
        Waiter(Arc::clone(flight))
    }

    /// Where the fetch stood in a queue when it was last noted.
    pub fn ticket(&self) -> u64 {
        self.0.ticket.load(Ordering::SeqCst)
    }
}

/// What the leader landed; `None` when it ended without.
impl<V: Clone> Future for Waiter<V> {
    type Output = Option<V>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<V>> {
        let mut state = self.0.lock();
        if let Some(outcome) = &state.outcome {
            return Poll::Ready(outcome.clone());
        }
        if !state.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            state.wakers.push(context.waker().clone());
        }
        Poll::Pending
    }
}

impl<V> Drop for Waiter<V> {
    fn drop(&mut self) {
        self.0.waiters.fetch_sub(1, Ordering::SeqCst);
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
        assert_eq!(a.await, Some(7));
        assert_eq!(*lead(&flights, 1).key(), 1, "the next to ask starts afresh");
    }

    #[tokio::test]
    async fn a_leader_that_dies_leaves_nobody_waiting() {
        let flights = Flights::new();
        let landing = lead(&flights, 1);
        let (own, other) = (landing.waiter(), join(&flights, 1));
        drop(landing);
        assert_eq!(own.await, None);
        assert_eq!(other.await, None);
        lead(&flights, 1).land(2);
    }

    #[tokio::test]
    async fn who_waits_is_counted_and_who_leaves_is_not() {
        let flights = Flights::new();
        let landing = lead(&flights, 1);
        landing.set_ticket(9);
        let (own, other) = (landing.waiter(), join(&flights, 1));
        assert_eq!((own.ticket(), other.ticket(), flights.count()), (9, 9, 1));
        drop(other);
        assert!(landing.is_awaited());
        drop(own);
        assert!(!landing.is_awaited());
        drop(landing);
        assert_eq!(flights.count(), 0);
    }

    #[tokio::test]
    async fn all_tasks_that_wait_are_woken() {
        let flights = Flights::new();
        let landing = lead(&flights, 1);
        let waiting: Vec<_> = (0..20).map(|_| tokio::spawn(join(&flights, 1))).collect();
        tokio::task::yield_now().await;
        landing.land(3);
        for waiter in waiting {
            assert_eq!(waiter.await.unwrap(), Some(3));
        }
    }
}
