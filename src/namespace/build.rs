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
    key: (Time, &'a str, &'a str),
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
        found.sort_unstable_by(|one, other| one.key.cmp(&other.key));
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
        let (first, own) = (date.first_short(members), id8(date.key.2));
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

/// Brings together what belongs into one set, and there what is one date.
fn gather(members: &[Contribution]) -> Vec<(Arc<[u8]>, Vec<Found<'_>>)> {
    let mut sets: HashMap<&Arc<[u8]>, (HashMap<DateId, usize>, Vec<Found<'_>>)> = HashMap::new();
    for (member, contribution) in (0u32..).zip(members) {
        for placed in contribution.placed.iter() {
            let copy = Copy { member, snapshot: placed.snapshot, path: placed.path };
            let (index, found) = sets.entry(&placed.set).or_default();
            match index.entry(placed.date) {
                Entry::Occupied(known) => {
                    if let Some(date) = found.get_mut(*known.get()) {
                        date.add(copy, members);
                    }
                }
                Entry::Vacant(new) => {
                    new.insert(found.len());
                    let key = (placed.instant, &*contribution.repository, id_of(copy, members));
                    found.push(Found { first: placed, key, copies: vec![copy] });
                }
            }
        }
    }
    sets.into_iter().map(|(name, (_, found))| (name.clone(), found)).collect()
}

impl<'a> Found<'a> {
    /// The short form of the id that it was first written under.
    fn first_short(&self, members: &[Contribution]) -> String {
        let copy = self.copies.first().and_then(|copy| snapshot(*copy, members));
        copy.map_or_else(String::new, |s| id8(s.original.as_ref().unwrap_or(&s.id)))
    }

    /// Adds a copy; those of one member are ordered by snapshot id, and the first of all gives the date its id.
    fn add(&mut self, copy: Copy, members: &'a [Contribution]) {
        let place = |copy: &Copy| (copy.member, id_of(*copy, members), copy.path);
        if let Err(at) = self.copies.binary_search_by(|known| place(known).cmp(&place(&copy))) {
            self.copies.insert(at, copy);
            if at == 0 {
                self.key.2 = id_of(copy, members);
            }
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
