//! The mounts there are: those that died, do not answer, or cover another.

use std::path::Path;

use super::Finding;
use super::machine::Machine;
use crate::daemon::Mounted;
use crate::daemon::ours::{self, Life};
use crate::fuse;

const CHECK: &str = "mount";

/// Ours, in the order in which they were made.
pub(super) fn ours(machine: &Machine) -> Vec<Mounted> {
    let table = machine.bytes("/proc/self/mountinfo").unwrap_or_default();
    fuse::parse_mounts(&table).into_iter().filter_map(ours::ours).collect()
}

/// How each of them is doing. On a machine that does not run only what its table says is told.
pub(super) fn findings(machine: &Machine, mounted: &[Mounted]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, mount) in mounted.iter().enumerate() {
        let covered = mounted.iter().skip(at + 1).any(|later| later.mountpoint == mount.mountpoint);
        let life = if covered || !machine.is_this() { None } else { Some(ours::life(&mount.mountpoint)) };
        findings.push(told(mount, covered, life));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "no backups are mounted"));
    }
    findings
}

fn told(mount: &Mounted, is_covered: bool, life: Option<Life>) -> Finding {
    let Mounted { mountpoint, source, .. } = mount;
    let shown = mountpoint.display();
    let umount = |word: &str| format!("backupfs umount {word}{}", quoted(mountpoint));
    match life {
        _ if is_covered => Finding::problem(
            CHECK,
            format!("{source} at {shown} is covered by another mount of backups"),
            format!("{}, once for each", umount("-l ")),
        ),
        Some(Life::Dead) => Finding::problem(
            CHECK,
            format!("{source} at {shown} is dead: its server has gone"),
            format!("{}; or mount it again, which replaces it", umount("")),
        ),
        Some(Life::Silent) => Finding::problem(
            CHECK,
            format!("{source} at {shown} does not answer"),
            format!("see its log (journalctl -t backupfs); {} gives it up", umount("-l ")),
        ),
        Some(Life::Alive) => Finding::ok(CHECK, format!("{source} at {shown} answers")),
        None => Finding::ok(CHECK, format!("{source} is mounted at {shown}")),
    }
}

/// As a shell reads it.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_bare = text.chars().all(|c| c.is_alphanumeric() || "/._-+@:,%".contains(c));
    if is_bare { text.into_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::machine::tests::Fixture;
    use super::*;

    const TABLE: &str = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
        30 22 0:40 / /mnt/b ro,nosuid - fuse.backupfs home ro,user_id=0\n\
        31 22 0:41 / /mnt/two\\040words ro,nosuid - fuse.backupfs work ro,user_id=0\n\
        32 30 0:42 / /mnt/b ro,nosuid - fuse.backupfs home2 ro,user_id=0\n\
        33 22 0:43 / /mnt/s ro - fuse.sshfs s ro\n";

    #[test]
    fn the_table_tells_what_covers_what() {
        let fixture = Fixture::new(true).with("/proc/self/mountinfo", TABLE);
        let machine = fixture.machine();
        let mounted = ours(&machine);
        assert_eq!(mounted.len(), 3);
        let found = findings(&machine, &mounted);
        let states: Vec<State> = found.iter().map(|f| f.state).collect();
        assert_eq!(states, [State::Problem, State::Ok, State::Ok]);
        assert_eq!(found[0].remedy.as_deref(), Some("backupfs umount -l /mnt/b, once for each"));
        let fixture = Fixture::new(true);
        let none = fixture.machine();
        assert_eq!(findings(&none, &ours(&none))[0].says, "no backups are mounted");
    }

    #[test]
    fn the_dead_and_the_silent_are_told_with_the_command() {
        let mount = Mounted { id: 1, mountpoint: "/mnt/two words".into(), source: "work".into() };
        let dead = told(&mount, false, Some(Life::Dead));
        assert!(dead.remedy.unwrap().starts_with("backupfs umount '/mnt/two words'; or mount it again"));
        let silent = told(&mount, false, Some(Life::Silent));
        assert_eq!(silent.state, State::Problem);
        assert!(silent.remedy.unwrap().contains("backupfs umount -l '/mnt/two words'"));
        assert_eq!(told(&mount, false, Some(Life::Alive)).state, State::Ok);
    }
}
