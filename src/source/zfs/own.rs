//! The hands of a process that has the rights, or is given them by `zfs allow` and sudo.
//!
//! What is asked for is believed as little as if a stranger asked: snapshots are those of the source's datasets, a clone
//! that is to go was made here or left by an ended process, and no path is ever told. So a process may ask that reads what
//! strangers wrote.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, join, join_all};
use tokio::sync::{Mutex as Turns, OwnedSemaphorePermit, Semaphore};

use super::clones::{Clone as ZfsClone, Clones, IsKernelS, TURNS};
use super::hands::{Ask, Done, Hands};
use super::layout::Layout;
use super::listing;
use super::name::{Dataset, SnapshotName};
use super::owner::Owner;
use super::snapdir;
use super::tool::Tool;
use crate::error::{Error, Kind, Result};

/// Where a dataset is mounted, as the table of mounts tells.
pub type MountedAt = Arc<dyn Fn(&str) -> Option<PathBuf> + Send + Sync>;

/// What is still in use at the end is waited for so long.
const END: Duration = Duration::from_secs(10);

/// What is under way then is waited for so long: a little more than a program may take.
const UNDER_WAY: Duration = Duration::from_secs(30);

/// How often it is tried meanwhile.
const PAUSE: Duration = Duration::from_millis(50);

/// With what, and where.
pub struct Means {
    /// A dataset, or a pattern of datasets.
    pub layout: Layout,
    /// Where clones are made; `None` for the dataset itself, of a pattern what lies above its named parts.
    pub parent: Option<Dataset>,
    /// The programs.
    pub tool: Tool,
    /// A directory of this user alone, in which clones are mounted; of UTF-8, as ZFS wants mountpoints.
    pub folder: PathBuf,
    /// Whether the kernel knows ZFS now; else it is zfs-fuse.
    pub is_kernel_s: IsKernelS,
    /// So many clones there may be, and as many again while the source is opened anew beside itself.
    pub most: usize,
    /// Where a dataset is mounted, unless its property says so.
    pub mounted_at: MountedAt,
}

/// The hands of this process, for one source.
pub struct Own {
    pub(super) clones: Clones,
    layout: Layout,
    most: usize,
    mounted_at: MountedAt,
    room: Arc<Semaphore>,
    /// By the last component of their names.
    made: Mutex<HashMap<String, Arc<Made>>>,
    /// What could not be undone yet.
    unwanted: Mutex<Vec<Ask>>,
    holds: Mutex<HashMap<SnapshotName, Arc<Turns<usize>>>>,
}

/// A clone that was asked for.
struct Made {
    clone: ZfsClone,
    /// Held while it is destroyed.
    turn: Turns<()>,
    _room: OwnedSemaphorePermit,
}

impl Own {
    /// Errors: `System` where `/proc` does not tell this process.
    pub fn new(means: Means) -> Result<Self> {
        let Means { layout, parent, tool, folder, is_kernel_s, most, mounted_at } = means;
        let owner =
            Owner::this().ok_or_else(|| Error::new(Kind::System, "/proc does not tell this process"))?;
        let parent = parent.unwrap_or_else(|| layout.above().clone());
        let turns = Semaphore::new(TURNS as usize);
        Ok(Own {
            clones: Clones { tool, parent, owner, folder, is_kernel_s, turns },
            layout,
            most,
            mounted_at,
            room: Arc::new(Semaphore::new(most.saturating_mul(2).min(Semaphore::MAX_PERMITS))),
            made: Mutex::default(),
            unwanted: Mutex::default(),
            holds: Mutex::default(),
        })
    }

