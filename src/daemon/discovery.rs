//! Finds the members of a group and opens them.
//!
//! Listing matches names level by level and opens nothing; of a member no more is kept than its name and where it was
//! found, until somebody looks.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::Mutex as AsyncMutex;

use super::keep::Common;
use super::late::Late;
use super::open::{begin, spec, store};
use super::together::flat;
use super::translate;
use crate::config::location::{Glob, Pattern};
use crate::config::{self, Location, MemberAt, Place, members};
use crate::error::{Context, Error, Kind, Result};
use crate::namespace::{self, Access, Members};
use crate::store::ObjectStore;

/// Directories of one level that are listed at a time.
const LISTS: usize = 16;

/// Where a repository keeps its snapshots, and where restic kept them before 0.8.
const SNAPSHOTS: &str = "snapshots/";
const OLD_SNAPSHOTS: &str = "snapshot/";

/// A listing that is this fresh is as good as a new one.
const FRESH: Duration = Duration::from_secs(2);

/// The members of one group.
pub struct Discovery {
    config: config::Group,
    common: Common,
    found: ArcSwapOption<Found>,
    turn: AsyncMutex<Option<Instant>>,
    failure: Mutex<Option<Error>>,
    /// Warnings given already.
    told: Mutex<HashSet<String>>,
}

/// A complete listing.
struct Found {
    /// Sorted, each once.
    names: Arc<[Arc<str>]>,
    /// By name; one found in several places has several.
    rows: Vec<(Arc<str>, At)>,
}

/// Where a member was found.
#[derive(Clone, PartialEq)]
enum At {
    /// By a pattern (its number among the places): the names of all levels, joined by slashes.
    Pattern(usize, Box<str>),
    /// As a place of its own.
    Single(usize),
    /// In a list.
    Line(members::Line),
}

/// A place on the way down a pattern.
struct Branch {
    /// What lies above, with a slash at the end unless it is empty.
    prefix: String,
    /// What the stars stood for so far.
    stars: Vec<String>,
}

impl Discovery {
    /// Of a group whose secrets are known. Lists nothing yet.
    pub fn new(config: config::Group, common: Common) -> Arc<Self> {
        Arc::new(Discovery {
            config,
            common,
            found: ArcSwapOption::empty(),
            turn: AsyncMutex::new(None),
            failure: Mutex::default(),
            told: Mutex::default(),
        })
    }

    async fn find(&self) -> Result<Found> {
        let places = (0..).zip(&self.config.places).map(|(number, place)| self.rows_at(number, place));
        let mut rows = Vec::new();
        for found in join_all(places).await {
            rows.extend(found?);
        }
        rows.extend(self.rows_of_list().await?);
        rows.retain(|(name, _)| self.can_be_shown(name));
        rows.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut names: Vec<Arc<str>> = rows.iter().map(|(name, _)| name.clone()).collect();
        names.dedup();
        Ok(Found { names: names.into(), rows })
    }

    async fn rows_at(&self, number: usize, place: &Place) -> Result<Vec<(Arc<str>, At)>> {
        let pattern = match place {
            Place::Single(location) => return Ok(vec![(location.last().into(), At::Single(number))]),
            Place::Pattern(pattern) => pattern,
        };
        let store = store(&pattern.fixed, &self.config.credentials)?;
        let branches = branches(&*store, pattern).await?;
        let row = |Branch { prefix, stars }: Branch| {
            let names = prefix.trim_end_matches('/');
            (stars.join("+").into(), At::Pattern(number, names.into()))
        };
        Ok(branches.into_iter().map(row).collect())
    }

    async fn rows_of_list(&self) -> Result<Vec<(Arc<str>, At)>> {
        let Some(list) = self.config.list.clone() else { return Ok(Vec::new()) };
        let lines = tokio::task::spawn_blocking(move || members::listed(&list)).await;
        let lines = lines.map_err(|e| Error::caused_by(Kind::Internal, "listing members ended", e))??;
        let mut rows = Vec::with_capacity(lines.len());
        for line in lines {
            match line {
                Ok((name, line)) => rows.push((name.into(), At::Line(line))),
                Err(error) => self.tell(format!("{}: {error}", self.config.title)),
            }
        }
        Ok(rows)
    }

    fn can_be_shown(&self, name: &str) -> bool {
        let refused = config::is_reserved(name);
        if refused {
            self.tell(format!("{}: a member cannot be called {name:?}, and is left out", self.config.title));
        }
        !refused
    }

