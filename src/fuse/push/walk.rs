//! How far the files of one directory have been read, and which to push next.
//!
//! When three were read in an order, the next ones are pushed in windows that double. The first file of a window is left
//! out: that it is read shows how far the reader has come, and lets the next window go.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::survey::{Order, Survey};
use crate::tree::Cookie;

/// So many reads show an order.
const READS: usize = 3;

/// The windows, in bytes of content. Who goes by inode number picks files from all over the directory, and only a
/// large window brings neighbours in a pack together.
pub(super) const FIRST_WINDOW: u64 = 256 << 10;
const LARGEST_WINDOW: u64 = 8 << 20;
const LARGEST_BY_INODE: u64 = 64 << 20;

/// Reads not looked at after some that had no order: at first, and how much longer each time.
const DEAF: usize = 32;
const DEAFER: usize = 4;

/// What is to be done for a walk.
pub(super) enum Job {
    /// Look at the files of a directory.
    Survey(u64),
    /// Push files.
    Push(Push),
}

impl Job {
    /// The number of the directory that it is about.
    pub fn dir(&self) -> u64 {
        match self {
            Job::Survey(dir) | Job::Push(Push { dir, .. }) => *dir,
        }
    }
}

/// Files to push.
pub(super) struct Push {
    /// The number of their directory.
    pub dir: u64,
    pub survey: Arc<Survey>,
    pub order: Order,
    /// Their ranks in that order.
    pub ranks: Range<usize>,
    /// How much is pushed at a time, in bytes.
    pub window: u64,
    /// The rank that will be read next: what lies before it is past. `usize::MAX` once the walk has ended.
    pub next: Arc<AtomicUsize>,
}

/// A directory that is read.
pub(super) struct Walk {
    pub dir: u64,
    /// Who began to read it.
    pub pid: u32,
    /// The order, once known or trusted in.
    pub order: Option<Order>,
    pub window: u64,
    pub survey: Option<Arc<Survey>>,
    /// The last reads, position and number, as long as the order is unknown or there is no survey.
    reads: Vec<(Cookie, u64)>,
    deaf: usize,
    backoff: usize,
    next: Arc<AtomicUsize>,
    /// The rank that the last window left out, and the one after that window.
    left_out: usize,
    planned: usize,
}

impl Walk {
    /// Nothing is known of directory `dir`, which process `pid` reads.
    pub fn new(dir: u64, pid: u32) -> Self {
        Walk {
            dir,
            pid,
            order: None,
            window: FIRST_WINDOW,
            survey: None,
            reads: Vec::new(),
            deaf: 0,
            backoff: DEAF,
            next: Arc::default(),
            left_out: 0,
            planned: 0,
        }
    }

    /// The file `ino` at position `at` is read from its beginning.
    pub fn read(&mut self, at: Cookie, ino: u64) -> Option<Job> {
        if let (Some(survey), Some(order)) = (self.survey.clone(), self.order) {
            return self.goes_on(survey.rank(order, at, ino)?);
        }
        if self.deaf > 0 {
            self.deaf -= 1;
            return None;
        }
        if self.reads.len() == READS {
            self.reads.remove(0);
        }
        self.reads.push((at, ino));
        match &self.survey {
            // Asked for once, by the read that completes the first ones.
            None => (self.reads.len() == READS && self.order.is_none()).then_some(Job::Survey(self.dir)),
            Some(_) if self.reads.len() < READS => None,
            Some(_) => self.find_order().then(|| self.plan(false))?,
        }
    }

    /// The files of the directory. `whole` leaves nothing out of the first window.
    pub fn surveyed(&mut self, survey: Arc<Survey>, whole: bool) -> Vec<Job> {
        self.survey = Some(survey);
        if self.order.is_none() {
            return if self.find_order() { self.plan(whole).into_iter().collect() } else { Vec::new() };
        }
        // Trusted: what was read meanwhile has been read behind the first window.
        let first = self.plan(whole);
        let reads = std::mem::take(&mut self.reads);
        first.into_iter().chain(reads.into_iter().filter_map(|(at, ino)| self.read(at, ino))).collect()
    }

