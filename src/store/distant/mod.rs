//! What stands around a store that lies behind a network: retries, a circuit breaker, a limit on requests.
//!
//! Each is a store around a store, in this order:
//!
//! 1. [`Retry`] is outermost. Every attempt passes the others by itself, and none of them is held during the pause
//!    between two attempts.
//! 2. [`Gate`] decides whether and when an attempt goes out. Breaker and limit are one wrapper, because a call that is
//!    refused must not queue for a slot first, one that queues must hear that the server has gone down meanwhile, and a
//!    probe must not wait for slots that hanging requests hold.
//! 3. The store itself watches over the transfer ([`super::transfer`]): only there is seen whether bytes come.
//!
//! Breaker, limit and the tokens for retries belong to the server, an [`Endpoint`] that all stores at one address
//! share: thousands of repositories in one bucket find out together that it is down, and do not ask more of it than one.
//!
//! Local stores stay bare. The kernel retries what can be retried on a disk or a file server and gives no answer in
//! between, and a store of its own pool of threads starves nobody else.

mod around;
mod breaker;
mod bucket;
mod endpoint;
mod gate;
mod limit;
mod retry;

pub use endpoint::Endpoint;

use std::sync::Arc;
use std::time::Duration;

use around::Wrapped;
use gate::Gate;
use retry::Retry;

use super::ObjectStore;
use super::bucket::Bucket;

/// `store`, which is at `endpoint`, with all of this around it. A call fails at the latest after `patience`, which is
/// to be less than whoever asks for it waits; a listing or a whole object that keeps coming may take longer.
pub fn guarded(
    store: Arc<dyn ObjectStore>,
    endpoint: Arc<Endpoint>,
    patience: Duration,
) -> Arc<dyn ObjectStore> {
    let gate: Arc<dyn ObjectStore> = Arc::new(Wrapped::new(store, Gate::new(Arc::clone(&endpoint))));
    Arc::new(Wrapped::new(gate, Retry::new(endpoint, patience)))
}

/// The same around a bucket.
pub fn guarded_bucket(
    bucket: Arc<dyn Bucket>,
    endpoint: Arc<Endpoint>,
    patience: Duration,
) -> Arc<dyn Bucket> {
    let gate: Arc<dyn Bucket> = Arc::new(Wrapped::new(bucket, Gate::new(Arc::clone(&endpoint))));
    Arc::new(Wrapped::new(gate, Retry::new(endpoint, patience)))
}

#[cfg(test)]
mod tests;
