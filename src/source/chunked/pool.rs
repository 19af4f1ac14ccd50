//! The pool for work of the processor: decrypting, decompressing, hashing, parsing. As many threads as there are cores,
//! and always the same ones, because decoding keeps buffers per thread.

use std::collections::VecDeque;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::error::{Error, Kind, Result};

type Job = Box<dyn FnOnce() + Send>;

/// Whether somebody waits for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Somebody does.
    Awaited,
    /// It is done ahead of its need: after those that are awaited.
    Ahead,
}

/// Of so many jobs one is of the less urgent kind, when there are any: somebody may have come to wait for it since.
const FAIR: u32 = 8;

/// Threads that run jobs: those awaited first, in the order in which they come. They end when the pool is dropped.
pub struct Pool {
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    jobs: Mutex<Jobs>,
    ready: Condvar,
}

#[derive(Default)]
struct Jobs {
    awaited: VecDeque<Job>,
    ahead: VecDeque<Job>,
    turn: u32,
    closed: bool,
}

impl Default for Pool {
    /// One thread per core.
    fn default() -> Self {
        let queue = Arc::<Queue>::default();
        for number in 0..cores() {
            let queue = Arc::clone(&queue);
            let thread = std::thread::Builder::new().name(format!("decode-{number}"));
            if let Err(error) = thread.spawn(move || queue.work()) {
                tracing::error!("a decoding thread cannot be started: {error}");
            }
        }
        Pool { queue }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, NonZero::get)
}

impl Jobs {
    fn next(&mut self) -> Option<Job> {
        self.turn = self.turn.wrapping_add(1);
        let (first, second) = match self.turn % FAIR {
            0 => (&mut self.ahead, &mut self.awaited),
            _ => (&mut self.awaited, &mut self.ahead),
        };
        first.pop_front().or_else(|| second.pop_front())
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut jobs = self.lock();
        loop {
            match jobs.next() {
                Some(job) => {
                    drop(jobs);
                    // What a job that panics leaves half done is dropped with it.
                    let _ = catch_unwind(AssertUnwindSafe(job));
                    jobs = self.lock();
                }
                None if jobs.closed => return,
                None => jobs = self.ready.wait(jobs).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

impl Pool {
    /// Has `job` done. A panic in it ends it and nothing else.
    pub fn submit(&self, urgency: Urgency, job: impl FnOnce() + Send + 'static) {
        let mut jobs = self.queue.lock();
        match urgency {
            Urgency::Awaited => jobs.awaited.push_back(Box::new(job)),
            Urgency::Ahead => jobs.ahead.push_back(Box::new(job)),
        }
        drop(jobs);
        self.queue.ready.notify_one();
    }

    /// The answer of `job`, which is done even when the caller is dropped. A panic in it is `Kind::Internal`.
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (answer, done) = oneshot::channel();
        self.submit(Urgency::Awaited, move || {
            // Nobody may be waiting any more.
            let _ = answer.send(job());
        });
        done.await.map_err(|_| Error::new(Kind::Internal, "a decoding job died"))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.ready.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    #[tokio::test]
    async fn runs_no_more_jobs_than_cores_and_survives_panics() {
        let pool = Pool::default();
        for _ in 0..cores() + 1 {
            let died = pool.run(|| panic!("on purpose")).await.map(|(): ()| ());
            assert_eq!(died.unwrap_err().kind(), Kind::Internal);
        }
        let running = Arc::new(AtomicUsize::new(0));
        let jobs = (0..cores() * 8).map(|n| {
            let running = Arc::clone(&running);
            pool.run(move || {
                let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                std::thread::yield_now();
                running.fetch_sub(1, Ordering::SeqCst);
                (n, now)
            })
        });
        for (n, answer) in futures_util::future::join_all(jobs).await.into_iter().enumerate() {
            let (job, running) = answer.unwrap();
            assert_eq!(job, n);
            assert!(running <= cores(), "{running} of {}", cores());
        }
    }

    #[tokio::test]
    async fn a_job_is_done_though_its_caller_left() {
        let pool = Pool::default();
        let (tell, told) = oneshot::channel();
        let job = pool.run(move || tell.send(7));
        tokio::select! { biased; _ = job => {}, () = std::future::ready(()) => {} }
        assert_eq!(told.await.unwrap(), 7);
    }

    #[test]
    fn what_is_awaited_goes_before_a_long_queue_that_is_not_and_that_is_not_forgotten() {
        let pool = Pool::default();
        let (hold, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        for _ in 0..cores() {
            let held = Arc::clone(&held);
            pool.submit(Urgency::Awaited, move || assert!(held.lock().unwrap().recv().is_err()));
        }
        let order = Arc::new(Mutex::new(Vec::new()));
        let note = |urgency| {
            let order = Arc::clone(&order);
            pool.submit(urgency, move || order.lock().unwrap().push(urgency));
        };
        (0..100).for_each(|_| note(Urgency::Ahead));
        (0..100).for_each(|_| note(Urgency::Awaited));
        drop(hold);
        while order.lock().unwrap().len() < 200 {
            std::thread::yield_now();
        }
        let order = order.lock().unwrap();
        let early = order[..100].iter().filter(|urgency| **urgency == Urgency::Awaited).count();
        assert!(early > 80 && early < 100, "{early} of the first hundred");
    }

    #[test]
    fn threads_end_with_the_pool_and_its_last_job() {
        let pool = Pool::default();
        let queue = Arc::downgrade(&pool.queue);
        let (tell, told) = mpsc::channel();
        pool.submit(Urgency::Ahead, move || tell.send(1).unwrap());
        drop(pool);
        assert_eq!(told.recv(), Ok(1));
        while queue.strong_count() > 0 {
            std::thread::yield_now();
        }
    }
}
