//! Programs that walk whole file systems at night, and would walk every snapshot of every mount.

use std::path::Path;

use super::Finding;
use super::machine::{Machine, said};
use super::table::Place;

const UPDATEDB: &str = "/etc/updatedb.conf";

/// What there is of them, and whether they leave mounts of ours out.
pub(super) fn findings(machine: &Machine, places: &[Place]) -> Vec<Finding> {
    updatedb(machine, places).into_iter().chain(desktop(machine, places)).collect()
}

/// `locate`'s nightly run.
fn updatedb(machine: &Machine, places: &[Place]) -> Option<Finding> {
    const CHECK: &str = "updatedb";
    let text = machine.text(UPDATEDB)?;
    // Types are compared as updatedb does it, whatever their case.
    if words(&text, "PRUNEFS").any(|word| word.eq_ignore_ascii_case("fuse.backupfs")) {
        return Some(Finding::ok(CHECK, format!("{UPDATEDB} leaves out mounts of backups")));
    }
    let pruned: Vec<&str> = words(&text, "PRUNEPATHS").collect();
    let walked = places.iter().find(|place| !pruned.iter().any(|above| place.path.starts_with(above)));
    let Some(walked) = walked else {
        return Some(Finding::ok(
            CHECK,
            format!("PRUNEPATHS in {UPDATEDB} leaves out where backups are mounted"),
        ));
    };
    let remedy = if words(&text, "PRUNEFS").next().is_some() {
        format!("as root: sed -i 's/^ *PRUNEFS *= *\"/&fuse.backupfs /' {UPDATEDB}")
    } else {
        format!("as root: echo 'PRUNEFS=\"fuse.backupfs\"' >> {UPDATEDB}")
    };
    let says = format!(
        "{UPDATEDB} does not leave out fuse.backupfs: locate's nightly run would walk every snapshot at {}",
        walked.path.display()
    );
    Some(Finding::problem(CHECK, says, remedy))
}

/// The words of `NAME = "a b"`.
fn words<'a>(text: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let value = said(text).find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == name).then(|| value.trim().trim_matches('"'))
    });
    value.into_iter().flat_map(str::split_whitespace)
}

/// Indexers of desktops, which look into homes alone.
fn desktop(machine: &Machine, places: &[Place]) -> Option<Finding> {
    const AUTOSTART: &str = "/etc/xdg/autostart";
    const KNOWN: [(&str, &str, &str); 4] = [
        ("baloo_file.desktop", "Baloo", "balooctl6 config add excludeFolders"),
        ("tracker-miner-fs-3.desktop", "Tracker", TRACKER),
        ("localsearch-3.desktop", "LocalSearch", TRACKER),
        ("tracker-miner-fs.desktop", "Tracker", TRACKER),
    ];
    const TRACKER: &str =
        "see ignored-directories in `gsettings list-recursively | grep Miner.Files` and add";
    let place = places.iter().find(|place| is_in_home(&place.path))?;
    let names = machine.names(AUTOSTART);
    let (_, indexer, how) = KNOWN.into_iter().find(|(file, ..)| names.iter().any(|name| name == file))?;
    let path = place.path.display();
    Some(Finding::note(
        "indexer",
        format!("{indexer} indexes homes, and {path} lies in one: it may read what is mounted there"),
        format!("{how} {path}; or mount below /mnt"),
    ))
}

fn is_in_home(path: &Path) -> bool {
    path.starts_with("/home") || path.starts_with("/root")
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::machine::tests::Fixture;
    use super::*;

    fn place(path: &str) -> [Place; 1] {
        [Place { path: path.into(), by_users: false, allow_other: false }]
    }

    fn found(conf: &str) -> Finding {
        updatedb(&Fixture::new(true).with(UPDATEDB, conf).machine(), &place("/mnt/backups")).unwrap()
    }

    #[test]
    fn updatedb_is_to_leave_mounts_out() {
        let distribution =
            "PRUNE_BIND_MOUNTS=\"yes\"\nPRUNEPATHS=\"/tmp /media\"\nPRUNEFS=\"NFS fuse.sshfs\"\n";
        let problem = found(distribution);
        assert_eq!(problem.state, State::Problem);
        for fine in [
            "PRUNEFS = \"NFS fuse.backupfs\"\n",
            "PRUNEFS=\"FUSE.BACKUPFS\"",
            "PRUNEPATHS=\"/tmp /mnt\"\n",
            "PRUNEPATHS=\"/mnt/backups\"\n",
        ] {
            assert_eq!(found(fine).state, State::Ok, "{fine}");
        }
        for poor in ["", "# PRUNEFS=\"fuse.backupfs\"\n", "PRUNEPATHS=\"/mn /mnt/backups2\"\n"] {
            assert_eq!(found(poor).state, State::Problem, "{poor}");
        }
        assert_eq!(updatedb(&Fixture::new(true).machine(), &place("/mnt/b")), None);
    }

    #[test]
    fn the_remedies_work() {
        for conf in ["PRUNEFS=\"NFS fuse.sshfs\"\n", "  PRUNEFS = \"NFS\"\n", "PRUNEPATHS=\"/tmp\"\n"] {
            let fixture = Fixture::new(true).with(UPDATEDB, conf);
            let remedy = found(conf).remedy.unwrap();
            let command = remedy.strip_prefix("as root: ").unwrap();
            let at = fixture.path().join("etc/updatedb.conf");
            let command = command.replace(UPDATEDB, at.to_str().unwrap());
            assert!(std::process::Command::new("sh").args(["-ec", &command]).status().unwrap().success());
            let mended = updatedb(&fixture.machine(), &place("/mnt/backups")).unwrap();
            assert_eq!(mended.state, State::Ok, "{command}");
        }
    }

    #[test]
    fn indexers_matter_where_a_mount_lies_in_a_home() {
        let with = |file: &str| Fixture::new(true).with(&format!("/etc/xdg/autostart/{file}"), "");
        let baloo = desktop(&with("baloo_file.desktop").machine(), &place("/home/lab/backups")).unwrap();
        assert_eq!(baloo.state, State::Note);
        assert!(baloo.remedy.unwrap().contains("excludeFolders /home/lab/backups"));
        assert!(desktop(&with("localsearch-3.desktop").machine(), &place("/root/b")).is_some());
        assert_eq!(desktop(&with("baloo_file.desktop").machine(), &place("/mnt/backups")), None);
        assert_eq!(desktop(&with("other.desktop").machine(), &place("/home/lab/b")), None);
    }
}
