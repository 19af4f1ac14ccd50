//! From placed snapshots to the tree, and the book that keeps names and positions from changing their meaning.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::name::{digest8, id8};
use super::place::{DateId, Placed};
use super::state::{Copy, Date, Set, State, at};
use crate::tree::{Cookie, Snapshot, Time};

/// First position of a directory's numbered entries; those before are for entries with fixed names.
pub(super) const FIRST: Cookie = 16;

/// What names and positions meant so far in this mount. Grows with what was ever shown.
#[derive(Default)]
pub(super) struct Book {
    sets: HashMap<Arc<[u8]>, SetBook>,
}

struct SetBook {
    cookie: Cookie,
    /// When its list of dates changed last.
    changed: Option<Time>,
    names: HashMap<Arc<str>, Record>,
}

#[derive(Clone, Copy)]
struct Record {
    date: DateId,
    cookie: Cookie,
}

/// What one member contributes.
pub(super) struct Contribution {
    /// The identity of its repository.
    pub repository: Arc<str>,
    pub list: Arc<[Snapshot]>,
    pub placed: Arc<[Placed]>,
}

// A date before it has its names.
struct Found<'a> {
    first: &'a Placed,
    copies: Vec<Copy>,
}

impl Book {
    /// Builds the tree. `old` is the one before, `now` the time for what changed since.
    pub(super) fn build(&mut self, members: &[Contribution], old: Option<&State>, now: Time) -> State {
        let mut sets = gather(members);
        sets.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let sets: Vec<Set> = sets.into_iter().map(|set| self.set(set, members, old, now)).collect();
        let days: BTreeSet<i32> = members.iter().flat_map(|m| m.placed.iter().map(|p| p.day)).collect();
        let newest = sets.iter().filter_map(|set| set.newest()).map(|date| date.instant).max().unwrap_or(now);
        let stamp = |then: Option<Time>, same: bool| match then {
            Some(then) if same => then,
            Some(then) => later(then, now),
            None => newest,
        };
        let same_sets = |old: &State| old.sets.iter().map(|s| &s.name).eq(sets.iter().map(|s| &s.name));
        let same_newest = |old: &State| {
            let ids = |sets: &[Set]| sets.iter().map(|s| s.newest().map(|d| d.id)).collect::<Vec<_>>();
            same_sets(old) && ids(&old.sets) == ids(&sets)
        };
        State {
            lists: members.iter().map(|m| m.list.clone()).collect(),
            by_cookie: by(&sets, |set| set.cookie),
            root_changed: stamp(old.map(|o| o.root_changed), old.is_some_and(same_sets)),
            current_changed: stamp(old.map(|o| o.current_changed), old.is_some_and(same_newest)),
            at_changed: stamp(old.map(|o| o.at_changed), old.is_some_and(|o| o.days == days)),
            sets,
            days,
        }
    }

