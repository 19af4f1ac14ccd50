//! Finds the members of a group and opens them.
//!
//! Listing matches names level by level and opens nothing; of a member no more is kept than its name and where it was
//! found, until somebody looks.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use futures_util::future::{BoxFuture, join_all};
use tokio::sync::Mutex as AsyncMutex;

use super::found::{self, At, Branch, Found, Outcome, Row, branches};
use super::keep::Common;
use super::late::Late;
use super::open::{begin, prepared};
use super::stores::store;
use super::together::flat;
use super::{place, translate};
use crate::cache::Class;
use crate::config::location::{Pattern, S3};
use crate::config::{self, Location, MemberAt, MemberList, Place, members};
use crate::error::{Context, Error, Kind, Result};
use crate::namespace::{self, Access, Members};
use crate::store::ObjectStore;

/// Where a repository keeps its snapshots, and where restic kept them before 0.8.
const SNAPSHOTS: &str = "snapshots/";
const OLD_SNAPSHOTS: &str = "snapshot/";

/// A listing that is this fresh is as good as a new one.
const FRESH: Duration = Duration::from_secs(2);

/// What is kept of a command's lines is called so.
const LINES: &str = "members";

/// What no place holds.
const NOTHING: &str = ".backupfs-looks-whether-it-may-list/";

/// The members of one group.
pub struct Discovery {
    config: config::Group,
    common: Common,
    /// What is listed of each place that is a pattern, by its number.
    stores: Vec<OnceLock<Arc<dyn ObjectStore>>>,
    found: ArcSwapOption<Found>,
    turn: AsyncMutex<Option<Instant>>,
    failure: Mutex<Option<Error>>,
    /// Warnings given already.
    told: Mutex<HashSet<String>>,
}

impl Discovery {
    /// Of a group whose secrets are known. Lists nothing yet.
    pub fn new(config: config::Group, common: Common) -> Arc<Self> {
        Arc::new(Discovery {
            stores: config.places.iter().map(|_| OnceLock::new()).collect(),
            config,
            common,
            found: ArcSwapOption::empty(),
            turn: AsyncMutex::new(None),
            failure: Mutex::default(),
            told: Mutex::default(),
        })
    }

    async fn find(&self) -> Result<Outcome> {
        let places = (0..).zip(&self.config.places).map(|(number, place)| self.rows_at(number, place));
        let mut answers = join_all(places).await;
        if let Some(list) = &self.config.list {
            answers.push(self.rows_of_list(list).await);
        }
        for rows in answers.iter_mut().flatten() {
            rows.retain(|(name, _)| self.can_be_shown(name));
        }
        let before = self.found.load_full();
        let mut outcome = Found::of(answers, before.as_deref(), &self.config.places)?;
        for name in &outcome.ambiguous {
            let says =
                "is the name of different members, of which only those of the first location are shown";
            self.tell(format!("{}: {name:?} {says}", self.config.title));
        }
        outcome.failure = outcome.failure.or_else(|| self.outage());
        Ok(outcome)
    }

    /// Returns once every place has shown that it can be listed, which may be long before it is; never where only the
    /// listing itself tells.
    pub async fn answers(&self) {
        if self.config.list.is_some() {
            std::future::pending::<()>().await;
        }
        join_all(self.config.places.iter().map(|place| async move {
            if !self.answers_at(place).await {
                std::future::pending::<()>().await;
            }
        }))
        .await;
    }

    async fn answers_at(&self, place: &Place) -> bool {
        let Place::Pattern(pattern) = place else { return true };
        match &pattern.fixed {
            Location::Local(path) => is_there(path).await.is_ok(),
            // One request, refused like the many that list everything.
            Location::S3(S3 { bucket, .. }) if !bucket.is_empty() => {
                match store(&pattern.fixed, &self.config.credentials) {
                    Ok(store) => store.list_level(NOTHING).await.is_ok(),
                    Err(_) => false,
                }
            }
            _ => false,
        }
    }

    /// Why what was listed is what the cache knows.
    fn outage(&self) -> Option<Error> {
        let outage = self.stores.iter().find_map(|store| store.get()?.outage())?;
        Some(outage.error.context("shown from the cache alone"))
    }

    async fn rows_at(&self, number: usize, place: &Place) -> Result<Vec<Row>> {
        let pattern = match place {
            Place::Single(location) => return Ok(vec![(location.last().into(), At::Single(number))]),
            Place::Pattern(pattern) => pattern,
        };
        if let Some(path) = pattern.fixed.as_path() {
            is_there(path).await?;
        }
        let store = self.store(number, pattern)?;
        let branches = branches(&*store, pattern).await?;
        let row = |Branch { prefix, stars }: Branch| {
            let names = prefix.trim_end_matches('/');
            (found::name(&stars).into(), At::Pattern(number, names.into()))
        };
        Ok(branches.into_iter().map(row).collect())
    }

