//! How far ahead of a reader to fetch, and what behind it to let go of.
//!
//! One file may be read by several at a time, who all come through one reader: each read is taken for the next of the
//! sequence that it continues, else for the first of a new one. A sequence's window opens with its second read, doubles
//! when it has to be refilled and a read had to wait since the last time, and is gone at the first read elsewhere. Where
//! a request takes long, whoever reads the beginning of a file is taken at once for one who goes on.

use std::ops::Range;
use std::sync::{Arc, Weak};

use super::FileMap;
use super::shared::Stream;

/// The window when a sequence is first seen, unless a store's is larger.
const FIRST: u64 = 1 << 20;

/// The kernel's own read-ahead asks out of order within about this much, and never further than this many of its reads.
const SLACK: u64 = 2 << 20;
const SLACK_READS: u64 = 16;

/// So many sequences of one file are told apart.
const SEQUENCES: usize = 4;

/// The sequences in which a file is read, the one that was read last first.
#[derive(Default)]
pub(super) struct Windows(Vec<Sequence>);

/// One who reads in sequence.
#[derive(Default)]
pub(super) struct Sequence {
    /// The end of the furthest read.
    next: u64,
    /// How much is kept ahead of `next`; 0 before the second read.
    window: u64,
    /// Whether a read had to wait since the window was last refilled.
    starved: bool,
    /// The first blob that was not asked for.
    planned: usize,
    /// The first blob that was not let go of.
    behind: usize,
    /// Gone with the sequence: nobody wants what is queued for it then.
    interest: Arc<()>,
    /// Counts it among those who share the room for reading ahead.
    pub stream: Option<Stream>,
}

/// What a read in sequence calls for, in numbers of blobs.
#[derive(Debug, PartialEq)]
pub(super) struct Move {
    pub fetch: Range<usize>,
    pub forget: Range<usize>,
}

/// The bounds of a window.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// So much is read ahead of the first read of a file.
    pub beginning: u64,
    pub first: u64,
    pub largest: u64,
}

impl Windows {
    /// Takes out the sequence that `read` continues, if there is one; it is to be put back.
    pub fn continued_by(&mut self, read: &Range<u64>) -> Option<Sequence> {
        let at = self.0.iter().position(|sequence| sequence.is_continued_by(read))?;
        Some(self.0.remove(at))
    }

    /// Puts back a sequence, or puts in a new one; true when another is given up for it.
    pub fn put(&mut self, sequence: Sequence) -> bool {
        let full = self.0.len() == SEQUENCES;
        self.0.truncate(SEQUENCES - 1);
        self.0.insert(0, sequence);
        full
    }
}

impl Sequence {
    /// One that begins with `read`.
    pub fn beginning(map: &FileMap, read: &Range<u64>) -> Self {
        Sequence { next: read.end, behind: map.blobs_in(read.clone()).start, ..Sequence::default() }
    }

    /// What to fetch beside its first `read`.
    pub fn beside(&self, map: &FileMap, read: &Range<u64>, bounds: Bounds) -> Range<usize> {
        if read.start > 0 || bounds.beginning == 0 {
            return 0..0;
        }
        map.blobs_in(read.clone()).end..map.blobs_in(read.end..read.end + bounds.beginning).end
    }

    fn is_continued_by(&self, read: &Range<u64>) -> bool {
        let slack = (read.end - read.start).saturating_mul(SLACK_READS).min(SLACK);
        read.start <= self.next + slack && read.end + slack >= self.next
    }

    /// What to do now that it went on with `read`, which had to wait or not.
    pub fn advance(&mut self, map: &FileMap, read: &Range<u64>, starved: bool, bounds: Bounds) -> Move {
        self.next = self.next.max(read.end);
        let left = self.next.saturating_sub(SLACK);
        let forget = self.behind..map.blobs_in(left..left + 1).start.max(self.behind);
        self.behind = forget.end;
        self.starved |= starved && self.window > 0;
        let from = self.planned.max(map.blobs_in(read.clone()).end);
        if self.window > 0 && map.start(from) >= self.next + self.window / 4 * 3 {
            return Move { fetch: 0..0, forget };
        }
        let first = bounds.first.max(FIRST);
        let wanted = if std::mem::take(&mut self.starved) { self.window * 2 } else { self.window };
        self.window = wanted.clamp(first, bounds.largest.max(first));
        let to = map.blobs_in(self.next..self.next + self.window).end;
        self.planned = from;
        Move { fetch: from..to.max(from), forget }
    }

    /// Notes that everything before blob `to` was asked for.
    pub fn has_planned(&mut self, to: usize) {
        self.planned = self.planned.max(to);
    }

