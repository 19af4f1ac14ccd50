//! The clock: servers refuse requests that are signed minutes off, and snapshots are called by times.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Finding;
use super::machine::Machine;

const CHECK: &str = "clock";

/// What the machine notes from time to time to know at its next start how late it is at least.
const NOTED: [&str; 2] = ["/var/lib/systemd/timesync/clock", "/var/lib/chrony/drift"];

/// More than files that are written meanwhile.
const TOLERANCE: Duration = Duration::from_secs(300);

/// Whether it can be right, and whether anything sets it.
pub(super) fn finding(machine: &Machine) -> Finding {
    let set = "set it: timedatectl set-ntp true, or install chrony";
    let now = SystemTime::now();
    if let Some(noted) = noted(machine)
        && let Ok(behind) = noted.duration_since(now)
        && behind > TOLERANCE
    {
        let minutes = behind.as_secs() / 60;
        return Finding::problem(
            CHECK,
            format!("the clock is {minutes} minutes behind what it was before"),
            set,
        );
    }
    if matches!((machine.lstat("/etc/localtime"), machine.stat("/etc/localtime")), (Ok(Some(_)), Ok(None))) {
        return Finding::problem(
            CHECK,
            "/etc/localtime leads nowhere: times are shown in UTC",
            "as root: timedatectl set-timezone ZONE, and install the package tzdata",
        );
    }
    if machine.is_this() && !is_synchronised() {
        let says =
            "nothing says that the clock is set by others: servers refuse requests that are minutes off";
        return Finding::note(CHECK, says, set);
    }
    Finding::ok(CHECK, "the clock can be right")
}

/// When the machine last noted the time.
fn noted(machine: &Machine) -> Option<SystemTime> {
    let times = NOTED.iter().filter_map(|path| {
        let stat = machine.stat(path).ok()??;
        UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(stat.st_mtime).ok()?))
    });
    times.max()
}

/// Whether the kernel was told that its clock follows another.
fn is_synchronised() -> bool {
    // SAFETY: all zero is a `timex` that asks and sets nothing, and the kernel fills it in.
    let (state, answer) = unsafe {
        let mut answer: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut answer), answer)
    };
    state != libc::TIME_ERROR && answer.status & libc::STA_UNSYNC == 0
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::machine::tests::Fixture;
    use super::*;

    fn noted_at(offset: i64) -> Finding {
        let fixture = Fixture::new(true).with(NOTED[0], "");
        let offset = Duration::from_secs(offset.unsigned_abs());
        let time =
            if offset.as_secs() > 86_400 { SystemTime::now() + offset } else { SystemTime::now() - offset };
        let file = std::fs::File::options().write(true).open(fixture.path().join(&NOTED[0][1..])).unwrap();
        file.set_modified(time).unwrap();
        finding(&fixture.machine())
    }

    #[test]
    fn a_clock_that_went_back_is_wrong() {
        let behind = noted_at(3 * 86_400);
        assert_eq!(behind.state, State::Problem);
        assert!(behind.says.contains(" minutes behind"), "{behind:?}");
        assert_eq!(noted_at(3600).state, State::Ok);
        assert_eq!(finding(&Fixture::new(true).machine()).state, State::Ok);
    }

    #[test]
    fn a_zone_that_is_not_there_is_told() {
        let zone = |fixture: Fixture| finding(&fixture.machine()).state;
        let gone = Fixture::new(true).with_link("/etc/localtime", "/usr/share/zoneinfo/Europe/Zurich");
        assert_eq!(zone(gone), State::Problem);
        let there = Fixture::new(true)
            .with_link("/etc/localtime", "/usr/share/zoneinfo/UTC")
            .with("/usr/share/zoneinfo/UTC", "");
        assert_eq!(zone(there), State::Ok);
    }

    #[test]
    fn this_machine_s_clock_answers() {
        // Either answer is right; the call must work.
        let _ = is_synchronised();
        assert_ne!(finding(&Machine::this().unwrap()).state, State::Problem);
    }
}
