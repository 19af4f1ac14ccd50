//! What `backupfs doctor` looks at apart from the sources: this machine, or a tree of files that stands for one.
//!
//! An examination is a function from a [`Machine`] and a [`Plan`] to findings. None changes anything; what may hang is
//! given up after two seconds.

mod apparmor;
mod autofs;
mod cachedir;
mod clock;
mod fuseconf;
mod kernel;
mod machine;
mod mounts;
mod rules;
mod table;
mod timeouts;
mod trial;
mod units;
mod walkers;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::config::Config;
use crate::error::Result;
use machine::Machine;

/// How something was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing has to be done.
    Note,
    /// Something does not work, or will not.
    Problem,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, in a word: always the same, for scripts.
    pub check: &'static str,
    /// How it was found.
    pub state: State,
    /// What was found, and what follows from it.
    pub says: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn ok(check: &'static str, says: impl Into<String>) -> Self {
        Finding { check, state: State::Ok, says: says.into(), remedy: None }
    }

    /// Worth knowing.
    pub fn note(check: &'static str, says: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding { check, state: State::Note, says: says.into(), remedy: Some(remedy.into()) }
    }

    /// To be mended.
    pub fn problem(check: &'static str, says: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding { check, state: State::Problem, says: says.into(), remedy: Some(remedy.into()) }
    }
}

/// What is going to be mounted, as far as the machine has a say in it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where.
    pub mountpoint: Option<PathBuf>,
    /// Others are let in.
    pub allow_other: bool,
    /// Longest wait for file data.
    pub timeout: Option<Duration>,
    /// Where the cache lies.
    pub cache_dir: Option<PathBuf>,
    /// There is a configuration without mistakes.
    pub is_configured: bool,
    /// The file of it that was named; without one, this machine's.
    pub file: Option<PathBuf>,
}

impl Plan {
    /// What `config` plans, if there is one; at `mountpoint` when that was typed. It was read from `file` if that is said.
    pub fn of(config: Option<&Config>, mountpoint: Option<PathBuf>, file: Option<PathBuf>) -> Self {
        Plan {
            mountpoint: mountpoint.or_else(|| config?.mount.mountpoint.clone()),
            allow_other: config.is_some_and(|config| config.mount.allow_other),
            timeout: config.map(|config| config.mount.timeout),
            cache_dir: config.and_then(|config| config.cache_dir.clone()),
            is_configured: config.is_some(),
            file,
        }
    }
}

/// Looks at the machine whose root is `root`, or at this one. What can only be asked of a machine that runs (a trial
/// mount, whether servers answer, the kernel's clock) is asked of this one alone. Errors: `root` cannot be opened.
pub fn examine(root: Option<&Path>, plan: &Plan) -> Result<Vec<Finding>> {
    let machine = match root {
        Some(root) => Machine::at(root)?,
        None => Machine::this()?,
    };
    let lines = table::lines(&machine);
    let mounted = mounts::ours(&machine);
    let places = table::places(&machine, plan, &lines, &mounted);
    let mut findings = vec![kernel::version(&machine), kernel::device(&machine)];
    findings.push(fuseconf::fusermount(&machine, &places));
    if machine.is_this() && findings.iter().all(|finding| finding.state != State::Problem) {
        findings.push(trial::finding());
    }
    findings.push(fuseconf::allow_other(&machine, &places));
    findings.extend(timeouts::finding(&machine, plan.timeout));
    findings.extend(apparmor::finding(&machine, &places));
    findings.extend(walkers::findings(&machine, &places));
    findings.push(clock::finding(&machine));
    findings.extend(plan.cache_dir.as_deref().map(|dir| cachedir::finding(&machine, dir)));
    findings.extend(table::findings(&machine, plan, &lines));
    findings.extend(units::findings(&machine));
    findings.extend(autofs::finding(&machine));
    findings.extend(mounts::findings(&machine, &mounted));
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::tests::Fixture;

    #[test]
    fn an_empty_machine_lacks_fuse_and_nothing_panics() {
        let fixture = Fixture::new(true);
        let plan = Plan::of(None, Some("/mnt/backups".into()), None);
        let findings = examine(Some(fixture.path()), &plan).unwrap();
        let problems: Vec<&str> =
            findings.iter().filter(|f| f.state == State::Problem).map(|f| f.check).collect();
        assert_eq!(problems, ["device"], "{findings:?}");
        assert!(examine(Some(&fixture.path().join("none")), &plan).is_err());
    }
}
