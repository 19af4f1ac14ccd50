//! The configuration read anew while it is mounted: sources that were added appear, those that were removed go, those
//! that were changed are opened anew, and all others stay as they are. A configuration with a fault changes nothing.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;

use super::broker::Wardens;
use super::confine::{self, Limits};
use super::discovery::Discovery;
use super::handover::Orders;
use super::keep::Common;
use super::late::Late;
use super::open::{begin, list, prepared};
use super::together::{self, Opening};
use super::translate;
use crate::config::{self, Config, Typed};
use crate::error::{Error, Kind, Result};
use crate::namespace::{Member, Members, Namespace};

/// What it takes to read the configuration anew.
pub struct Reload {
    typed: Typed,
    /// What this process is confined to.
    limits: Option<Limits>,
    common: Common,
    namespace: Arc<Namespace>,
    /// What was said when it was read last.
    said: Mutex<Config>,
    /// What it was made with.
    made: Made,
}

/// What a mount was made for, and the kernel cannot be told anew.
#[derive(Clone, Copy)]
struct Made {
    /// Sources that cannot change: the kernel opens files without asking.
    is_immutable: bool,
    /// Other users, and sources without ACLs: the kernel does not enforce any.
    is_without_acls: bool,
}

impl Made {
    fn of(config: &Config) -> Self {
        Made {
            is_immutable: config.is_immutable() && config.mount.access_log.is_none(),
            is_without_acls: config.mount.allow_other && !config.may_have_acls(),
        }
    }

    /// Refuses a source that this mount was not made for. Errors: `Usage`, naming the source.
    fn check(self, new: &Config) -> Result<()> {
        let refused = |kind: config::SourceKind| {
            self.is_immutable && !kind.is_immutable() || self.is_without_acls && kind.may_have_acls()
        };
        let refuse = |title: &str, kind: &str| {
            let says = format!("{title}: the first source of kind {kind} needs a new mount");
            Err(Error::new(Kind::Usage, says))
        };
        match (new.sources.iter().find(|source| refused(source.kind)), new.groups.first()) {
            (Some(source), _) => refuse(&source.title, source.kind.word()),
            (None, Some(group)) if self.is_without_acls => refuse(&group.title, "restic"),
            _ => Ok(()),
        }
    }
}

/// What is different in a new configuration.
#[derive(Debug, Default)]
struct Plan {
    /// Titles of what goes, whether something takes its place or not.
    gone: HashSet<String>,
    sources: Vec<config::Source>,
    groups: Vec<config::Group>,
    /// For people: what becomes of which.
    told: Vec<String>,
}

impl Plan {
    fn of(old: &Config, new: &Config) -> Self {
        let mut plan = Plan::default();
        let fresh = |source: &&config::Source| !old.sources.contains(source);
        plan.sources.extend(new.sources.iter().filter(fresh).cloned());
        plan.groups.extend(new.groups.iter().filter(|group| !old.groups.contains(group)).cloned());
        let stale = old.sources.iter().filter(|source| !new.sources.contains(source)).map(|s| &s.title);
        let stale =
            stale.chain(old.groups.iter().filter(|group| !new.groups.contains(group)).map(|g| &g.title));
        plan.gone.extend(stale.cloned());
        let coming: Vec<&String> =
            plan.sources.iter().map(|s| &s.title).chain(plan.groups.iter().map(|g| &g.title)).collect();
        let word = |title: &String| if plan.gone.contains(title) { "changed" } else { "added" };
        let mut told: Vec<String> = coming.iter().map(|title| format!("{title} {}", word(title))).collect();
        let removed = plan.gone.iter().filter(|title| !coming.contains(title));
        told.extend(removed.map(|title| format!("{title} removed")));
        told.sort();
        plan.told = told;
        plan
    }

    fn is_empty(&self) -> bool {
        self.told.is_empty()
    }
}

impl Reload {
    /// Of a mount that was made by `orders`. `None` where there is no file to be read again.
    pub fn new(orders: &Orders, common: &Common, namespace: &Arc<Namespace>) -> Option<Self> {
        let Orders { config, limits, .. } = orders;
        let (typed, limits) = (orders.typed.clone()?, limits.clone());
        // As it reads here: secrets are not known yet, and the environment is this process's.
        let said = config::resolve(&typed).unwrap_or_else(|_| config.clone());
        let (common, namespace) = (common.clone(), namespace.clone());
        let made = Made::of(config);
        Some(Reload { typed, limits, common, namespace, said: Mutex::new(said), made })
    }