    /// Takes away what was asked for and not taken back: nobody asks any more. What is under way until `is_quiet` may make
    /// more of it. What stays in use is left to the next start.
    pub async fn end(&self, is_quiet: impl Fn() -> bool) {
        let begun = Instant::now();
        let mut quiet_since = None;
        loop {
            if is_quiet() {
                quiet_since.get_or_insert_with(Instant::now);
            }
            // What hangs is asked again, as whoever is gone would be.
            let _ = tokio::time::timeout(END, self.take_away()).await;
            if quiet_since.is_some() && self.left() == 0 {
                return;
            }
            if quiet_since.is_some_and(|since| since.elapsed() >= END) || begun.elapsed() >= UNDER_WAY {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        tracing::warn!("{} clones or holds are left; they go when backupfs starts again", self.left());
    }

    /// Takes away what there is, all at once: one pool may hang.
    async fn take_away(&self) {
        let made: Vec<String> = lock(&self.made).keys().cloned().collect();
        let held: Vec<SnapshotName> = lock(&self.holds).keys().cloned().collect();
        let unmaking = join_all(made.iter().map(|name| self.unmake(name)));
        let releasing = join_all(held.iter().map(|snapshot| self.release(snapshot)));
        let (unmade, released) = join(unmaking, releasing).await;
        for error in unmade.into_iter().chain(released).filter_map(Result::err) {
            tracing::debug!(%error, "something stays for now");
        }
    }

    fn left(&self) -> usize {
        lock(&self.made).len() + lock(&self.holds).len()
    }

    /// Undoes what was done for somebody who never heard of it; what cannot be undone now, when it is tried [again](Self::retry).
    pub async fn undo(&self, ask: Ask) {
        if let Err(error) = self.ask(ask.clone()).await {
            tracing::debug!(%error, "what nobody waits for stays for now");
            lock(&self.unwanted).push(ask);
        }
    }

    /// Undoes what could not be undone before.
    pub async fn retry(&self) {
        let unwanted = std::mem::take(&mut *lock(&self.unwanted));
        join_all(unwanted.into_iter().map(|ask| self.undo(ask))).await;
    }

    /// The snapshot that is called so, if it is one of this source.
    fn snapshot(&self, name: &str) -> Result<SnapshotName> {
        let known = SnapshotName::parse(name).filter(|name| self.layout.shows(&name.dataset));
        known.ok_or_else(|| refused(name, "is no snapshot of this source"))
    }

    async fn make(&self, snapshot: &SnapshotName) -> Result<Done> {
        let room = Arc::clone(&self.room).try_acquire_owned().map_err(|_| full(self.most))?;
        let (clone, top) = self.clones.make(snapshot).await?;
        let name = clone.last().to_owned();
        let made = Made { clone, turn: Turns::default(), _room: room };
        lock(&self.made).insert(name.clone(), Arc::new(made));
        Ok(Done::Made(name, top))
    }

    /// It counts among those there may be until it is gone, however long that takes.
    async fn unmake(&self, name: &str) -> Result<()> {
        let made = lock(&self.made).get(name).cloned();
        let Some(made) = made else {
            // One that whoever had the rights before left, or none.
            return self.clones.sweep_one(name).await;
        };
        let busy = |_| Error::new(Kind::Unavailable, "it is being destroyed");
        let _turn = made.turn.try_lock().map_err(busy)?;
        self.clones.unmake(&made.clone).await?;
        lock(&self.made).remove(name);
        Ok(())
    }

    async fn look(&self, snapshot: &SnapshotName) -> Result<Done> {
        let dir = self.shown(&snapshot.dataset).await?;
        let top = snapdir::open(&dir, snapshot)?;
        let held = self.held(snapshot);
        let mut count = held.lock().await;
        let is_held = if *count > 0 { Ok(true) } else { self.hold(snapshot).await };
        if matches!(is_held, Ok(true)) {
            *count += 1;
        }
        drop(count);
        self.forget(snapshot, &held);
        Ok(Done::Seen { top, is_held: is_held? })
    }

    async fn hold(&self, snapshot: &SnapshotName) -> Result<bool> {
        match snapdir::hold(&self.clones.tool, &self.clones.owner, snapshot).await {
            Err(error) if error.kind() != Kind::NotFound => {
                tracing::warn!(%error, "cannot hold {snapshot}");
                Ok(false)
            }
            held => held,
        }
    }

    /// Where ZFS shows the snapshots of a dataset.
    async fn shown(&self, dataset: &Dataset) -> Result<PathBuf> {
        let by_table = (self.mounted_at)(dataset.as_str()).and_then(|at| snapdir::of(&at));
        if let Some(shown) = by_table {
            return Ok(shown);
        }
        let mut listed = listing::list(&self.clones.tool, dataset, false).await?;
        let system = listed.systems.remove(dataset).filter(|system| system.is_mounted);
        let shown = system.and_then(|system| system.mountpoint).and_then(|at| snapdir::of(&at));
        shown.ok_or_else(|| Error::new(Kind::Unavailable, format!("{dataset} is not mounted any more")))
    }

    fn held(&self, snapshot: &SnapshotName) -> Arc<Turns<usize>> {
        Arc::clone(lock(&self.holds).entry(snapshot.clone()).or_default())
    }

    /// Forgets a snapshot that is not held, unless somebody is about to.
    fn forget(&self, snapshot: &SnapshotName, held: &Arc<Turns<usize>>) {
        let mut holds = lock(&self.holds);
        // The table has it, and the caller.
        if Arc::strong_count(held) == 2 && held.try_lock().is_ok_and(|count| *count == 0) {
            holds.remove(snapshot);
        }
    }

    async fn release(&self, snapshot: &SnapshotName) -> Result<()> {
        let held = self.held(snapshot);
        let mut count = held.lock().await;
        let Clones { tool, owner, .. } = &self.clones;
        let released = match *count {
            // One of whoever had the rights before, or none.
            0 => snapdir::sweep(tool, owner, &[snapshot.to_string()]).await.map(drop),
            1 => snapdir::release(tool, &owner.text(), snapshot).await,
            _ => Ok(()),
        };
        if released.is_ok() {
            *count = count.saturating_sub(1);
        }
        drop(count);
        self.forget(snapshot, &held);
        released
    }
}

impl Hands for Own {
    fn ask(&self, ask: Ask) -> BoxFuture<'_, Result<Done>> {
        Box::pin(async move {
            let Clones { tool, owner, .. } = &self.clones;
            match ask {
                Ask::List => {
                    let printed = listing::print(tool, self.layout.above(), self.layout.is_pattern()).await;
                    printed.map(Done::Printed)
                }
                Ask::SweepClones => self.clones.sweep().await.map(Done::Swept),
                Ask::SweepHolds(names) => {
                    let known = names.iter().map(|name| self.snapshot(name).map(|known| known.to_string()));
                    let known: Vec<String> = known.collect::<Result<_>>()?;
                    snapdir::sweep(tool, owner, &known).await.map(Done::Swept)
                }
                Ask::Make(name) => self.make(&self.snapshot(&name)?).await,
                Ask::Unmake(name) if Clones::is_name(&name) => self.unmake(&name).await.map(|()| Done::Done),
                Ask::Unmake(name) => Err(refused(&name, "is no clone of this program's")),
                Ask::Look(name) => self.look(&self.snapshot(&name)?).await,
                Ask::Release(name) => self.release(&self.snapshot(&name)?).await.map(|()| Done::Done),
            }
        })
    }
}

/// Told whoever wants one clone more than there may be.
pub(super) fn full(most: usize) -> Error {
    Error::new(Kind::Unavailable, format!("all {most} clones are in use (max-clones)"))
}

fn refused(name: &str, why: &str) -> Error {
    Error::new(Kind::Denied, format!("\"{}\" {why}", name.escape_debug()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::fake::{Stage, names};
    use super::*;

    async fn made(own: &Own, snapshot: &str) -> (String, std::os::fd::OwnedFd) {
        match own.ask(Ask::Make(snapshot.to_owned())).await.unwrap() {
            Done::Made(name, top) => (name, top),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn what_is_none_of_the_source_s_is_refused_and_no_program_hears_of_it() {
        let Some(stage) = Stage::new() else { return };
        let own = stage.own(4);
        for name in [
            "tank/other@s",
            "tank@s",
            "tank/b/c@s",
            "tank/b",
            "tank/b@s@t",
            "tank/b@../s",
            "tank/b@-r",
            "-r",
            "tank/b@s;reboot",
            "tank/b@s tank/x@s\n",
            "",
        ] {
            for ask in [
                Ask::Make(name.to_owned()),
                Ask::Look(name.to_owned()),
                Ask::Release(name.to_owned()),
                Ask::SweepHolds(vec!["tank/b@s".to_owned(), name.to_owned()]),
            ] {
                let error = own.ask(ask.clone()).await.unwrap_err();
                assert_eq!(error.kind(), Kind::Denied, "{ask:?}: {error}");
            }
        }
        for name in [
            "",
            "b",
            "tank/b",
            "-r",
            "mine",
            "backupfs-mine",
            "backupfs-0123456789abcdeg",
            "backupfs-0123456789abcdef/x",
            "../backupfs-0123456789abcdef",
            "backupfs-0123456789abcdef@s",
        ] {
            let error = own.ask(Ask::Unmake(name.to_owned())).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Denied, "{name}: {error}");
        }
        assert_eq!(stage.fake.asked(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn there_are_never_more_clones_than_there_may_be() {
        let Some(stage) = Stage::new() else { return };
        let own = stage.own(1);
        let (name, top) = made(&own, "tank/b@s1").await;
        assert_eq!(names(&top), ["a", "h@+x"]);
        made(&own, "tank/b@s3").await;
        let error = own.ask(Ask::Make("tank/b@s2".to_owned())).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (Kind::Unavailable, full(1).to_string()));
        assert!(own.ask(Ask::Unmake(name.clone())).await.is_err(), "somebody uses it");
        assert_eq!(own.ask(Ask::Make("tank/b@s2".to_owned())).await.unwrap_err().kind(), Kind::Unavailable);
        drop(top);
        own.ask(Ask::Unmake(name)).await.unwrap();
        made(&own, "tank/b@s2").await;
    }

    #[tokio::test]
    async fn a_clone_counts_until_it_is_gone_whoever_asks_and_what_nobody_wants_goes_later() {
        let Some(stage) = Stage::new() else { return };
        let own = stage.own(1);
        let (name, top) = made(&own, "tank/b@s1").await;
        made(&own, "tank/b@s2").await;
        let unmake = || own.ask(Ask::Unmake(name.clone()));
        let (one, other) = join(unmake(), unmake()).await;
        assert!(one.is_err() && other.is_err(), "somebody uses it");
        assert_eq!(own.room.available_permits(), 0);
        own.undo(Ask::Unmake(name.clone())).await;
        own.retry().await;
        assert!(own.ask(Ask::Make("tank/b@s3".to_owned())).await.is_err(), "still");
        drop(top);
        own.retry().await;
        assert!(!lock(&own.made).contains_key(&name) && lock(&own.unwanted).is_empty());
        made(&own, "tank/b@s3").await;
    }

    #[tokio::test]
    async fn of_clones_only_those_go_that_were_made_here_or_left_by_the_ended() {
        let Some(stage) = Stage::new() else { return };
        let own = stage.own(4);
        let (dead, alive) = (Owner::dead().text(), Owner::this().unwrap().text());
        let line = |name: &str, owner: &str| {
            [
                ("type", "filesystem"),
                ("origin", "tank/b@s"),
                ("mountpoint", "legacy"),
                (listing::OWNER, owner),
            ]
            .map(|(property, value)| format!("tank/b/{name}\t{property}\t{value}\n"))
            .concat()
        };
        let (left, used) = ("backupfs-0123456789abcdef", "backupfs-0123456789abcdee");
        let asked = "get -H -p -d 1 -o name,property,value type,origin,mountpoint,backupfs:owner tank/b";
        stage.fake.answers(asked, &(line(left, &dead) + &line(used, &alive)));
        own.ask(Ask::Unmake(used.to_owned())).await.unwrap();
        assert!(stage.fake.changes().is_empty(), "another process uses it");
        own.ask(Ask::Unmake(left.to_owned())).await.unwrap();
        assert_eq!(stage.fake.changes(), ["umount -- DIR/backupfs-ID", "destroy tank/b/backupfs-ID"]);
    }

    #[tokio::test]
    async fn the_end_takes_away_what_was_not_taken_back() {
        let Some(stage) = Stage::new() else { return };
        let shown = stage.shows(&["s3"]);
        let own = stage.own_seeing(4, Some(shown));
        let tag = format!("backupfs:{}", own.clones.owner.text());
        stage.fake.answers(&format!("hold {tag} tank/b@s3"), "");
        stage.fake.answers(&format!("release {tag} tank/b@s3"), "");
        let (_, used) = made(&own, "tank/b@s1").await;
        made(&own, "tank/b@s2").await;
        own.ask(Ask::Look("tank/b@s3".to_owned())).await.unwrap();
        let own = Arc::new(own);
        let ending = {
            let own = Arc::clone(&own);
            tokio::spawn(async move { own.end(|| true).await })
        };
        tokio::time::sleep(PAUSE).await;
        drop(used);
        ending.await.unwrap();
        let count = |begins: &str| stage.fake.asked().iter().filter(|call| call.starts_with(begins)).count();
        assert_eq!((count("clone"), count("destroy"), count("hold"), count("release")), (2, 2, 1, 1));
        assert_eq!(own.room.available_permits(), 8);
    }

    #[tokio::test]
    async fn a_hold_ends_with_the_last_who_looks() {
        let Some(stage) = Stage::new() else { return };
        let own = stage.own_seeing(4, Some(stage.shows(&["s1"])));
        let tag = format!("backupfs:{}", own.clones.owner.text());
        stage.fake.answers(&format!("hold {tag} tank/b@s1"), "");
        stage.fake.answers(&format!("release {tag} tank/b@s1"), "");
        for _ in 0..2 {
            let seen = own.ask(Ask::Look("tank/b@s1".to_owned())).await.unwrap();
            assert!(matches!(seen, Done::Seen { is_held: true, .. }), "{seen:?}");
        }
        let release = || own.ask(Ask::Release("tank/b@s1".to_owned()));
        release().await.unwrap();
        assert_eq!(stage.fake.asked(), [format!("hold {tag} tank/b@s1")]);
        release().await.unwrap();
        assert_eq!(stage.fake.asked().len(), 2);
        assert!(lock(&own.holds).is_empty());
        // Nothing is held any more but by those who ended.
        stage.fake.answers("holds -H tank/b@s1", &format!("tank/b@s1\t{tag}\tnow\n"));
        release().await.unwrap();
        assert_eq!(stage.fake.asked().last().unwrap(), "holds -H tank/b@s1");
    }

    #[tokio::test]
    async fn two_sources_of_one_process_hold_for_themselves() {
        let Some(stage) = Stage::new() else { return };
        let (one, other) = (stage.own(4), stage.own(4));
        let (one, other) = (&one.clones.owner, &other.clones.owner);
        assert_ne!(one.text(), other.text());
        assert!(!one.has_outlived(&other.text()));
    }

    #[tokio::test]
    async fn a_snapshot_is_looked_at_where_the_table_of_mounts_or_its_property_says() {
        let Some(stage) = Stage::new() else { return };
        let at = stage.shows(&["s1"]);
        let own = stage.own(4);
        let tag = format!("backupfs:{}", own.clones.owner.text());
        stage.fake.refuses(&format!("hold {tag} tank/b@s1"), "cannot hold 'tank/b@s1': permission denied");
        let asked = "get -H -p -d 1 -o name,property,value type,creation,guid,mounted,mountpoint,used,userrefs,keystatus tank/b";
        let line = |property: &str, value: &str| format!("tank/b\t{property}\t{value}\n");
        let mounted = |yes: &str| {
            line("type", "filesystem") + &line("mounted", yes) + &line("mountpoint", at.to_str().unwrap())
        };
        stage.fake.answers(asked, &mounted("no"));
        let look = || own.ask(Ask::Look("tank/b@s1".to_owned()));
        assert_eq!(look().await.unwrap_err().kind(), Kind::Unavailable);
        stage.fake.answers(asked, &mounted("yes"));
        let Done::Seen { top, is_held } = look().await.unwrap() else { panic!("not seen") };
        assert_eq!((names(&top), is_held), (vec!["h@+x".to_owned()], false));
        fs::remove_dir_all(at.join(".zfs/snapshot/s1")).unwrap();
        assert_eq!(look().await.unwrap_err().kind(), Kind::NotFound);
        assert!(lock(&own.holds).is_empty());
    }
}