    /// Gone when the sequence is.
    pub fn interest(&self) -> Weak<()> {
        Arc::downgrade(&self.interest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::vault::{Vault, blob, id_of};
    use super::*;

    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    const BOUNDS: Bounds = Bounds { beginning: 0, first: MIB, largest: 8 * MIB };

    /// A file of `count` blobs of 64 KiB each.
    fn map(count: u64) -> FileMap {
        let blobs: Vec<_> = (0..count).map(|n| blob(n, 64 << 10)).collect();
        let vault = Vault::new(std::slice::from_ref(&blobs));
        let ids: Vec<_> = blobs.iter().map(|blob| id_of(blob)).collect();
        FileMap::new(&ids, &vault.index.load()).unwrap()
    }

    /// Reads `[from, to)` in pieces of `step`; the bytes that were fetched at a time.
    fn run(windows: &mut Windows, map: &FileMap, read: Range<u64>, step: usize, starved: bool) -> Vec<u64> {
        let mut fetched = Vec::new();
        for at in read.step_by(step) {
            let read = at..at + step as u64;
            let sequence = match windows.continued_by(&read) {
                Some(mut sequence) => {
                    let Move { fetch, .. } = sequence.advance(map, &read, starved, BOUNDS);
                    sequence.has_planned(fetch.end);
                    if !fetch.is_empty() {
                        fetched.push(map.start(fetch.end) - map.start(fetch.start));
                    }
                    sequence
                }
                None => Sequence::beginning(map, &read),
            };
            windows.put(sequence);
        }
        fetched
    }

    #[test]
    fn the_window_grows_while_the_reader_waits_and_only_then() {
        let map = map(1000);
        let patient = run(&mut Windows::default(), &map, 0..40 * MIB, 128 << 10, false);
        assert!(patient.iter().all(|bytes| *bytes <= MIB + 64 * KIB), "{patient:?}");
        let starved = run(&mut Windows::default(), &map, 0..40 * MIB, 128 << 10, true);
        assert!(starved.iter().all(|bytes| *bytes <= 8 * MIB), "{starved:?}");
        assert!(starved.iter().any(|bytes| *bytes >= 3 * MIB), "{starved:?}");
        assert!(starved.len() < patient.len() / 2, "{} and {}", starved.len(), patient.len());
    }

    #[test]
    fn reads_here_and_there_open_no_window() {
        let map = map(1000);
        let mut windows = Windows::default();
        for at in [9, 1, 30, 12, 55, 3, 41, 20] {
            assert!(run(&mut windows, &map, at * MIB..at * MIB + 4096, 4096, true).is_empty());
        }
    }

    #[test]
    fn only_the_beginning_of_a_file_is_read_ahead_of_at_once() {
        let map = map(100);
        let afar = Bounds { beginning: MIB, ..BOUNDS };
        let beside = |read: Range<u64>, bounds| Sequence::beginning(&map, &read).beside(&map, &read, bounds);
        assert_eq!(beside(0..128 * KIB, afar), 2..18);
        assert!(beside(0..100 * 64 * KIB, afar).is_empty(), "nothing follows");
        assert!(beside(64 * KIB..128 * KIB, afar).is_empty());
        assert!(beside(0..128 * KIB, BOUNDS).is_empty());
    }

    #[test]
    fn several_readers_of_a_file_have_a_window_each() {
        let map = map(1000);
        let mut windows = Windows::default();
        let mut fetched = [0, 0, 0];
        for at in (0..10 * MIB).step_by(128 << 10) {
            for (reader, fetched) in fetched.iter_mut().enumerate() {
                let from = reader as u64 * 20 * MIB + at;
                let now = run(&mut windows, &map, from..from + 128 * KIB, 128 << 10, true);
                *fetched += now.iter().sum::<u64>();
            }
        }
        assert!(fetched.iter().all(|bytes| *bytes > 9 * MIB), "{fetched:?}");
    }

    #[test]
    fn a_sequence_that_is_given_up_for_others_takes_its_interest_along() {
        let map = map(1000);
        let mut windows = Windows::default();
        let interests: Vec<_> = (0..5)
            .map(|n| {
                let at = n * 10 * MIB;
                let given_up = windows.put(Sequence::beginning(&map, &(at..at + 4096)));
                assert_eq!(given_up, n == 4);
                windows.continued_by(&(at..at + 4096)).map(|sequence| {
                    let interest = sequence.interest();
                    windows.put(sequence);
                    interest
                })
            })
            .collect();
        let alive: Vec<bool> =
            interests.into_iter().map(|interest| interest.unwrap().strong_count() > 0).collect();
        assert_eq!(alive, [false, true, true, true, true]);
    }

    #[test]
    fn what_lies_behind_is_let_go_of_once() {
        let map = map(200);
        let mut sequence = Sequence::beginning(&map, &(0..MIB));
        let mut gone = 0;
        for at in (MIB..12 * MIB).step_by(1 << 20) {
            let Move { forget, .. } = sequence.advance(&map, &(at..at + MIB), false, BOUNDS);
            assert_eq!(forget.start, gone);
            assert!(map.start(forget.end) + SLACK <= at + MIB + 64 * KIB, "{forget:?} at {at}");
            gone = forget.end;
        }
        assert!(gone > 150, "{gone}");
    }
}
