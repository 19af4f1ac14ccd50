//! The made-up directories: root, sets, `current`, `at`. Each call works on the tree of one moment.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Namespace;
use super::build::FIRST;
use super::calendar::{LATEST, Word, day_name};
use super::diff::{AT, CURRENT};
use super::generated::Generated;
use super::labels::Labels;
use super::name::key;
use super::state::{Date, Set, State};
use crate::error::Result;
use crate::tree::{
    Ancestor, Content, Cookie, Dir, Entry, FileType, Identity, Listing, Meta, Node, Sink, Step, Time,
    Validity,
};

const GENERATED: &[u8] = b".backupfs";
const AT_CURRENT: Cookie = 1;
const AT_AT: Cookie = 2;
const AT_LATEST: Cookie = 1;

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
    fn identity(&self, set: &Set, date: &Date, name: &[u8]) -> Identity {
        let id = date.id.to_be_bytes();
        Identity::Key(match self {
            View::Set => key(&[b"date", &set.name, name, &id]),
            View::Current => key(&[CURRENT, &set.name, &id]),
            View::At(word, _) => key(&[AT, word, &set.name, &id]),
        })
    }

    fn validity(&self, refresh: Duration) -> Validity {
        match self {
            View::Set => Validity::Forever,
            View::At(_, When::Word(Word::DaysAgo(_))) => Validity::For(refresh.min(Duration::from_secs(1))),
            View::Current | View::At(..) => Validity::For(refresh),
        }
    }

    /// The date that a set shows here.
    fn choose<'a>(&self, ns: &Namespace, state: &State, set: &'a Set) -> Option<&'a Date> {
        match self {
            View::Set | View::Current => set.newest(),
            View::At(_, When::Word(word)) => set.newest_until(ns.calendar.until(*word, ns.clock.now())),
            View::At(word, When::Named(instant)) => {
                state.date(set, word).or_else(|| set.newest_until(*instant))
            }
        }
    }
}

/// A directory that follows new snapshots.
fn following(ns: &Namespace, changed: Time) -> Meta {
    Meta::directory(changed, Validity::For(ns.options.refresh))
}

fn directory(meta: Meta, dir: impl Dir + 'static) -> Node {
    Node { meta, content: Content::Dir(Arc::new(dir)), xattrs: None }
}

/// The root.
pub(super) fn root(ns: &Arc<Namespace>) -> Node {
    directory(following(ns, ns.state.load().root_changed), Root(ns.clone()))
}

fn current(ns: &Arc<Namespace>, state: &State) -> Node {
    directory(following(ns, state.current_changed), AsOf { ns: ns.clone(), view: View::Current })
}

fn at(ns: &Arc<Namespace>, state: &State) -> Node {
    directory(following(ns, state.at_changed), At(ns.clone()))
}

fn when(ns: &Arc<Namespace>, state: &State, word: &[u8], when: When) -> Node {
    let view = View::At(word.into(), when);
    let meta = Meta::directory(state.current_changed, view.validity(ns.options.refresh));
    directory(meta, AsOf { ns: ns.clone(), view })
}

/// A set directory whose owner and mode are known.
fn set(ns: &Arc<Namespace>, state: &State, set: &Set, shown: Ancestor) -> Node {
    let Ancestor { uid, gid, perm } = shown;
    let labels = set.newest().and_then(|date| {
        let candidate = ns.candidates(state, date).into_iter().next()?;
        Some(Labels {
            source: candidate.source,
            snapshot: candidate.snapshot,
            path: candidate.path,
            name: date.listed.clone(),
            recorded: None,
            without_acl: false,
        })
    });
    let meta = Meta { uid, gid, perm, has_xattrs: true, ..following(ns, set.changed) };
    let dir = SetDir { ns: ns.clone(), name: set.name.clone() };
    let xattrs = labels.map(|labels| Arc::new(labels) as Arc<dyn crate::tree::Xattrs>);
    Node { meta, content: Content::Dir(Arc::new(dir)), xattrs }
}

fn latest(ns: &Namespace, set: &Set, date: &Date) -> Node {
    let target = Bytes::copy_from_slice(date.listed.as_bytes());
    let meta = Meta {
        kind: FileType::Symlink,
        perm: 0o777,
        size: u64::try_from(target.len()).unwrap_or(u64::MAX),
        // Another target is another link: the kernel may keep the target of this one.
        identity: Identity::Key(key(&[LATEST.as_bytes(), &set.name, &target])),
        ..following(ns, date.instant)
    };
    Node { meta, content: Content::Symlink(target), xattrs: None }
}

struct Root(Arc<Namespace>);

impl Dir for Root {
    fn lookup(&self, name: &[u8]) -> Step<Option<Node>> {
        let Root(ns) = self;
        ns.touch();
        let state = ns.state.load_full();
        match name {
            CURRENT => return Step::ok(Some(current(ns, &state))),
            AT => return Step::ok(Some(at(ns, &state))),
            GENERATED => return Step::ok(Some(directory(following(ns, ns.started), Generated(ns.clone())))),
            _ => {}
        }
        let Some(found) = state.set(name) else { return Step::ok(None) };
        let ns = ns.clone();
        let name = found.name.clone();
        ns.guard(&state, found)
            .map(move |shown| Ok(state.set(&name).map(|found| set(&ns, &state, found, shown))))
    }

