//! Ready or wait: the shape of every call that may need bytes which are not in memory.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::error::{Error, Result};

/// The future half of a [`Step`]: owns all it needs, so it can be handed to the runtime together with the reply.
pub type Wait<T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'static>>;

/// The answer at once when everything needed is in memory, otherwise a future that fetches and then answers.
///
/// A hit costs no box, no task and no thread hop. A caller on a kernel thread answers `Ready` inline and gives `Wait`
/// to the runtime; it never blocks. The future carries no deadline of its own: who awaits it sets one.
#[must_use]
pub enum Step<T> {
    /// The answer, now.
    Ready(Result<T>),
    /// The answer, later.
    Wait(Wait<T>),
}

impl<T: Send + 'static> Step<T> {
    /// An immediate success.
    pub fn ok(value: T) -> Self {
        Step::Ready(Ok(value))
    }

    /// An immediate failure.
    pub fn err(error: Error) -> Self {
        Step::Ready(Err(error))
    }

    /// The answer of `future`, later.
    pub fn wait(future: impl Future<Output = Result<T>> + Send + 'static) -> Self {
        Step::Wait(Box::pin(future))
    }

    /// Begins `future` at once: when it has nothing to wait for, this is its answer.
    pub fn begun(future: impl Future<Output = Result<T>> + Send + 'static) -> Self {
        let mut wait: Wait<T> = Box::pin(future);
        // Who waits for it polls it anew, with a waker that wakes somebody.
        match wait.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Step::Ready(result),
            Poll::Pending => Step::Wait(wait),
        }
    }

    /// The same step with its success mapped; stays ready when it was ready.
    pub fn map<U: Send + 'static>(self, f: impl FnOnce(T) -> Result<U> + Send + 'static) -> Step<U> {
        match self {
            Step::Ready(result) => Step::Ready(result.and_then(f)),
            Step::Wait(wait) => Step::wait(async move { f(wait.await?) }),
        }
    }

    /// Goes on with another step; stays ready when both are.
    pub fn then<U: Send + 'static>(self, f: impl FnOnce(T) -> Step<U> + Send + 'static) -> Step<U> {
        match self {
            Step::Ready(Ok(value)) => f(value),
            Step::Ready(Err(error)) => Step::Ready(Err(error)),
            Step::Wait(wait) => Step::wait(async move { f(wait.await?).resolve().await }),
        }
    }

    /// Waits for the answer: for callers that are asynchronous anyway.
    pub async fn resolve(self) -> Result<T> {
        match self {
            Step::Ready(result) => result,
            Step::Wait(wait) => wait.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn ready_stays_ready_through_map_and_then() {
        let step = Step::ok(2).map(|n| Ok(n + 1)).then(|n| Step::ok(n * 10));
        assert!(matches!(step, Step::Ready(Ok(30))));
    }

    #[tokio::test]
    async fn what_was_begun_is_ready_unless_it_waits_and_then_goes_on() {
        assert!(matches!(Step::begun(async { Ok(1) }), Step::Ready(Ok(1))));
        let (tell, told) = tokio::sync::oneshot::channel();
        let step = Step::begun(async move { Ok(told.await.unwrap_or(0) + 1) });
        assert!(matches!(step, Step::Wait(_)));
        let waiting = tokio::spawn(step.resolve());
        tokio::task::yield_now().await;
        tell.send(2).unwrap();
        assert_eq!(waiting.await.unwrap().unwrap(), 3);
    }

    #[tokio::test]
    async fn waiting_steps_chain_and_errors_stop_the_chain() {
        let step =
            Step::wait(async { Ok(1) }).then(|n| Step::wait(async move { Ok(n + 1) })).map(|n| Ok(n + 1));
        assert_eq!(step.resolve().await.unwrap(), 3);
        let failed = Step::<u8>::wait(async { Err(Error::new(Kind::Corrupt, "bad")) })
            .map(|_| -> Result<u8> { panic!("mapped a failure") });
        assert_eq!(failed.resolve().await.unwrap_err().kind(), Kind::Corrupt);
    }
}
