//! A real ZFS as a source: Debian's zfs-fuse, with a pool on a file.
//!
//! zfs-fuse is one for a machine: its socket and its list of pools have fixed places. So a test runs this program again
//! where these places are its own, in namespaces for mounts and for processes, and names the tests that run there. When
//! that program ends, however it does, the kernel ends zfs-fuse with it and takes its mounts away.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use backupfs::cache::Budget;
use backupfs::source::chunked::Shared;
use backupfs::source::names::Times;
use backupfs::source::zfs::{self, Layout, Means, Own, Spec, Tool, Zfs};
use backupfs::store::program::Program;
use backupfs::tree::Source;

use crate::harness::child::{has, output};
use crate::host::fill;

/// Says to this program that it runs where a pool can be made: in which directory.
const INSIDE: &str = "BACKUPFS_TEST_ZFS_INSIDE";

/// Where zfs-fuse keeps what is one for a machine. Other tests' mounts are not to be kept busy by being seen here too.
const ENTER: &str = r#"set -e
awk '$3 ~ /^fuse/ { print $2 }' /proc/mounts | xargs -r umount -lc 2>/dev/null || true
for own in /run /var/lib; do mount -t tmpfs tmpfs $own; done
mkdir -p /run/lock/zfs /run/zfs /var/lib/zfs
exec "$@""#;

/// Where Debian keeps the programs.
const PATH: &str = "/usr/sbin:/sbin:/usr/bin:/bin";

/// The snapshots of each dataset.
const NIGHTS: [&str; 2] = ["snap_20260301_030000", "snap_20260302_030000"];

/// Runs the `count` tests whose names begin with `tests` one after the other where they find a pool; zfs-fuse hangs when
/// clones come and go beside each other. Says so and returns where that cannot be.
pub fn run_inside(tests: &[&str], count: usize) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: ZFS needs root");
        return;
    }
    if ["zfs-fuse", "setpriv", "unshare", "timeout", "rsync"].iter().any(|program| !has(program)) {
        return;
    }
    let apart =
        ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private", "--"];
    let in_namespaces = || {
        // Whoever dies takes all with him that he started.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare"]).args(apart).args([
            "timeout",
            "--kill-after=5",
            "120",
        ]);
        command
    };
    let tried = in_namespaces().args(["test", "-c", "/dev/fuse"]).output().unwrap();
    if !tried.status.success() {
        eprintln!("skipped: no namespaces with FUSE here: {}", String::from_utf8_lossy(&tried.stderr));
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let mut inside = in_namespaces();
    inside.args(["sh", "-c", ENTER, "sh"]).arg(std::env::current_exe().unwrap());
    inside.args(["--ignored", "--test-threads=1"]).args(tests).env(INSIDE, place.path());
    let ran = inside.stdin(Stdio::null()).output().unwrap();
    let said = [ran.stdout, ran.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(ran.status.success() && said.contains(&format!("{count} passed; 0 failed")), "{said}");
}

/// A pool with what is to be shown.
struct Pool {
    /// Where its datasets are mounted.
    top: PathBuf,
    _server: Child,
}

/// The pool of this process, made when it is first asked for.
fn pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get_or_init(|| Pool::made(Path::new(&std::env::var_os(INSIDE).unwrap())))
}

impl Pool {
    /// `cloned` and `seen` hold the same nights; `seen` has them in `.zfs/snapshot` too, which zfs-fuse does not show by
    /// itself: there, copies stand in for them.
    fn made(place: &Path) -> Self {
        let server = start();
        let (disk, top) = (place.join("disk"), place.join("top"));
        fs::File::create(&disk).unwrap().set_len(256 << 20).unwrap();
        fs::create_dir(&top).unwrap();
        output(command("zpool").args(["create", "-m"]).arg(&top).arg("pool").arg(&disk));
        let saved = place.join("saved");
        fs::create_dir(&saved).unwrap();
        let pool = Pool { top, _server: server };
        for dataset in ["cloned", "seen"] {
            // What is read of the copies below is not to leave a trace.
            output(command("zfs").args(["create", "-o", "atime=off", &format!("pool/{dataset}")]));
        }
        for (number, night) in NIGHTS.iter().enumerate() {
            let set = saved.join(["lab@+home", "pc@+C+Users"][number]);
            fs::create_dir(&set).unwrap();
            fill(&set, 20 + number);
            fs::write(saved.join("lab@+home/many/7"), "night ".repeat(number + 1)).unwrap();
            for dataset in ["cloned", "seen"] {
                let at = pool.top.join(dataset);
                // Hard links, holes, sockets; of attributes zfs-fuse knows nothing.
                output(
                    Command::new("rsync")
                        .args(["-aHS", "--specials", "--devices"])
                        .arg(saved.join(""))
                        .arg(at),
                );
                output(command("zfs").args(["snapshot", &format!("pool/{dataset}@{night}")]));
            }
            output(Command::new("cp").arg("-a").arg(&saved).arg(place.join(night)));
        }
        let shown = pool.top.join("seen/.zfs/snapshot");
        fs::create_dir_all(&shown).unwrap();
        for night in NIGHTS {
            output(Command::new("cp").arg("-a").arg(place.join(night)).arg(&shown));
        }
        pool
    }

    /// The datasets that backupfs made.
    fn clones() -> BTreeSet<String> {
        let all = output(command("zfs").args(["list", "-H", "-o", "name"]));
        all.lines().filter(|name| name.contains("/backupfs-")).map(str::to_owned).collect()
    }

    /// How many hold the snapshots of `seen`, the first night's first. Sources of other tests may have left holds.
    fn holds() -> Vec<u32> {
        let of = |night| {
            let snapshot = format!("pool/seen@{night}");
            output(command("zfs").args(["get", "-Hp", "-o", "value", "userrefs", &snapshot]))
        };
        NIGHTS.map(|night| of(night).trim().parse().unwrap()).into()
    }
}