    fn find_order(&mut self) -> bool {
        let found = self.survey.as_ref().and_then(|survey| survey.order_of(&self.reads));
        self.reads.clear();
        match found {
            Some((order, rank)) => {
                self.order = Some(order);
                self.next = Arc::new(AtomicUsize::new(rank + 1));
                self.planned = rank + 1;
            }
            None => {
                self.deaf = self.backoff;
                self.backoff = self.backoff.saturating_mul(DEAFER);
            }
        }
        found.is_some()
    }

    /// The file of this rank is read.
    fn goes_on(&mut self, rank: usize) -> Option<Job> {
        let next = self.next.load(Ordering::Relaxed);
        if !Survey::is_near(rank, next..self.planned) {
            // Whoever reads has gone elsewhere: all begins anew, and what is under way is for nobody.
            self.next.store(usize::MAX, Ordering::Relaxed);
            (self.order, self.window) = (None, FIRST_WINDOW);
            return None;
        }
        self.next.store(next.max(rank + 1), Ordering::Relaxed);
        if rank < self.left_out {
            return None;
        }
        let largest = match self.order {
            Some(Order::Inode) => LARGEST_BY_INODE,
            _ => LARGEST_WINDOW,
        };
        // A directory that ends within its window says nothing about a larger one.
        if self.survey.as_ref().is_some_and(|survey| self.planned < survey.len()) {
            self.window = (self.window * 2).min(largest);
        }
        self.plan(false)
    }

