//! What lets ordinary users mount, and let others in: `fusermount3` and `/etc/fuse.conf`.

use super::Finding;
use super::machine::{Machine, said};
use super::table::Place;
use crate::fuse::FUSERMOUNT;

/// Whether somebody who is not root is to mount at one of the places.
fn users_mount(machine: &Machine, places: &[Place]) -> bool {
    !machine.is_root || places.iter().any(|place| place.by_users)
}

/// The set-uid program through which ordinary users mount.
pub(super) fn fusermount(machine: &Machine, places: &[Place]) -> Finding {
    const CHECK: &str = "fusermount3";
    let (says, remedy) = match machine.program(&FUSERMOUNT) {
        None => {
            ("fusermount3 is missing: ordinary users cannot mount".to_owned(), "install the package fuse3")
        }
        Some(path) => {
            let stat = machine.stat(path).ok().flatten();
            if stat.is_some_and(|stat| stat.st_mode & 0o4000 != 0 && stat.st_uid == 0) {
                return Finding::ok(CHECK, format!("{path} is set-uid root"));
            }
            let says = format!("{path} is not set-uid root: ordinary users cannot mount");
            (says, "as root: chown root /usr/bin/fusermount3 && chmod 4755 /usr/bin/fusermount3")
        }
    };
    if users_mount(machine, places) {
        Finding::problem(CHECK, says, remedy)
    } else {
        Finding::note(CHECK, says, format!("only where ordinary users are to mount: {remedy}"))
    }
}

/// Whether ordinary users may let others in, where they are to.
pub(super) fn allow_other(machine: &Machine, places: &[Place]) -> Finding {
    const CHECK: &str = "allow-other";
    let text = machine.text("/etc/fuse.conf").unwrap_or_default();
    if said(&text).any(|line| line == "user_allow_other") {
        return Finding::ok(CHECK, "/etc/fuse.conf lets ordinary users use allow_other");
    }
    let remedy = "as root: echo user_allow_other >> /etc/fuse.conf";
    let refused = |place: &&Place| place.allow_other && (place.by_users || !machine.is_root);
    match places.iter().find(refused) {
        Some(place) => Finding::problem(
            CHECK,
            format!(
                "{} is to be mounted with allow_other by an ordinary user, and /etc/fuse.conf does not say \
                 user_allow_other",
                place.path.display()
            ),
            remedy,
        ),
        None => Finding::note(
            CHECK,
            "only root may use allow_other: /etc/fuse.conf does not say user_allow_other",
            format!("only where mounts of ordinary users are to be seen by others: {remedy}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::machine::tests::Fixture;
    use super::*;

    fn place(by_users: bool, allow_other: bool) -> [Place; 1] {
        [Place { path: "/mnt/b".into(), by_users, allow_other }]
    }

    #[test]
    fn fusermount3_matters_where_ordinary_users_mount() {
        let sound = |root| Fixture::new(root).with_mode("/usr/bin/fusermount3", "", 0o4755);
        let plain = |root| Fixture::new(root).with_mode("/usr/bin/fusermount3", "", 0o755);
        let is_root = rustix::process::geteuid().is_root();
        for (fixture, by_users, state, remedy) in [
            (sound(false), false, if is_root { State::Ok } else { State::Problem }, "chmod 4755"),
            (plain(false), false, State::Problem, "chmod 4755"),
            (plain(true), false, State::Note, "chmod 4755"),
            (plain(true), true, State::Problem, "chmod 4755"),
            (Fixture::new(false), false, State::Problem, "install the package fuse3"),
            (Fixture::new(true), false, State::Note, "install the package fuse3"),
        ] {
            let found = fusermount(&fixture.machine(), &place(by_users, false));
            assert_eq!(found.state, state, "{found:?}");
            assert!(found.remedy.is_none_or(|words| words.contains(remedy)));
        }
    }

    #[test]
    fn user_allow_other_is_missed_where_an_ordinary_user_wants_it() {
        let with = |root, text| Fixture::new(root).with("/etc/fuse.conf", text);
        for (fixture, by_users, allow, state) in [
            (with(false, " user_allow_other  # yes\n"), false, true, State::Ok),
            (with(false, "#user_allow_other\n"), false, true, State::Problem),
            (with(false, "mount_max = 10\n"), false, false, State::Note),
            (with(true, ""), false, true, State::Note),
            (with(true, ""), true, true, State::Problem),
            (Fixture::new(false), false, true, State::Problem),
        ] {
            let found = allow_other(&fixture.machine(), &place(by_users, allow));
            assert_eq!(found.state, state, "{found:?}");
        }
    }
}
