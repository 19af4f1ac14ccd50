//! How the files of a directory are being read, and what to fetch before it is asked for.
//!
//! Tools that read in the order of the listing are read ahead of, with a window that doubles. `cp` goes by inode number,
//! which is no order at all: for it, whatever lies around a small file in its pack is worth fetching if the directory
//! fits into memory.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Small files read within this time of each other are one walk.
const GOING_ON: Duration = Duration::from_secs(2);

/// Files left out between two that are still taken for a sequence, and how many make one.
const SKIP: usize = 16;
const SEQUENCE: u32 = 3;

/// The windows, in bytes.
const FIRST_WINDOW: u64 = 256 * 1024;
const LARGEST_WINDOW: u64 = 8 << 20;

/// How much to fetch around a file of a directory that does not fit into memory.
const POOR_WINDOW: u64 = 64 * 1024;

/// Files larger than this are read ahead of by their own readers.
pub(super) const SMALL: u64 = 1 << 20;

/// How the files of one directory are being read.
#[derive(Default)]
pub(super) struct Sequence(Mutex<Position>);

#[derive(Default)]
struct Position {
    /// The entry after the one opened last.
    next: usize,
    /// How many were opened in sequence.
    run: u32,
    /// The first entry that was not planned, and the bytes of those planned and not opened.
    planned: usize,
    ahead: u64,
    window: u64,
}

impl Sequence {
    /// Notes that entry number `entry` is opened; the entries whose content to fetch now. `bytes` tells the size of an
    /// entry that is worth it (0 for others) or that there is none.
    pub(super) fn opened(&self, entry: usize, bytes: impl Fn(usize) -> Option<u64>) -> Range<usize> {
        let mut at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entry < at.next || entry > at.next + SKIP {
            *at = Position { next: entry + 1, ..Position::default() };
            return 0..0;
        }
        let passed = at.next.max(1) - 1..=entry;
        let passed: u64 = passed.filter(|n| *n >= at.next && *n < at.planned).filter_map(&bytes).sum();
        at.ahead = at.ahead.saturating_sub(passed);
        at.next = entry + 1;
        at.run += 1;
        if at.run < SEQUENCE || (at.window > 0 && at.ahead >= at.window / 2) {
            return 0..0;
        }
        at.window = (at.window * 2).clamp(FIRST_WINDOW, LARGEST_WINDOW);
        if at.planned < at.next {
            (at.planned, at.ahead) = (at.next, 0);
        }
        let from = at.planned;
        while at.ahead < at.window {
            let Some(more) = bytes(at.planned) else { break };
            at.ahead += more;
            at.planned += 1;
        }
        from..at.planned
    }

    /// Whether the files are read in the order of the listing.
    pub(super) fn is_running(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).run >= SEQUENCE
    }
}

/// How small files of a repository were fetched lately, in whatever order.
pub(super) struct Misses {
    lately: Mutex<(Option<Instant>, u32)>,
    turn: Arc<Semaphore>,
}

impl Default for Misses {
    fn default() -> Self {
        Misses { lately: Mutex::default(), turn: Arc::new(Semaphore::new(1)) }
    }
}

impl Misses {
    /// The right to look for neighbours, which one file at a time has.
    pub(super) fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turn).try_acquire_owned().ok()
    }

    /// Notes that a small file had to be fetched; how many stored bytes around it are worth fetching too. One file is
    /// one file, several within a short time are a walk.
    pub(super) fn note(&self, fits: bool) -> u64 {
        let mut misses = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        let going_on = misses.0.is_some_and(|last| last.elapsed() < GOING_ON);
        *misses = (Some(Instant::now()), if going_on { misses.1 + 1 } else { 0 });
        match misses.1 {
            0 => 0,
            n => (FIRST_WINDOW << n.min(8)).min(if fits { LARGEST_WINDOW } else { POOR_WINDOW }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_read_ahead_of_and_each_entry_planned_once() {
        let sequence = Sequence::default();
        let bytes = |entry: usize| (entry < 10_000).then_some(4096);
        let mut planned = 0;
        let mut calls = 0;
        for entry in 0..10_000 {
            let fetch = sequence.opened(entry, bytes);
            if !fetch.is_empty() {
                assert!(planned == 0 || fetch.start == planned, "{fetch:?} after {planned}");
                assert!(fetch.start > entry);
                planned = fetch.end;
                calls += 1;
            }
            assert!(entry < 3 || planned > entry || planned == 10_000, "{entry} was not planned in time");
        }
        assert_eq!(planned, 10_000);
        assert!(calls < 20, "{calls} fetches");
    }

    #[test]
    fn entries_here_and_there_are_no_sequence() {
        let sequence = Sequence::default();
        for entry in [500, 3, 900, 100, 50, 700] {
            assert!(sequence.opened(entry, |_| Some(10)).is_empty());
            assert!(!sequence.is_running());
        }
    }

    #[test]
    fn a_sequence_may_leave_some_out_and_ends_at_a_jump() {
        let sequence = Sequence::default();
        let fetched: Vec<bool> = [10, 12, 13, 17, 18]
            .iter()
            .map(|entry| !sequence.opened(*entry, |_| Some(10_000)).is_empty())
            .collect();
        assert_eq!(fetched, [false, false, true, false, false]);
        assert!(sequence.is_running());
        assert!(sequence.opened(5000, |_| Some(10)).is_empty());
        assert!(!sequence.is_running());
    }

    #[test]
    fn one_miss_is_no_walk_and_a_walk_grows() {
        let misses = Misses::default();
        let turn = misses.turn();
        assert!(turn.is_some() && misses.turn().is_none());
        drop(turn);
        assert!(misses.turn().is_some());
        assert_eq!(misses.note(true), 0);
        assert_eq!(misses.note(true), 2 * FIRST_WINDOW);
        assert_eq!(misses.note(true), 4 * FIRST_WINDOW);
        assert_eq!(misses.note(false), POOR_WINDOW);
        for _ in 0..50 {
            assert!(misses.note(true) <= LARGEST_WINDOW);
        }
    }
}
