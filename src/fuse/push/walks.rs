//! Who walks through which directories.
//!
//! Each directory that is read is a [`Walk`] of its own. Who was seen walking is trusted to go on in the directories
//! that it lists next, until it lists many without reading. Nothing is pushed for who only lists.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::survey::{Order, Survey};
use super::walk::{FIRST_WINDOW, Job, Walk};
use crate::tree::Cookie;

/// Directories and walkers that are remembered.
const REMEMBERED: usize = 16;

/// Who has read in so many directories is trusted, until it has not read for so long or listed so many directories
/// without reading.
const TRUSTED_AFTER: u32 = 3;
const TRUSTED_FOR: Duration = Duration::from_secs(10);
const TRUSTED_DIRS: u32 = 16;

/// Of directories of fewer files than this all are pushed, except in every so many-th directory.
const FEW: usize = 8;
const FEW_LEFT_OUT: u32 = 4;

/// What is known of all walks of a mount.
#[derive(Default)]
pub(super) struct Walks {
    dirs: VecDeque<Walk>,
    walkers: VecDeque<Walker>,
}

/// A process that reads small files.
struct Walker {
    pid: u32,
    /// The directory that it read in last, and in how many it read so far.
    dir: u64,
    dirs: u32,
    order: Option<Order>,
    window: u64,
    /// Directories that it listed since it read.
    listed: u32,
    last: Instant,
}

impl Walks {
    /// Process `pid` reads the file `ino` at position `at` of directory `dir` from its beginning.
    pub fn read(&mut self, pid: u32, dir: u64, at: Cookie, ino: u64) -> Option<Job> {
        let walk = remembered(&mut self.dirs, |walk| walk.dir == dir, || Walk::new(dir, pid));
        let job = walk.read(at, ino);
        let (order, window) = (walk.order, walk.window);
        let walker = remembered(&mut self.walkers, |walker| walker.pid == pid, || Walker::new(pid));
        walker.reads_in(dir);
        if let Some(order) = order {
            walker.goes_by(order, window);
        }
        job
    }

    /// Process `pid` has listed directory `dir` to its end, so that the kernel knows its files.
    pub fn listed(&mut self, pid: u32, dir: u64) -> Option<Job> {
        let walker = self.walkers.iter_mut().find(|walker| walker.pid == pid)?;
        let (order, window) = walker.lists()?;
        let walk = remembered(&mut self.dirs, |walk| walk.dir == dir, || Walk::new(dir, pid));
        if walk.survey.is_some() {
            return None;
        }
        (walk.order, walk.window) = (Some(order), window);
        Some(Job::Survey(dir))
    }

    /// The small files of directory `dir`, which were to be surveyed.
    pub fn surveyed(&mut self, dir: u64, survey: Arc<Survey>) -> Vec<Job> {
        let Some(walk) = self.dirs.iter_mut().find(|walk| walk.dir == dir) else { return Vec::new() };
        let listed = self.walkers.iter().find(|walker| walker.pid == walk.pid).map(|walker| walker.listed);
        let whole = survey.len() < FEW && walk.order.is_some() && listed.is_some_and(|n| n % FEW_LEFT_OUT != 0);
        walk.surveyed(survey, whole)
    }

    /// Ends the walk of directory `dir`: it could not be read.
    pub fn end(&mut self, dir: u64) {
        self.dirs.retain(|walk| walk.dir != dir);
    }
}

/// The item that `is` finds, or a `new` one, now the last to be forgotten.
fn remembered<T>(items: &mut VecDeque<T>, is: impl Fn(&T) -> bool, new: impl FnOnce() -> T) -> &mut T {
    let item = items.iter().position(is).and_then(|at| items.remove(at)).unwrap_or_else(new);
    items.truncate(REMEMBERED - 1);
    items.push_front(item);
    #[allow(clippy::indexing_slicing, reason = "it was just put there")]
    &mut items[0]
}

impl Walker {
    fn new(pid: u32) -> Self {
        let window = FIRST_WINDOW;
        Walker { pid, dir: 0, dirs: 0, order: None, window, listed: 0, last: Instant::now() }
    }

    fn reads_in(&mut self, dir: u64) {
        if self.last.elapsed() >= TRUSTED_FOR {
            *self = Walker::new(self.pid);
        }
        if self.dir != dir {
            (self.dir, self.dirs) = (dir, self.dirs.saturating_add(1));
        }
        (self.listed, self.last) = (0, Instant::now());
    }

    fn goes_by(&mut self, order: Order, window: u64) {
        (self.order, self.window) = (Some(order), self.window.max(window));
        self.dirs = self.dirs.max(TRUSTED_AFTER);
    }

    /// It has listed a directory: in which order and window to push there, if it is trusted to read it.
    fn lists(&mut self) -> Option<(Order, u64)> {
        self.listed = self.listed.saturating_add(1);
        let trusted = self.dirs >= TRUSTED_AFTER
            && self.listed <= TRUSTED_DIRS
            && self.last.elapsed() < TRUSTED_FOR;
        trusted.then(|| (self.order.unwrap_or(Order::Listing), self.window))
    }
}
