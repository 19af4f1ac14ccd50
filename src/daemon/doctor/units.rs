//! Units of systemd that run backupfs: what gives them a mount namespace of their own hides the mount from everybody else.

use std::collections::BTreeSet;

use super::Finding;
use super::machine::{Machine, said};

/// Where units lie; those before win.
const FOLDERS: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Settings that hide mounts, unless they have one of these values.
const HIDING: &[(&str, &[&str])] = &[
    ("BindPaths", &[""]),
    ("BindReadOnlyPaths", &[""]),
    ("DynamicUser", NO),
    ("InaccessiblePaths", &[""]),
    ("MountFlags", &["", "shared"]),
    ("NoExecPaths", &[""]),
    ("PrivateDevices", NO),
    ("PrivateMounts", NO),
    ("PrivateTmp", NO),
    ("ProtectControlGroups", NO),
    ("ProtectHome", NO),
    ("ProtectKernelLogs", NO),
    ("ProtectKernelModules", NO),
    ("ProtectKernelTunables", NO),
    ("ProtectProc", &["", "default"]),
    ("ProtectSystem", NO),
    ("ReadOnlyPaths", &[""]),
    ("ReadWritePaths", &[""]),
    ("RootDirectory", &[""]),
    ("RootImage", &[""]),
    ("TemporaryFileSystem", &[""]),
];
const NO: &[&str] = &["", "no", "false", "off", "0"];

/// What a unit sets, with its drop-ins, in the order in which it counts.
pub(super) struct Unit {
    settings: Vec<(String, String)>,
}

impl Unit {
    /// The unit called `name`; `None` where there is none.
    pub fn read(machine: &Machine, name: &str) -> Option<Self> {
        let at = |folder: &&str| machine.text(format!("{folder}/{name}"));
        let mut settings = parsed(&FOLDERS.iter().find_map(at)?);
        let folder = |folder: &&str| format!("{folder}/{name}.d");
        let drop_ins: BTreeSet<String> = FOLDERS
            .iter()
            .flat_map(|place| machine.names(folder(place)))
            .filter(|n| n.ends_with(".conf"))
            .collect();
        for drop_in in drop_ins {
            let text = FOLDERS.iter().find_map(|place| machine.text(format!("{}/{drop_in}", folder(place))));
            settings.extend(parsed(&text.unwrap_or_default()));
        }
        Some(Unit { settings })
    }

    /// The last value of a setting; empty where it has none.
    pub fn value(&self, key: &str) -> &str {
        self.settings.iter().rfind(|(has, _)| has == key).map_or("", |(_, value)| value)
    }

    /// Whether it mounts backups.
    fn is_ours(&self) -> bool {
        self.settings.iter().any(|(key, value)| {
            let starts = key == "ExecStart" || key == "ExecStartPre";
            starts && value.contains("backupfs") && value.contains(" mount")
        })
    }
}

fn parsed(text: &str) -> Vec<(String, String)> {
    // `;` begins a remark too; a `#` within a line does not.
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';', '[']));
    let setting = |line: &str| line.split_once('=').map(|(k, v)| (k.trim().to_owned(), v.trim().to_owned()));
    lines.filter_map(setting).collect()
}

