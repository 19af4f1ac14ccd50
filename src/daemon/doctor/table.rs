//! The lines of `/etc/fstab` that are ours, and the places where backups are, or are to be, mounted.

use std::path::PathBuf;

use super::machine::{Machine, said, unescaped};
use super::{Finding, Plan};
use crate::config::{self, Typed};
use crate::daemon::Mounted;
use crate::error::Result;

/// A place to mount at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Where.
    pub path: PathBuf,
    /// Ordinary users mount there, by `user` or `users` in fstab.
    pub by_users: bool,
    /// Others are let in.
    pub allow_other: bool,
}

/// A line of fstab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    spec: PathBuf,
    dir: PathBuf,
    fstype: String,
    options: Vec<String>,
}

impl Line {
    fn has(&self, option: &str) -> bool {
        self.options.iter().any(|has| has == option)
    }

    /// Whether the configuration has what it mounts, with these options. Errors: what is wrong with it.
    fn resolved(&self, file: Option<PathBuf>) -> Result<()> {
        // The helper's own.
        let options = self.options.iter().filter(|option| !option.starts_with("setuid="));
        let options = options.map(String::as_str).collect::<Vec<_>>().join(",");
        let spec = Some(self.spec.clone().into());
        config::resolve(&Typed { spec, file, options: vec![options], ..Typed::default() }).map(drop)
    }
}

/// The lines that mount backups.
pub(super) fn lines(machine: &Machine) -> Vec<Line> {
    let text = machine.text("/etc/fstab").unwrap_or_default();
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [spec, dir, fstype, options, ..] = fields.as_slice() else { return None };
        let options = options.split(',').map(str::to_owned).collect();
        let is_ours = matches!(*fstype, "backupfs" | "fuse.backupfs");
        is_ours.then(|| Line {
            spec: unescaped(spec),
            dir: unescaped(dir),
            fstype: (*fstype).to_owned(),
            options,
        })
    };
    // A `#` within a field is one of its letters: only whole lines are remarks.
    text.lines().filter(|text| said(text).next().is_some()).filter_map(line).collect()
}

/// Every place that matters, each once: what is planned, what fstab says, what is mounted.
pub(super) fn places(machine: &Machine, plan: &Plan, lines: &[Line], mounted: &[Mounted]) -> Vec<Place> {
    let mut places: Vec<Place> = lines
        .iter()
        .map(|line| Place {
            path: line.dir.clone(),
            by_users: line.has("user") || line.has("users"),
            allow_other: line.has("allow_other"),
        })
        .collect();
    let usual = PathBuf::from("/mnt/backups");
    let planned =
        plan.mountpoint.clone().or_else(|| (lines.is_empty() && mounted.is_empty()).then_some(usual));
    let shared = plan.allow_other;
    let others = mounted.iter().map(|mount| (mount.mountpoint.clone(), false));
    for (path, allow_other) in planned.map(|path| (path, shared)).into_iter().chain(others) {
        if places.iter().all(|place| place.path != path) {
            places.push(Place { path, by_users: false, allow_other });
        }
    }
    // Whoever has no mountpoint in the configuration wants others let in all the same.
    if !machine.is_root {
        places.iter_mut().for_each(|place| place.allow_other |= shared);
    }
    places
}

/// What the lines need to work.
pub(super) fn findings(machine: &Machine, plan: &Plan, lines: &[Line]) -> Vec<Finding> {
    const CHECK: &str = "fstab";
    if lines.is_empty() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    if let Some(fstype) = without_helper(machine, lines) {
        findings.push(Finding::problem(
            CHECK,
            format!("/etc/fstab has a line of type {fstype}, and /sbin/mount.{fstype} is missing"),
            "install the whole package: it brings mount.backupfs",
        ));
    }
    for line in lines {
        let dir = line.dir.display();
        let resolved = if plan.is_configured { line.resolved(plan.file.clone()) } else { Ok(()) };
        if let Err(error) = resolved {
            findings.push(Finding::problem(
                CHECK,
                format!("the line of /etc/fstab for {dir} mounts nothing: {error}"),
                format!("correct it, and try it: mount -f -v {dir}"),
            ));
        }
        let makes_it = line.options.iter().any(|option| option.starts_with("x-mount.mkdir"));
        // What cannot be looked at may be a dead mount, which another check tells.
        if !makes_it && matches!(machine.lstat(&line.dir), Ok(None)) {
            findings.push(Finding::problem(
                CHECK,
                format!("/etc/fstab mounts backups at {dir}, which does not exist"),
                format!("as root: mkdir -p {dir}"),
            ));
        }
        if !line.has("noauto") && !line.has("nofail") {
            findings.push(Finding::note(
                CHECK,
                format!(
                    "the line for {dir} has neither noauto nor nofail: a server that is away stops the boot"
                ),
                "add nofail,x-systemd.automount,x-systemd.mount-timeout=90 to its options",
            ));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "the lines of /etc/fstab that mount backups are complete"));
    }
    findings
}

