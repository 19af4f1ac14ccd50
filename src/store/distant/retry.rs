//! Sends a request once more when what went wrong may pass, as long as whoever asked waits.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::around::{Around, Call, Weight};
use super::endpoint::Endpoint;
use crate::error::{Again, Error, Kind, Result};

/// The n-th pause is a random time up to this, doubled n times; all times up to the bound are equally likely ("full
/// jitter"), so that those who failed together do not come back together.
const BASE: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// So many attempts, 15 s on average: what fails so often while the server answers others is the object's own trouble.
const ATTEMPTS: u32 = 12;

/// A wrong answer is fetched so many times at most.
const ATTEMPTS_IF_WRONG: u32 = 3;

/// How long a server is waited for that never answered.
const FIRST_PATIENCE: Duration = Duration::from_secs(10);

/// A call of which nobody knows how much it brings is cut off after this, were it never to end.
const ENDLESS: Duration = Duration::from_secs(600);

/// Repeats what may pass.
pub(super) struct Retry {
    endpoint: Arc<Endpoint>,
    patience: Duration,
}

impl Retry {
    pub(super) fn new(endpoint: Arc<Endpoint>, patience: Duration) -> Self {
        Retry { endpoint, patience }
    }

    /// How long to wait before another attempt; `None` when there is to be none. `sent` attempts went out before
    /// `error` came.
    fn pause(&self, error: &Error, sent: u32, left: Duration) -> Option<Duration> {
        let backoff = BASE.saturating_mul(1 << sent.min(10)).min(LONGEST).mul_f64(random());
        let (pause, most) = match error.again() {
            Again::Never | Again::Unsent => return None,
            Again::Down(retry) => return Some(retry).filter(|pause| *pause < left),
            Again::Slower(retry) => (backoff.max(retry.unwrap_or_default()), ATTEMPTS),
            Again::Soon if error.kind() == Kind::Corrupt => (backoff, ATTEMPTS_IF_WRONG),
            Again::Soon => (backoff, ATTEMPTS),
        };
        if sent >= most || pause >= left {
            return None;
        }
        let queue = self.endpoint.bucket.take(left - pause)?;
        self.endpoint.retried();
        Some(pause + queue)
    }

    /// How long an answer is waited for, pauses included. Whoever comes when the server is known to be down is told at
    /// once, or is the probe that finds out; whoever came before waits for it. A server that never answered may not be
    /// there at all.
    fn patience(&self) -> Duration {
        if self.endpoint.breaker.is_certain() {
            Duration::ZERO
        } else if self.endpoint.has_answered() {
            self.patience
        } else {
            self.patience.min(FIRST_PATIENCE)
        }
    }

    /// Waits so long, but not longer than until a server that was down answers somebody; never shorter than it asked for.
    async fn wait(&self, pause: Duration, error: &Error) {
        let named = match error.again() {
            Again::Slower(Some(named)) => named.min(pause),
            _ => Duration::ZERO,
        };
        sleep(named).await;
        // Whether it came back or time is up, there is another attempt.
        let _ = timeout(pause - named, self.endpoint.breaker.recovers()).await;
    }
}

impl Around for Retry {
    async fn around<'a, T, F>(&'a self, call: Call, attempt: F) -> Result<T>
    where
        T: Weight + Send + 'a,
        F: Fn() -> BoxFuture<'a, Result<T>> + Send + Sync + 'a,
    {
        let (begun, patience) = (Instant::now(), self.patience());
        let cut = match call {
            Call::Short => self.patience,
            Call::Open => ENDLESS.max(self.patience),
        };
        let (mut sent, mut before) = (0, None);
        loop {
            let Ok(result) = timeout_at(begun + cut, attempt()).await else {
                return Err(before.unwrap_or_else(|| late(cut)));
            };
            let error = match result {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if !matches!(error.again(), Again::Down(_)) {
                sent += 1;
            }
            let left = patience.saturating_sub(begun.elapsed());
            let Some(pause) = self.pause(&error, sent, left) else {
                return Err(told(error, sent, begun.elapsed()));
            };
            self.wait(pause, &error).await;
            before = Some(error);
        }
    }
}

fn late(after: Duration) -> Error {
    Error::new(Kind::TimedOut, format!("no answer within {} s", after.as_secs()))
}

/// The error with a word about what was tried in vain.
fn told(error: Error, sent: u32, took: Duration) -> Error {
    match sent {
        0 | 1 => error,
        _ => error.context(format!("tried {sent} times in {} s", took.as_secs())),
    }
}

/// A number from 0 to 1, all equally likely. Not for secrets.
fn random() -> f64 {
    let bits = u32::try_from(RandomState::new().hash_one(0) >> 32).unwrap_or(u32::MAX);
    f64::from(bits) / f64::from(u32::MAX)
}
