//! The made-up directories: root, sets, `current`, `at`. Each call works on the tree of one moment.

use std::sync::Arc;

use bytes::Bytes;

use super::Namespace;
use super::build::FIRST;
use super::calendar::{LATEST, Word, day_name};
use super::diff::{AT, CURRENT};
use super::generated::Generated;
use super::group_dirs;
use super::labels::Labels;
use super::moment::Shown;
use super::name::key;
use super::state::{Date, Set, State};
use super::view::{View, When, meaning};
use crate::tree::{
    Ancestor, Content, Cookie, Dir, Entry, FileType, Identity, Listing, Meta, Node, Sink, Step, Time,
    Validity,
};

const GENERATED: &[u8] = b".backupfs";
const AT_CURRENT: Cookie = 1;
const AT_AT: Cookie = 2;
const AT_LATEST: Cookie = 1;

/// A directory that follows new snapshots.
pub(super) fn following(ns: &Namespace, changed: Time) -> Meta {
    Meta::directory(changed, Validity::For(ns.options.refresh))
}

pub(super) fn directory(meta: Meta, dir: impl Dir + 'static) -> Node {
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
        identity: ns.own(Identity::Key(key(&[LATEST.as_bytes(), &set.name, &target]))),
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
        if let Some(group) = ns.groups.load().iter().find(|group| group.name().as_bytes() == name) {
            return Step::ok(Some(group_dirs::group(ns, group)));
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
        for group in self.ns.groups.load().iter().filter(|group| group.at >= from) {
            let (name, meta) = (group.name().as_bytes(), group_dirs::group_meta(&self.ns, group));
            if sink.entry(&entry(group.at, name, FileType::Dir, Identity::Path, Some(meta))).is_break() {
                return;
            }
        }
    }

    fn node(&self, at: Cookie) -> Option<Node> {
        if let Some(group) = self.ns.groups.load().iter().find(|group| group.at == at) {
            return Some(group_dirs::group(&self.ns, group));
        }
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

pub(super) fn entry(
    at: Cookie,
    name: &[u8],
    kind: FileType,
    identity: Identity,
    meta: Option<Meta>,
) -> Entry<'_> {
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
        let Some(date) = state.date(found, name) else { return self.moment(found, name) };
        let identity = self.ns.own(View::Set.identity(found, date, name));
        if !self.ns.options.shared {
            return self
                .ns
                .show(&state, found, date, (identity, Validity::Forever), None)
                .map(|n| Ok(Some(n)));
        }
        let (ns, id, name) = (self.ns.clone(), date.id, self.name.clone());
        // The date relies on its set directory only where that is settled; otherwise it keeps out whom it must itself.
        let settled = match self.ns.guard(&state, found) {
            Step::Ready(_) => Step::ok(()),
            Step::Wait(guard) => Step::wait(async move {
                let _ = guard.await;
                Ok(())
            }),
        };
        settled.then(move |()| {
            let found = state.set(&name).and_then(|set| Some((set, set.dates.iter().find(|d| d.id == id)?)));
            let Some((set, date)) = found else { return Step::ok(None) };
            let passed = ns.known_guard(set);
            ns.show(&state, set, date, (identity, Validity::Forever), passed).map(|node| Ok(Some(node)))
        })
    }

    fn listing(&self) -> Step<Arc<dyn Listing>> {
        self.ns.touch();
        let (ns, state) = (self.ns.clone(), self.ns.state.load_full());
        Step::ok(Arc::new(SetListing { ns, state, name: self.name.clone() }))
    }
}

