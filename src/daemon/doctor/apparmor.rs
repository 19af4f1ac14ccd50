//! AppArmor's profile of fusermount3, which lets ordinary users mount in some places alone.

use std::path::Path;

use super::Finding;
use super::machine::{Machine, said};
use super::rules::rules;
use super::table::Place;

const PROFILE: &str = "/etc/apparmor.d/fusermount3";
const LOCAL: &str = "/etc/apparmor.d/local/fusermount3";

/// What the profile says of the places where ordinary users are to mount; `None` where there is none in force.
pub(super) fn finding(machine: &Machine, places: &[Place]) -> Option<Finding> {
    const CHECK: &str = "apparmor";
    let is_on = machine.text("/sys/module/apparmor/parameters/enabled")?.trim() == "Y";
    let profile = machine.text(PROFILE).filter(|profile| is_on && is_enforced(machine, profile))?;
    let all = format!("{profile}\n{}", machine.text(LOCAL).unwrap_or_default());
    let rules = rules(&all, &homes(machine));
    let refused = places.iter().filter(|place| place.by_users || !machine.is_root).find(|place| {
        let path = place.path.to_string_lossy();
        !rules.iter().any(|rule| rule.allows(&path))
    });
    let Some(place) = refused else {
        return Some(Finding::ok(CHECK, format!("{PROFILE} is in force and allows what is to be mounted")));
    };
    Some(Finding::problem(
        CHECK,
        format!("{PROFILE} does not let ordinary users mount at {}", place.path.display()),
        remedy(&place.path),
    ))
}

/// Mounting elsewhere, or a rule of one's own.
fn remedy(place: &Path) -> String {
    let place = place.display();
    format!(
        "mount below /mnt, or put into {LOCAL}: mount fstype=fuse.backupfs options=(nosuid,nodev) options in \
         (ro,noatime,noexec) -> {place}/, umount {place}/, and as root: apparmor_parser -r {PROFILE}"
    )
}

/// Neither switched off nor only logging.
fn is_enforced(machine: &Machine, profile: &str) -> bool {
    let is_there = |path: &str| machine.lstat(path).is_ok_and(|stat| stat.is_some());
    let header = said(profile).find(|line| line.ends_with('{')).unwrap_or_default();
    let is_lenient = ["complain", "unconfined", "default_allow"].iter().any(|flag| header.contains(flag));
    !is_lenient
        && !is_there("/etc/apparmor.d/disable/fusermount3")
        && !is_there("/etc/apparmor.d/force-complain/fusermount3")
}

/// Where homes lie, as AppArmor is told.
fn homes(machine: &Machine) -> Vec<String> {
    const FOLDER: &str = "/etc/apparmor.d/tunables/home.d";
    let mut homes = vec!["/home/".to_owned()];
    for name in machine.names(FOLDER) {
        let text = machine.text(format!("{FOLDER}/{name}")).unwrap_or_default();
        for line in said(&text).filter_map(|line| line.strip_prefix("@{HOMEDIRS}")) {
            let dirs = line.trim_start_matches([' ', '+', '=']).split_whitespace();
            homes.extend(dirs.map(|dir| format!("{}/", dir.trim_matches('"').trim_end_matches('/'))));
        }
    }
    homes
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::machine::tests::Fixture;
    use super::*;

    const RULE: &str = "mount fstype=fuse.* options=(nosuid,nodev) options in (ro,noatime,noexec) ->";

    fn confined(is_root: bool) -> Fixture {
        let profile = format!(
            "profile fusermount3 /usr/bin/fusermount3 {{\n  {RULE} /mnt/**/,\n  {RULE} @{{HOME}}/**/,\n}}\n"
        );
        Fixture::new(is_root).with("/sys/module/apparmor/parameters/enabled", "Y\n").with(PROFILE, &profile)
    }

    fn found(fixture: &Fixture, path: &str, by_users: bool) -> Option<State> {
        let place = Place { path: path.into(), by_users, allow_other: false };
        finding(&fixture.machine(), &[place]).map(|finding| finding.state)
    }

    #[test]
    fn places_outside_of_the_profile_are_a_problem_of_ordinary_users() {
        for (is_root, by_users, path, state) in [
            (false, false, "/mnt/backups", State::Ok),
            (false, false, "/srv/backups", State::Problem),
            (true, false, "/srv/backups", State::Ok),
            (true, true, "/srv/backups", State::Problem),
            (false, false, "/home/lab/backups", State::Ok),
            (false, false, "/people/lab/backups", State::Problem),
        ] {
            assert_eq!(found(&confined(is_root), path, by_users), Some(state), "{path} {is_root} {by_users}");
        }
        let moved = confined(false).with("/etc/apparmor.d/tunables/home.d/site", "@{HOMEDIRS} += /people\n");
        assert_eq!(found(&moved, "/people/lab/backups", false), Some(State::Ok));
    }

    #[test]
    fn the_remedy_works() {
        let remedy = remedy(Path::new("/srv/backups"));
        let rule = remedy.split("fusermount3: ").nth(1).unwrap().split(" umount").next().unwrap();
        let mended = confined(false).with(LOCAL, rule);
        assert_eq!(found(&mended, "/srv/backups", false), Some(State::Ok), "{rule}");
    }

    #[test]
    fn a_profile_that_is_not_in_force_is_not_spoken_of() {
        assert_eq!(found(&Fixture::new(false), "/srv/b", false), None);
        let off = confined(false).with("/sys/module/apparmor/parameters/enabled", "N\n");
        assert_eq!(found(&off, "/srv/b", false), None);
        let disabled = confined(false).with_link("/etc/apparmor.d/disable/fusermount3", PROFILE);
        assert_eq!(found(&disabled, "/srv/b", false), None);
        let lenient =
            confined(false).with(PROFILE, "profile fusermount3 /usr/bin/fusermount3 flags=(complain) {\n}\n");
        assert_eq!(found(&lenient, "/srv/b", false), None);
    }
}
