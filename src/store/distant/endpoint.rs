//! A server, as all stores at one address see it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::breaker::Breaker;
use super::bucket::Bucket;
use super::limit::{Limit, Load};
use crate::error::{Again, Error, Kind};
use crate::observe::links::{self, Link};
use crate::observe::metrics;
use crate::store::named::Named;

/// Whether a server is up, and how much is asked of it.
pub struct Endpoint {
    name: String,
    pub(super) breaker: Breaker,
    pub(super) limit: Limit,
    pub(super) bucket: Bucket,
    requests: AtomicU64,
    failures: AtomicU64,
    retries: AtomicU64,
    /// What the last failure was.
    last: Mutex<Option<Error>>,
}

static ENDPOINTS: Named<String, Endpoint> = Named::new();

impl Endpoint {
    /// The endpoint called `name`: scheme, host and port of a server, without secrets. All who name it get the same one
    /// while anybody has it, and `status` shows it.
    pub fn of(name: &str) -> Arc<Self> {
        ENDPOINTS.get(name, || Endpoint::new(name))
    }

    fn new(name: &str) -> Arc<Self> {
        let endpoint = Arc::new(Endpoint {
            name: name.to_owned(),
            breaker: Breaker::new(),
            limit: Limit::new(),
            bucket: Bucket::new(),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            last: Mutex::new(None),
        });
        let shown: Arc<dyn links::Report> = Arc::<Self>::clone(&endpoint);
        links::register(&shown);
        endpoint
    }

    /// The error of a call that is not made, because the next one is made in `retry`.
    pub(super) fn refusal(&self, retry: Duration) -> Error {
        metrics::STORE_REFUSALS.add(1);
        let seconds = self.breaker.open_for().unwrap_or_default().as_secs();
        let says = format!("{} has not answered for {seconds} s and is not asked now", self.name);
        match self.last() {
            Some(last) => last.context(says).with_kind(Kind::Unavailable),
            None => Error::new(Kind::Unavailable, says),
        }
        .worth(Again::Down(retry))
    }

    /// The server answered a request.
    pub(super) fn answered(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.bucket.succeeded();
        if let Some(down) = self.breaker.succeeded() {
            self.bucket.forgive();
            tracing::info!("{}: answers again, after {} s", self.name, down.as_secs());
        }
    }

    /// A request failed with `error`; what that says about the server's load.
    pub(super) fn failed(&self, error: &Error) -> Load {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let (load, weight) = match (error.again(), error.kind()) {
            // It is up, until fewer requests do not help either.
            (Again::Slower(_), _) => (Load::TooMuch, u32::from(self.limit.is_least())),
            (Again::Soon, Kind::TimedOut) => (Load::TooMuch, 2),
            (Again::Soon, Kind::Unavailable) => (Load::Unknown, 1),
            // About the object, not about the server.
            _ => (Load::Unknown, 0),
        };
        metrics::STORE_FAILURES.add(1);
        self.failures.fetch_add(1, Ordering::Relaxed);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
        if weight > 0 && self.breaker.failed(weight) {
            tracing::warn!("{}: does not answer, and is asked every few seconds only: {error}", self.name);
        }
        load
    }

    /// Whether it ever answered.
    pub(super) fn has_answered(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > self.failures.load(Ordering::Relaxed)
    }

    /// A request is sent once more.
    pub(super) fn retried(&self) {
        metrics::STORE_RETRIES.add(1);
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    fn last(&self) -> Option<Error> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl links::Report for Endpoint {
    fn report(&self) -> Link {
        let (in_flight, limit) = self.limit.in_flight();
        Link {
            name: self.name.clone(),
            down_for: self.breaker.open_for(),
            error: self.last().map(|error| error.to_string()),
            in_flight,
            limit,
            requests: self.requests.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
        }
    }
}
