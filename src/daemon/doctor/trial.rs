//! A mount that is made and ended at once: the only way to know that this user can make one, and what the kernel has.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Finding;
use crate::error::{Error, Result};
use crate::fuse::{self, Offered};

const CHECK: &str = "trial-mount";

/// Tries it.
pub(super) fn finding() -> Finding {
    match tried() {
        Ok(offered) => told(&offered),
        Err(error) => Finding::problem(
            CHECK,
            format!("a trial mount failed: {error}"),
            "see docs/troubleshooting.md; `dmesg` and the audit log name AppArmor's and SELinux's refusals",
        ),
    }
}

fn told(offered: &Offered) -> Finding {
    let Offered { minor, has, lacks } = offered;
    let says = format!("this user can mount; FUSE 7.{minor} with {}", has.join(", "));
    if lacks.is_empty() {
        return Finding::ok(CHECK, says);
    }
    Finding::note(
        CHECK,
        format!("{says}; without {}", lacks.join(", ")),
        "everything works without it, more slowly; newer kernels have it",
    )
}

/// Mounts in a directory of our own, where also AppArmor's profile of fusermount3 lets everybody mount.
fn tried() -> Result<Offered> {
    let above = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute());
    let above = above.filter(|dir| dir.is_dir()).unwrap_or_else(std::env::temp_dir);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let place = above.join(format!("backupfs-doctor-{}-{now}", std::process::id()));
    let failed = |e| Error::io(place.display().to_string(), e);
    // Not recursive: what somebody else made under this name is not used.
    DirBuilder::new().mode(0o700).create(&place).map_err(failed)?;
    let offered = fuse::offered(&place);
    std::fs::remove_dir(&place).map_err(failed)?;
    offered
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn what_is_missing_is_told_and_no_problem() {
        let offered =
            |lacks: &[&'static str]| Offered { minor: 45, has: vec!["ACLs"], lacks: lacks.to_vec() };
        assert_eq!(told(&offered(&[])).says, "this user can mount; FUSE 7.45 with ACLs");
        let found = told(&offered(&["passthrough"]));
        assert_eq!((found.state, found.says.ends_with("; without passthrough")), (State::Note, true));
    }
}
