//! The pool for work of the processor: decrypting, decompressing, hashing, parsing. As many jobs run as there are cores.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::error::{Error, Kind, Result};

/// Runs jobs on blocking threads, never more at a time than there are cores.
pub struct Pool {
    cores: Arc<Semaphore>,
}

impl Default for Pool {
    /// One job per core.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Pool { cores: Arc::new(Semaphore::new(cores)) }
    }
}

impl Pool {
    /// The answer of `job`. A job that was begun ends even when the caller is dropped; a panic in it is
    /// `Kind::Internal`.
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let stopped = |_| Error::new(Kind::Internal, "the decoding pool was closed");
        let core = Arc::clone(&self.cores).acquire_owned().await.map_err(stopped)?;
        let done = tokio::task::spawn_blocking(move || {
            let answer = job();
            drop(core);
            answer
        });
        done.await.map_err(|e| Error::caused_by(Kind::Internal, "a decoding job died", e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn runs_no_more_jobs_than_cores_and_survives_a_panic() {
        let pool = Pool::default();
        let cores = pool.cores.available_permits();
        let running = Arc::new(AtomicUsize::new(0));
        let jobs = (0..cores * 8).map(|n| {
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
            assert!(running <= cores, "{running} of {cores}");
        }
        let died = pool.run(|| panic!("on purpose")).await.map(|(): ()| ());
        assert_eq!(died.unwrap_err().kind(), Kind::Internal);
        assert_eq!(pool.cores.available_permits(), cores);
    }
}
