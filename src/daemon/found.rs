//! What a listing of a group's places found.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::config::location::{Glob, Pattern};
use crate::config::{Location, MemberAt, Place, members};
use crate::error::{Error, Kind, Result};
use crate::store::ObjectStore;

/// Directories of one level that are listed at a time.
const LISTS: usize = 16;

/// A member's name, and where it was found.
pub(super) type Row = (Arc<str>, At);

/// Where a member was found.
#[derive(Clone, PartialEq)]
pub(super) enum At {
    /// By a pattern (its number among the places): the names of all levels, joined by slashes.
    Pattern(usize, Box<str>),
    /// As a place of its own.
    Single(usize),
    /// In a list.
    Line(members::Line),
}

/// Members by name, as they were found last.
#[derive(Default)]
pub(super) struct Found {
    /// Sorted, each once.
    pub names: Arc<[Arc<str>]>,
    /// By name; one found in several places has several.
    rows: Vec<Row>,
    /// Of each place, and last of the list: whether it was ever listed.
    listed: Vec<bool>,
    /// Why there may be more members than were found.
    pub gap: Option<Error>,
    /// A line says who may enter its member.
    pub has_access: bool,
}

/// What a listing came to: what is shown from now on, and the first of what went wrong.
pub(super) struct Outcome {
    pub found: Found,
    pub failure: Option<Error>,
    /// Names that mean different members in different places, which only the first of them keeps.
    pub ambiguous: Vec<Arc<str>>,
}

impl Found {
    /// Puts together what each place, and last the list, answered. One that did not answer keeps the members that it had
    /// in `before`. Errors: why nothing is known of any.
    pub(super) fn of(
        answers: Vec<Result<Vec<Row>>>,
        before: Option<&Found>,
        places: &[Place],
    ) -> Result<Outcome> {
        let (mut rows, mut listed, mut failures, mut gap) = (Vec::new(), Vec::new(), Vec::new(), None);
        for (origin, answer) in answers.into_iter().enumerate() {
            let known = before.filter(|before| before.listed.get(origin) == Some(&true));
            listed.push(answer.is_ok() || known.is_some());
            match (answer, known) {
                (Ok(found), _) => rows.extend(found),
                (Err(error), known) => {
                    rows.extend(known.iter().flat_map(|known| known.of_origin(origin, places.len())));
                    if known.is_none() {
                        gap.get_or_insert(error.clone());
                    }
                    failures.push(error);
                }
            }
        }
        if !listed.contains(&true)
            && let Some(error) = failures.first()
        {
            return Err(error.clone());
        }
        rows.sort_by(|(one, _), (other, _)| one.cmp(other));
        let ambiguous = keep_first_meaning(&mut rows, places);
        let mut names: Vec<Arc<str>> = rows.iter().map(|(name, _)| name.clone()).collect();
        names.dedup();
        let has_access = rows.iter().any(|(_, at)| matches!(at, At::Line(line) if line.has_access));
        // Whatever went wrong, it is no answer about a member.
        let gap = gap.map(|error| error.with_kind(Kind::Unavailable));
        let found = Found { names: names.into(), rows, listed, gap, has_access };
        Ok(Outcome { found, failure: first_of(failures), ambiguous })
    }

    /// Where `member` was found, each place once.
    pub(super) fn at(&self, member: &str) -> Vec<&At> {
        let start = self.rows.partition_point(|(name, _)| **name < *member);
        let rows = self.rows.iter().skip(start).take_while(|(name, _)| **name == *member);
        let mut places = Vec::new();
        rows.for_each(|(_, at)| places.extend((!places.contains(&at)).then_some(at)));
        places
    }

    fn of_origin(&self, origin: usize, list: usize) -> impl Iterator<Item = Row> {
        let is_of = move |at: &At| match at {
            At::Pattern(number, _) | At::Single(number) => *number == origin,
            At::Line(_) => origin == list,
        };
        self.rows.iter().filter(move |(_, at)| is_of(at)).cloned()
    }
}

impl At {
    /// The same for whoever opens it; `None` when there is no such place.
    pub(super) fn in_places(&self, places: &[Place]) -> Option<MemberAt> {
        Some(match self {
            At::Line(line) => MemberAt::Line(line.clone()),
            At::Single(number) | At::Pattern(number, _) => {
                MemberAt::Location(self.location(places.get(*number)?)?)
            }
        })
    }