    fn tell(&self, warning: String) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.insert(warning.clone()) {
            tracing::warn!("{warning}");
        }
    }

    fn settings(&self, name: &str, at: &At) -> Result<config::Source> {
        let gone = || Error::new(Kind::Internal, "a member of no place");
        let at = match at {
            At::Line(line) => MemberAt::Line(line.clone()),
            At::Single(number) | At::Pattern(number, _) => {
                MemberAt::Location(self.location(*number, at).ok_or_else(gone)?)
            }
        };
        self.config.member(name, &at)
    }

    fn location(&self, number: usize, at: &At) -> Option<Location> {
        match (self.config.places.get(number)?, at) {
            (Place::Single(location), _) => Some(location.clone()),
            (Place::Pattern(pattern), At::Pattern(_, names)) => {
                Some(pattern.at(&names.split('/').collect::<Vec<_>>()))
            }
            (Place::Pattern(_), _) => None,
        }
    }

    /// Opens one place of a member. A place that cannot be opened now is tried again with the others' refreshes.
    async fn open_at(&self, name: &str, at: &At) -> (Result<()>, Option<namespace::Member>) {
        let source = match self.settings(name, at) {
            Ok(source) => source,
            Err(error) => return (Err(error), None),
        };
        let (asked, common) = (source.clone(), self.common.clone());
        let spec = tokio::task::spawn_blocking(move || spec(&asked, &common)).await;
        let spec = spec.unwrap_or_else(|e| Err(Error::caused_by(Kind::Internal, "opening ended", e)));
        match flat(begin(spec, &self.common).await) {
            Ok(opened) => (Ok(()), Some(translate::member(opened, &source))),
            Err(error) => {
                let late = Late::new(source.clone(), self.common.clone(), error.clone());
                (Err(error), Some(translate::member(late, &source)))
            }
        }
    }

    /// Where `member` was found.
    fn places_of(&self, member: &str) -> Vec<At> {
        let mut places: Vec<At> = Vec::new();
        if let Some(found) = self.found.load_full() {
            let start = found.rows.partition_point(|(name, _)| **name < *member);
            let rows = found.rows.iter().skip(start).take_while(|(name, _)| **name == *member);
            rows.for_each(|(_, at)| places.extend((!places.contains(at)).then(|| at.clone())));
        }
        places
    }

    /// When the newest snapshot of a member at one place was written. What lets us list the group lets us list its members.
    async fn newest_at(&self, name: &str, at: &At) -> Result<Option<SystemTime>> {
        let (store, below) = match at {
            At::Pattern(number, names) => {
                let Some(Place::Pattern(pattern)) = self.config.places.get(*number) else { return Ok(None) };
                (store(&pattern.fixed, &self.config.credentials)?, format!("{names}/"))
            }
            At::Single(_) | At::Line(_) => {
                let mut source = self.settings(name, at)?;
                let settled =
                    tokio::task::spawn_blocking(move || source.read_access().map(|()| source)).await;
                let source =
                    settled.map_err(|e| Error::caused_by(Kind::Internal, "reading secrets ended", e))??;
                (store(&source.location, &source.credentials)?, String::new())
            }
        };
        match store.newest(&format!("{below}{SNAPSHOTS}")).await? {
            None => store.newest(&format!("{below}{OLD_SNAPSHOTS}")).await,
            newest => Ok(newest),
        }
    }

    fn failure(&self) -> MutexGuard<'_, Option<Error>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a pattern leads to. Names below the last star are taken as they are: to look whether each is there would cost a
/// request a member.
async fn branches(store: &dyn ObjectStore, pattern: &Pattern) -> Result<Vec<Branch>> {
    let mut branches = vec![Branch { prefix: String::new(), stars: Vec::new() }];
    for glob in &pattern.levels {
        branches = match glob.plain() {
            Some(name) => branches.into_iter().map(|branch| branch.down(name, &[])).collect(),
            None => {
                let below = stream::iter(branches).map(|branch| matches_below(store, branch, glob));
                let below: Vec<Vec<Branch>> = below.buffer_unordered(LISTS).try_collect().await?;
                below.into_iter().flatten().collect()
            }
        };
    }
    Ok(branches)
}