    /// The next window.
    fn plan(&mut self, whole: bool) -> Option<Job> {
        let (survey, order) = (self.survey.clone()?, self.order?);
        let from = self.planned.max(self.next.load(Ordering::Relaxed));
        let mut bytes = 0;
        let mut to = from;
        while bytes < self.window
            && let Some(file) = survey.file(order, to)
        {
            bytes += u64::from(file.size);
            to += 1;
        }
        if from == to {
            return None;
        }
        (self.left_out, self.planned) = (from, to);
        let ranks = if whole { from..to } else { from + 1..to };
        Some(Job::Push(Push {
            dir: self.dir,
            survey,
            order,
            ranks,
            window: self.window,
            next: self.next.clone(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::survey::tests::survey;
    use super::*;

    const DIR: u64 = 77;

    fn push(job: Option<Job>) -> Push {
        match job {
            Some(Job::Push(push)) => push,
            Some(Job::Survey(_)) => panic!("surveys again"),
            None => panic!("does nothing"),
        }
    }

    /// A walk in `order` that has read ranks 10, 11 and 12 of `files` files, and its first window.
    fn begun(order: Order, files: u64) -> (Walk, Arc<Survey>, Push) {
        let survey = Arc::new(survey(files));
        let mut walk = Walk::new(DIR, 1);
        let reads: Vec<Option<Job>> = (10..13).map(|rank| read(&mut walk, &survey, order, rank)).collect();
        assert!(matches!(reads[..], [None, None, Some(Job::Survey(DIR))]));
        let mut jobs = walk.surveyed(survey.clone(), false);
        assert_eq!(jobs.len(), 1);
        (walk, survey, push(jobs.pop()))
    }

    fn read(walk: &mut Walk, survey: &Survey, order: Order, rank: usize) -> Option<Job> {
        let file = survey.file(order, rank).unwrap();
        walk.read(file.at, file.ino)
    }

    #[test]
    fn three_reads_begin_a_walk_whose_windows_double_when_what_was_left_out_is_read() {
        for order in [Order::Listing, Order::Inode] {
            let (mut walk, survey, first) = begun(order, 50_000);
            assert_eq!((first.order, first.ranks.clone()), (order, 14..77), "256 KiB but for the first");
            assert!(read(&mut walk, &survey, order, 20).is_some(), "rank 13 must have been read before");
            let (mut end, mut most) = (walk.planned, 0);
            for _ in 0..12 {
                let left_out = walk.left_out;
                assert!(
                    read(&mut walk, &survey, order, left_out - 1).is_none(),
                    "still in the window before"
                );
                let next = push(read(&mut walk, &survey, order, left_out));
                assert_eq!(next.ranks.start, end + 1);
                assert_eq!(next.next.load(Ordering::Relaxed), left_out + 1);
                end = next.ranks.end;
                if end == survey.len() {
                    break;
                }
                most = (next.ranks.len() + 1) as u64 * 4096;
                assert_eq!(most, next.window);
            }
            let largest = if order == Order::Inode { LARGEST_BY_INODE } else { LARGEST_WINDOW };
            assert_eq!(most, largest);
        }
    }

    #[test]
    fn every_file_is_pushed_or_left_out_once_to_the_end_of_the_directory() {
        let (mut walk, survey, first) = begun(Order::Listing, 1000);
        let mut pushed = vec![0; 1000];
        let mut count = |push: &Push| push.ranks.clone().for_each(|rank| pushed[rank] += 1);
        count(&first);
        let mut reads = 0;
        for rank in 13..1000 {
            // Only what was not pushed is asked for.
            if !walk.is_pushed(rank) {
                reads += 1;
                if let Some(job) = read(&mut walk, &survey, Order::Listing, rank) {
                    count(&push(Some(job)));
                }
            }
        }
        assert_eq!(walk.planned, 1000);
        assert!(pushed.iter().all(|times| *times <= 1));
        let left_out = pushed.iter().skip(13).filter(|times| **times == 0).count();
        assert_eq!(left_out, reads);
        assert!(reads < 10, "{reads} reads of 1000 files");
    }

    impl Walk {
        fn is_pushed(&self, rank: usize) -> bool {
            rank < self.planned && rank != self.left_out
        }
    }

    #[test]
    fn reads_in_no_order_are_looked_at_less_and_less() {
        let survey = Arc::new(survey(100_000));
        let mut walk = Walk::new(DIR, 1);
        let far = |n: usize| n * 7919 % 100_000;
        let asked = (0..3).filter_map(|n| read(&mut walk, &survey, Order::Listing, far(n))).count();
        assert_eq!(asked, 1, "the survey");
        assert!(walk.surveyed(survey.clone(), false).is_empty());
        assert_eq!((walk.deaf, walk.backoff), (DEAF, DEAF * DEAFER));
        for n in 3..3 + DEAF + READS {
            assert!(read(&mut walk, &survey, Order::Listing, far(n)).is_none());
        }
        assert_eq!(walk.deaf, DEAF * DEAFER);
        // And heard again when an order comes.
        let mut jobs = 0;
        for rank in 0..DEAF * DEAFER + READS {
            jobs += usize::from(read(&mut walk, &survey, Order::Listing, rank).is_some());
        }
        assert_eq!(jobs, 1);
    }

    #[test]
    fn who_goes_elsewhere_ends_what_is_under_way() {
        let (mut walk, survey, first) = begun(Order::Listing, 10_000);
        assert!(read(&mut walk, &survey, Order::Listing, 9000).is_none());
        assert_eq!(first.next.load(Ordering::Relaxed), usize::MAX, "nothing more is pushed for it");
        assert!(walk.order.is_none());
        let jobs: Vec<_> =
            (9001..9004).filter_map(|rank| read(&mut walk, &survey, Order::Listing, rank)).collect();
        let again = push(jobs.into_iter().next());
        assert_eq!(again.ranks.start, 9005);
        assert_eq!(again.next.load(Ordering::Relaxed), 9004);
    }

    #[test]
    fn a_trusted_walk_begins_at_once_and_counts_what_was_read_meanwhile() {
        let survey = Arc::new(survey(1000));
        let mut walk = Walk::new(DIR, 1);
        (walk.order, walk.window) = (Some(Order::Inode), 40 * 4096);
        assert!(read(&mut walk, &survey, Order::Inode, 0).is_none(), "the survey is under way");
        let jobs = walk.surveyed(survey.clone(), false);
        let ranges: Vec<_> = jobs.into_iter().map(|job| push(Some(job)).ranks).collect();
        assert_eq!(ranges, [1..40, 41..120], "rank 0 was left out, and read");
        let mut few = Walk::new(DIR, 1);
        few.order = Some(Order::Inode);
        let jobs = few.surveyed(Arc::new(super::super::survey::tests::survey(5)), true);
        assert!(jobs.into_iter().map(|job| push(Some(job)).ranks).eq(std::iter::once(0..5)));
    }
}
