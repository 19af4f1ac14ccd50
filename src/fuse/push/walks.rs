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

/// A process that reads files.
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

    /// The files of directory `dir`, which were to be surveyed.
    pub fn surveyed(&mut self, dir: u64, survey: Arc<Survey>) -> Vec<Job> {
        let Some(walk) = self.dirs.iter_mut().find(|walk| walk.dir == dir) else { return Vec::new() };
        let mut walker = self.walkers.iter_mut().find(|walker| walker.pid == walk.pid);
        let goes_on = walker.as_ref().is_some_and(|walker| walker.listed % FEW_LEFT_OUT != 0);
        let whole = survey.len() < FEW && walk.order.is_some() && goes_on;
        let jobs = walk.surveyed(survey, whole);
        if let (Some(walker), Some(order)) = (&mut walker, walk.order) {
            walker.goes_by(order, walk.window);
        }
        jobs
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
        let trusted =
            self.dirs >= TRUSTED_AFTER && self.listed <= TRUSTED_DIRS && self.last.elapsed() < TRUSTED_FOR;
        trusted.then(|| (self.order.unwrap_or(Order::Listing), self.window))
    }
}

#[cfg(test)]
mod tests {
    use super::super::survey::tests::{number, survey};
    use super::super::walk::Push;
    use super::*;

    const CP: u32 = 500;

    fn is_survey(job: &Option<Job>, dir: u64) -> bool {
        matches!(job, Some(Job::Survey(of)) if *of == dir)
    }

    /// `CP` reads the first three files of `dir` as they are listed; the windows that follow.
    fn walk_through(walks: &mut Walks, dir: u64, files: u64) -> Vec<Push> {
        walks.listed(CP, dir);
        let asked: Vec<_> = (1..=3).map(|n| walks.read(CP, dir, n * 10, number(n))).collect();
        assert!(asked.iter().any(|job| is_survey(job, dir)));
        pushes(walks.surveyed(dir, Arc::new(survey(files))))
    }

    fn pushes(jobs: Vec<Job>) -> Vec<Push> {
        jobs.into_iter()
            .map(|job| match job {
                Job::Push(push) => push,
                Job::Survey(dir) => panic!("asks for a survey of {dir}"),
            })
            .collect()
    }

    #[test]
    fn who_was_seen_walking_is_trusted_in_the_directories_it_lists_next() {
        let mut walks = Walks::default();
        assert!(walks.listed(CP, 1).is_none(), "nobody is trusted before");
        assert_eq!(walk_through(&mut walks, 1, 50).len(), 1);
        assert!(is_survey(&walks.listed(CP, 2), 2));
        assert!(walks.listed(CP + 1, 3).is_none(), "somebody else only lists");
        let all = pushes(walks.surveyed(2, Arc::new(survey(50))));
        assert!(all.iter().map(|push| push.ranks.clone()).eq(std::iter::once(1..50)));
        assert_eq!(all[0].order, Order::Listing);
    }

    #[test]
    fn reading_one_file_in_each_of_three_directories_is_walking_too() {
        let mut walks = Walks::default();
        for dir in 1..=3 {
            assert!(walks.listed(CP, dir).is_none());
            assert!(walks.read(CP, dir, 10, number(1)).is_none());
        }
        assert!(is_survey(&walks.listed(CP, 4), 4));
        // Of few files most are pushed whole: otherwise every second would be left out.
        let ranges = |walks: &mut Walks, dir| {
            pushes(walks.surveyed(dir, Arc::new(survey(2)))).into_iter().map(|push| push.ranks).next()
        };
        assert_eq!(ranges(&mut walks, 4), Some(0..2));
        let whole = (5..12).filter(|dir| {
            assert!(is_survey(&walks.listed(CP, *dir), *dir));
            ranges(&mut walks, *dir) == Some(0..2)
        });
        let whole = whole.count();
        assert!((5..=6).contains(&whole), "{whole} of 7, so that reads go on showing that it reads");
    }

    #[test]
    fn trust_ends_when_it_lists_without_reading_and_comes_back_with_a_read() {
        let mut walks = Walks::default();
        walk_through(&mut walks, 1, 50);
        let trusted = (100..200).take_while(|dir| walks.listed(CP, *dir).is_some()).count();
        assert_eq!(trusted, TRUSTED_DIRS as usize);
        assert!(walks.listed(CP, 201).is_none());
        walks.read(CP, 202, 10, number(1));
        assert!(walks.listed(CP, 203).is_some());
    }

    #[test]
    fn only_so_many_are_remembered_the_latest_of_all() {
        let mut walks = Walks::default();
        for n in 0..100 {
            walks.read(CP + n, u64::from(n), 10, number(1));
        }
        assert_eq!((walks.dirs.len(), walks.walkers.len()), (REMEMBERED, REMEMBERED));
        assert!(walks.dirs.iter().any(|walk| walk.dir == 99));
        assert!(walks.surveyed(0, Arc::new(survey(9))).is_empty(), "it is forgotten");
        walks.end(99);
        assert!(!walks.dirs.iter().any(|walk| walk.dir == 99));
    }
}
