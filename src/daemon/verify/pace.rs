//! How fast stores are asked, and when it is to end.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::observe::metrics;

/// Ends a run early. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Stop(watch::Sender<bool>);

impl Stop {
    /// Ends it, for every clone.
    pub fn set(&self) {
        self.0.send_replace(true);
    }

    /// Whether it is to end.
    pub fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// What `work` comes to, or nothing when it is to end before.
    pub(super) async fn or<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut ended = self.0.subscribe();
        tokio::select! {
            biased;
            _ = ended.wait_for(|is_set| *is_set) => None,
            done = work => Some(done),
        }
    }
}

/// Holds what stores deliver to a rate, over the whole run.
pub(super) struct Pace {
    rate: Option<u64>,
    began: Instant,
    /// Bytes that stores had delivered by then.
    before: u64,
    pub stop: Stop,
}

impl Pace {
    /// Of a run that begins now, at `rate` bytes a second if it is to be bounded.
    pub(super) fn new(rate: Option<u64>, stop: Stop) -> Self {
        Pace { rate, began: Instant::now(), before: metrics::STORE_BYTES.value(), stop }
    }

    /// Waits until what was delivered so far is no more than the time allows. False when it is to end.
    pub(super) async fn keep(&self) -> bool {
        let delivered = metrics::STORE_BYTES.value().saturating_sub(self.before);
        if let Some(ahead) =
            self.rate.and_then(|rate| time_for(delivered, rate).checked_sub(self.began.elapsed()))
        {
            return self.stop.or(sleep(ahead)).await.is_some();
        }
        !self.stop.is_set()
    }
}

fn time_for(bytes: u64, rate: u64) -> Duration {
    let millis = u128::from(bytes) * 1000 / u128::from(rate.max(1));
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_held_over_the_run() {
        let pace = Pace::new(Some(1_000), Stop::default());
        metrics::STORE_BYTES.add(5_000);
        assert!(pace.keep().await);
        assert!(pace.began.elapsed() >= Duration::from_secs(5));
        let free = Pace::new(None, Stop::default());
        assert!(free.keep().await && free.began.elapsed() < Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_hears_of_the_end() {
        let stop = Stop::default();
        let pace = Pace::new(Some(1), stop.clone());
        metrics::STORE_BYTES.add(1_000_000_000);
        let waiting = tokio::spawn(async move { pace.keep().await });
        tokio::task::yield_now().await;
        stop.set();
        assert!(!waiting.await.unwrap());
        assert_eq!(stop.or(std::future::pending::<()>()).await, None);
        assert_eq!(Stop::default().or(async { 7 }).await, Some(7));
    }
}
