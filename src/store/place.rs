//! Blocking calls on the file systems of this machine, some at a time on each: one that hangs, as a file server does that
//! is gone, takes the threads of no other.

use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::named::Named;
use crate::error::{Error, Kind, Result};

/// Blocking calls on one file system at a time: several repositories keep a disk array busy, and ten file systems that
/// hang leave most threads of a runtime free.
pub const CALLS: usize = 48;

/// A file system, and who waits for it.
pub struct Place {
    calls: Arc<Semaphore>,
}

static PLACES: Named<OsString, Place> = Named::new();

impl Place {
    /// The place called `name`, where its file system is mounted. All who name it get the same one while anybody has it.
    pub fn of(name: &OsStr) -> Arc<Self> {
        PLACES.get(name, Place::alone)
    }

    /// A place that nobody shares.
    pub fn alone() -> Arc<Self> {
        Arc::new(Place { calls: Arc::new(Semaphore::new(CALLS)) })
    }

    /// What `call` gives, which blocks a thread of the runtime. It counts until it ends, also when nobody waits for it any
    /// more.
    pub async fn run<T: Send + 'static>(&self, call: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let calls = Arc::clone(&self.calls);
        let permit = calls.acquire_owned().await.map_err(|e| broken("waiting for a call", e))?;
        let run = move || {
            let result = call();
            drop(permit);
            result
        };
        tokio::task::spawn_blocking(run).await.map_err(|e| broken("running a call", e))
    }
}

fn broken(doing: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::caused_by(Kind::Internal, format!("store: {doing}"), error)
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;

    #[test]
    fn who_names_the_same_file_system_shares_it() {
        let place = Place::of("/mnt/same".as_ref());
        assert!(Arc::ptr_eq(&place, &Place::of("/mnt/same".as_ref())));
        assert!(!Arc::ptr_eq(&place, &Place::of("/mnt/other".as_ref())));
        let weak = Arc::downgrade(&place);
        drop(place);
        assert!(weak.upgrade().is_none());
    }

    #[test]
    fn one_that_hangs_takes_no_thread_from_another() {
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(CALLS + 1).build();
        let runtime = runtime.unwrap();
        let (dead, other) = (Place::alone(), Place::alone());
        let (hold, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        runtime.block_on(async {
            let hangs = || {
                let (dead, held) = (Arc::clone(&dead), Arc::clone(&held));
                async move { dead.run(move || held.lock().unwrap().recv()).await }
            };
            let hanging: Vec<_> = (0..4 * CALLS).map(|_| tokio::spawn(hangs())).collect();
            while dead.calls.available_permits() > 0 {
                tokio::task::yield_now().await;
            }
            assert_eq!(other.run(|| 7).await.unwrap(), 7);
            // An abandoned call hangs all the same.
            hanging.iter().for_each(tokio::task::JoinHandle::abort);
            for call in hanging {
                assert!(call.await.unwrap_err().is_cancelled());
            }
            assert_eq!(dead.calls.available_permits(), 0);
            drop(hold);
            assert_eq!(dead.run(|| 7).await.unwrap(), 7);
        });
    }
}
