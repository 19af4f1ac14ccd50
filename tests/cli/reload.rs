//! SIGHUP: the configuration is read anew while it is mounted.

use std::fs::{File, read_dir, read_to_string, write};
use std::io::{Read, Seek};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::machine::{Mountpoint, backupfs, can_mount, signal, succeed, wait_for};
use crate::sample::Sample;

/// A directory with a configuration that mounts samples.
struct Configured {
    dir: tempfile::TempDir,
    mountpoint: Mountpoint,
}

impl Configured {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("conf.d")).unwrap();
        let password = dir.path().join("password");
        write(&password, "demo\n").unwrap();
        std::fs::set_permissions(&password, PermissionsExt::from_mode(0o600)).unwrap();
        Configured { dir, mountpoint: Mountpoint::new() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn source(&self, sample: &Sample, name: &str, set: &str) -> String {
        self.source_at(&sample.repository(), name, set)
    }

    /// The sample beside the configuration, where the serving process may read what comes later.
    fn beside(&self, sample: &Sample, name: &str) -> PathBuf {
        let place = self.file(name);
        succeed(std::process::Command::new("cp").arg("-a").arg(sample.repository()).arg(&place));
        place
    }

    fn source_at(&self, repository: &Path, name: &str, set: &str) -> String {
        format!(
            "[[source]]\nname = '{name}'\nurl = '{}'\npassword-file = '{}'\nset = '{set}-{{host}}@+{{path}}'\n",
            repository.display(),
            self.file("password").display()
        )
    }

    /// The log of the mount, and no cache that it shares with anybody.
    fn top(&self) -> String {
        format!("log = '{}'\ncache-dir = 'none'\n", self.file("log").display())
    }

    fn mount(&self) {
        let config = self.file("config.toml");
        succeed(backupfs().arg("mount").arg("-c").arg(config).arg(self.mountpoint.path()));
    }

    fn hang_up(&self) {
        signal(self.mountpoint.daemons()[0], "HUP");
    }

    fn log(&self) -> String {
        read_to_string(self.file("log")).unwrap_or_default()
    }

    fn wait_for_line(&self, says: &str) {
        wait_for(says, || self.log().lines().any(|line| line.contains(says)));
    }

    /// The sets that are shown.
    fn sets(&self) -> Vec<String> {
        let names = read_dir(self.mountpoint.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut sets: Vec<String> = names.filter(|name| name.contains("@+")).collect();
        sets.sort();
        sets
    }

    fn sets_of(&self, prefix: &str) -> usize {
        self.sets().iter().filter(|set| set.starts_with(prefix)).count()
    }
}

/// Some file of a few bytes at least.
fn some_file(below: &Path) -> PathBuf {
    let mut todo = vec![below.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in read_dir(&dir).unwrap().map(Result::unwrap) {
            let meta = entry.path().symlink_metadata().unwrap();
            if meta.is_file() && meta.len() > 8 {
                return entry.path();
            }
            todo.extend(meta.is_dir().then(|| entry.path()));
        }
    }
    panic!("no file below {}", below.display());
}

#[test]
fn sources_come_and_go_while_it_is_mounted_and_open_files_go_on() {
    if !can_mount() {
        return;
    }
    let (one, two) = (Sample::new(), Sample::new());
    let here = Configured::new();
    let two = here.beside(&two, "repository");
    write(here.file("config.toml"), here.top() + &here.source(&one, "one", "one")).unwrap();
    here.mount();
    assert_eq!((here.sets_of("one-"), here.sets_of("two-")), (3, 0));

    write(here.file("conf.d/two.toml"), here.source_at(&two, "two", "two")).unwrap();
    here.hang_up();
    here.wait_for_line("reloaded: two added");
    assert_eq!((here.sets_of("one-"), here.sets_of("two-")), (3, 3));

    let set = here.mountpoint.path().join(&here.sets()[0]).join("latest/");
    let mut open = File::open(some_file(&set)).unwrap();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    open.read_to_end(&mut before).unwrap();
    write(here.file("config.toml"), here.top() + "memory = '64M'\n").unwrap();
    here.hang_up();
    here.wait_for_line("reloaded: one removed");
    here.wait_for_line("cannot change while it is mounted, mount anew for it: memory");
    assert_eq!((here.sets_of("one-"), here.sets_of("two-")), (0, 3));
    open.rewind().unwrap();
    open.read_to_end(&mut after).unwrap();
    assert!(!before.is_empty() && before == after);

    write(here.file("conf.d/two.toml"), here.source_at(&two, "two", "other")).unwrap();
    here.hang_up();
    here.wait_for_line("reloaded: two changed");
    assert_eq!((here.sets_of("two-"), here.sets_of("other-")), (0, 3));
    succeed(backupfs().arg("umount").arg("-l").arg(here.mountpoint.path()));
}

#[test]
fn a_configuration_with_a_fault_changes_nothing() {
    if !can_mount() {
        return;
    }
    let one = Sample::new();
    let here = Configured::new();
    let good = here.top() + &here.source(&one, "one", "one");
    write(here.file("config.toml"), &good).unwrap();
    here.mount();
    let before = here.sets();
    for (text, says) in [
        (format!("{good}hots = 'x'\n"), "unknown key \"hots\"; did you mean \"host\"?"),
        (format!("{good}set = = \n"), "config.toml:8: "),
        (good.replace("one-{host}@+{path}", "{nonsense}@+{path}"), "nonsense"),
        (here.top(), "holds no [[source]]"),
    ] {
        write(here.file("config.toml"), text).unwrap();
        here.hang_up();
        here.wait_for_line(says);
        assert_eq!(here.sets(), before, "{says}");
    }
    assert_eq!(here.log().matches("not reloaded, all stays as it was: ").count(), 4, "{}", here.log());
    succeed(backupfs().arg("umount").arg(here.mountpoint.path()));
}