    /// Reads the configuration anew, and logs a line about what came of it.
    pub async fn run(&self) {
        match self.apply().await {
            Ok(told) if told.is_empty() => tracing::info!("reloaded: the configuration is the same"),
            Ok(told) => tracing::warn!("reloaded: {}", told.join(", ")),
            Err(error) => tracing::error!("not reloaded, all stays as it was: {error}"),
        }
    }

    /// What became of which.
    async fn apply(&self) -> Result<Vec<String>> {
        let typed = self.typed.clone();
        let new = blocking(move || config::resolve(&typed)).await??;
        self.made.check(&new)?;
        let old = self.said.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let fixed = config::fixed_differences(&old, &new);
        if !fixed.is_empty() {
            tracing::warn!("cannot change while it is mounted, mount anew for it: {}", fixed.join(", "));
        }
        let plan = Plan::of(&old, &new);
        self.check_limits(&plan, &new).await?;
        if !plan.is_empty() {
            let (members, groups) = self.open(&plan).await?;
            let opened: Vec<_> = members.iter().map(|member| Arc::clone(&member.source)).collect();
            let exchanged = self.namespace.exchange(|title| plan.gone.contains(title), members, groups);
            exchanged.inspect_err(|_| opened.iter().for_each(|source| source.retire()))?;
        }
        // What cannot change is told once.
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(plan.told)
    }

    /// Refuses what this process gave up the right to read, before anything is changed.
    async fn check_limits(&self, plan: &Plan, new: &Config) -> Result<()> {
        let says = "lies outside of what may be read since it was mounted; mount anew for it";
        let refuse = |what: &str| Err(Error::new(Kind::Usage, format!("{what} {says}")));
        let wardens = self.common.wardens.as_deref();
        if (wardens.is_some() || self.limits.is_some())
            && let Some(source) = plan.sources.iter().find(|source| is_unknown(wardens, source))
        {
            return refuse(&source.title);
        }
        let Some(limits) = self.limits.clone() else { return Ok(()) };
        let (sources, groups) = (plan.sources.clone(), plan.groups.clone());
        let changed = Config { sources, groups, ..new.clone() };
        match blocking(move || confine::outside(&limits, &changed)).await? {
            None => Ok(()),
            Some(what) => refuse(&what),
        }
    }

    /// Opens what is new. What cannot be opened now is tried again, as when it was mounted.
    async fn open(&self, plan: &Plan) -> Result<(Vec<Member>, Vec<Arc<dyn Members>>)> {
        let mut groups: Vec<Arc<dyn Members>> = Vec::with_capacity(plan.groups.len());
        for mut group in plan.groups.iter().cloned() {
            let group = blocking(move || group.read_secrets().map(|()| group)).await??;
            let group = Discovery::new(group, self.common.clone());
            if let Err(error) = list(group.clone()).await {
                tracing::warn!(%error, "cannot be listed now");
            }
            groups.push(group);
        }
        let openers = join_all(plan.sources.iter().map(|source| prepared(source, &self.common))).await;
        let tasks = openers.into_iter().map(begin).collect();
        let opened = plan.sources.iter().zip(together::settled(tasks).await).map(|(source, opening)| {
            let opened = match opening {
                Opening::Done(Ok(opened)) => opened,
                Opening::Done(Err(error)) => {
                    tracing::warn!(%error, "cannot be opened now");
                    Late::new(source.clone(), self.common.clone(), error)
                }
                Opening::Going(task) => Late::going(source.clone(), self.common.clone(), task),
            };
            translate::member(opened, source)
        });
        Ok((opened.collect(), groups))
    }
}

/// Whether nobody keeps the ZFS of a source: it was not there when the mount was made, or there are no wardens at all.
fn is_unknown(wardens: Option<&Wardens>, source: &config::Source) -> bool {
    source.kind == config::SourceKind::Zfs && !wardens.is_some_and(|wardens| wardens.know(source))
}

