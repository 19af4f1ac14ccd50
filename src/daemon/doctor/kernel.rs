//! The kernel, and its door to file systems in user space.

use rustix::fs::FileType;

use super::Finding;
use super::machine::{Machine, said};

/// With `openat2`, without which nothing of kind `directory` or `zfs` is read.
const OLDEST: (u32, u32) = (5, 6);

/// The version that runs.
pub(super) fn version(machine: &Machine) -> Finding {
    const CHECK: &str = "kernel";
    let release = machine.text("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    match number(release) {
        Some(version) if version < OLDEST => Finding::problem(
            CHECK,
            format!("Linux {release}: sources of kind directory and zfs need {}.{}", OLDEST.0, OLDEST.1),
            "run a newer kernel",
        ),
        Some(_) => Finding::ok(CHECK, format!("Linux {release}")),
        None => Finding::note(CHECK, "its version cannot be read", "mount /proc"),
    }
}

/// `6.18.44-amd64` as (6, 18).
fn number(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// `/dev/fuse`.
pub(super) fn device(machine: &Machine) -> Finding {
    const CHECK: &str = "device";
    let filesystems = machine.text("/proc/filesystems").unwrap_or_default();
    let has_fuse = said(&filesystems).any(|line| line.split_whitespace().next_back() == Some("fuse"));
    let load = "load it as root: modprobe fuse; a container needs --device /dev/fuse --cap-add SYS_ADMIN";
    match machine.stat("/dev/fuse") {
        // The module is loaded by the first who opens the device.
        Ok(Some(stat)) if FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice => {
            let mode = stat.st_mode & 0o777;
            if !machine.is_root && mode & 0o006 != 0o006 {
                return Finding::problem(
                    CHECK,
                    format!("/dev/fuse has mode {mode:04o}: ordinary users cannot mount"),
                    "as root: chmod 666 /dev/fuse",
                );
            }
            Finding::ok(CHECK, "/dev/fuse is there")
        }
        Ok(Some(_)) => Finding::problem(
            CHECK,
            "/dev/fuse is no device",
            "remove it and let the system make it anew: rm /dev/fuse; mknod -m 666 /dev/fuse c 10 229",
        ),
        Ok(None) if has_fuse => Finding::problem(
            CHECK,
            "the kernel has FUSE and /dev/fuse is missing",
            "make it as root: mknod -m 666 /dev/fuse c 10 229; a container needs --device /dev/fuse",
        ),
        Ok(None) => Finding::problem(CHECK, "this kernel has no FUSE", load),
        Err(error) => Finding::problem(CHECK, format!("/dev/fuse: {error}"), load),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::machine::tests::Fixture;
    use super::*;

    #[test]
    fn kernels_are_told_by_their_numbers() {
        for (release, state) in [
            ("6.18.44-amd64\n", State::Ok),
            ("5.6.0", State::Ok),
            ("5.5.19-generic", State::Problem),
            ("4.19.0", State::Problem),
            ("nonsense", State::Note),
        ] {
            let fixture = Fixture::new(true).with("/proc/sys/kernel/osrelease", release);
            assert_eq!(version(&fixture.machine()).state, state, "{release}");
        }
    }

    #[test]
    fn without_a_device_the_remedy_depends_on_the_kernel() {
        let remedy = |fixture: Fixture| device(&fixture.machine()).remedy.unwrap();
        let none = Fixture::new(true).with("/proc/filesystems", "nodev\tproc\n\text4\n\tfuseblk\n");
        assert!(remedy(none).contains("modprobe fuse"));
        let no_node = Fixture::new(true).with("/proc/filesystems", "nodev\tfuse\n");
        assert!(remedy(no_node).starts_with("make it as root: mknod"));
        let file = Fixture::new(true).with("/dev/fuse", "");
        assert!(remedy(file).contains("rm /dev/fuse"));
    }

    #[test]
    fn who_may_open_the_device_matters_to_ordinary_users() {
        use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
        for (mode, is_root, state) in
            [(0o600, false, State::Problem), (0o600, true, State::Ok), (0o666, false, State::Ok)]
        {
            let fixture = Fixture::new(is_root).with_directory("/dev", 0o755);
            let path = fixture.path().join("dev/fuse");
            let made = mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), makedev(10, 229));
            if made.is_err() {
                eprintln!("skipped: no device can be made here");
                return;
            }
            rustix::fs::chmod(&path, Mode::from_raw_mode(mode)).unwrap();
            assert_eq!(device(&fixture.machine()).state, state, "{mode:o}");
        }
    }
}
