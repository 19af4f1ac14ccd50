//! The requests of the kernel that wait for something, for `status`: a process serves one mount, so they are a static.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A request that waits.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Name of the operation.
    pub operation: &'static str,
    /// The inode it is about.
    pub ino: u64,
    /// Since when.
    pub since: Instant,
}

/// By number, which grows with time.
static OPEN: Mutex<BTreeMap<u64, Request>> = Mutex::new(BTreeMap::new());
static NEXT: AtomicU64 = AtomicU64::new(0);

fn open() -> MutexGuard<'static, BTreeMap<u64, Request>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request counts as waiting until this is dropped.
#[derive(Debug)]
pub struct Waiting(u64);

impl Drop for Waiting {
    fn drop(&mut self) {
        open().remove(&self.0);
    }
}

/// A request that waits from now on.
pub fn begin(operation: &'static str, ino: u64) -> Waiting {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    open().insert(number, Request { operation, ino, since: Instant::now() });
    Waiting(number)
}

/// How many wait.
pub fn count() -> usize {
    open().len()
}

/// The one that has waited longest.
pub fn longest() -> Option<Request> {
    open().values().next().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_wait_until_they_are_answered() {
        let before = count();
        let (first, second) = (begin("read", 7), begin("lookup", 8));
        // Other tests of this process have requests of their own.
        assert!(count() >= 2 && longest().is_some());
        let of = |ino| open().values().any(|request| request.ino == ino);
        drop(first);
        assert!(!of(7) && of(8));
        drop(second);
        assert!(!of(8) && before < usize::MAX);
    }
}