/// Starts zfs-fuse, which ends with this process's namespace.
fn start() -> Child {
    let mut server = command("zfs-fuse");
    let mut server =
        server.arg("-n").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !command("zpool").arg("list").output().unwrap().status.success() {
        assert!(
            server.try_wait().unwrap().is_none() && Instant::now() < deadline,
            "zfs-fuse does not come up"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    server
}

fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", PATH).env("LC_ALL", "C");
    command
}

async fn open(dataset: &str) -> Arc<Zfs> {
    let folder = pool().top.with_file_name("clones");
    let made = fs::create_dir(&folder);
    assert!(made.is_ok() || folder.is_dir(), "{made:?}");
    let program = |name: &str| Program {
        name: name.into(),
        arguments: Vec::new(),
        environment: [("PATH", PATH), ("LC_ALL", "C")]
            .map(|(name, value)| (name.into(), OsString::from(value)))
            .into(),
    };
    let (layout, most) = (Layout::parse(dataset).unwrap(), 8);
    let means = Means {
        layout: layout.clone(),
        parent: None,
        tool: Tool { zfs: program("zfs"), mount: program("mount"), umount: program("umount") },
        folder: folder.clone(),
        is_kernel_s: Box::new(|| false),
        most,
        mounted_at: Arc::new(|_| None),
    };
    let spec = Spec {
        name: "nightly".into(),
        layout,
        hands: Arc::new(Own::new(means).unwrap()),
        folder,
        idle: Duration::from_secs(3600),
        most,
        times: Times::new(None, jiff::tz::TimeZone::UTC).unwrap(),
        mounted_at: Arc::new(|_| None),
        rights: None,
        shared: Shared::new(Budget::of(64 << 20)),
    };
    zfs::open(spec).await.unwrap()
}

/// A dataset of which every snapshot that is looked at is cloned.
pub async fn zfs_by_clones() -> Arc<dyn Source> {
    open("pool/cloned").await
}

/// A dataset whose snapshots are directories already.
pub async fn zfs_where_it_shows_snapshots() -> Arc<dyn Source> {
    open("pool/seen").await
}

mod inside {
    use std::collections::BTreeMap;

    use backupfs::tree::FileType;

    use super::*;
    use crate::harness::directory;
    use crate::harness::walk::{Walked, walk};

    /// What of a tree is the same wherever it lies.
    fn told(walked: &Walked) -> BTreeMap<&[u8], impl PartialEq + std::fmt::Debug> {
        let told = walked.iter().map(|(path, found)| {
            let m = &found.meta;
            // Of directories, size and number of links are the file system's own.
            let (size, links) = if m.kind == FileType::Dir { (0, 0) } else { (m.size, m.nlink) };
            let content = (m.kind == FileType::Symlink || m.kind == FileType::File).then_some(&found.content);
            // zfs-fuse sets times to whole seconds.
            (path.as_slice(), (m.kind, m.perm, m.uid, m.gid, links, size, m.mtime.secs, content))
        });
        told.filter(|(path, _)| !path.is_empty()).collect()
    }

    /// Every night of `source` is what was saved.
    async fn is_what_was_saved(source: &dyn Source) {
        let mut seen = BTreeSet::new();
        for snapshot in source.snapshots().iter() {
            let set = String::from_utf8(snapshot.given.set.clone().unwrap().to_vec()).unwrap();
            let night = snapshot.time.instant.secs;
            let number = usize::from(night > 1_772_334_000);
            let saved = pool().top.with_file_name(NIGHTS[number]).join(&set);
            let opened = source.open(&snapshot.id, 0).resolve().await.unwrap();
            let (shown, saved) =
                (walk(opened.node).await, walk(directory::shown(&saved, 8 << 20).await).await);
            let (told_of, wanted) = (told(&shown), told(&saved));
            assert!(told_of.keys().eq(wanted.keys()), "{set} of {}: other names", NIGHTS[number]);
            for (path, found) in &told_of {
                assert_eq!(Some(found), wanted.get(path), "{set}: {}", String::from_utf8_lossy(path));
            }
            assert!(shown.len() > 60, "{}", shown.len());
            seen.insert((number, set));
        }
        let sets = [(0, "lab@+home"), (1, "lab@+home"), (1, "pc@+C+Users")];
        assert_eq!(seen, sets.map(|(night, set)| (night, set.to_owned())).into());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "run by the test above, which starts zfs-fuse"]
    async fn clones_show_what_was_saved_and_go() {
        let before = Pool::clones();
        let source = open("pool/cloned").await;
        is_what_was_saved(&*source).await;
        assert_eq!(Pool::clones().difference(&before).count(), NIGHTS.len(), "one for each snapshot");
        source.end().await;
        assert_eq!(Pool::clones(), before);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "run by the test above, which starts zfs-fuse"]
    async fn where_snapshots_are_shown_nothing_is_cloned_and_what_is_used_is_held() {
        let (before, held_before) = (Pool::clones(), Pool::holds());
        let source = open("pool/seen").await;
        is_what_was_saved(&*source).await;
        assert_eq!(Pool::clones(), before);
        let held: Vec<u32> = held_before.iter().map(|holds| holds + 1).collect();
        assert_eq!(Pool::holds(), held, "one more on each snapshot");
        let held = command("zfs").args(["destroy", &format!("pool/seen@{}", NIGHTS[0])]).output().unwrap();
        assert!(!held.status.success(), "{held:?}");
        source.end().await;
        assert_eq!(Pool::holds(), held_before);
    }
}
