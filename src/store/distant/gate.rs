//! Whether and when an attempt goes out to a server.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::time::timeout;

use super::around::{Around, Call, Weight};
use super::breaker::Admission;
use super::endpoint::Endpoint;
use super::limit::{Load, Slot};
use crate::error::{Again, Error, Kind, Result};

/// Lets attempts through while the server is up, no more of them at a time than it can take.
///
/// Its own error is `Unavailable`, `Again::Down`: the server is down for certain. Until that has been found out, calls
/// wait here.
pub(super) struct Gate {
    endpoint: Arc<Endpoint>,
}

impl Gate {
    pub(super) fn new(endpoint: Arc<Endpoint>) -> Self {
        Gate { endpoint }
    }

    /// A place for one attempt, and whether that is a probe.
    async fn enter(&self) -> Result<(Slot<'_>, bool)> {
        let Endpoint { breaker, limit, .. } = &*self.endpoint;
        loop {
            match breaker.admit() {
                Admission::Probe => return Ok((limit.beyond(), true)),
                Admission::Refused { retry, certain: true } => return Err(self.endpoint.refusal(retry)),
                Admission::Refused { retry, certain: false } => {
                    drop(timeout(retry, breaker.becomes(false)).await);
                }
                Admission::Through => tokio::select! {
                    biased;
                    () = breaker.becomes(true) => {}
                    slot = limit.enter() => return Ok((slot, false)),
                },
            }
        }
    }
}

/// So many connections may break under one probe: they may be what was lost during an outage, not the server.
const CONNECTIONS: usize = 3;

/// Whether a connection broke, which may have been an old one.
fn is_broken(error: &Error) -> bool {
    error.kind() == Kind::Unavailable && error.again() == Again::Soon
}

/// Whether the server itself said this: then it is up, whatever it said.
fn is_answer(error: &Error) -> bool {
    use Kind::{Corrupt, Denied, Invalid, NotFound, Stale, Unsupported};
    error.again() == Again::Never
        && matches!(error.kind(), NotFound | Denied | Stale | Corrupt | Unsupported | Invalid)
}

impl Around for Gate {
    async fn around<'a, T, F>(&'a self, _: Call, attempt: F) -> Result<T>
    where
        T: Weight + Send + 'a,
        F: Fn() -> BoxFuture<'a, Result<T>> + Send + Sync + 'a,
    {
        let (slot, is_probe) = self.enter().await?;
        let mut result = attempt().await;
        for _ in 1..if is_probe { CONNECTIONS } else { 1 } {
            match &result {
                Err(error) if is_broken(error) => self.endpoint.failed(error),
                _ => break,
            };
            result = attempt().await;
        }
        slot.done(match &result {
            Ok(answer) => {
                self.endpoint.answered();
                Load::Answered(answer.weight())
            }
            Err(error) if is_answer(error) => {
                self.endpoint.answered();
                Load::Answered(0)
            }
            // Nobody was asked.
            Err(error) if error.again() == Again::Unsent => Load::Unknown,
            Err(error) => {
                if is_probe {
                    self.endpoint.breaker.probe_failed();
                }
                self.endpoint.failed(error)
            }
        });
        result
    }
}
