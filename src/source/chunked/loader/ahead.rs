//! Reads ahead that wait for a slot: first come, first served, and let go of when nobody can want them any more.
//!
//! Whoever comes to wait for a blob of a queued read takes the read out of the queue and has it done at once, with the
//! others: a reader never waits for what is read ahead of others. The flights of queued blobs carry the number of their
//! read as ticket.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::Duty;
use crate::source::chunked::plan::Batch;
use crate::source::chunked::shared::Room;

/// What was asked for ahead this long ago and has not begun is not wanted any more.
const STALE: Duration = Duration::from_secs(10);

/// Reads that nobody waits for.
pub(super) struct Ahead {
    state: Mutex<State>,
    slots: usize,
}

#[derive(Default)]
struct State {
    queue: BTreeMap<u64, Queued>,
    last: u64,
    running: usize,
}

/// One read with its room. `interest` is gone when its reader is.
struct Queued {
    read: Read,
    interest: Option<Weak<()>>,
    since: Instant,
}

/// What is needed to fetch.
pub(super) struct Read {
    pub batch: Batch<Duty>,
    /// Shared by the reads that one was taken apart into.
    pub room: Arc<Room>,
}

impl Queued {
    fn is_awaited(&self) -> bool {
        self.read.batch.blobs.iter().any(|(_, duty)| duty.is_awaited())
    }

    fn is_given_up(&self) -> bool {
        let unwanted = self.interest.as_ref().is_some_and(|interest| interest.strong_count() == 0);
        (unwanted || self.since.elapsed() > STALE) && !self.is_awaited()
    }
}

impl Ahead {
    /// Nothing queued, and so many reads at a time.
    pub fn new(slots: usize) -> Self {
        Ahead { state: Mutex::default(), slots }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a read; gives it back when somebody has come to wait for it meanwhile.
    pub fn push(&self, read: Read, interest: Option<Weak<()>>) -> Option<Read> {
        let queued = Queued { read, interest, since: Instant::now() };
        let mut state = self.lock();
        state.last += 1;
        let ticket = state.last;
        queued.read.batch.blobs.iter().for_each(|(_, duty)| duty.set_ticket(ticket));
        // Who joins from here on finds the ticket and then the read; who did before is seen here.
        if queued.is_awaited() {
            return Some(queued.read);
        }
        state.queue.insert(ticket, queued);
        None
    }

    /// Takes a read out of the queue if it is still there.
    pub fn take(&self, ticket: u64) -> Option<Read> {
        self.lock().queue.remove(&ticket).map(|queued| queued.read)
    }

    /// The next read, when a slot is free: it is the caller's until [`Ahead::done`].
    pub fn next(&self) -> Option<Read> {
        let mut given_up = Vec::new();
        let mut state = self.lock();
        let mut next = None;
        while next.is_none() && state.running < self.slots {
            match state.queue.pop_first() {
                Some((_, queued)) if queued.is_given_up() => given_up.push(queued),
                Some((_, queued)) => next = Some(queued.read),
                None => break,
            }
        }
        state.running += usize::from(next.is_some());
        // Those who are told that their flight ended may come back here at once.
        drop(state);
        next
    }

    /// Gives a slot back.
    pub fn done(&self) {
        let mut state = self.lock();
        state.running = state.running.saturating_sub(1);
    }

    /// Lets go of what nobody wants any more.
    pub fn sweep(&self) {
        let mut state = self.lock();
        if state.queue.is_empty() {
            return;
        }
        let tickets: Vec<u64> = state
            .queue
            .iter()
            .filter(|(_, queued)| queued.is_given_up())
            .map(|(ticket, _)| *ticket)
            .collect();
        let given_up: Vec<Queued> = tickets.iter().filter_map(|ticket| state.queue.remove(ticket)).collect();
        drop(state);
        drop(given_up);
    }

    /// How many reads are queued and under way.
    #[cfg(test)]
    pub fn load(&self) -> (usize, usize) {
        let state = self.lock();
        (state.queue.len(), state.running)
    }
}