    fn set(
        &mut self,
        (name, mut found): (Arc<[u8]>, Vec<Found<'_>>),
        members: &[Contribution],
        old: Option<&State>,
        now: Time,
    ) -> Set {
        let cookie = FIRST + u64::try_from(self.sets.len()).unwrap_or(u64::MAX - FIRST);
        let new = || SetBook { cookie, changed: None, names: HashMap::new() };
        let book = self.sets.entry(name.clone()).or_insert_with(new);
        found.sort_unstable_by(|one, other| one.order(members).cmp(&other.order(members)));
        let dates = book.name(&found, members);
        let listed = |dates: &[Date]| dates.iter().map(|d| (d.id, d.listed.clone())).collect::<Vec<_>>();
        let before = old.and_then(|old| old.set(&name)).map_or(&[][..], |set| &set.dates);
        let changed = match book.changed {
            Some(then) if listed(before) == listed(&dates) => then,
            Some(then) => later(then, now),
            None => dates.last().map_or(now, |newest| newest.instant),
        };
        book.changed = Some(changed);
        Set {
            by_plain: by(&dates, |date| date.plain.clone()),
            by_cookie: by(&dates, |date| date.cookie),
            aliases: book.aliases(&dates),
            cookie: book.cookie,
            name,
            changed,
            dates,
        }
    }
}

impl SetBook {
    /// Gives each date the name it is listed by.
    fn name(&mut self, found: &[Found<'_>], members: &[Contribution]) -> Vec<Date> {
        let mut alone: HashMap<&str, u32> = HashMap::new();
        for date in found {
            *alone.entry(&date.first.plain).or_default() += 1;
        }
        let short =
            Shorts::of(found.iter().filter(|date| alone.get(&*date.first.plain) != Some(&1)), members);
        let mut dates = Vec::with_capacity(found.len());
        for date in found {
            let Placed { plain, date: id, instant, .. } = date.first;
            let free = self.names.get(plain).is_none_or(|record| record.date == *id);
            let listed = match alone.get(&**plain) {
                Some(1) if free => plain.clone(),
                _ => format!("{plain}-{}", short.pick(date, members)).into(),
            };
            dates.push(Date {
                id: *id,
                instant: *instant,
                plain: plain.clone(),
                cookie: self.record(&listed, *id),
                listed,
                copies: date.copies.clone().into(),
            });
        }
        dates
    }

    fn record(&mut self, name: &Arc<str>, date: DateId) -> Cookie {
        let next = FIRST + u64::try_from(self.names.len()).unwrap_or(u64::MAX - FIRST);
        match self.names.entry(name.clone()) {
            Entry::Occupied(known) => known.get().cookie,
            Entry::Vacant(new) => new.insert(Record { date, cookie: next }).cookie,
        }
    }

    /// Plain names of dates that are now listed otherwise, for those that had them when they were alone.
    fn aliases(&self, dates: &[Date]) -> Vec<(Arc<str>, u32)> {
        let mut aliases: Vec<_> = (0u32..)
            .zip(dates)
            .filter(|(_, date)| date.listed != date.plain)
            .filter(|(_, date)| self.names.get(&date.plain).is_some_and(|record| record.date == date.id))
            .map(|(index, date)| (date.plain.clone(), index))
            .collect();
        aliases.sort_unstable();
        aliases
    }
}

/// What eight characters mean among dates of equal plain names.
#[derive(Default)]
struct Shorts<'a> {
    /// Dates that are called so in a repository; `None`: several.
    owners: HashMap<(&'a str, String), Option<DateId>>,
    /// How many were first called so.
    firsts: HashMap<(&'a str, String), u32>,
}

impl<'a> Shorts<'a> {
    fn of(crowded: impl Iterator<Item = &'a Found<'a>>, members: &[Contribution]) -> Self {
        let mut shorts = Shorts::default();
        for date in crowded {
            let plain: &str = &date.first.plain;
            for copy in &date.copies {
                let owner = shorts.owners.entry((plain, id8(id_of(*copy, members))));
                owner
                    .and_modify(|o| *o = o.filter(|id| *id == date.first.date))
                    .or_insert(Some(date.first.date));
            }
            *shorts.firsts.entry((plain, date.first_short(members))).or_default() += 1;
        }
        shorts
    }

    /// What tells `date` from the others: its first id, which copies share; where that is another's id too, its own;
    /// and where ids do not tell (two paths of a snapshot in one set), what it holds.
    fn pick(&self, date: &Found<'a>, members: &[Contribution]) -> String {
        let key = |short: &str| (&*date.first.plain, short.to_owned());
        let (first, own) = (date.first_short(members), id8(date.own_id(members)));
        let mine = |short: &str| self.owners.get(&key(short)).map(|owner| *owner == Some(date.first.date));
        let only = self.firsts.get(&key(&first)).is_none_or(|n| *n == 1);
        match (mine(&first), mine(&own)) {
            (Some(true), _) => first,
            (None, _) if only => first,
            (_, Some(true) | None) => own,
            _ => digest8(&date.first.date.to_be_bytes()),
        }
    }
}

/// The dates of one set, and where each is.
#[derive(Default)]
struct Gathered<'a> {
    index: HashMap<DateId, usize>,
    found: Vec<Found<'a>>,
}

/// Brings together what belongs into one set, and there what is one date.
fn gather(members: &[Contribution]) -> Vec<(Arc<[u8]>, Vec<Found<'_>>)> {
    let mut sets: HashMap<&Arc<[u8]>, Gathered<'_>> = HashMap::new();
    for (member, contribution) in (0u32..).zip(members) {
        for placed in contribution.placed.iter() {
            let copy = Copy { member, snapshot: placed.snapshot, path: placed.path };
            let Gathered { index, found } = sets.entry(&placed.set).or_default();
            match index.entry(placed.date) {
                Entry::Occupied(known) => {
                    if let Some(date) = found.get_mut(*known.get()) {
                        date.add(copy, members);
                    }
                }
                Entry::Vacant(new) => {
                    new.insert(found.len());
                    found.push(Found { first: placed, copies: vec![copy] });
                }
            }
        }
    }
    sets.into_iter().map(|(name, set)| (name.clone(), set.found)).collect()
}

impl Found<'_> {
    /// The snapshot that it is read from first.
    fn snapshot<'m>(&self, members: &'m [Contribution]) -> Option<&'m Snapshot> {
        self.copies.first().and_then(|copy| snapshot(*copy, members))
    }

    fn own_id<'m>(&self, members: &'m [Contribution]) -> &'m str {
        self.snapshot(members).map_or("", |snapshot| &snapshot.id)
    }

    /// The id that it was first written under, which copies share.
    fn first_id<'m>(&self, members: &'m [Contribution]) -> &'m str {
        self.snapshot(members).map_or("", |snapshot| snapshot.original.as_ref().unwrap_or(&snapshot.id))
    }

    fn first_short(&self, members: &[Contribution]) -> String {
        id8(self.first_id(members))
    }

    /// By instant, then repository id, then snapshot id: the first one, so that the order is that of the copies too.
    fn order<'m>(&self, members: &'m [Contribution]) -> (Time, &'m str, &'m str, &'m str) {
        let repository = self.copies.first().and_then(|copy| members.get(at(copy.member)));
        let repository = repository.map_or("", |member| &member.repository);
        (self.first.instant, repository, self.first_id(members), self.own_id(members))
    }

    /// Adds a copy; those of one member are ordered by snapshot id.
    fn add(&mut self, copy: Copy, members: &[Contribution]) {
        let place = |copy: &Copy| (copy.member, id_of(*copy, members), copy.path);
        if let Err(at) = self.copies.binary_search_by(|known| place(known).cmp(&place(&copy))) {
            self.copies.insert(at, copy);
        }
    }
}

