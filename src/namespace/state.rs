//! The tree at one moment: sets, their dates, and how names find them. Immutable; a request works on one of these from
//! beginning to end.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::name::{digest8, id8};
use super::place::DateId;
use crate::tree::{Cookie, Snapshot, Time};

/// Everything shown.
pub(super) struct State {
    /// Each member's snapshots, as [`Copy`] counts them.
    pub lists: Vec<Arc<[Snapshot]>>,
    /// By name.
    pub sets: Vec<Set>,
    /// Indexes into `sets` by cookie.
    pub by_cookie: Vec<u32>,
    /// Days on which a snapshot exists, in the mount's zone.
    pub days: BTreeSet<i32>,
    /// When the list of sets changed last.
    pub root_changed: Time,
    /// When the newest snapshot of any set changed last.
    pub current_changed: Time,
    /// When the days changed last.
    pub at_changed: Time,
}

/// One backup set; holds at least one date.
pub(super) struct Set {
    pub name: Arc<[u8]>,
    /// Its position in the root.
    pub cookie: Cookie,
    /// When its list of dates changed last.
    pub changed: Time,
    /// By instant, then repository id, then snapshot id.
    pub dates: Vec<Date>,
    /// Indexes into `dates` by plain name.
    pub by_plain: Vec<u32>,
    /// Indexes into `dates` by cookie.
    pub by_cookie: Vec<u32>,
    /// Plain names that were shown before others of their second came, and what they meant then: index into `dates`.
    pub aliases: Vec<(Arc<str>, u32)>,
}

/// One date of a set: a snapshot and its copies.
pub(super) struct Date {
    pub id: DateId,
    pub instant: Time,
    /// Its name, unless others of the set have it too.
    pub plain: Arc<str>,
    /// The name it is listed by.
    pub listed: Arc<str>,
    /// Its position in the set.
    pub cookie: Cookie,
    /// Where it can be read, by order of the configuration; at least one.
    pub copies: Box<[Copy]>,
}

/// One place to read a date from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Copy {
    pub member: u32,
    pub snapshot: u32,
    pub path: u32,
}

/// An index that is kept in half the room.
pub(super) fn at(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

impl State {
    /// The set called `name`.
    pub(super) fn set(&self, name: &[u8]) -> Option<&Set> {
        let found = self.sets.binary_search_by(|set| (*set.name).cmp(name)).ok()?;
        self.sets.get(found)
    }

    /// The sets from position `from` on, by position.
    pub(super) fn sets_from(&self, from: Cookie) -> impl Iterator<Item = &Set> {
        let start =
            self.by_cookie.partition_point(|i| self.sets.get(at(*i)).is_some_and(|set| set.cookie < from));
        self.by_cookie.iter().skip(start).filter_map(|i| self.sets.get(at(*i)))
    }

    /// What a copy is a copy of.
    pub(super) fn snapshot(&self, copy: Copy) -> Option<&Snapshot> {
        self.lists.get(at(copy.member))?.get(at(copy.snapshot))
    }

    /// The path that a copy shows, as recorded.
    pub(super) fn path(&self, copy: Copy) -> &[u8] {
        self.snapshot(copy).and_then(|s| s.paths.get(at(copy.path))).map_or(b"", |path| path)
    }

    /// The date that `name` means in `set`: a listed name, an alias of one, or the long form of any.
    pub(super) fn date<'a>(&self, set: &'a Set, name: &[u8]) -> Option<&'a Date> {
        let name = std::str::from_utf8(name).ok()?;
        if let [only] = set.named(name)
            && let Some(date) = set.dates.get(at(*only)).filter(|date| *date.listed == *name)
        {
            return Some(date);
        }
        if let Ok(alias) = set.aliases.binary_search_by(|(alias, _)| (**alias).cmp(name)) {
            return set.aliases.get(alias).and_then(|(_, date)| set.dates.get(at(*date)));
        }
        let (plain, _) = name.rsplit_once('-')?;
        let group = || set.named(plain).iter().filter_map(|i| set.dates.get(at(*i)));
        let listed = group().find(|date| *date.listed == *name);
        // What is nobody's listed name means the one date that it can mean.
        let mut meant = group().filter(|date| self.long_names(date).any(|long| long == name));
        listed.or_else(|| meant.next().filter(|_| meant.next().is_none()))
    }

    /// The names under which a date can always be looked up.
    pub(super) fn long_names<'a>(&'a self, date: &'a Date) -> impl Iterator<Item = String> + 'a {
        let snapshots = date.copies.iter().filter_map(|copy| self.snapshot(*copy));
        let ids = snapshots.flat_map(|s| [Some(&s.id), s.original.as_ref()]).flatten().map(|id| id8(id));
        ids.chain([digest8(&date.id.to_be_bytes())]).map(|short| format!("{}-{short}", date.plain))
    }
}

impl Set {
    /// The greatest instant.
    pub(super) fn newest(&self) -> Option<&Date> {
        self.dates.last()
    }

    /// The newest date not later than `until`.
    pub(super) fn newest_until(&self, until: Time) -> Option<&Date> {
        let after = self.dates.partition_point(|date| date.instant <= until);
        self.dates.get(after.checked_sub(1)?)
    }

    /// The dates from position `from` on, by position.
    pub(super) fn dates_from(&self, from: Cookie) -> impl Iterator<Item = &Date> {
        let start =
            self.by_cookie.partition_point(|i| self.dates.get(at(*i)).is_some_and(|date| date.cookie < from));
        self.by_cookie.iter().skip(start).filter_map(|i| self.dates.get(at(*i)))
    }

    /// The dates whose plain name is `plain`.
    fn named(&self, plain: &str) -> &[u32] {
        let name = |i: &u32| self.dates.get(at(*i)).map_or("", |date| &*date.plain);
        let start = self.by_plain.partition_point(|i| name(i) < plain);
        let rest = self.by_plain.get(start..).unwrap_or_default();
        rest.get(..rest.partition_point(|i| name(i) == plain)).unwrap_or_default()
    }
}
