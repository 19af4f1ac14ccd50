//! `sftp:`: a directory behind SSH, as scp writes it or as a URL.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::authority::{self, Authority};
use super::usage;
use crate::error::Result;

/// A directory behind SSH.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sftp {
    /// As whom; as ssh's own configuration says where it is not given.
    pub user: Option<String>,
    /// A name, an address, or what ssh's configuration calls a host; IPv6 without brackets; begins with no dash.
    pub host: String,
    /// As ssh's configuration says where it is not given.
    pub port: Option<u16>,
    /// The directory: absolute, or from the user's home; empty is the home itself.
    pub path: String,
}

const FORMS: &str = "sftp:USER@HOST:/PATH or sftp://USER@HOST:PORT//PATH";

/// Reads what follows `sftp:`.
pub(super) fn parse(rest: &str) -> Result<Sftp> {
    let (authority, path) = match rest.strip_prefix("//") {
        Some(url) => {
            let (authority, path) = authority::divide(url);
            // In a URL a second slash makes the path absolute.
            (authority, path.strip_prefix('/').unwrap_or(path))
        }
        None => scp_form(rest)?,
    };
    let Authority { user, password, host, port } =
        authority::parse(authority).map_err(|e| e.context("sftp"))?;
    if password.is_some() {
        return Err(usage(
            "sftp: a password has no place in the location; ssh uses keys (ssh-key, or its agent)",
        ));
    }
    if user.as_ref().is_some_and(|user| user.starts_with('-')) {
        return Err(usage("sftp: a user's name does not begin with a dash"));
    }
    if path.starts_with('~') {
        return Err(usage(format!(
            "sftp: ~ means nothing to a server; leave it out, paths count from the home ({FORMS})"
        )));
    }
    if path.contains('\0') {
        return Err(usage("sftp: a NUL in a path"));
    }
    let is_root = path.starts_with('/') && path.bytes().all(|b| b == b'/');
    let path = if is_root { "/" } else { path.trim_end_matches('/') };
    Ok(Sftp { user, host, port, path: path.to_owned() })
}

/// `user@host` and the path of `user@host:path`; an IPv6 address stands in brackets.
fn scp_form(rest: &str) -> Result<(&str, &str)> {
    let wrong = || usage(format!("sftp: the colon between host and path is missing; write {FORMS}"));
    let bracket = rest.find(']').map_or(0, |at| at + 1);
    let colon = rest.get(bracket..).and_then(|rest| rest.find(':')).ok_or_else(wrong)? + bracket;
    let (authority, path) = rest.split_at_checked(colon).ok_or_else(wrong)?;
    if authority.contains('/') {
        return Err(wrong());
    }
    // `user:password@host:path` would be taken for the host "user".
    let path = path.strip_prefix(':').unwrap_or(path);
    if !authority.contains('@')
        && path.split('/').next().is_some_and(|first| first.contains('@'))
        && path.contains(':')
    {
        return Err(usage(
            "sftp: a password has no place in the location; ssh uses keys (ssh-key, or its agent)",
        ));
    }
    Ok((authority, path))
}

impl fmt::Display for Sftp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sftp { user, host, port, path } = self;
        let user = user.iter().map(|user| format!("{}@", authority::escaped(user))).collect::<String>();
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        match port {
            Some(port) => write!(f, "sftp://{user}{host}:{port}/{path}"),
            None => write!(f, "sftp:{user}{host}:{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Location;
    use super::super::tests::{parsed, read};
    use super::*;

    #[test]
    fn both_spellings() {
        for (spelled, user, host, port, path) in [
            ("sftp:u@h.x:/srv/r", "u", "h.x", None, "/srv/r"),
            ("sftp:h:r/", "", "h", None, "r"),
            ("sftp:h:", "", "h", None, ""),
            ("sftp:a@b@h:/r", "a@b", "h", None, "/r"),
            ("sftp:u@[::1]:/r:x", "u", "::1", None, "/r:x"),
            ("sftp://u@h:2222//srv/r", "u", "h", Some(2222), "/srv/r"),
            ("sftp://h/r", "", "h", None, "r"),
            ("sftp://h//", "", "h", None, "/"),
            ("sftp://u@[fe80::1]:22/r", "u", "fe80::1", Some(22), "r"),
        ] {
            let user = Some(user.to_owned()).filter(|user| !user.is_empty());
            let expected = Sftp { user, host: host.into(), port, path: path.into() };
            assert_eq!(read(spelled), Location::Sftp(expected), "{spelled}");
        }
    }

    #[test]
    fn mistakes_are_told_with_the_right_form() {
        for (spelled, says) in [
            ("sftp:u@h/srv", "write sftp:USER@HOST:/PATH"),
            ("sftp:/srv", "the colon between host and path is missing"),
            ("sftp:u@h/srv:x", "the colon between host and path is missing"),
            ("sftp:u:hunter2@h:/r", "ssh uses keys"),
            ("sftp://u:hunter2@h//r", "ssh uses keys"),
            ("sftp:-oProxyCommand=x:/r", "the name of the host"),
            ("sftp:-oProxyCommand=x@h:/r", "does not begin with a dash"),
            ("sftp:u@h:~/r", "leave it out"),
            ("sftp://u@h:99999//r", "the port is no number"),
        ] {
            let error = parsed(spelled).expect_err(spelled).to_string();
            assert!(error.contains(says) && !error.contains("hunter2"), "{spelled}: {error}");
        }
    }
}