    fn listing(&self) -> Step<Arc<dyn Listing>> {
        self.0.touch();
        Step::ok(Arc::new(RootListing { ns: self.0.clone(), state: self.0.state.load_full() }))
    }
}

struct RootListing {
    ns: Arc<Namespace>,
    state: Arc<State>,
}

impl Listing for RootListing {
    fn visit(&self, from: Cookie, sink: &mut dyn Sink) {
        let fixed = [
            (AT_CURRENT, CURRENT, following(&self.ns, self.state.current_changed)),
            (AT_AT, AT, following(&self.ns, self.state.at_changed)),
        ];
        for (at, name, meta) in fixed.into_iter().filter(|(at, ..)| *at >= from) {
            if sink.entry(&entry(at, name, FileType::Dir, Identity::Path, Some(meta))).is_break() {
                return;
            }
        }
        for found in self.state.sets_from(from) {
            let meta = self.ns.known_guard(found).map(|Ancestor { uid, gid, perm }| Meta {
                uid,
                gid,
                perm,
                has_xattrs: true,
                ..following(&self.ns, found.changed)
            });
            if sink.entry(&entry(found.cookie, &found.name, FileType::Dir, Identity::Path, meta)).is_break() {
                return;
            }
        }
    }

    fn node(&self, at: Cookie) -> Option<Node> {
        match at {
            AT_CURRENT => Some(current(&self.ns, &self.state)),
            AT_AT => Some(self::at(&self.ns, &self.state)),
            _ => {
                let found = self.state.sets_from(at).next().filter(|set| set.cookie == at)?;
                Some(set(&self.ns, &self.state, found, self.ns.known_guard(found)?))
            }
        }
    }
}

fn entry(at: Cookie, name: &[u8], kind: FileType, identity: Identity, meta: Option<Meta>) -> Entry<'_> {
    Entry { at, next: at + 1, name, kind, identity, meta }
}

/// A set directory. When its set is gone it is empty.
struct SetDir {
    ns: Arc<Namespace>,
    name: Arc<[u8]>,
}

impl Dir for SetDir {
    fn lookup(&self, name: &[u8]) -> Step<Option<Node>> {
        self.ns.touch();
        let state = self.ns.state.load_full();
        let Some(found) = state.set(&self.name) else { return Step::ok(None) };
        if name == LATEST.as_bytes() {
            return Step::ok(found.newest().map(|date| latest(&self.ns, found, date)));
        }
        let Some(date) = state.date(found, name) else { return Step::ok(None) };
        let identity = View::Set.identity(found, date, name);
        if !self.ns.options.shared {
            return self
                .ns
                .show(&state, found, date, (identity, Validity::Forever), None)
                .map(|n| Ok(Some(n)));
        }
        let (ns, id, name) = (self.ns.clone(), date.id, self.name.clone());
        // Without knowing what the set directory keeps out, the date must do it alone.
        let passed = match self.ns.guard(&state, found) {
            Step::Ready(guard) => Step::ok(guard.ok()),
            Step::Wait(guard) => Step::wait(async move { Ok(guard.await.ok()) }),
        };
        passed.then(move |passed| {
            let found = state.set(&name).and_then(|set| Some((set, set.dates.iter().find(|d| d.id == id)?)));
            let Some((set, date)) = found else { return Step::ok(None) };
            ns.show(&state, set, date, (identity, Validity::Forever), passed).map(|node| Ok(Some(node)))
        })
    }

    fn listing(&self) -> Step<Arc<dyn Listing>> {
        self.ns.touch();
        let (ns, state) = (self.ns.clone(), self.ns.state.load_full());
        Step::ok(Arc::new(SetListing { ns, state, name: self.name.clone() }))
    }
}

struct SetListing {
    ns: Arc<Namespace>,
    state: Arc<State>,
    name: Arc<[u8]>,
}

impl Listing for SetListing {
    fn visit(&self, from: Cookie, sink: &mut dyn Sink) {
        let Some(set) = self.state.set(&self.name) else { return };
        if let Some(meta) = self.node(AT_LATEST).map(|node| node.meta).filter(|_| from <= AT_LATEST)
            && sink
                .entry(&entry(AT_LATEST, LATEST.as_bytes(), meta.kind, meta.identity, Some(meta)))
                .is_break()
        {
            return;
        }
        for date in set.dates_from(from) {
            let name = date.listed.as_bytes();
            let identity = View::Set.identity(set, date, name);
            if sink.entry(&entry(date.cookie, name, FileType::Dir, identity, None)).is_break() {
                return;
            }
        }
    }

    fn node(&self, at: Cookie) -> Option<Node> {
        let set = self.state.set(&self.name).filter(|_| at == AT_LATEST)?;
        Some(latest(&self.ns, set, set.newest()?))
    }
}

