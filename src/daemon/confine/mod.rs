//! What the serving process gives up before its first thread, so that whoever gets hold of it by a damaged backup has
//! hold of little: capabilities, the way to new ones, and all files but those that it needs ([`limits`]).

mod limits;

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
    Scope, path_beneath_rules,
};
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets};
use serde::Serialize;

pub use limits::{Limits, outside};

use crate::cache::Folder;
use crate::error::{Error, Kind, Result};

/// The newest version of Landlock that is known here. An older kernel holds to as much of it as it knows.
const NEWEST: ABI = ABI::V6;

/// Devices that every program may open.
const DEVICES: &[&str] = &["/dev/full", "/dev/null", "/dev/random", "/dev/tty", "/dev/urandom", "/dev/zero"];

/// What is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Confined {
    /// The capabilities that are left.
    pub capabilities: Vec<&'static str>,
    /// Executing a program gives no new ones.
    pub no_new_privs: bool,
    /// What the kernel keeps it from.
    pub files: Files,
    /// What may be read with all below, by Landlock.
    pub reads: Vec<PathBuf>,
    /// What may be written to.
    pub writes: Vec<PathBuf>,
}

/// How the kernel holds to what may be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Files {
    /// By Landlock, all that is asked for.
    Landlock,
    /// By an older Landlock, which knows less: reading, writing and executing it does.
    OldLandlock,
    /// Not: the kernel has no Landlock.
    NoLandlock,
    /// Not: what is needed is not known, for this reason.
    Open(String),
}

/// Gives up all that is not in `limits`. To be called before there is a second thread, which would keep what it has.
/// Errors: `System` where the kernel does not let go.
pub fn confine(limits: &Limits) -> Result<Confined> {
    let kept = [(limits.search, CapabilitySet::DAC_READ_SEARCH), (limits.touches, CapabilitySet::FOWNER)];
    confine_to(limits, kept.into_iter().filter(|(keep, _)| *keep).map(|(_, kept)| kept).collect())
}

/// The same, but for the capabilities `kept`.
pub fn confine_to(limits: &Limits, kept: CapabilitySet) -> Result<Confined> {
    let failed = |what: &str, e: rustix::io::Errno| {
        Error::caused_by(Kind::System, format!("cannot give up {what}"), e)
    };
    for dir in &limits.write {
        // What is not there cannot be let in. Whoever uses it tells why it cannot be made.
        let _ = Folder::open(Path::new(dir));
    }
    rustix::thread::set_no_new_privs(true).map_err(|e| failed("the way to new privileges", e))?;
    let had = rustix::thread::capabilities(None).map_err(|e| failed("capabilities", e))?;
    let left = give_up_capabilities(had, kept).map_err(|e| failed("capabilities", e))?;
    let files = hold_to(limits)?;
    let is_open = matches!(files, Files::Open(_) | Files::NoLandlock);
    let paths = |names: &[std::ffi::OsString]| {
        names.iter().filter(|_| !is_open).map(PathBuf::from).filter(|path| path.exists()).collect::<Vec<_>>()
    };
    Ok(Confined {
        capabilities: names(left),
        no_new_privs: true,
        files,
        reads: paths(&limits.read),
        writes: paths(&limits.write),
    })
}

/// Keeps `kept` of `had` and nothing that could bring back more.
fn give_up_capabilities(had: CapabilitySets, kept: CapabilitySet) -> rustix::io::Result<CapabilitySet> {
    if had.effective.contains(CapabilitySet::SETPCAP) {
        for bit in 0..u64::BITS {
            let one = CapabilitySet::from_bits_retain(1 << bit);
            // What the kernel does not know it refuses.
            if rustix::thread::capability_is_in_bounding_set(one).unwrap_or(false) {
                rustix::thread::remove_capability_from_bounding_set(one)?;
            }
        }
        // Programs of root's get none by being root's.
        let bits = CapabilitiesSecureBits::NO_ROOT | CapabilitiesSecureBits::NO_ROOT_LOCKED;
        rustix::thread::set_capabilities_secure_bits(bits)?;
    }
    let left = had.permitted & kept;
    let sets = CapabilitySets { effective: left, permitted: left, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets)?;
    Ok(left)
}