impl SetDir {
    /// What a name that no date has means: a moment, where a source can show any.
    fn moment(&self, set: &Set, name: &[u8]) -> Step<Option<Node>> {
        let Some(moment) = self.ns.named_moment(set, name) else { return Step::ok(None) };
        let identity = self.ns.own(View::Set.identity_of(&set.name, moment.placed.date, name));
        let validity = Validity::For(self.ns.options.refresh);
        self.ns.show_moment(&moment, (identity, validity)).map(|node| Ok(Some(node)))
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
            let identity = self.ns.own(View::Set.identity(set, date, name));
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
        let (validity, moments) = (self.view.validity(self.ns.options.refresh), self.view.moments(&self.ns));
        let step = match self.view.shown(&self.ns, &state, set, &moments) {
            None => return Step::ok(None),
            Some(Shown::Date(date)) => {
                let identity = self.ns.own(self.view.identity(set, date, name));
                self.ns.show(&state, set, date, (identity, validity), None)
            }
            Some(Shown::Moment(moment)) => {
                let identity = self.view.identity_of(name, moment.placed.date, name);
                self.ns.show_moment(moment, (self.ns.own(identity), validity))
            }
        };
        step.map(|node| Ok(Some(node)))
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
        let moments = self.view.moments(&self.ns);
        for set in self.state.sets_from(from) {
            let date = match self.view.shown(&self.ns, &self.state, set, &moments) {
                None => continue,
                Some(Shown::Date(date)) => date.id,
                Some(Shown::Moment(moment)) => moment.placed.date,
            };
            let identity = self.ns.own(self.view.identity_of(&set.name, date, &set.name));
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::namespace::fake::{self, Describe, FakeSource};
    use crate::namespace::testbed::{Bed, dir, list, member};
    use crate::namespace::{Options, TimeStyle};
    use crate::tree::{Snapshot, Source};

    fn taken(short: &str, host: &str, time: &str) -> Snapshot {
        fake::snapshot(short).host(host).at(time)
    }

    /// Two hosts, three days; `h` on the first two, `i` on the last.
    fn source() -> Arc<FakeSource> {
        FakeSource::with(
            "r",
            vec![
                taken("aa", "h", "2026-03-01T03:00:00Z"),
                taken("bb", "h", "2026-03-02T03:00:00.5Z"),
                taken("cc", "i", "2026-03-03T23:59:59.9Z"),
            ],
        )
    }

    fn short(bed: &Bed, path: &str) -> String {
        bed.id(path)[..2].to_owned()
    }

    fn listing(bed: &Bed, path: &str) -> Arc<dyn Listing> {
        let Step::Ready(listing) = dir(&bed.at(path)).listing() else { panic!("{path} waits") };
        listing.unwrap()
    }

    #[test]
    fn the_tree_of_the_design() {
        let bed = Bed::new(&[&source()]);
        assert_eq!(bed.ls("/"), ["current", "at", "h@+", "i@+"]);
        assert_eq!(bed.ls("h@+"), ["latest", "20260301_030000", "20260302_030000"]);
        assert_eq!(bed.link("h@+/latest"), "20260302_030000");
        assert_eq!(bed.ls("current"), ["h@+", "i@+"]);
        assert_eq!(short(&bed, "current/h@+"), "bb");
        assert_eq!(bed.ls("at"), ["2026-03-01", "2026-03-02", "2026-03-03"]);
        assert_eq!(bed.ls("at/2026-03-02"), ["h@+"], "a set with nothing that early is absent");
        assert!(!bed.has("at/2026-03-02/i@+") && !bed.has("nothing") && !bed.has("h@+/20260301_030001"));
        assert_eq!(bed.ls("h@+/20260301_030000"), ["id"]);
    }

    #[test]
    fn a_day_means_its_last_second_and_any_moment_can_be_looked_up() {
        let bed = Bed::new(&[&source()]);
        for (path, id) in [
            ("at/2026-03-01/h@+", "aa"),
            ("at/2026-03-02/h@+", "bb"),
            ("at/2026-03-03/i@+", "cc"),
            ("at/2030-01-01/h@+", "bb"),
            ("at/20260301_120000/h@+", "aa"),
            ("at/20260302_025959/h@+", "aa"),
            ("at/2026-03-02T03:00Z/h@+", "bb"),
            ("at/2026-03-02T04:59+02:00/h@+", "aa"),
            ("at/2026-03-02T05:00:00+02:00/h@+", "bb"),
            ("at/today/i@+", "cc"),
            ("at/yesterday/h@+", "bb"),
        ] {
            assert_eq!(short(&bed, path), id, "{path}");
        }
        assert!(bed.ls("at/2026-02-28").is_empty(), "a moment before everything");
        for word in ["tomorrow", "2026", "x", "2026-02-30", "20260302_030000-dddddddd"] {
            assert!(!bed.has(&format!("at/{word}")), "{word}");
        }
    }

    #[test]
    fn days_are_those_of_the_mount_s_zone() {
        let berlin = Bed::with(vec![member(&source())], Options::default(), "+01:00");
        assert_eq!(berlin.ls("at"), ["2026-03-01", "2026-03-02", "2026-03-04"]);
        assert!(!berlin.has("at/2026-03-03/i@+"));
        let options = Options { time: TimeStyle::Utc, ..Options::default() };
        let utc = Bed::with(vec![member(&source())], options, "+01:00");
        assert!(utc.has("at/2026-03-03/i@+"));
    }

    #[test]
    fn today_and_yesterday_follow_the_clock() {
        let nights = [("aa", "2026-03-09T03:00:00Z"), ("bb", "2026-03-10T03:00:00Z")];
        let nights = nights.map(|(id, time)| taken(id, "h", time)).to_vec();
        let bed = Bed::new(&[&FakeSource::with("r", nights)]);
        assert_eq!(
            (short(&bed, "at/today/h@+"), short(&bed, "at/yesterday/h@+")),
            ("bb".into(), "aa".into())
        );
        let yesterday = bed.at("at/yesterday");
        bed.clock.pass(Duration::from_secs(86_400));
        assert_eq!(short(&bed, "at/yesterday/h@+"), "bb");
        let now = bed.at("at/yesterday/h@+").meta.identity;
        assert_eq!(list(&yesterday, 0)[0].identity, now, "also for who is in it");
    }

    #[test]
    fn a_snapshot_s_own_name_selects_exactly_that_moment() {
        let list = vec![
            taken("aa", "h", "2026-03-01T03:00:00+09:00"),
            taken("bb", "h", "2026-02-28T18:00:00.5Z"),
            taken("cc", "i", "2026-02-28T17:00:00Z"),
            taken("dd", "i", "2026-03-01T02:00:00Z"),
            taken("ee", "j", "2026-03-01T03:00:00+09:00"),
        ];
        let bed = Bed::new(&[&FakeSource::with("r", list)]);
        assert_eq!(short(&bed, "at/20260301_030000/h@+"), "aa");
        assert_eq!(short(&bed, "at/20260301_030000/i@+"), "cc", "not three o'clock here");
        assert_eq!(short(&bed, "at/20260301_030000/j@+"), "ee");
        assert_eq!(short(&bed, "at/20260228_180000/h@+"), "bb");
        assert_eq!(short(&bed, "at/20260301_030000-aaaaaaaa/h@+"), "aa", "the long form too");
        assert_eq!(bed.ls("at/20260301_030000"), ["h@+", "i@+", "j@+"]);
    }

    #[tokio::test(start_paused = true)]
    async fn current_and_latest_are_others_when_the_newest_snapshot_is_another() {
        let source = source();
        let bed = Bed::new(&[&source]);
        let paths = ["current/h@+", "h@+/latest", "current/i@+"];
        let before = paths.map(|path| bed.at(path).meta.identity);
        assert!(before.iter().all(|identity| matches!(identity, Identity::Key(_))));
        let old = bed.at("current/h@+");
        let mut more = source.snapshots().to_vec();
        more.push(taken("dd", "h", "2026-03-05T03:00:00Z"));
        source.put(more);
        bed.ns.refresh().await;
        let after = paths.map(|path| bed.at(path).meta.identity);
        assert_ne!(before[0], after[0]);
        assert_ne!(before[1], after[1]);
        assert_eq!(before[2], after[2]);
        assert_eq!(short(&bed, "current/h@+"), "dd");
        let same = bed.at("h@+/20260302_030000/id").meta.identity;
        assert_eq!(list(&old, 0)[0].identity, same, "a copy under way goes on");
    }

    #[test]
    fn listings_and_look_ups_agree() {
        let bed = Bed::new(&[&source()]);
        for path in ["/", "h@+", "current", "at", "at/today", "at/2026-03-01", "at/20260302_030000"] {
            let (node, listing) = (bed.at(path), listing(&bed, path));
            for entry in bed.entries(path) {
                let found = bed.at(&format!("{path}/{}", entry.name));
                assert_eq!(entry.identity, found.meta.identity, "{path}/{}", entry.name);
                assert!(entry.meta.is_none_or(|meta| meta == found.meta), "{path}/{}", entry.name);
                let got = listing.node(entry.at);
                assert_eq!(got.as_ref().map(|node| node.meta), entry.meta, "{path}/{}", entry.name);
                assert_eq!(list(&node, entry.at)[0], entry, "a listing goes on where it was left");
                assert!(list(&node, entry.at + 1).iter().all(|e| e.at > entry.at));
            }
        }
    }

    #[test]
    fn a_listing_stops_when_the_buffer_is_full() {
        let bed = Bed::new(&[&source()]);
        for path in ["/", "h@+", "current", "at", "at/today", ".backupfs"] {
            let listing = listing(&bed, path);
            let (mut seen, mut from) = (Vec::new(), 0);
            loop {
                let mut one = None;
                listing.visit(from, &mut |entry: &Entry<'_>| match one {
                    None => {
                        one = Some((String::from_utf8_lossy(entry.name).into_owned(), entry.next));
                        std::ops::ControlFlow::Continue(())
                    }
                    Some(_) => std::ops::ControlFlow::Break(()),
                });
                let Some((name, next)) = one else { break };
                seen.push(name);
                from = next;
            }
            assert_eq!(seen, bed.ls(path), "{path}");
        }
    }

    #[test]
    fn listing_opens_no_tree_and_a_private_mount_knows_its_sets_without() {
        let source = source();
        let bed = Bed::new(&[&source]);
        for path in ["/", "h@+", "current", "at", "at/today"] {
            bed.ls(path);
        }
        assert_eq!(bed.at("h@+").meta.perm, 0o755);
        assert_eq!(source.opens(), 0);
        assert!(bed.entries("/").iter().all(|entry| entry.meta.is_some()));
        let dates = bed.entries("h@+");
        assert!(dates[0].meta.is_some() && dates[1..].iter().all(|date| date.meta.is_none()));
    }

    #[test]
    fn labels_of_a_set_are_those_of_its_newest_date() {
        let bed = Bed::new(&[&source()]);
        for (name, value) in [
            ("source", "r"),
            ("snapshot", "20260302_030000"),
            ("time", "2026-03-02T03:00:00.5Z"),
            ("tags", ""),
            ("original-path", "/"),
            ("id", &"bb".repeat(32)),
        ] {
            for path in ["h@+", "current/h@+", "h@+/20260302_030000", "at/2026-03-02/h@+"] {
                let label = bed.xattr(path, &format!("user.backupfs.{name}"));
                assert_eq!(label.as_deref(), Some(value), "{path} {name}");
            }
        }
    }

    #[test]
    fn latest_is_a_link_with_the_length_of_its_target() {
        let bed = Bed::new(&[&source()]);
        let meta = bed.at("h@+/latest").meta;
        assert_eq!((meta.kind, meta.size, meta.perm), (FileType::Symlink, 15, 0o777));
    }

    #[test]
    fn positions_of_days_are_in_order_and_their_own() {
        for day in [i32::MIN, -719_528, -1, 0, 20_513, i32::MAX] {
            assert_eq!(day_at(cookie_of(day)), day);
            assert!(cookie_of(day) >= FIRST);
        }
        assert!(cookie_of(-1) < cookie_of(0) && cookie_of(0) < cookie_of(1));
    }
}
