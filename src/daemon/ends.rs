//! What sources leave outside of this process while they are open, and take away when it ends: clones, holds, mounts.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// Whoever waits for the end waits no longer than this.
const PATIENCE: Duration = Duration::from_secs(10);

/// Takes away what a source has made.
pub type End = Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>;

/// What is to be taken away.
#[derive(Default)]
pub struct Ends(Mutex<Vec<End>>);

/// Has it taken away when this is dropped, which must be outside of the runtime's own threads.
pub struct AtEnd {
    runtime: Handle,
    ends: Arc<Ends>,
}

impl Ends {
    /// Notes what `end` takes away.
    pub fn add(&self, end: End) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(end);
    }
}

impl AtEnd {
    /// Of what is noted now, and later.
    pub fn of(ends: &Arc<Ends>, runtime: &Handle) -> Self {
        AtEnd { runtime: runtime.clone(), ends: Arc::clone(ends) }
    }
}

impl Drop for AtEnd {
    fn drop(&mut self) {
        let ends = std::mem::take(&mut *self.ends.0.lock().unwrap_or_else(PoisonError::into_inner));
        if ends.is_empty() {
            return;
        }
        // They may block, and one that hangs must not keep the others.
        let ending = ends.into_iter().map(|end| self.runtime.spawn(end()));
        let all = join_all(ending);
        if self.runtime.block_on(async { timeout(PATIENCE, all).await }).is_err() {
            tracing::warn!(
                "what sources made is left after {} s; it goes at the next start",
                PATIENCE.as_secs()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn what_is_noted_is_done_once_at_the_end() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (ends, done) = (Arc::new(Ends::default()), Arc::new(AtomicU32::new(0)));
        let at_end = AtEnd::of(&ends, runtime.handle());
        for _ in 0..2 {
            let done = Arc::clone(&done);
            ends.add(Box::new(move || {
                Box::pin(async move {
                    done.fetch_add(1, Ordering::Relaxed);
                })
            }));
        }
        assert_eq!(done.load(Ordering::Relaxed), 0);
        drop(at_end);
        assert_eq!(done.load(Ordering::Relaxed), 2);
        drop(AtEnd::of(&ends, runtime.handle()));
        assert_eq!(done.load(Ordering::Relaxed), 2);
    }
}