fn names(left: CapabilitySet) -> Vec<&'static str> {
    let known = [
        (CapabilitySet::DAC_READ_SEARCH, "dac_read_search"),
        (CapabilitySet::FOWNER, "fowner"),
        (CapabilitySet::SYS_ADMIN, "sys_admin"),
    ];
    known.into_iter().filter(|(one, _)| left.contains(*one)).map(|(_, name)| name).collect()
}

/// Has the kernel hold to what may be reached.
fn hold_to(limits: &Limits) -> Result<Files> {
    if let Some(why) = &limits.unknown {
        return Ok(Files::Open(why.clone()));
    }
    let failed = |e: landlock::RulesetError| Error::caused_by(Kind::System, "Landlock", e);
    let (all, read) = (AccessFs::from_all(NEWEST), AccessFs::ReadFile | AccessFs::ReadDir);
    let ruled = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)
        .and_then(|ruleset| ruleset.scope(Scope::Signal))
        .and_then(Ruleset::create)
        .and_then(|ruleset| ruleset.add_rules(path_beneath_rules(&limits.read, read)))
        .and_then(|ruleset| ruleset.add_rules(path_beneath_rules(&limits.write, all)))
        .and_then(|ruleset| ruleset.add_rules(path_beneath_rules(DEVICES, AccessFs::from_file(NEWEST))))
        .and_then(|ruleset| ruleset.restrict_self())
        .map_err(failed)?;
    Ok(match ruled.ruleset {
        RulesetStatus::FullyEnforced => Files::Landlock,
        RulesetStatus::PartiallyEnforced => Files::OldLandlock,
        RulesetStatus::NotEnforced => Files::NoLandlock,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_up_is_named() {
        assert_eq!(names(CapabilitySet::empty()), Vec::<&str>::new());
        assert_eq!(names(CapabilitySet::DAC_READ_SEARCH), ["dac_read_search"]);
        assert_eq!(names(CapabilitySet::all()), ["dac_read_search", "fowner", "sys_admin"]);
    }

    /// What is given up is gone for good, so it is a thread of its own that does it: rules and sets are a thread's.
    #[test]
    fn a_confined_thread_reads_what_it_may_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["open", "shut", "cache"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("file"), name).unwrap();
        }
        let at = |name: &str| dir.path().join(name);
        let limits = Limits {
            read: vec![at("open").into(), at("gone").into()],
            write: vec![at("cache").into()],
            ..Limits::default()
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let confined = confine(&limits).unwrap();
                assert!(confined.no_new_privs && confined.capabilities.is_empty());
                let left = rustix::thread::capabilities(None).unwrap();
                assert!(left.permitted.is_empty() && left.effective.is_empty());
                assert_eq!(std::fs::read(at("open/file")).unwrap(), b"open");
                if confined.files == Files::NoLandlock {
                    eprintln!("skipped: this kernel has no Landlock");
                    return;
                }
                assert!(std::fs::read(at("shut/file")).is_err());
                assert!(std::fs::write(at("open/new"), "").is_err());
                std::fs::write(at("cache/new"), "").unwrap();
                assert!(std::process::Command::new("/bin/true").status().is_err());
            });
        });
        assert_eq!(std::fs::read(at("shut/file")).unwrap(), b"shut", "others are not confined");
    }

    #[test]
    fn what_is_not_known_is_left_open() {
        let limits = Limits { unknown: Some("ssh".into()), ..Limits::default() };
        assert_eq!(hold_to(&limits).unwrap(), Files::Open("ssh".into()));
    }
}