async fn matches_below(store: &dyn ObjectStore, branch: Branch, glob: &Glob) -> Result<Vec<Branch>> {
    let level = store.list_level(&branch.prefix).await?;
    let names = level.below.iter().filter_map(|below| below.strip_prefix(&branch.prefix)?.strip_suffix('/'));
    Ok(names.filter_map(|name| Some(branch.down(name, &glob.matched(name)?))).collect())
}

impl Branch {
    fn down(&self, name: &str, stars: &[&str]) -> Branch {
        let stars = self.stars.iter().cloned().chain(stars.iter().map(|star| (*star).to_owned()));
        Branch { prefix: format!("{}{name}/", self.prefix), stars: stars.collect() }
    }
}

impl Members for Discovery {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn names(&self) -> Option<Arc<[Arc<str>]>> {
        self.found.load().as_ref().map(|found| found.names.clone())
    }

    fn list(&self) -> BoxFuture<'_, Result<Arc<[Arc<str>]>>> {
        Box::pin(async move {
            let mut turn = self.turn.lock().await;
            if let Some(names) = self.names().filter(|_| turn.is_some_and(|last| last.elapsed() < FRESH)) {
                return Ok(names);
            }
            let found = self.find().await.context(|| self.config.title.clone());
            *self.failure() = found.as_ref().err().cloned();
            let found = found?;
            let names = found.names.clone();
            self.found.store(Some(Arc::new(found)));
            *turn = Some(Instant::now());
            Ok(names)
        })
    }

    fn failure(&self) -> Option<Error> {
        self.failure().clone()
    }

    fn refresh(&self) -> Option<Duration> {
        self.config.refresh
    }

    fn expect_every(&self) -> Duration {
        self.config.expect_every
    }

    fn newest<'a>(&'a self, member: &'a str) -> BoxFuture<'a, Result<Option<SystemTime>>> {
        Box::pin(async move {
            let mut newest = None;
            for at in self.places_of(member) {
                newest = newest.max(self.newest_at(member, &at).await?);
            }
            Ok(newest)
        })
    }

    fn open<'a>(&'a self, member: &'a str) -> BoxFuture<'a, Result<Vec<namespace::Member>>> {
        Box::pin(async move {
            let places = self.places_of(member);
            let opened = join_all(places.iter().map(|at| self.open_at(member, at))).await;
            if opened.iter().all(|(result, _)| result.is_err()) {
                let failed = opened.into_iter().find_map(|(result, _)| result.err());
                let gone =
                    || Error::new(Kind::Stale, format!("{}/{member}: no longer there", self.config.title));
                return Err(failed.unwrap_or_else(gone));
            }
            for error in opened.iter().filter_map(|(result, _)| result.as_ref().err()) {
                tracing::warn!(%error, "cannot be opened now");
            }
            Ok(opened.into_iter().filter_map(|(_, member)| member).collect())
        })
    }

    fn has_access(&self) -> bool {
        self.config.has_access()
    }

    fn access(&self, member: &str) -> Option<Access> {
        self.config.access(member).map(translate::access)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Memory;

    fn pattern(spelled: &str) -> Pattern {
        let base = std::path::Path::new("/");
        Pattern::of(&config::location::parse(spelled.as_ref(), base).unwrap().location).unwrap()
    }

    async fn found(spelled: &str, keys: &[&str]) -> Vec<String> {
        let store = Memory::new();
        for key in keys {
            store.insert(key, "x").unwrap();
        }
        let branches = branches(&store, &pattern(spelled)).await.unwrap();
        let mut found: Vec<String> =
            branches.iter().map(|b| format!("{} at {}", b.stars.join("+"), b.prefix)).collect();
        found.sort();
        found
    }

    #[tokio::test]
    async fn patterns_are_matched_level_by_level() {
        let keys = ["cback-a/config", "cback-b/data/x", "other/config", "cback-file", ".hidden/config"];
        assert_eq!(found("s3:https://h.x/b/cback-*", &keys).await, ["a at cback-a/", "b at cback-b/"]);
        assert_eq!(
            found("s3:https://h.x/b/*", &keys).await,
            ["cback-a at cback-a/", "cback-b at cback-b/", "other at other/"]
        );
        let deep = ["x/r-1/config", "x/r-2/config", "y/r-1/config", "y/s/config"];
        assert_eq!(found("/srv/*/r-*", &deep).await, ["x+1 at x/r-1/", "x+2 at x/r-2/", "y+1 at y/r-1/"]);
        assert_eq!(found("/srv/*/r-1", &deep).await, ["x at x/r-1/", "y at y/r-1/"]);
    }
}
