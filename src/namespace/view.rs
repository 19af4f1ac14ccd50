//! Which date is shown where: in its set, under `current`, under `at`.

use std::sync::Arc;
use std::time::Duration;

use super::Namespace;
use super::calendar::Word;
use super::date::{Candidate, Place, dress, named, open_first};
use super::diff::{AT, CURRENT};
use super::moment::Moment;
use super::name::key;
use super::place::DateId;
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
        self.identity_of(&set.name, date.id, name)
    }

    /// The same of a date by its id, listed or not.
    pub(super) fn identity_of(&self, set: &[u8], date: DateId, name: &[u8]) -> Identity {
        let id = date.to_be_bytes();
        Identity::Key(match self {
            View::Set => key(&[b"date", set, name, &id]),
            View::Current => key(&[CURRENT, set, &id]),
            View::At(word, _) => key(&[AT, word, set, &id]),
        })
    }

    /// The last moment that is shown here; nothing where the newest is.
    pub(super) fn until(&self, ns: &Namespace) -> Option<Time> {
        match self {
            View::Set | View::Current => None,
            View::At(_, When::Word(word)) => Some(ns.calendar.until(*word, ns.clock.now())),
            View::At(_, When::Named(instant)) => Some(*instant),
        }
    }

    /// Whether this place is called by the own name of `date`.
    pub(super) fn names(&self, state: &State, set: &Set, date: &Date) -> bool {
        match self {
            View::At(word, When::Named(_)) => state.date(set, word).is_some_and(|own| own.id == date.id),
            _ => false,
        }
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
        open_as(self.candidates(state, date), set.name.clone(), place)
    }

    /// A moment that is not listed, as a place shows it.
    pub(super) fn show_moment(
        &self,
        moment: &Moment,
        (identity, validity): (Identity, Validity),
    ) -> Step<Node> {
        let (name, set) = (moment.placed.plain.clone(), moment.placed.set.clone());
        let place = Place { identity, validity, name, shared: self.options.shared, passed: None };
        open_as(vec![moment.candidate()], set, place)
    }
}

/// The first of `candidates` that can be had, as `place` in `set` shows it.
fn open_as(candidates: Vec<Candidate>, set: Arc<[u8]>, place: Place) -> Step<Node> {
    let listed = place.name.clone();
    let opened = open_first(candidates);
    let tell = move |result: Result<_>| named(result, &set, &listed);
    let opened = match opened {
        Step::Ready(result) => Step::Ready(tell(result)),
        Step::Wait(wait) => Step::wait(async move { tell(wait.await) }),
    };
    opened.then(move |(candidate, opened)| dress(candidate, opened, place))
}
