//! `user:password@host:port`, the middle of every URL.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::super::Secret;
use super::usage;
use crate::error::Result;

/// A server that speaks HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// `https`; plain `http` only where it was written.
    pub tls: bool,
    /// A name or an address, IPv6 without brackets; never empty.
    pub host: String,
    /// The usual one where none is.
    pub port: Option<u16>,
}

/// The parts of an authority.
pub(super) struct Authority {
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub host: String,
    pub port: Option<u16>,
}

/// Takes `http://…` or `https://…` apart: whether TLS, who is asked how, and the path as written, which is empty or begins
/// with a slash. `None` when it is neither.
pub(super) fn web(url: &str) -> Option<(bool, Result<Authority>, &str)> {
    let (tls, rest) = match url.split_once("://")? {
        ("https", rest) => (true, rest),
        ("http", rest) => (false, rest),
        _ => return None,
    };
    let (authority, path) = divide(rest);
    Some((tls, parse(authority), path))
}

/// The authority, and the path with its slash.
pub(super) fn divide(rest: &str) -> (&str, &str) {
    rest.split_at_checked(rest.find('/').unwrap_or(rest.len())).unwrap_or((rest, ""))
}

/// Errors repeat nothing, because any part may be a password that was written in the wrong place.
pub(super) fn parse(text: &str) -> Result<Authority> {
    let (login, place) = match text.rsplit_once('@') {
        Some((login, place)) => (Some(login), place),
        None => (None, text),
    };
    let (user, password) =
        match login.map(|login| login.split_once(':').map_or((login, None), |(u, p)| (u, Some(p)))) {
            Some((user, password)) => (Some(user), password),
            None => (None, None),
        };
    let plain =
        |text: &str| decoded(text).ok_or_else(|| usage("a percent sign in a login must be written %25"));
    let user = user.filter(|user| !user.is_empty()).map(plain).transpose()?;
    let user = user.map(|user| String::from_utf8_lossy(&user).into_owned());
    let password = password.map(plain).transpose()?.map(Secret::new);
    let (host, port) = place_of(place)?;
    Ok(Authority { user, password, host, port })
}

/// Host and port of `host[:port]`.
pub(super) fn place_of(place: &str) -> Result<(String, Option<u16>)> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) =
                rest.split_once(']').ok_or_else(|| usage("the bracket of the address is not closed"))?;
            (host, rest.strip_prefix(':'))
        }
        None => place.rsplit_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    let port = match port.filter(|port| !port.is_empty()) {
        Some(port) => Some(port.parse().map_err(|_| usage("the port is no number from 1 to 65535"))?),
        None => None,
    };
    let wrong = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '@' | '?' | '#' | '\\');
    if host.is_empty() || host.starts_with('-') || host.contains(wrong) {
        return Err(usage("the name of the host is missing or malformed"));
    }
    Ok((host.to_owned(), port))
}

/// Text with `%XX` made bytes; `None` when a percent sign begins none.
pub(super) fn decoded(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => byte,
        });
    }
    Some(bytes)
}

/// A user's name as a URL has it.
pub(super) fn escaped(user: &str) -> String {
    let mut text = String::new();
    for byte in user.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => text.push(char::from(byte)),
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

impl Endpoint {
    /// `host` or `host:port`, IPv6 in brackets: what follows `://` in a URL.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match self.port {
            Some(port) => format!("{host}:{port}"),
            None => host,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_hosts_and_ports() {
        let parts = |text: &str| {
            let Authority { user, password, host, port } = parse(text).unwrap();
            let password = password.map(|p| String::from_utf8(p.as_bytes().to_vec()).unwrap());
            (user.unwrap_or_default(), password.unwrap_or_default(), host, port)
        };
        let expected = |u: &str, p: &str, h: &str, port| (u.to_owned(), p.to_owned(), h.to_owned(), port);
        assert_eq!(parts("h.x"), expected("", "", "h.x", None));
        assert_eq!(parts("u:p%40%3a%25@h:80"), expected("u", "p@:%", "h", Some(80)));
        assert_eq!(parts("a@b:p@h:"), expected("a@b", "p", "h", None));
        assert_eq!(parts("[fe80::1]:443"), expected("", "", "fe80::1", Some(443)));
        assert_eq!(parts("u@[::1]"), expected("u", "", "::1", None));
    }

    #[test]
    fn malformed_ones_are_refused_without_repeating_them() {
        for bad in [
            "",
            ":80",
            "u:hunter2@",
            "h:hunter2",
            "h:70000",
            "[::1",
            "-oProxyCommand=x",
            "h x",
            "u:%hunter2@h",
            "u:hunter2%@h",
        ] {
            let error = parse(bad).err().expect(bad).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
