//! autofs: what it mounts lives in its service's control group, and is killed with it.

use super::Finding;
use super::machine::Machine;
use super::units::{Unit, names_us};

const SERVICE: &str = "autofs.service";

/// Whether restarting autofs would kill the mounts that it made; `None` where no map is ours or systemd does not run it.
pub(super) fn finding(machine: &Machine) -> Option<Finding> {
    const CHECK: &str = "autofs";
    let map = map(machine)?;
    let unit = Unit::read(machine, SERVICE)?;
    if unit.value("KillMode") == "process" {
        return Some(Finding::ok(
            CHECK,
            format!("{map} mounts backups, and restarting autofs leaves them alone"),
        ));
    }
    Some(Finding::problem(
        CHECK,
        format!("{map} mounts backups, and restarting {SERVICE} would kill their servers: dead mounts"),
        format!("systemctl edit {SERVICE} and say there: [Service] KillMode=process"),
    ))
}

/// The first map that mounts backups.
fn map(machine: &Machine) -> Option<String> {
    let beside =
        machine.names("/etc").into_iter().filter(|name| name.starts_with("auto.") && name != "auto.master.d");
    let dropped = machine.names("/etc/auto.master.d").into_iter().map(|name| format!("auto.master.d/{name}"));
    let paths = beside.chain(dropped).map(|name| format!("/etc/{name}"));
    let is_ours = |path: &String| machine.text(path).is_some_and(|text| names_us(&text));
    paths.into_iter().find(is_ours)
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::machine::tests::Fixture;
    use super::*;

    const UNIT: &str = "[Service]\nType=forking\nExecStart=/usr/sbin/automount\n";

    fn with_map(path: &str, text: &str) -> Fixture {
        Fixture::new(true).with("/lib/systemd/system/autofs.service", UNIT).with(path, text)
    }

    #[test]
    fn restarting_autofs_is_not_to_kill_our_servers() {
        for (path, text) in [
            ("/etc/auto.backups", "* -fstype=backupfs,ro :&\n"),
            ("/etc/auto.master.d/backupfs.autofs", "/backups program:/usr/libexec/backupfs/automap\n"),
        ] {
            let found = finding(&with_map(path, text).machine()).unwrap();
            assert_eq!(found.state, State::Problem, "{path}");
            assert!(found.says.starts_with(path) && found.remedy.unwrap().contains("KillMode=process"));
            let mended = with_map(path, text)
                .with("/etc/systemd/system/autofs.service.d/backupfs.conf", "[Service]\nKillMode=process\n");
            assert_eq!(finding(&mended.machine()).unwrap().state, State::Ok);
        }
    }

    #[test]
    fn maps_of_others_do_not_matter() {
        assert_eq!(finding(&with_map("/etc/auto.home", "* -fstype=nfs :&\n# backupfs\n").machine()), None);
        let no_systemd = Fixture::new(true).with("/etc/auto.b", "b -fstype=backupfs :b\n");
        assert_eq!(finding(&no_systemd.machine()), None);
    }
}