/// All sets at one moment: `current`, or a directory of `at`.
struct AsOf {
    ns: Arc<Namespace>,
    view: View,
}

impl Dir for AsOf {
    fn lookup(&self, name: &[u8]) -> Step<Option<Node>> {
        self.ns.touch();
        let state = self.ns.state.load_full();
        let Some(set) = state.set(name) else { return Step::ok(None) };
        let Some(date) = self.view.choose(&self.ns, &state, set) else { return Step::ok(None) };
        let identity = self.view.identity(set, date, name);
        let validity = self.view.validity(self.ns.options.refresh);
        self.ns.show(&state, set, date, (identity, validity), None).map(|node| Ok(Some(node)))
    }

    fn listing(&self) -> Step<Arc<dyn Listing>> {
        self.ns.touch();
        let (ns, state) = (self.ns.clone(), self.ns.state.load_full());
        Step::ok(Arc::new(AsOfListing { ns, state, view: self.view.clone() }))
    }
}

struct AsOfListing {
    ns: Arc<Namespace>,
    state: Arc<State>,
    view: View,
}

impl Listing for AsOfListing {
    fn visit(&self, from: Cookie, sink: &mut dyn Sink) {
        for set in self.state.sets_from(from) {
            let Some(date) = self.view.choose(&self.ns, &self.state, set) else { continue };
            let identity = self.view.identity(set, date, &set.name);
            if sink.entry(&entry(set.cookie, &set.name, FileType::Dir, identity, None)).is_break() {
                return;
            }
        }
    }

    fn node(&self, _at: Cookie) -> Option<Node> {
        None
    }
}

/// `at`: any moment can be looked up, days with snapshots are listed.
struct At(Arc<Namespace>);

impl Dir for At {
    fn lookup(&self, name: &[u8]) -> Step<Option<Node>> {
        let At(ns) = self;
        ns.touch();
        let state = ns.state.load_full();
        let found = meaning(ns, &state, name);
        Step::ok(found.map(|meant| when(ns, &state, name, meant)))
    }

    fn listing(&self) -> Step<Arc<dyn Listing>> {
        self.0.touch();
        Step::ok(Arc::new(AtListing { ns: self.0.clone(), state: self.0.state.load_full() }))
    }
}

/// What `name` means below `at`: days first, then snapshots' own names, then other moments.
fn meaning(ns: &Namespace, state: &State, name: &[u8]) -> Option<When> {
    let word = ns.calendar.word(name);
    if let Some(day @ (Word::DaysAgo(_) | Word::Day(_))) = word {
        return Some(When::Word(day));
    }
    let own = state.sets.iter().filter_map(|set| state.date(set, name)).map(|date| date.instant).max();
    own.map(When::Named).or(word.map(When::Word))
}

struct AtListing {
    ns: Arc<Namespace>,
    state: Arc<State>,
}

// Days have positions of their own, so one that comes later never shifts the others.
fn cookie_of(day: i32) -> Cookie {
    FIRST + u64::from(day.cast_unsigned() ^ (1 << 31))
}

fn day_at(at: Cookie) -> i32 {
    let offset = u32::try_from(at.saturating_sub(FIRST)).unwrap_or(u32::MAX);
    (offset ^ (1 << 31)).cast_signed()
}

impl Listing for AtListing {
    fn visit(&self, from: Cookie, sink: &mut dyn Sink) {
        for day in self.state.days.range(day_at(from)..) {
            let Some((name, node)) = day_name(*day).zip(self.node(cookie_of(*day))) else { continue };
            let meta = Some(node.meta);
            if sink
                .entry(&entry(cookie_of(*day), name.as_bytes(), FileType::Dir, Identity::Path, meta))
                .is_break()
            {
                return;
            }
        }
    }

    fn node(&self, at: Cookie) -> Option<Node> {
        let day = Some(day_at(at)).filter(|day| at >= FIRST && self.state.days.contains(day))?;
        Some(when(&self.ns, &self.state, day_name(day)?.as_bytes(), When::Word(Word::Day(day))))
    }
}

impl Namespace {
    /// A date as `place` (identity and validity) shows it; `passed` is what the directory above keeps out.
    fn show(
        &self,
        state: &State,
        set: &Set,
        date: &Date,
        (identity, validity): (Identity, Validity),
        passed: Option<Ancestor>,
    ) -> Step<Node> {
        let name = date.listed.clone();
        let place = super::date::Place { identity, validity, name, shared: self.options.shared, passed };
        let (set, listed) = (set.name.clone(), date.listed.clone());
        let opened = super::date::open_first(self.candidates(state, date));
        let tell = move |result: Result<_>| super::date::named(result, &set, &listed);
        let opened = match opened {
            Step::Ready(result) => Step::Ready(tell(result)),
            Step::Wait(wait) => Step::wait(async move { tell(wait.await) }),
        };
        opened.then(move |(candidate, opened)| super::date::dress(candidate, opened, place))
    }
}
