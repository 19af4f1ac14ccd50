//! The pool for work of the processor: decrypting, decompressing, hashing, parsing. As many threads as there are cores,
//! and always the same ones, because decoding keeps buffers per thread.

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::error::{Error, Kind, Result};

type Job = Box<dyn FnOnce() + Send>;

/// Threads that run jobs in the order in which they come. They end when the pool is dropped.
pub struct Pool {
    jobs: Sender<Job>,
}

impl Default for Pool {
    /// One thread per core.
    fn default() -> Self {
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..cores() {
            let queue = Arc::clone(&queue);
            let thread = std::thread::Builder::new().name(format!("decode-{number}"));
            if let Err(error) = thread.spawn(move || work(&queue)) {
                tracing::error!("a decoding thread cannot be started: {error}");
            }
        }
        Pool { jobs }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, NonZero::get)
}

fn work(queue: &Mutex<Receiver<Job>>) {
    loop {
        // The lock is held while waiting, so that one idle thread waits for a job and the others for the lock.
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}

impl Pool {
    /// The answer of `job`, which is done even when the caller is dropped. A panic in it is `Kind::Internal`.
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let died = || Error::new(Kind::Internal, "a decoding job died");
        let (answer, done) = oneshot::channel();
        let job = move || {
            // What a job that panics leaves half done is dropped with it.
            if let Ok(value) = catch_unwind(AssertUnwindSafe(job)) {
                // Nobody may be waiting any more.
                let _ = answer.send(value);
            }
        };
        self.jobs.send(Box::new(job)).map_err(|_| died())?;
        done.await.map_err(|_| died())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

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
}
