//! How far the small files of one directory have been read, and which to push next.
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
    /// Look at the small files of a directory.
    Survey(u64),
    /// Push files.
    Push(Push),
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
    /// The rank that will be read next: what lies before it is past. The number of files once the walk has ended.
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

    /// The small files of the directory. `whole` leaves nothing out of the first window.
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
        Some(Job::Push(Push { dir: self.dir, survey, order, ranks, window: self.window, next: self.next.clone() }))
    }
}