    /// What holds the members of a place.
    fn store(&self, number: usize, pattern: &Pattern) -> Result<Arc<dyn ObjectStore>> {
        let Some(known) = self.stores.get(number) else {
            return Err(Error::new(Kind::Internal, "a place of no group"));
        };
        if let Some(store) = known.get() {
            return Ok(store.clone());
        }
        let (place, credentials) = (&pattern.fixed, &self.config.credentials);
        let (store, _) =
            self.common.kept(place, credentials, store(place, credentials)?, &self.config.title, None);
        Ok(known.get_or_init(|| store).clone())
    }

    async fn rows_of_list(&self, list: &MemberList) -> Result<Vec<Row>> {
        let asked = list.clone();
        let lines = tokio::task::spawn_blocking(move || members::listed(&asked)).await;
        let lines = lines.map_err(|e| Error::caused_by(Kind::Internal, "listing members ended", e))?;
        let lines = match (lines, list) {
            (Ok(lines), MemberList::Command(command)) => {
                self.keep_lines(command, &lines);
                lines
            }
            (Err(error), MemberList::Command(command)) => self.kept_lines(command, error).await?,
            (lines, MemberList::File(_)) => lines?,
        };
        let mut rows = Vec::with_capacity(lines.len());
        for line in lines {
            match line {
                Ok((name, line)) => rows.push((name.into(), At::Line(line))),
                Err(error) => self.tell(format!("{}: {error}", self.config.title)),
            }
        }
        Ok(rows)
    }

    /// Keeps what a command said for when it fails; but no line that holds a secret.
    fn keep_lines(&self, command: &str, lines: &[Result<(String, members::Line)>]) {
        let Some(drawer) = self.common.of_command(command, &self.config.title) else { return };
        let mut text = String::new();
        for (_, line) in lines.iter().flatten().filter(|(_, line)| !line.has_secret) {
            text.push_str(line.text());
            text.push('\n');
        }
        drawer.put_object(LINES, Class::Metadata, text.as_bytes());
    }

    /// What a command that fails because of `error` said last. That error where this process has heard it itself.
    async fn kept_lines(&self, command: &str, error: Error) -> Result<Vec<Result<(String, members::Line)>>> {
        if self.found.load().is_some() {
            return Err(error);
        }
        let Some(drawer) = self.common.of_command(command, &self.config.title) else { return Err(error) };
        let Some(text) = drawer.object(LINES).await else { return Err(error) };
        self.tell(format!("{}: shown as it was last: {error}", self.config.title));
        Ok(members::lines("members-command", &text, false))
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
        let places = &self.config.places;
        let member =
            at.in_places(places).ok_or_else(|| Error::new(Kind::Internal, "a member of no place"))?;
        let mut source = self.config.member(name, &member)?;
        // Who may write to one member must not show others what is in the next.
        source.within = at.owned(&source.location, places).filter(|_| self.common.lets_others_in);
        Ok(source)
    }

    /// Opens one place of a member. A place that cannot be opened now is tried again with the others' refreshes.
    async fn open_at(&self, name: &str, at: &At) -> (Result<()>, Option<namespace::Member>) {
        let source = match self.settings(name, at) {
            Ok(source) => source,
            Err(error) => return (Err(error), None),
        };
        match flat(begin(prepared(&source, &self.common).await).await) {
            Ok(opened) => (Ok(()), Some(translate::member(opened, &source))),
            Err(error) => {
                let late = Late::new(source.clone(), self.common.clone(), error.clone());
                (Err(error), Some(translate::member(late, &source)))
            }
        }
    }

    /// When the newest snapshot of a member at one place was written. What lets us list the group lets us list its members.
    async fn newest_at(&self, name: &str, at: &At) -> Result<Option<SystemTime>> {
        let store = match at.in_places(&self.config.places) {
            Some(MemberAt::Location(location)) => store(&location, &self.config.credentials)?,
            Some(MemberAt::Line(_)) => {
                let mut source = self.settings(name, at)?;
                let settled =
                    tokio::task::spawn_blocking(move || source.read_access().map(|()| source)).await;
                let source =
                    settled.map_err(|e| Error::caused_by(Kind::Internal, "reading secrets ended", e))??;
                store(&source.location, &source.credentials)?
            }
            None => return Ok(None),
        };
        match store.newest(SNAPSHOTS).await? {
            None => store.newest(OLD_SNAPSHOTS).await,
            newest => Ok(newest),
        }
    }

