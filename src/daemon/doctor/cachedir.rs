//! The cache directory: whether it will be used, and has room.

use std::path::Path;

use rustix::fs::{FileType, Stat, StatVfs};

use super::super::mountpoint::in_time;
use super::Finding;
use super::machine::Machine;

const CHECK: &str = "cache";

/// With less than this the cache is of no use.
const ROOM: u64 = 256 << 20;

/// What is wrong with `dir`, or what there is. Nothing is made there.
pub(super) fn finding(machine: &Machine, dir: &Path) -> Finding {
    let shown = dir.display();
    let elsewhere = "or say cache-dir=DIRECTORY, or cache-dir=none to do without";
    let stat = match (machine.lstat(dir), existing(machine, dir)) {
        (Ok(Some(stat)), _) => stat,
        (Ok(None), Some(above)) => return missing(machine, dir, above),
        (Ok(None), None) => {
            return Finding::problem(CHECK, format!("{shown}: nothing above it exists"), elsewhere);
        }
        (Err(error), _) => return Finding::problem(CHECK, format!("{shown}: {error}"), elsewhere),
    };
    let refused = |why: &str, remedy: String| {
        Finding::problem(CHECK, format!("{shown} is not used: {why}"), format!("{remedy}; {elsewhere}"))
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return refused("it is a link or no directory", format!("remove it: rm {shown}"));
    }
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return refused("it belongs to another user", format!("as root: chown -R {} {shown}", user()));
    }
    if stat.st_mode & 0o022 != 0 {
        return refused("others may write to it", format!("chmod 700 {shown}"));
    }
    room(machine, dir).unwrap_or_else(|| Finding::ok(CHECK, format!("{shown} is ours alone")))
}

fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The lowest directory above `dir` that exists.
fn existing<'a>(machine: &Machine, dir: &'a Path) -> Option<(&'a Path, Stat)> {
    dir.ancestors().skip(1).find_map(|above| Some((above, machine.stat(above).ok()??)))
}

/// It will be made at the first mount, where it can be.
fn missing(machine: &Machine, dir: &Path, (above, stat): (&Path, Stat)) -> Finding {
    let (shown, parent) = (dir.display(), above.display());
    let is_ours = machine.is_root || (stat.st_uid == user() && stat.st_mode & 0o300 == 0o300);
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory
        || !is_ours && stat.st_mode & 0o003 != 0o003
    {
        return Finding::problem(
            CHECK,
            format!("{shown} does not exist, and cannot be made in {parent}"),
            format!("as root: install -d -m 700 -o {} {shown}; or say cache-dir=DIRECTORY", user()),
        );
    }
    room(machine, above)
        .unwrap_or_else(|| Finding::ok(CHECK, format!("{shown} will be made at the first mount")))
}

/// What is wrong with the file system below `dir`.
fn room(machine: &Machine, dir: &Path) -> Option<Finding> {
    let fd = machine.directory(dir).ok()?;
    let system: StatVfs = in_time(move || rustix::fs::fstatvfs(fd))?.ok()?;
    let shown = dir.display();
    if system.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        let says = format!("{shown} lies on a file system that is mounted read-only");
        return Some(Finding::problem(CHECK, says, "remount it, or say cache-dir=DIRECTORY"));
    }
    let free = system.f_bavail.saturating_mul(system.f_frsize);
    (free < ROOM).then(|| {
        Finding::problem(
            CHECK,
            format!("{shown}: {} MiB are free, too little for a cache", free >> 20),
            "make room, or say cache-dir=DIRECTORY",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::machine::tests::Fixture;
    use super::*;

    const DIR: &str = "/var/cache/backupfs";

    fn found(fixture: &Fixture) -> Finding {
        finding(&fixture.machine(), Path::new(DIR))
    }

    #[test]
    fn a_directory_of_ours_alone_is_fine_and_so_is_none() {
        let ours = Fixture::new(true).with_directory(DIR, 0o700);
        assert_eq!(found(&ours).state, State::Ok, "{:?}", found(&ours));
        let none = found(&Fixture::new(false).with_directory("/var", 0o755));
        assert_eq!((none.state, none.says.contains("will be made")), (State::Ok, true), "{none:?}");
    }

    #[test]
    fn what_others_could_plant_is_told_with_the_remedy() {
        for (fixture, says, remedy) in [
            (
                Fixture::new(true).with_directory(DIR, 0o777),
                "others may write",
                "chmod 700 /var/cache/backupfs",
            ),
            (Fixture::new(true).with_link(DIR, "/tmp"), "it is a link", "rm /var/cache/backupfs"),
            (Fixture::new(true).with(DIR, ""), "it is a link or no directory", "rm /var/cache/backupfs"),
            (Fixture::new(true).with("/var/cache", ""), "cannot be made in /var/cache", "install -d -m 700"),
        ] {
            let found = found(&fixture);
            assert_eq!(found.state, State::Problem, "{found:?}");
            assert!(
                found.says.contains(says) && found.remedy.as_ref().unwrap().contains(remedy),
                "{found:?}"
            );
        }
    }

    #[test]
    fn a_directory_of_somebody_else_s_is_told() {
        let fixture = Fixture::new(true).with_directory(DIR, 0o700);
        if std::os::unix::fs::chown(fixture.path().join(&DIR[1..]), Some(1000), None).is_err() {
            eprintln!("skipped: not root");
            return;
        }
        assert!(found(&fixture).says.contains("belongs to another user"));
    }
}