/// Runs what may take its time: files, commands, a wrong disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.map_err(|e| Error::caused_by(Kind::Internal, "reading the configuration ended", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The plan that leads from one configuration to another, both read from the same file.
    fn plan(old: &str, new: &str) -> Plan {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.toml");
        let [old, new] = [old, new].map(|text| {
            std::fs::write(&file, text).unwrap();
            config::resolve(&Typed { file: Some(file.clone()), ..Typed::default() }).unwrap()
        });
        Plan::of(&old, &new)
    }

    const TWO: &str = "[[source]]\nname = 'a'\nurl = '/srv/a'\npassword-file = '/k/a'\n\
                       [[source]]\nname = 'b'\nurl = '/srv/b'\n[[source]]\nname = 'g'\nurl = '/srv/g/*'\n";

    fn told(new: &str) -> Vec<String> {
        plan(TWO, new).told
    }

    #[test]
    fn what_can_change_is_not_added_to_a_mount_of_what_cannot() {
        let of = |url: &str| {
            config::resolve(&Typed { repos: vec!["/a".into(), url.into()], ..Typed::default() }).unwrap()
        };
        let (directory, repository) = (of("directory:/srv/{time}"), of("/b"));
        assert!(repository.is_immutable() && !directory.is_immutable());
        let refused = Made::of(&repository).check(&directory).unwrap_err().to_string();
        assert_eq!(refused, "/srv/{time}: the first source of kind directory needs a new mount");
        Made::of(&directory).check(&directory).unwrap();
        Made::of(&repository).check(&repository).unwrap();
    }

    #[test]
    fn zfs_is_not_added_where_nobody_keeps_it() {
        let of = |url: &str| {
            let config = config::resolve(&Typed { repos: vec![url.into()], ..Typed::default() }).unwrap();
            is_unknown(None, &config.sources[0])
        };
        assert!(of("zfs:tank/b"));
        assert!(!of("directory:/srv/{time}"));
    }

    #[test]
    fn what_may_have_acls_is_not_added_where_the_kernel_enforces_none() {
        let of = |repos: &[&str], allow_other| {
            let repos = repos.iter().map(|repo| (*repo).into()).collect();
            let mut config = config::resolve(&Typed { repos, ..Typed::default() }).unwrap();
            config.mount.allow_other = allow_other;
            config
        };
        let (bucket, directory) = ("objects:s3:http://h/b", "directory:/srv/{time}");
        let both = of(&[bucket, directory], true);
        let refused = Made::of(&of(&[bucket], true)).check(&both).unwrap_err().to_string();
        assert_eq!(refused, "/srv/{time}: the first source of kind directory needs a new mount");
        let group = of(&[bucket, "/srv/restic/*"], true);
        let refused = Made::of(&of(&[bucket], true)).check(&group).unwrap_err().to_string();
        assert_eq!(refused, "restic: the first source of kind restic needs a new mount");
        Made::of(&of(&[bucket], true)).check(&of(&[bucket, "objects:s3:http://h/c"], true)).unwrap();
        Made::of(&of(&[bucket], false)).check(&both).unwrap();
        Made::of(&both).check(&both).unwrap();
    }

    #[test]
    fn only_what_is_different_is_touched() {
        let plan = plan(TWO, TWO);
        assert!(plan.is_empty() && plan.gone.is_empty() && plan.sources.is_empty() && plan.groups.is_empty());
        assert_eq!(told(&TWO.replace("/srv/b", "/srv/c")), ["b changed"]);
        assert_eq!(
            told(&TWO.replace("/k/a", "/k/other")),
            ["a changed"],
            "where a password comes from counts"
        );
        assert_eq!(told(&TWO.replace("'b'", "'c'")), ["b removed", "c added"]);
        assert_eq!(told(&TWO.replace("/srv/g/*", "/srv/h/*")), ["g changed"]);
        assert_eq!(told(&TWO.replace("'g'", "'h'")), ["g removed", "h added"]);
        assert_eq!(told(&format!("{TWO}expect-every = '2d'\n")), ["g changed"]);
        assert_eq!(told(&format!("host = 'x'\n{TWO}")), ["a changed", "b changed", "g changed"]);
    }

    #[test]
    fn what_changes_is_let_go_of_and_opened_anew() {
        let plan = plan(TWO, &TWO.replace("/srv/b", "/srv/c"));
        assert_eq!(plan.gone, HashSet::from(["b".to_owned()]));
        assert_eq!(
            plan.sources.iter().map(|source| source.location.to_string()).collect::<Vec<_>>(),
            ["/srv/c"]
        );
    }
}