    /// What `said` comes to for every place of `member`, when it is the same for all of them.
    fn agreed<T: PartialEq>(&self, member: &str, said: impl Fn(&MemberAt) -> Option<T>) -> Option<T> {
        let found = self.found.load_full()?;
        let at = |at: &At| at.in_places(&self.config.places).and_then(|at| said(&at));
        let mut all = found.at(member).into_iter().map(at);
        let first = all.next()??;
        all.all(|other| other.as_ref() == Some(&first)).then_some(first)
    }

    fn failed(&self) -> MutexGuard<'_, Option<Error>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what went wrong with a listing, and says so when nothing did before.
    fn note(&self, failure: Option<Error>) {
        let before = std::mem::replace(&mut *self.failed(), failure.clone());
        match (before, failure) {
            (None, Some(error)) => tracing::warn!(%error, "not all members are listed anew"),
            (Some(_), None) => tracing::info!(group = self.config.title, "all members are listed again"),
            _ => {}
        }
    }
}

/// Whether a directory can be listed.
async fn is_there(path: &Path) -> Result<()> {
    let look = |path: &Path| std::fs::read_dir(path).map(drop);
    place::look(path, move |path| look(path).map_err(|e| Error::io(path.display().to_string(), e))).await
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
            let outcome = self.find().await.context(|| self.config.title.clone());
            let Outcome { found, failure, .. } = outcome.inspect_err(|error| {
                *self.failed() = Some(error.clone());
            })?;
            self.note(failure.map(|error| error.context(self.config.title.clone())));
            let names = found.names.clone();
            self.found.store(Some(Arc::new(found)));
            *turn = Some(Instant::now());
            Ok(names)
        })
    }

    fn failure(&self) -> Option<Error> {
        self.failed().clone()
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
            let found = self.found.load_full();
            for at in found.as_ref().map(|found| found.at(member)).unwrap_or_default() {
                newest = newest.max(self.newest_at(member, at).await?);
            }
            Ok(newest)
        })
    }

    fn open<'a>(&'a self, member: &'a str) -> BoxFuture<'a, Result<Vec<namespace::Member>>> {
        Box::pin(async move {
            let found = self.found.load_full();
            let places = found.as_ref().map(|found| found.at(member)).unwrap_or_default();
            let opened = join_all(places.into_iter().map(|at| self.open_at(member, at))).await;
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

    fn gap(&self) -> Option<Error> {
        self.found.load().as_ref()?.gap.clone()
    }

    fn has_access(&self) -> bool {
        self.config.has_access() || self.found.load().as_ref().is_some_and(|found| found.has_access)
    }

    fn access(&self, member: &str) -> Option<Access> {
        self.agreed(member, |at| Some(self.config.access(member, at))).flatten().map(translate::access)
    }

    fn known_access(&self, member: &str) -> Option<Option<Access>> {
        let known = self.agreed(member, |at| self.config.known_access(member, at));
        known.map(|access| access.map(translate::access))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;
    use crate::config::{Typed, resolve};
    use crate::error::Kind;

    /// The group that a configuration of one source describes, with a cache in `dir`; `shared` lets others in.
    fn discovery(dir: &Path, source: &str, shared: bool) -> Arc<Discovery> {
        let file = dir.join("c.toml");
        let cache = dir.join("cache").display().to_string();
        fs::write(&file, format!("cache-dir = '{cache}'\n[[source]]\nname = 'all'\n{source}\n")).unwrap();
        let options = if shared { vec!["allow_other".to_owned()] } else { Vec::new() };
        let mut config = resolve(&Typed { file: Some(file), options, ..Typed::default() }).unwrap();
        let common = Common::new(&config).0;
        Discovery::new(config.groups.remove(0), common)
    }

    async fn names(discovery: &Discovery) -> Result<Vec<String>> {
        *discovery.turn.lock().await = None;
        Ok(discovery.list().await?.iter().map(|name| name.to_string()).collect())
    }

    #[tokio::test]
    async fn one_dead_place_of_several_costs_nothing_but_its_own_members() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("near/a")).unwrap();
        let urls = format!("url = ['{}', '{}']", at("near/*").display(), at("far/*").display());
        let group = discovery(dir.path(), &urls, false);
        assert_eq!(names(&group).await.unwrap(), ["a"]);
        let failure = group.failure().unwrap().to_string();
        assert!(failure.starts_with("all: ") && failure.contains("far"), "{failure}");
        assert_eq!(group.gap().unwrap().kind(), Kind::Unavailable);
        fs::create_dir_all(at("far/b")).unwrap();
        assert_eq!(names(&group).await.unwrap(), ["a", "b"]);
        assert!(group.failure().is_none() && group.gap().is_none());
        fs::rename(at("far"), at("away")).unwrap();
        fs::create_dir_all(at("near/c")).unwrap();
        assert_eq!(names(&group).await.unwrap(), ["a", "b", "c"]);
        assert!(group.failure().is_some() && group.gap().is_none());
        fs::rename(at("near"), at("gone")).unwrap();
        assert_eq!(names(&group).await.unwrap(), ["a", "b", "c"]);
        assert!(group.failure().unwrap().to_string().contains("2 places fail"));
    }

    #[tokio::test]
    async fn a_place_answers_before_it_is_listed_unless_it_cannot_be() {
        let dir = tempfile::tempdir().unwrap();
        let here = dir.path().display();
        let answers = async |said: &str| {
            let group = discovery(dir.path(), said, false);
            tokio::time::timeout(Duration::from_millis(200), group.answers()).await.is_ok()
        };
        assert!(answers(&format!("url = ['{here}/*', '/any/other']")).await);
        assert!(!answers(&format!("url = ['{here}/*', '{here}/absent/*']")).await, "one of them does not");
        assert!(!answers(&format!("url = '{here}/*'\nmembers-command = 'true'")).await);
    }

    #[tokio::test]
    async fn what_a_command_said_last_is_known_without_it_but_for_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let lines = dir.path().join("lines");
        let secret = r#"{"name": "own", "url": "/srv/own", "password": "hunter2"}"#;
        fs::write(&lines, format!("a /srv/a\n{secret}\nb /srv/marker\n")).unwrap();
        let command = format!("members-command = 'cat {}'\npassword-command = 'x'", lines.display());
        let group = discovery(dir.path(), &command, false);
        assert_eq!(names(&group).await.unwrap(), ["a", "b", "own"]);
        group.common.flush();
        fs::remove_file(&lines).unwrap();
        assert_eq!(names(&group).await.unwrap(), ["a", "b", "own"], "this process knows them all");
        assert!(group.failure().is_some());
        drop(group);
        let later = discovery(dir.path(), &command, false);
        assert_eq!(names(&later).await.unwrap(), ["a", "b"]);
        let kept = fs::read_dir(dir.path().join("cache/stored")).unwrap();
        for file in kept.map(|file| file.unwrap().path()).filter(|path| path.is_file()) {
            let bytes = fs::read(&file).unwrap();
            for word in ["hunter2", "marker"] {
                assert!(!bytes.windows(word.len()).any(|part| part == word.as_bytes()), "{}", file.display());
            }
        }
        let other = discovery(dir.path(), "members-command = 'false'\npassword-command = 'x'", false);
        assert!(names(&other).await.is_err(), "another command said nothing");
    }

    #[tokio::test]
    async fn places_that_disagree_let_nobody_in() {
        let dir = tempfile::tempdir().unwrap();
        let line = |perm: &str| format!(r#"{{"name": "x", "url": "/a", "access": "5:5:{perm}"}}"#);
        let group = |lines: &[String]| {
            let list = dir.path().join("members");
            fs::write(&list, lines.join("\n")).unwrap();
            let said = format!("members-file = '{}'\npassword-command = 'x'", list.display());
            discovery(dir.path(), &said, true)
        };
        let one = group(&[line("0750"), line("0750")]);
        names(&one).await.unwrap();
        assert!(one.has_access());
        assert_eq!(one.known_access("x"), Some(Some(Access { uid: 5, gid: 5, perm: 0o750 })));
        let two = group(&[line("0750"), line("0755")]);
        names(&two).await.unwrap();
        assert_eq!((two.known_access("x"), two.access("x")), (None, None));
        let none = group(&["x /a".to_owned()]);
        names(&none).await.unwrap();
        assert!(!none.has_access());
    }

    #[tokio::test]
    async fn a_member_does_not_lead_others_into_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let (alice, bob) = (dir.path().join("m/alice"), dir.path().join("m/bob"));
        fs::create_dir_all(bob.join("keys")).unwrap();
        fs::write(bob.join("config"), "x").unwrap();
        fs::create_dir_all(&alice).unwrap();
        symlink("../bob/keys", alice.join("keys")).unwrap();
        symlink("../bob/config", alice.join("config")).unwrap();
        let said = format!("url = '{}'\npassword-command = 'printf x'", dir.path().join("m/*").display());
        let (alone, shared) = (discovery(dir.path(), &said, false), discovery(dir.path(), &said, true));
        for (group, is_denied) in [(alone, false), (shared, true)] {
            assert_eq!(names(&group).await.unwrap(), ["alice", "bob"]);
            let failed = |opened: Result<Vec<namespace::Member>>| opened.err().unwrap();
            let error = failed(group.open("alice").await);
            assert_eq!(error.kind() == Kind::Denied, is_denied, "{error}");
            assert_ne!(failed(group.open("bob").await).kind(), Kind::Denied);
        }
    }
}
