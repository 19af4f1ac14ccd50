//! Which date is shown where: in its set, under `current`, under `at`.

use std::sync::Arc;
use std::time::Duration;

use super::Namespace;
use super::calendar::Word;
use super::date::{Place, dress, named, open_first};
use super::diff::{AT, CURRENT};
use super::name::key;
use super::state::{Date, Set, State};
use crate::error::Result;
use crate::tree::{Ancestor, Identity, Node, Step, Time, Validity};

/// Where a date is shown.
#[derive(Clone)]
pub(super) enum View {
    /// In its set, under one of its names.
    Set,
    /// `current/<set>`.
    Current,
    /// `at/<word>/<set>`.
    At(Arc<[u8]>, When),
}

/// What a name below `at` means.
#[derive(Clone)]
pub(super) enum When {
    Word(Word),
    /// A snapshot's own name: in its set that snapshot, elsewhere its instant.
    Named(Time),
}

impl View {
    /// What makes the directory of `date` in this place that directory; `name` is how it is called in its set.
    pub(super) fn identity(&self, set: &Set, date: &Date, name: &[u8]) -> Identity {
        let id = date.id.to_be_bytes();
        Identity::Key(match self {
            View::Set => key(&[b"date", &set.name, name, &id]),
            View::Current => key(&[CURRENT, &set.name, &id]),
            View::At(word, _) => key(&[AT, word, &set.name, &id]),
        })
    }

    /// How long answers in this place may be kept.
    pub(super) fn validity(&self, refresh: Duration) -> Validity {
        match self {
            View::Set => Validity::Forever,
            View::At(_, When::Word(Word::DaysAgo(_))) => Validity::For(refresh.min(Duration::from_secs(1))),
            View::Current | View::At(..) => Validity::For(refresh),
        }
    }

    /// The date that a set shows here.
    pub(super) fn choose<'a>(&self, ns: &Namespace, state: &State, set: &'a Set) -> Option<&'a Date> {
        match self {
            View::Set | View::Current => set.newest(),
            View::At(_, When::Word(word)) => set.newest_until(ns.calendar.until(*word, ns.clock.now())),
            View::At(word, When::Named(instant)) => {
                state.date(set, word).or_else(|| set.newest_until(*instant))
            }
        }
    }
}

/// What `name` means below `at`: days first, then snapshots' own names, then other moments.
pub(super) fn meaning(ns: &Namespace, state: &State, name: &[u8]) -> Option<When> {
    let word = ns.calendar.word(name);
    if let Some(day @ (Word::DaysAgo(_) | Word::Day(_))) = word {
        return Some(When::Word(day));
    }
    let own = state.sets.iter().filter_map(|set| state.date(set, name)).map(|date| date.instant).max();
    own.map(When::Named).or(word.map(When::Word))
}

impl Namespace {
    /// A date as `place` (identity and validity) shows it; `passed` is what the directory above keeps out.
    pub(super) fn show(
        &self,
        state: &State,
        set: &Set,
        date: &Date,
        (identity, validity): (Identity, Validity),
        passed: Option<Ancestor>,
    ) -> Step<Node> {
        let name = date.listed.clone();
        let place = Place { identity, validity, name, shared: self.options.shared, passed };
        let (set, listed) = (set.name.clone(), date.listed.clone());
        let opened = open_first(self.candidates(state, date));
        let tell = move |result: Result<_>| named(result, &set, &listed);
        let opened = match opened {
            Step::Ready(result) => Step::Ready(tell(result)),
            Step::Wait(wait) => Step::wait(async move { tell(wait.await) }),
        };
        opened.then(move |(candidate, opened)| dress(candidate, opened, place))
    }
}
