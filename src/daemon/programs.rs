//! The environment of the programs that stores start: ssh and rclone.
//!
//! They find keys, agents and configurations by it, as they would when called by hand. The serving process has a clean
//! environment, which everybody who may look at it can read; what these programs need is handed over to it with its
//! orders instead, and reaches them alone. Nothing of restic's is among it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::OnceLock;

use zeroize::Zeroizing;

/// Variables by which programs find what belongs to the user, and their way out.
const NAMES: &[&str] = &[
    "ALL_PROXY",
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "KRB5CCNAME",
    "KRB5_CONFIG",
    "LOGNAME",
    "NO_PROXY",
    "PATH",
    "SSH_AUTH_SOCK",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TMPDIR",
    "TZ",
    "USER",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// rclone's own variables begin so; some hold passwords.
const RCLONE: &[u8] = b"RCLONE_";

/// What was handed over to this process, if it serves.
static HANDED_OVER: OnceLock<Inherited> = OnceLock::new();

/// Variables of whoever called.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Inherited(Vec<(OsString, OsString)>);

impl Inherited {
    /// Of those of this process, what programs may need.
    pub(super) fn of_process() -> Self {
        let wanted = |name: &OsStr| NAMES.iter().any(|known| name == *known) || is_rclone_s(name);
        Inherited(std::env::vars_os().filter(|(name, _)| wanted(name)).collect())
    }

    /// Makes them what [`ssh`] and [`rclone`] answer, instead of this process's own.
    pub(super) fn install(self) {
        // There is one hand-over in the life of a process.
        let _ = HANDED_OVER.set(self);
    }

    /// As the kernel has them: `NAME=VALUE`, each ended by NUL.
    pub(super) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::new());
        for (name, value) in &self.0 {
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(b'=');
            bytes.extend_from_slice(value.as_bytes());
            bytes.push(0);
        }
        bytes
    }

    /// Reads what `to_bytes` wrote.
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let variable = |text: &[u8]| {
            let at = text.iter().position(|byte| *byte == b'=')?;
            let (name, value) = (text.get(..at)?, text.get(at + 1..)?);
            Some((OsString::from_vec(name.to_vec()), OsString::from_vec(value.to_vec())))
        };
        Inherited(bytes.split(|byte| *byte == 0).filter_map(variable).collect())
    }
}

impl fmt::Debug for Inherited {
    /// Values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

fn is_rclone_s(name: &OsStr) -> bool {
    name.as_bytes().starts_with(RCLONE)
}

/// The environment of an ssh.
pub(super) fn ssh() -> Vec<(OsString, OsString)> {
    let mut variables = rclone();
    variables.retain(|(name, _)| !is_rclone_s(name));
    variables
}

/// The environment of an rclone.
pub(super) fn rclone() -> Vec<(OsString, OsString)> {
    HANDED_OVER.get().cloned().unwrap_or_else(Inherited::of_process).0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inherited(variables: &[(&str, &str)]) -> Inherited {
        Inherited(variables.iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    #[test]
    fn variables_arrive_as_they_were() {
        for sent in [
            inherited(&[]),
            inherited(&[("HOME", "/root"), ("RCLONE_X", "a=b\n\u{e4}"), ("TZ", "")]),
            Inherited(vec![("PATH".into(), OsString::from_vec(b"/\xff".to_vec()))]),
        ] {
            assert_eq!(Inherited::from_bytes(&sent.to_bytes()), sent);
        }
    }

    #[test]
    fn values_are_not_printed() {
        let shown = format!("{:?}", inherited(&[("RCLONE_CONFIG_PASS", "hunter2")]));
        assert!(shown.contains("RCLONE_CONFIG_PASS") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn programs_get_what_they_need_and_no_password_of_a_repository() {
        let own = Inherited::of_process();
        assert!(own.0.iter().any(|(name, _)| name == "PATH"));
        assert!(own.0.iter().all(|(name, _)| !name.as_bytes().starts_with(b"RESTIC")));
        assert!(ssh().iter().all(|(name, _)| !is_rclone_s(name)));
    }
}