/// The type of a line that mount(8) has no program for.
fn without_helper<'a>(machine: &Machine, lines: &'a [Line]) -> Option<&'a str> {
    let has = |paths: &[&str]| machine.program(paths).is_some();
    let plain = has(&["/sbin/mount.backupfs", "/usr/sbin/mount.backupfs"]);
    // mount(8) asks the helper of the whole type first, then that of `fuse`.
    let fuse = has(&["/sbin/mount.fuse.backupfs", "/usr/sbin/mount.fuse.backupfs"])
        || has(&["/sbin/mount.fuse3", "/usr/sbin/mount.fuse3", "/sbin/mount.fuse", "/usr/sbin/mount.fuse"]);
    let lacks = |line: &&Line| if line.fstype == "backupfs" { !plain } else { !fuse };
    lines.iter().find(lacks).map(|line| line.fstype.as_str())
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::machine::tests::Fixture;
    use super::*;

    const FSTAB: &str = "# backups\nUUID=1 / ext4 defaults 0 1\n\
        home /mnt/back\\040ups backupfs nofail,users,allow_other 0 0\n\
        s3:https://h/b#x /srv/b fuse.backupfs ro,noauto\n\
        short /x\n";

    #[test]
    fn only_our_lines_are_read() {
        let fixture = Fixture::new(true).with("/etc/fstab", FSTAB);
        let machine = fixture.machine();
        let lines = lines(&machine);
        let dirs: Vec<_> = lines.iter().map(|line| line.dir.to_str().unwrap()).collect();
        assert_eq!(dirs, ["/mnt/back ups", "/srv/b"]);
        assert!(super::lines(&Fixture::new(true).machine()).is_empty());
    }

    #[test]
    fn places_come_from_the_plan_from_fstab_and_from_mounts() {
        let fixture = Fixture::new(true).with("/etc/fstab", FSTAB);
        let machine = fixture.machine();
        let mounted = [Mounted { id: 1, mountpoint: "/srv/b".into(), source: "b".into() }];
        let plan = Plan {
            mountpoint: Some("/mnt/planned".into()),
            allow_other: true,
            timeout: None,
            cache_dir: None,
            is_configured: false,
            file: None,
        };
        let found = places(&machine, &plan, &lines(&machine), &mounted);
        let place = |path: &str, by_users, allow_other| Place { path: path.into(), by_users, allow_other };
        assert_eq!(
            found,
            [
                place("/mnt/back ups", true, true),
                place("/srv/b", false, false),
                place("/mnt/planned", false, true)
            ]
        );
        let bare = Plan { mountpoint: None, allow_other: false, ..plan };
        assert_eq!(places(&machine, &bare, &[], &[]), [place("/mnt/backups", false, false)]);
        assert_eq!(places(&machine, &bare, &[], &mounted), [place("/srv/b", false, false)]);
    }

    #[test]
    fn lines_want_a_helper_a_directory_and_a_boot_that_goes_on() {
        let told = |fixture: Fixture| -> Vec<(State, String)> {
            let machine = fixture.machine();
            let found = findings(&machine, &Plan::of(None, None, None), &lines(&machine));
            found
                .into_iter()
                .map(|f| (f.state, format!("{} {}", f.says, f.remedy.unwrap_or_default())))
                .collect()
        };
        let with = |line: &str| Fixture::new(true).with("/etc/fstab", line).with_directory("/mnt/b", 0o755);
        let helper = |fixture: Fixture| fixture.with_mode("/usr/sbin/mount.backupfs", "", 0o755);
        assert!(told(Fixture::new(true)).is_empty());
        let sound = told(helper(with("home /mnt/b backupfs nofail")));
        assert_eq!((sound.len(), sound[0].0), (1, State::Ok));
        let lacking = told(with("home /mnt/b backupfs nofail"));
        assert!(
            lacking[0].0 == State::Problem && lacking[0].1.contains("mount.backupfs is missing"),
            "{lacking:?}"
        );
        let nowhere = told(helper(with("home /mnt/c backupfs nofail")));
        assert!(nowhere[0].0 == State::Problem && nowhere[0].1.contains("mkdir -p /mnt/c"), "{nowhere:?}");
        assert_eq!(told(helper(with("home /mnt/c backupfs nofail,x-mount.mkdir=0755")))[0].0, State::Ok);
        let boot = told(helper(with("home /mnt/b backupfs ro")));
        assert!(boot[0].0 == State::Note && boot[0].1.contains("x-systemd.automount"), "{boot:?}");
        let fuse = with("home /mnt/b fuse.backupfs nofail").with_mode("/sbin/mount.fuse3", "", 0o755);
        assert_eq!(told(fuse)[0].0, State::Ok);
    }
}