    fn location(&self, place: &Place) -> Option<Location> {
        match (place, self) {
            (Place::Single(location), _) => Some(location.clone()),
            (Place::Pattern(pattern), At::Pattern(_, names)) => {
                Some(pattern.at(&names.split('/').collect::<Vec<_>>()))
            }
            (Place::Pattern(_), _) => None,
        }
    }

    /// Of how many texts its name is made.
    fn parts(&self, places: &[Place]) -> usize {
        match self {
            At::Pattern(number, _) => match places.get(*number) {
                Some(Place::Pattern(pattern)) => pattern.stars(),
                _ => 1,
            },
            At::Single(_) | At::Line(_) => 1,
        }
    }

    /// The directory, of a place on this machine, below which whoever writes to the member may choose what lies where: that
    /// which the first star stands for, or the member itself.
    pub(super) fn owned(&self, location: &Location, places: &[Place]) -> Option<std::path::PathBuf> {
        let own = location.as_path()?;
        let At::Pattern(number, names) = self else { return Some(own.to_owned()) };
        let Place::Pattern(pattern) = places.get(*number)? else { return Some(own.to_owned()) };
        let first = names.split('/').next().unwrap_or_default();
        Some(pattern.fixed.as_path()?.join(first))
    }
}

/// One name for what the stars of a member stand for. What joins several is escaped in each, so that no two are called the
/// same.
pub(super) fn name(stars: &[String]) -> String {
    match stars {
        [only] => only.clone(),
        several => {
            let escaped = several.iter().map(|star| star.replace('%', "%25").replace('+', "%2B"));
            escaped.collect::<Vec<_>>().join("+")
        }
    }
}

/// Of rows that are called the same though their names are made of a different number of texts, only those of the first
/// place stay. Returns their names.
fn keep_first_meaning(rows: &mut Vec<Row>, places: &[Place]) -> Vec<Arc<str>> {
    let mut ambiguous = Vec::new();
    let mut first: Option<(Arc<str>, usize)> = None;
    rows.retain(|(name, at)| {
        let parts = at.parts(places);
        match &first {
            Some((known, meant)) if known == name => {
                if *meant != parts && ambiguous.last() != Some(name) {
                    ambiguous.push(name.clone());
                }
                *meant == parts
            }
            _ => {
                first = Some((name.clone(), parts));
                true
            }
        }
    });
    ambiguous
}

/// The first of several failures, with a word about the others.
fn first_of(failures: Vec<Error>) -> Option<Error> {
    let others = failures.len().saturating_sub(1);
    let first = failures.into_iter().next()?;
    Some(if others == 0 { first } else { first.context(format!("{} places fail", others + 1)) })
}

/// A place on the way down a pattern.
pub(super) struct Branch {
    /// What lies above, with a slash at the end unless it is empty.
    pub prefix: String,
    /// What the stars stood for so far.
    pub stars: Vec<String>,
}

