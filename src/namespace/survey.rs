//! How old the newest snapshots of a group's members are, without unlocking any: by the times of their objects, or by
//! what is known of a member that is open. Counted behind the answer, when somebody asks for the status.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};

use super::clock::time_of;
use super::coverage::{seconds_between, written};
use super::group::Group;
use crate::error::{Error, Result};
use crate::tree::Time;

/// Members that are asked at a time.
const AT_ONCE: usize = 64;

/// So many of the oldest are told by name.
const TOLD: usize = 100;

/// A survey costs a request for each member: it is repeated no more often than this part of what is expected.
const PARTS: u32 = 24;

/// The survey of one group.
#[derive(Default)]
pub(super) struct Survey {
    busy: AtomicBool,
    /// Members that the one under way has asked.
    counted: AtomicUsize,
    last: Mutex<Option<Arc<Summary>>>,
}

/// What a survey found.
pub(super) struct Summary {
    as_of: Time,
    /// The same as [`Namespace::age`](super::Namespace::age).
    ended: u64,
    /// Members whose newest snapshot is not older than expected.
    pub fresh: usize,
    /// Members whose newest is, or that have none.
    pub late: usize,
    /// Members of which it could not be found out, and why of the first of them.
    pub unknown: usize,
    why: Option<Error>,
    /// The oldest, the oldest first; those without any before.
    oldest: Vec<(Option<Time>, Arc<str>)>,
}

/// The right to survey; given back however it ends.
struct Turn(Arc<Group>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.survey.busy.store(false, Ordering::Release);
    }
}

impl Group {
    /// What the last survey found.
    pub(super) fn surveyed(&self) -> Option<Arc<Summary>> {
        self.survey.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins a survey on `runtime`, unless there is one or the last one is still good.
    pub(super) fn begin_survey(self: &Arc<Self>, runtime: &tokio::runtime::Handle) {
        let Ok(above) = self.above() else { return };
        let good_for = self.members.expect_every() / PARTS;
        let is_good = |last: Arc<Summary>| {
            Duration::from_millis(above.age().saturating_sub(last.ended)) < good_for && last.unknown == 0
        };
        if self.surveyed().is_some_and(is_good) {
            return;
        }
        if !self.survey.busy.swap(true, Ordering::Acquire) {
            let turn = Turn(self.clone());
            runtime.spawn(async move { turn.0.take_survey().await });
        }
    }

    async fn take_survey(self: &Arc<Self>) {
        self.survey.counted.store(0, Ordering::Relaxed);
        if self.changed().is_none() {
            self.refresh().await;
        }
        if self.changed().is_none() {
            return;
        }
        let Ok(above) = self.above() else { return };
        let asked = self.member_names().into_iter().map(|member| async move {
            let newest = match self.open_tree(&member) {
                Some(tree) => Ok(tree.newest()),
                None => self.members.newest(&member).await.map(|at| at.map(time_of)),
            };
            self.survey.counted.fetch_add(1, Ordering::Relaxed);
            (member, newest)
        });
        let answers: Vec<_> = stream::iter(asked).buffer_unordered(AT_ONCE).collect().await;
        let summary = Summary::of(answers, above.clock.now(), above.age(), self.members.expect_every());
        *self.survey.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(summary));
    }

    /// The survey as `status.json` has it.
    pub(super) fn survey_json(&self, now: Time) -> Value {
        let is_busy = self.survey.busy.load(Ordering::Acquire);
        let counting = is_busy.then(|| self.survey.counted.load(Ordering::Relaxed));
        let last = self.surveyed().map(|last| last.json(now));
        json!({ "counting": counting, "last": last, "expected_seconds": self.members.expect_every().as_secs() })
    }
}

impl Summary {
    fn of(
        answers: Vec<(Arc<str>, Result<Option<Time>>)>,
        as_of: Time,
        ended: u64,
        expected: Duration,
    ) -> Self {
        let mut summary =
            Summary { as_of, ended, fresh: 0, late: 0, unknown: 0, why: None, oldest: Vec::new() };
        for (member, answer) in answers {
            match answer {
                Ok(newest) => {
                    let is_fresh = newest.is_some_and(|at| seconds_between(at, as_of) <= expected.as_secs());
                    *(if is_fresh { &mut summary.fresh } else { &mut summary.late }) += 1;
                    summary.oldest.push((newest, member));
                }
                Err(error) => {
                    summary.unknown += 1;
                    summary.why.get_or_insert(error);
                }
            }
        }
        summary.oldest.sort_unstable();
        summary.oldest.truncate(TOLD);
        summary
    }

    fn json(&self, now: Time) -> Value {
        let member = |(newest, member): &(Option<Time>, Arc<str>)| {
            json!({
                "member": **member,
                "newest": newest.map(written),
                "age_seconds": newest.map(|newest| seconds_between(newest, now)),
            })
        };
        json!({
            "as_of": written(self.as_of),
            "fresh": self.fresh,
            "late": self.late,
            "unknown": self.unknown,
            "why_unknown": self.why.as_ref().map(ToString::to_string),
            "oldest": self.oldest.iter().map(member).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn at(secs: i64) -> Time {
        Time { secs, nanos: 0 }
    }

    #[test]
    fn members_are_counted_and_the_oldest_told_first() {
        let answers = vec![
            ("fresh".into(), Ok(Some(at(999_000)))),
            ("late".into(), Ok(Some(at(900_000)))),
            ("empty".into(), Ok(None)),
            ("closed".into(), Err(Error::new(Kind::Denied, "no access"))),
            ("later".into(), Ok(Some(at(800_000)))),
        ];
        let summary = Summary::of(answers, at(1_000_000), 0, Duration::from_secs(86_400));
        assert_eq!((summary.fresh, summary.late, summary.unknown), (1, 3, 1));
        let shown = summary.json(at(1_000_100));
        assert_eq!(shown["why_unknown"], "no access");
        let told: Vec<_> =
            shown["oldest"].as_array().unwrap().iter().map(|one| one["member"].clone()).collect();
        assert_eq!(told, ["empty", "later", "late", "fresh"]);
        assert_eq!(
            (&shown["oldest"][0]["age_seconds"], &shown["oldest"][1]["age_seconds"]),
            (&Value::Null, &json!(200_100))
        );
    }

    #[test]
    fn of_many_members_only_the_oldest_are_told() {
        let answers = (0..500).map(|n| (format!("m{n:03}").into(), Ok(Some(at(n))))).collect();
        let summary = Summary::of(answers, at(1_000), 0, Duration::from_secs(100));
        assert_eq!((summary.fresh, summary.late, summary.oldest.len()), (0, 500, TOLD));
        assert_eq!(summary.oldest[0].0, Some(at(0)));
    }
}