fn snapshot(copy: Copy, members: &[Contribution]) -> Option<&Snapshot> {
    members.get(at(copy.member))?.list.get(at(copy.snapshot))
}

fn id_of(copy: Copy, members: &[Contribution]) -> &str {
    snapshot(copy, members).map_or("", |snapshot| &snapshot.id)
}

/// Indexes of `items` by `key`.
fn by<T, K: Ord>(items: &[T], key: impl Fn(&T) -> K) -> Vec<u32> {
    let mut keyed: Vec<(K, u32)> = items.iter().map(key).zip(0u32..).collect();
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, index)| index).collect()
}

/// `now`, or a moment after `then` where the clock has not come so far.
fn later(then: Time, now: Time) -> Time {
    match then.nanos {
        _ if now > then => now,
        999_999_999 => Time { secs: then.secs.saturating_add(1), nanos: 0 },
        nanos => Time { secs: then.secs, nanos: nanos + 1 },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::namespace::fake::{self, Describe, FakeSource};
    use crate::namespace::testbed::{Bed, member};
    use crate::namespace::{Options, Rename};

    const SET: &str = "h@+a";

    fn taken(short: &str, time: &str) -> Snapshot {
        fake::snapshot(short).host("h").paths(&["/a"]).at(time)
    }

    fn dates(bed: &Bed) -> Vec<String> {
        bed.ls(SET).into_iter().filter(|name| name != "latest").collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_date_is_named_by_its_time_and_two_of_a_second_by_their_ids_too() {
        let source = FakeSource::with("r", vec![taken("aa", "2026-03-01T03:00:00+01:00")]);
        let bed = Bed::new(&[&source]);
        assert_eq!(dates(&bed), ["20260301_030000"]);
        assert_eq!(bed.id("h@+a/20260301_030000-aaaaaaaa"), "aa".repeat(32), "the long form of any");
        source.put(vec![taken("aa", "2026-03-01T03:00:00+01:00"), taken("bb", "2026-03-01T02:00:00.5Z")]);
        bed.ns.refresh().await;
        assert_eq!(dates(&bed), ["20260301_030000", "20260301_020000"], "the name says the recorded hour");
    }

    #[tokio::test(start_paused = true)]
    async fn a_plain_name_already_shown_stays_an_alias_of_its_snapshot() {
        let (one, two) = (taken("aa", "2026-03-01T03:00:00Z"), taken("bb", "2026-03-01T03:00:00.5Z"));
        let source = FakeSource::with("r", vec![two.clone()]);
        let bed = Bed::new(&[&source]);
        assert_eq!(dates(&bed), ["20260301_030000"]);
        source.put(vec![one.clone(), two.clone()]);
        bed.ns.refresh().await;
        assert_eq!(dates(&bed), ["20260301_030000-aaaaaaaa", "20260301_030000-bbbbbbbb"]);
        assert_eq!(bed.id("h@+a/20260301_030000"), "bb".repeat(32), "unlisted, and still the same data");
        source.put(vec![one.clone()]);
        bed.ns.refresh().await;
        assert_eq!(
            dates(&bed),
            ["20260301_030000-aaaaaaaa"],
            "the plain name never comes to mean other data"
        );
        assert!(!bed.has("h@+a/20260301_030000") && !bed.has("h@+a/20260301_030000-bbbbbbbb"));
        source.put(vec![two]);
        bed.ns.refresh().await;
        assert_eq!(dates(&bed), ["20260301_030000"], "it may mean the same again");
    }

    #[test]
    fn a_plain_name_that_was_never_shown_is_nobody_s() {
        let list = vec![taken("aa", "2026-03-01T03:00:00Z"), taken("bb", "2026-03-01T03:00:00Z")];
        let bed = Bed::new(&[&FakeSource::with("r", list)]);
        assert_eq!(dates(&bed), ["20260301_030000-aaaaaaaa", "20260301_030000-bbbbbbbb"]);
        assert!(!bed.has("h@+a/20260301_030000") && !bed.has("h@+a/20260301_030000-cccccccc"));
        assert_eq!(bed.link("h@+a/latest"), "20260301_030000-bbbbbbbb");
    }

    #[test]
    fn order_is_by_instant_then_repository_then_snapshot() {
        let second = "2026-03-01T03:00:00Z";
        let a = FakeSource::with(
            "repo-z",
            vec![taken("11", second), taken("ee", "2026-03-01T03:00:00.000000001Z")],
        );
        let b = FakeSource::with("repo-a", vec![taken("99", second), taken("22", second)]);
        let bed = Bed::new(&[&a, &b]);
        let short: Vec<_> = dates(&bed).iter().map(|name| name[16..18].to_owned()).collect();
        assert_eq!(short, ["22", "99", "11", "ee"]);
        assert!(bed.link("h@+a/latest").ends_with("-eeeeeeee"), "the greatest instant");
    }

    #[test]
    fn copies_are_one_date_and_names_are_equal_with_one_of_two_or_both_repositories() {
        let (one, two) = (taken("aa", "2026-03-01T03:00:00Z"), taken("bb", "2026-03-01T03:00:00Z"));
        let later = taken("cc", "2026-03-02T03:00:00Z");
        let copies =
            [("dd", &one), ("ee", &two), ("ff", &later)].map(|(id, of)| fake::snapshot(id).copy_of(of));
        let first = || FakeSource::with("repo-b", vec![one.clone(), two.clone(), later.clone()]);
        let second = || FakeSource::with("repo-a", copies.to_vec());
        let expected = ["20260301_030000-aaaaaaaa", "20260301_030000-bbbbbbbb", "20260302_030000"];
        for sources in [vec![first()], vec![second()], vec![first(), second()], vec![second(), first()]] {
            let bed = Bed::new(&sources.iter().collect::<Vec<_>>());
            assert_eq!(dates(&bed), expected);
        }
        let bed = Bed::new(&[&first(), &second()]);
        assert_eq!(
            bed.id("h@+a/20260301_030000-dddddddd"),
            "aa".repeat(32),
            "a copy's own id can be looked up"
        );
        assert_eq!(bed.ns.snapshots().len(), 3, "one row a date");
    }

    #[test]
    fn a_snapshot_rewritten_in_place_and_its_original_are_told_apart() {
        let second = "2026-03-01T03:00:00Z";
        let one = taken("aa", second);
        let rewritten = fake::snapshot("bb").copy_of(&one).content("without secrets");
        let bed = Bed::new(&[&FakeSource::with("r", vec![one.clone(), rewritten.clone()])]);
        assert_eq!(dates(&bed), ["20260301_030000-aaaaaaaa", "20260301_030000-bbbbbbbb"]);
        let again = fake::snapshot("cc").copy_of(&one).content("without more");
        let bed = Bed::new(&[&FakeSource::with("r", vec![rewritten, again])]);
        assert_eq!(
            dates(&bed),
            ["20260301_030000-bbbbbbbb", "20260301_030000-cccccccc"],
            "the original is gone"
        );
        assert!(!bed.has("h@+a/20260301_030000-aaaaaaaa"), "what might mean either means none");
    }

    #[test]
    fn dates_that_ids_do_not_tell_apart_still_have_names() {
        let mut all =
            member(&FakeSource::with("r", vec![taken("aa", "2026-03-01T03:00:00Z").paths(&["/x", "/y"])]));
        all.set = Some("all@+".into());
        let bed = Bed::with(vec![all], Options::default(), "UTC");
        let names = bed.ls("all@+");
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(names.iter().all(|name| name == "latest" || name.starts_with("20260301_030000-")));
        assert!(names.iter().all(|name| bed.has(&format!("all@+/{name}"))), "all can be looked up");
        assert!(!bed.has("all@+/20260301_030000-aaaaaaaa"));
    }

    #[test]
    fn snapshots_that_map_to_one_name_are_one_set_from_whatever_source() {
        let a = FakeSource::with("a", vec![taken("aa", "2026-03-01T03:00:00Z")]);
        let b = FakeSource::with("b", vec![taken("bb", "2026-03-02T03:00:00Z").host("h.example.org")]);
        let rename = vec![Rename { from: r"\.example\.org@".into(), to: "@".into() }];
        let bed = Bed::with(vec![member(&a), member(&b)], Options { rename, ..Options::default() }, "UTC");
        assert_eq!(bed.ls("/"), ["current", "at", SET]);
        assert_eq!(dates(&bed), ["20260301_030000", "20260302_030000"]);
        assert_eq!(bed.link("h@+a/latest"), "20260302_030000", "found after merging");
    }

    #[tokio::test(start_paused = true)]
    async fn positions_never_come_to_mean_other_names() {
        let day = |n: u32| taken(&format!("{n:02x}"), &format!("2026-03-{n:02}T03:00:00Z"));
        let source = FakeSource::with("r", vec![day(2), day(4), day(6)]);
        let bed = Bed::new(&[&source]);
        let before = bed.entries(SET);
        source.put(vec![day(1), day(4), day(5), day(6), fake::snapshot("ff").host("a")]);
        bed.ns.refresh().await;
        let after = bed.entries(SET);
        for entry in &before {
            let now = after.iter().find(|e| e.at == entry.at);
            assert!(now.is_none_or(|now| now.name == entry.name), "{entry:?}");
        }
        assert_eq!(after.last().unwrap().name, "20260305_030000", "new ones come last");
        assert_eq!(bed.ls("/"), ["current", "at", SET, "a@+"], "in the root too");
        source.put(vec![day(2), day(4), day(6)]);
        bed.ns.refresh().await;
        assert_eq!(bed.entries(SET)[1..], before[1..], "who comes back has its position back");
    }

    #[tokio::test(start_paused = true)]
    async fn times_of_directories_advance_when_and_only_when_they_change() {
        let one = taken("aa", "2026-03-01T03:00:00Z");
        let source = FakeSource::with("r", vec![one.clone()]);
        let bed = Bed::new(&[&source]);
        let mtimes = |bed: &Bed| ["/", SET, "current", "at"].map(|path| bed.at(path).meta.mtime);
        assert_eq!(mtimes(&bed), [one.time.instant; 4], "at first: the newest backup");
        bed.clock.pass(Duration::from_secs(60));
        let now = bed.ns.clock.now();
        source.put(vec![one.clone()]);
        bed.ns.refresh().await;
        assert_eq!(mtimes(&bed), [one.time.instant; 4], "an equal list changes nothing");
        source.put(vec![one.clone(), taken("bb", "2026-03-01T04:00:00Z")]);
        bed.ns.refresh().await;
        assert_eq!(mtimes(&bed), [one.time.instant, now, now, one.time.instant], "same set, same day");
        source.put(vec![
            one.clone(),
            taken("bb", "2026-03-01T04:00:00Z"),
            taken("cc", "2026-02-01T00:00:00Z"),
        ]);
        bed.ns.refresh().await;
        let moment_later = Time { nanos: now.nanos + 1, ..now };
        assert_eq!(
            mtimes(&bed),
            [one.time.instant, moment_later, now, now],
            "even when the clock stands still"
        );
    }

    #[test]
    fn later_is_always_later() {
        let at = |secs, nanos| Time { secs, nanos };
        for (then, now, expected) in [
            (at(5, 0), at(9, 1), at(9, 1)),
            (at(9, 1), at(9, 1), at(9, 2)),
            (at(9, 999_999_999), at(5, 0), at(10, 0)),
            (at(i64::MAX, 3), at(5, 0), at(i64::MAX, 4)),
        ] {
            assert_eq!(later(then, now), expected);
        }
    }

    #[test]
    fn ten_thousand_dates_and_thirty_six_thousand_sets_open_no_tree() {
        let host = |n: u32| fake::snapshot(&format!("{n:08x}")).host(&format!("host{n}"));
        let mut list: Vec<_> = (0..36_000).map(host).collect();
        list.extend((0..10_000u32).map(|n| Snapshot {
            time: crate::tree::SnapshotTime {
                instant: Time { secs: i64::from(n) * 3600, nanos: 0 },
                offset: None,
            },
            ..taken(&format!("f{n:07x}"), "2026-03-01T03:00:00Z")
        }));
        let source = FakeSource::with("r", list);
        let bed = Bed::new(&[&source]);
        assert_eq!(bed.ls("/").len(), 36_003);
        assert_eq!(bed.ls("current").len(), 36_001);
        assert_eq!(dates(&bed).len(), 10_000);
        assert_eq!(source.opens(), 0);
    }
}
