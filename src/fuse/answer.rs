//! Where kernel threads and the runtime meet, and the one exit for failures.
//!
//! A kernel thread asks the tree. What is ready it answers itself; what has to be waited for moves, with the reply,
//! into a task with a deadline, and the thread takes the next request. A panic on either side costs that request.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::runtime::Handle;

use super::errno;
use super::failures::Failures;
use super::polling::Pace;
use crate::error::{Error, Kind, Result};
use crate::observe::{metrics, waiting};
use crate::tree::{Step, Wait};

/// What a request was, for logs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// Name of the operation.
    pub operation: &'static str,
    /// The inode it was about.
    pub ino: u64,
    /// Longest wait.
    pub limit: Duration,
}

/// A reply that can refuse.
pub(super) trait Reply: Send + 'static {
    /// Answers with an errno.
    fn refuse(self, errno: fuser::Errno);
}

macro_rules! replies {
    ($($reply:ident),+) => {
        $(impl Reply for fuser::$reply {
            fn refuse(self, errno: fuser::Errno) {
                self.error(errno);
            }
        })+
    };
}

replies!(
    ReplyAttr,
    ReplyData,
    ReplyDirectory,
    ReplyDirectoryPlus,
    ReplyEmpty,
    ReplyEntry,
    ReplyLseek,
    ReplyOpen,
    ReplyStatfs,
    ReplyXattr
);

/// Answers requests.
#[derive(Clone)]
pub(super) struct Desk {
    runtime: Handle,
    failures: Failures,
    pace: Arc<Pace>,
}

impl Desk {
    /// Waits happen on `runtime`; `pace` hears of every answer.
    pub fn new(runtime: Handle, failures: Failures, pace: Arc<Pace>) -> Self {
        Desk { runtime, failures, pace }
    }

    /// Does `work` and gives its result to `finish`, which sends the reply; a failure is logged and sent as its errno.
    pub fn answer<R: Reply, T: Send + 'static>(
        &self,
        call: Call,
        reply: R,
        work: impl FnOnce() -> Step<T>,
        finish: impl FnOnce(R, T) + Send + 'static,
    ) {
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Step::Ready(result)) => {
                self.pace.inline();
                self.close(call, reply, result, finish);
            }
            Ok(Step::Wait(wait)) => {
                self.pace.waits();
                metrics::FUSE_WAITS.add(1);
                let waiting = waiting::begin(call.operation, call.ino);
                let desk = self.clone();
                self.runtime.spawn(async move {
                    let result = within(call.limit, wait).await;
                    drop(waiting);
                    desk.close(call, reply, result, finish);
                });
            }
            Err(panic) => self.refuse(call, reply, &panicked(&*panic)),
        }
    }

    /// The exit for failures: logs, then refuses.
    pub fn refuse<R: Reply>(&self, call: Call, reply: R, error: &Error) {
        self.failures.note(call, error);
        reply.refuse(errno::of(error.kind()));
    }

    fn close<R: Reply, T>(&self, call: Call, reply: R, result: Result<T>, finish: impl FnOnce(R, T)) {
        match result {
            Err(error) => self.refuse(call, reply, &error),
            Ok(value) => {
                // A reply dropped by a panic answers EIO by itself.
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| finish(reply, value))) {
                    self.failures.note(call, &panicked(&*panic));
                }
            }
        }
    }
}

/// The result of `wait`, or what became of it: a panic, or the deadline.
pub(super) async fn within<T>(limit: Duration, wait: Wait<T>) -> Result<T> {
    match tokio::time::timeout(limit, AssertUnwindSafe(wait).catch_unwind()).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(panicked(&*panic)),
        Err(_) => Err(Error::new(Kind::TimedOut, format!("no answer within {limit:?}"))),
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let words = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    Error::new(Kind::Internal, format!("panic: {words}"))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    struct Probe(Sender<i32>);

    impl Reply for Probe {
        fn refuse(self, errno: fuser::Errno) {
            self.0.send(-errno.code()).unwrap();
        }
    }

    impl Drop for Probe {
        fn drop(&mut self) {
            // What fuser's replies do when nobody has sent them.
            let _ = self.0.send(-1000);
        }
    }

    const CALL: Call = Call { operation: "test", ino: 1, limit: Duration::from_millis(20) };

    fn outcome(work: impl FnOnce() -> Step<i32>, finish: impl FnOnce(Probe, i32) + Send + 'static) -> i32 {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (sender, receiver) = channel();
        let desk = Desk::new(runtime.handle().clone(), Failures::default(), Pace::new());
        desk.answer(CALL, Probe(sender), work, finish);
        receiver.recv().unwrap()
    }

    fn send(probe: Probe, value: i32) {
        probe.0.send(value).unwrap();
    }

    #[test]
    fn answers_what_is_ready_on_the_callers_thread() {
        let here = std::thread::current().id();
        let finish = move |probe: Probe, value| {
            send(probe, if std::thread::current().id() == here { value } else { -1 })
        };
        assert_eq!(outcome(|| Step::ok(5), finish), 5);
    }

    #[test]
    fn answers_what_has_to_be_waited_for_elsewhere() {
        let here = std::thread::current().id();
        let finish = move |probe: Probe, value| {
            send(probe, if std::thread::current().id() == here { -1 } else { value })
        };
        assert_eq!(outcome(|| Step::wait(async { Ok(6) }), finish), 6);
    }

    #[test]
    fn what_never_comes_times_out() {
        assert_eq!(outcome(|| Step::wait(std::future::pending()), send), -libc::ETIMEDOUT);
    }

    #[test]
    fn a_panic_costs_the_request_wherever_it_happens() {
        assert_eq!(outcome(|| panic!("at once"), send), -libc::EIO);
        assert_eq!(outcome(|| Step::wait(async { panic!("later") }), send), -libc::EIO);
        let finish = |_: Probe, _| panic!("while answering");
        assert_eq!(outcome(|| Step::ok(1), finish), -1000);
    }

    #[test]
    fn failures_become_their_errno_on_both_ways() {
        let stale = || Error::new(Kind::Stale, "gone");
        assert_eq!(outcome(move || Step::err(stale()), send), -libc::ESTALE);
        assert_eq!(outcome(move || Step::wait(async move { Err(stale()) }), send), -libc::ESTALE);
    }
}
