//! How many requests may be sent a second time: some at once, then in proportion to what succeeds.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Retries that may be made at once after a good time.
const MOST: f64 = 32.0;

/// What a success gives: where less than a sixth of all requests fail, retries never wait.
const BY_SUCCESS: f64 = 0.2;

/// What a second gives: at 100 % failures there are no more retries than this.
const BY_SECOND: f64 = 2.0;

/// A token bucket for retries. It may be in debt: whoever takes a token that is not there yet waits for it.
pub(super) struct Bucket(Mutex<Level>);

struct Level {
    tokens: f64,
    at: Instant,
}

impl Level {
    fn refill(&mut self) {
        let now = Instant::now();
        let gained = (now - self.at).as_secs_f64() * BY_SECOND;
        (self.tokens, self.at) = ((self.tokens + gained).min(MOST), now);
    }
}

impl Bucket {
    pub(super) fn new() -> Self {
        Bucket(Mutex::new(Level { tokens: MOST, at: Instant::now() }))
    }

    /// A request succeeded.
    pub(super) fn succeeded(&self) {
        let mut level = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        level.tokens = (level.tokens + BY_SUCCESS).min(MOST);
    }

    /// Takes a token and answers how long to wait before using it; takes none and answers `None` when that would be
    /// longer than `patience`.
    pub(super) fn take(&self, patience: Duration) -> Option<Duration> {
        let mut level = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        level.refill();
        let missing = (1.0 - level.tokens).max(0.0);
        let wait = Duration::from_secs_f64(missing / BY_SECOND);
        (wait <= patience).then(|| {
            level.tokens -= 1.0;
            wait
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn a_few_retries_are_free_and_the_rest_wait_longer_and_longer() {
        let bucket = Bucket::new();
        let waits: Vec<Duration> = (0..64).map(|_| bucket.take(HOUR).unwrap()).collect();
        let (free, paid) = waits.split_at(32);
        assert!(free.iter().all(Duration::is_zero), "{free:?}");
        assert!(paid.is_sorted() && paid[0] > Duration::ZERO, "{paid:?}");
        assert_eq!(paid[31], Duration::from_secs(16), "two a second");
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_wait_takes_nothing() {
        let bucket = Bucket::new();
        while bucket.take(Duration::ZERO).is_some() {}
        for _ in 0..1000 {
            assert_eq!(bucket.take(Duration::from_millis(400)), None);
        }
        assert!(bucket.take(Duration::from_millis(500)).is_some(), "no debt was made");
    }

    #[tokio::test(start_paused = true)]
    async fn successes_and_time_fill_it_up_to_the_brim() {
        for fill in [(1000, 0), (0, 1000)] {
            let bucket = Bucket::new();
            while bucket.take(Duration::ZERO).is_some() {}
            (0..fill.0).for_each(|_| bucket.succeeded());
            tokio::time::advance(Duration::from_secs(fill.1)).await;
            let free = (0..100).filter(|_| bucket.take(Duration::ZERO).is_some()).count();
            assert_eq!(free, 32);
        }
    }
}