/// A problem for each unit that hides its mount.
pub(super) fn findings(machine: &Machine) -> Vec<Finding> {
    const CHECK: &str = "unit";
    let names: BTreeSet<String> = FOLDERS.iter().flat_map(|folder| machine.names(folder)).collect();
    let units = names.iter().filter(|name| name.ends_with(".service"));
    let mut findings = Vec::new();
    for (name, unit) in units.filter_map(|name| Some((name, Unit::read(machine, name)?))) {
        if !unit.is_ours() {
            continue;
        }
        let hides = |(key, harmless): &&(&str, &[&str])| !harmless.contains(&unit.value(key));
        let hiding: Vec<&str> = HIDING.iter().filter(hides).map(|(key, _)| *key).collect();
        let user = unit.value("User");
        if !hiding.is_empty() {
            findings.push(Finding::problem(
                CHECK,
                format!(
                    "{name} mounts where nobody else sees it: {} gives it mounts of its own",
                    hiding.join(", ")
                ),
                format!("systemctl edit {name} and reset there: {}=", hiding.join("=, ")),
            ));
        } else if !matches!(user, "" | "root" | "0") && !NO.contains(&unit.value("NoNewPrivileges")) {
            findings.push(Finding::problem(
                CHECK,
                format!("{name} runs as {user} with NoNewPrivileges: fusermount3 may not mount"),
                format!("systemctl edit {name} and say there: NoNewPrivileges=no"),
            ));
        } else {
            findings.push(Finding::ok(CHECK, format!("{name} shows its mount to everybody")));
        }
    }
    findings
}

/// Whether a remark-free text of configuration names us.
pub(super) fn names_us(text: &str) -> bool {
    said(text).any(|line| line.contains("backupfs"))
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::machine::tests::Fixture;
    use super::*;

    const EXEC: &str = "[Service]\n# PrivateTmp=yes\nExecStart=/usr/bin/backupfs mount -f /mnt/b\n";

    fn told(fixture: Fixture) -> Vec<(State, String)> {
        let found = findings(&fixture.machine());
        found
            .into_iter()
            .map(|f| (f.state, format!("{}; {}", f.says, f.remedy.unwrap_or_default())))
            .collect()
    }

    fn unit(more: &str) -> Fixture {
        Fixture::new(true).with("/usr/lib/systemd/system/backups.service", &format!("{EXEC}{more}"))
    }

    #[test]
    fn a_unit_with_mounts_of_its_own_hides_ours() {
        assert_eq!(told(unit(""))[0].0, State::Ok);
        assert_eq!(told(unit("CapabilityBoundingSet=CAP_SYS_ADMIN\nNoNewPrivileges=yes\n"))[0].0, State::Ok);
        for line in ["ProtectSystem=strict", "PrivateTmp = yes", "ReadWritePaths=/var", "MountFlags=slave"] {
            let told = told(unit(line));
            let key = line.split(['=', ' ']).next().unwrap();
            assert!(told[0].0 == State::Problem && told[0].1.contains(&format!("there: {key}=")), "{told:?}");
        }
    }

    #[test]
    fn drop_ins_and_overriding_units_count() {
        let hidden = unit("")
            .with("/etc/systemd/system/backups.service.d/50-hard.conf", "[Service]\nPrivateTmp=true\n");
        assert_eq!(told(hidden)[0].0, State::Problem);
        let reset = unit("PrivateTmp=true\n")
            .with("/etc/systemd/system/backups.service.d/override.conf", "[Service]\nPrivateTmp=\n");
        assert_eq!(told(reset)[0].0, State::Ok);
        let replaced = unit("PrivateTmp=true\n").with("/etc/systemd/system/backups.service", EXEC);
        assert_eq!(told(replaced)[0].0, State::Ok);
    }

    #[test]
    fn an_ordinary_user_s_unit_needs_fusermount3() {
        let told = told(unit("User=lab\nNoNewPrivileges=yes\n"));
        assert!(told[0].0 == State::Problem && told[0].1.contains("NoNewPrivileges=no"), "{told:?}");
    }

    #[test]
    fn units_of_others_are_not_ours() {
        let other = Fixture::new(true)
            .with("/lib/systemd/system/web.service", "[Service]\nExecStart=/usr/bin/web\nPrivateTmp=yes\n")
            .with(
                "/lib/systemd/system/check.service",
                "[Service]\nExecStart=/usr/bin/backupfs check\nPrivateTmp=yes\n",
            );
        assert!(told(other).is_empty());
        assert!(told(Fixture::new(true)).is_empty());
        assert!(names_us("* -fstype=backupfs,ro :&\n") && !names_us("# backupfs\n"));
    }
}
