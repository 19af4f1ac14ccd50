//! `rest:`: the URL of restic's REST server.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::authority::{self, Authority, Endpoint};
use super::{Location, Spelled, components, usage};
use crate::config::wire;
use crate::error::Result;

/// A repository of a REST server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rest {
    /// Who is asked.
    pub server: Server,
    /// As whom, where the URL says it.
    pub user: Option<String>,
    /// The path as it was written, percent signs and all: begins and ends with a slash.
    pub path: String,
}

/// How a REST server is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Server {
    /// Over the network.
    Web(Endpoint),
    /// By a socket of this machine.
    Unix {
        /// Where it is, absolute.
        #[serde(with = "wire::path")]
        socket: PathBuf,
        /// TLS all the same.
        tls: bool,
    },
}

const FORMS: &str = "rest:https://HOST:PORT/PATH/ or rest:http+unix:///SOCKET:/PATH/";

/// Reads what follows `rest:`.
pub(super) fn parse(rest: &str) -> Result<Spelled> {
    if rest.contains(['?', '#']) {
        return Err(usage("rest: a query or fragment has no place in a location"));
    }
    for (scheme, tls) in [("http+unix://", false), ("https+unix://", true)] {
        if let Some(place) = rest.strip_prefix(scheme) {
            return unix(place, tls);
        }
    }
    let Some((tls, authority, path)) = authority::web(rest) else {
        return Err(usage(format!("rest: what follows is no URL; write {FORMS}")));
    };
    let Authority { user, password, host, port } = authority.map_err(|e| e.context("rest"))?;
    let server = Server::Web(Endpoint { tls, host, port });
    let location = Location::Rest(Rest { server, user, path: closed(path)? });
    Ok(Spelled { location, password })
}

fn unix(place: &str, tls: bool) -> Result<Spelled> {
    // As restic has it, the path of the request follows the socket's behind a colon.
    let (login, place) = match place.split_once('/') {
        Some(("", _)) => (None, place),
        Some((login, _)) if login.ends_with('@') => {
            (Some(login), place.get(login.len()..).unwrap_or_default())
        }
        _ => return Err(usage(format!("rest: the socket is no absolute path; write {FORMS}"))),
    };
    let (socket, path) = place.split_once(':').unwrap_or((place, "/"));
    let (user, password) = match login {
        // Any host makes it an authority.
        Some(login) => authority::parse(&format!("{login}socket")).map(|a| (a.user, a.password))?,
        None => (None, None),
    };
    let server = Server::Unix { socket: socket.into(), tls };
    let location = Location::Rest(Rest { server, user, path: closed(path)? });
    Ok(Spelled { location, password })
}

/// A path with one slash at each end.
fn closed(path: &str) -> Result<String> {
    let parts = components(path)?;
    Ok(if parts.is_empty() { "/".to_owned() } else { format!("/{}/", parts.join("/")) })
}

impl Server {
    /// What can stand for its name.
    pub(super) fn host(&self) -> Option<String> {
        match self {
            Server::Web(Endpoint { host, .. }) => Some(host.clone()),
            Server::Unix { socket, .. } => Some(socket.file_stem()?.to_string_lossy().into_owned()),
        }
    }
}

impl fmt::Display for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rest { server, user, path } = self;
        let user = user.iter().map(|user| format!("{}@", authority::escaped(user))).collect::<String>();
        match server {
            Server::Web(endpoint) => {
                let scheme = if endpoint.tls { "https" } else { "http" };
                write!(f, "rest:{scheme}://{user}{}{path}", endpoint.authority())
            }
            Server::Unix { socket, tls } => {
                let scheme = if *tls { "https" } else { "http" };
                write!(f, "rest:{scheme}+unix://{user}{}:{path}", socket.display())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{parsed, read};
    use super::*;

    #[test]
    fn urls_with_and_without_a_login() {
        for (spelled, shown, password) in [
            ("rest:https://h.x:8000/a/b", "rest:https://h.x:8000/a/b/", None),
            ("rest:http://h.x", "rest:http://h.x/", None),
            ("rest:https://u:hunter2@h.x/a/", "rest:https://u@h.x/a/", Some("hunter2")),
            ("rest:https://u%40x:a%2Fb@[::1]:8000/", "rest:https://u%40x@[::1]:8000/", Some("a/b")),
            ("rest:http+unix:///run/r.sock:/a", "rest:http+unix:///run/r.sock:/a/", None),
            ("rest:http+unix:///run/r.sock", "rest:http+unix:///run/r.sock:/", None),
            (
                "rest:http+unix://u:hunter2@/run/r.sock:/a/",
                "rest:http+unix://u@/run/r.sock:/a/",
                Some("hunter2"),
            ),
            ("rest:https://h.x/a%20b/", "rest:https://h.x/a%20b/", None),
        ] {
            let found = parsed(spelled).unwrap();
            assert_eq!(found.location.to_string(), shown);
            assert_eq!(
                found.password.as_ref().map(|p| p.as_bytes()),
                password.map(str::as_bytes),
                "{spelled}"
            );
            assert!(!format!("{found:?}").contains("hunter2"));
            assert_eq!(read(shown), found.location);
        }
        let Location::Rest(Rest { server: Server::Unix { socket, .. }, path, .. }) =
            read("rest:http+unix:///s:/p/")
        else {
            panic!("no socket")
        };
        assert_eq!((socket.to_str(), path.as_str()), (Some("/s"), "/p/"));
    }

    #[test]
    fn mistakes_are_told_with_the_right_form() {
        for (spelled, says) in [
            ("rest:h.x:8000/", "write rest:https://HOST:PORT/PATH/"),
            ("rest:", "is no URL"),
            ("rest:https://u:hunter2@/", "the name of the host is missing"),
            ("rest:https://h.x/?p=hunter2", "a query"),
            ("rest:http+unix://run/r.sock", "no absolute path"),
            ("rest:https://h.x/a/../b", "\"..\""),
        ] {
            let error = parsed(spelled).expect_err(spelled).to_string();
            assert!(error.contains(says) && !error.contains("hunter2"), "{spelled}: {error}");
        }
    }
}