/// What a pattern leads to. Names below the last star are taken as they are: to look whether each is there would cost a
/// request a member.
pub(super) async fn branches(store: &dyn ObjectStore, pattern: &Pattern) -> Result<Vec<Branch>> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::location;
    use crate::store::Memory;

    fn place(spelled: &str) -> Place {
        let location = location::parse(spelled.as_ref(), "/".as_ref()).unwrap().location;
        Pattern::of(&location).map_or(Place::Single(location), Place::Pattern)
    }

    fn pattern(spelled: &str) -> Pattern {
        match place(spelled) {
            Place::Pattern(pattern) => pattern,
            Place::Single(_) => panic!("no star in {spelled}"),
        }
    }

    async fn leads(spelled: &str, keys: &[&str]) -> Vec<String> {
        let store = Memory::new();
        for key in keys {
            store.insert(key, "x").unwrap();
        }
        let branches = branches(&store, &pattern(spelled)).await.unwrap();
        let mut found: Vec<String> =
            branches.iter().map(|b| format!("{} at {}", name(&b.stars), b.prefix)).collect();
        found.sort();
        found
    }

    #[tokio::test]
    async fn patterns_are_matched_level_by_level() {
        let keys = ["cback-a/config", "cback-b/data/x", "other/config", "cback-file", ".hidden/config"];
        assert_eq!(leads("s3:https://h.x/b/cback-*", &keys).await, ["a at cback-a/", "b at cback-b/"]);
        assert_eq!(
            leads("s3:https://h.x/b/*", &keys).await,
            ["cback-a at cback-a/", "cback-b at cback-b/", "other at other/"]
        );
        let deep = ["x/r-1/config", "x/r-2/config", "y/r-1/config", "y/s/config"];
        assert_eq!(leads("/srv/*/r-*", &deep).await, ["x+1 at x/r-1/", "x+2 at x/r-2/", "y+1 at y/r-1/"]);
        assert_eq!(leads("/srv/*/r-1", &deep).await, ["x at x/r-1/", "y at y/r-1/"]);
    }

    #[tokio::test]
    async fn members_of_different_places_are_never_called_the_same() {
        let keys = ["a+b/c/config", "a/b+c/config", "a%2Bb/c/config"];
        assert_eq!(
            leads("/srv/*/*", &keys).await,
            ["a%252Bb+c at a%2Bb/c/", "a%2Bb+c at a+b/c/", "a+b%2Bc at a/b+c/"]
        );
        assert_eq!(leads("/srv/*", &["a+b/config"]).await, ["a+b at a+b/"], "one star is shown as it is");
    }

    fn row(name: &str, place: usize) -> Row {
        (name.into(), At::Pattern(place, name.into()))
    }

    fn away(what: &str) -> Result<Vec<Row>> {
        Err(Error::new(Kind::NotFound, what))
    }

    fn names(found: &Found) -> Vec<&str> {
        found.names.iter().map(|name| &**name).collect()
    }

    #[test]
    fn a_place_that_does_not_answer_keeps_its_members_and_hides_no_other() {
        let places = [place("/a/*"), place("/b/*")];
        let rows = |names: &[&str], place: usize| Ok(names.iter().map(|name| row(name, place)).collect());
        let of = |answers: Vec<Result<Vec<Row>>>, before: Option<&Found>| Found::of(answers, before, &places);
        assert_eq!(of(vec![away("one"), away("two")], None).err().unwrap().to_string(), "one");

        let partly = of(vec![rows(&["x", "y"], 0), away("b is gone")], None).unwrap();
        assert_eq!(names(&partly.found), ["x", "y"]);
        assert_eq!(partly.failure.unwrap().to_string(), "b is gone");
        assert_eq!(partly.found.gap.as_ref().unwrap().kind(), Kind::Unavailable, "there may be others");

        let all = of(vec![rows(&["x"], 0), rows(&["x", "z"], 1)], Some(&partly.found)).unwrap();
        assert!(all.failure.is_none() && all.found.gap.is_none());
        assert_eq!((names(&all.found), all.found.at("x").len()), (vec!["x", "z"], 2));

        let later = of(vec![rows(&["n"], 0), away("b is gone")], Some(&all.found)).unwrap();
        assert_eq!(names(&later.found), ["n", "x", "z"], "those that b had");
        assert!(later.failure.is_some() && later.found.gap.is_none(), "all of them are known");
        assert_eq!(later.found.at("x").len(), 1);
        let none = of(vec![away("one"), away("two")], Some(&later.found)).unwrap();
        assert_eq!(names(&none.found), ["n", "x", "z"]);
        assert_eq!(none.failure.unwrap().to_string(), "2 places fail: one");
    }

    #[test]
    fn one_name_with_two_meanings_is_the_first_place_s() {
        let places = [place("/a/*"), place("/b/*/*"), place("/c/*")];
        let answers =
            vec![Ok(vec![row("x+y", 0), row("z", 0)]), Ok(vec![row("x+y", 1)]), Ok(vec![row("x+y", 2)])];
        let Outcome { found, ambiguous, .. } = Found::of(answers, None, &places).unwrap();
        assert_eq!(names(&found), ["x+y", "z"]);
        assert_eq!(ambiguous.iter().map(|name| &**name).collect::<Vec<_>>(), ["x+y"]);
        assert!(found.at("x+y").iter().all(|at| matches!(at, At::Pattern(0 | 2, _))), "those are the same");
        assert!(found.at("absent").is_empty());
    }

    #[test]
    fn others_choose_what_lies_below_the_first_star() {
        let places = [place("/srv/*/repo-*/x"), place("/own"), place("s3:https://h.x/b/*")];
        let owned = |at: &At| {
            let MemberAt::Location(location) = at.in_places(&places).unwrap() else { panic!("no location") };
            at.owned(&location, &places)
        };
        assert_eq!(owned(&At::Pattern(0, "alice/repo-1/x".into())), Some("/srv/alice".into()));
        assert_eq!(owned(&At::Single(1)), Some("/own".into()));
        assert_eq!(owned(&At::Pattern(2, "alice".into())), None, "not on this machine");
    }
}
