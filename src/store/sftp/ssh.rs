//! How ssh is called for an SFTP server.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::store::program::Program;

/// Who is called, and what ssh is told beyond its own configuration.
#[derive(Clone, Debug, Default)]
pub struct Host<'a> {
    /// As ssh's own configuration says, where it is not given.
    pub user: Option<&'a str>,
    /// A name, an address, or what ssh's configuration calls a host.
    pub host: &'a str,
    /// As ssh's own configuration says, where it is not given.
    pub port: Option<u16>,
    /// A file with the only key to show.
    pub key: Option<&'a Path>,
    /// The file of known hosts.
    pub known_hosts: Option<&'a Path>,
    /// A configuration file instead of the user's and the system's.
    pub config: Option<&'a Path>,
}

/// Besides what the user's configuration says: never ask, hold no session open that nobody serves, forward nothing, do
/// not stay behind as the master of other connections, and say errors only.
const OPTIONS: &[&str] = &[
    "BatchMode=yes",
    "ConnectTimeout=15",
    "ServerAliveInterval=10",
    "ServerAliveCountMax=2",
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
    "ControlMaster=no",
    "LogLevel=ERROR",
];

/// The system's ssh, which finds its configuration, keys, agent and known hosts by `environment`.
pub fn ssh(host: &Host<'_>, environment: Vec<(OsString, OsString)>) -> Program {
    let mut arguments: Vec<OsString> = Vec::new();
    for option in OPTIONS {
        arguments.extend(["-o".into(), option.into()]);
    }
    if let Some(config) = host.config {
        arguments.extend(["-F".into(), config.into()]);
    }
    if let Some(port) = host.port {
        arguments.extend(["-p".into(), port.to_string().into()]);
    }
    if let Some(user) = host.user {
        arguments.extend(["-l".into(), user.into()]);
    }
    if let Some(key) = host.key {
        arguments.extend(["-o".into(), "IdentitiesOnly=yes".into(), "-i".into(), key.into()]);
    }
    if let Some(known_hosts) = host.known_hosts {
        let mut option = OsString::from("UserKnownHostsFile=");
        option.push(quoted(known_hosts));
        arguments.extend(["-o".into(), option]);
    }
    // Whatever the host is called, it is no option.
    arguments.extend(["-s".into(), "--".into(), host.host.into(), "sftp".into()]);
    Program { name: "ssh".into(), arguments, environment }
}

/// A path as one word of ssh's configuration.
fn quoted(path: &Path) -> OsString {
    let mut word = OsString::from("\"");
    for (i, part) in path.as_os_str().as_bytes().split(|byte| *byte == b'"').enumerate() {
        word.push(if i > 0 { "\\\"" } else { "" });
        word.push(OsStr::from_bytes(part));
    }
    word.push("\"");
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_becomes_arguments_and_nothing_an_option() {
        let host = Host {
            user: Some("-u"),
            host: "-oProxyCommand=x",
            port: Some(22),
            key: Some(Path::new("/k")),
            known_hosts: Some(Path::new("/a \"b")),
            config: Some(Path::new("/c")),
        };
        let program = ssh(&host, Vec::new());
        let words: Vec<_> = program.arguments.iter().map(|word| word.to_str().unwrap()).collect();
        let given = &words[2 * OPTIONS.len()..];
        assert_eq!(given[..11].join(" "), "-F /c -p 22 -l -u -o IdentitiesOnly=yes -i /k -o");
        assert_eq!(given[11], "UserKnownHostsFile=\"/a \\\"b\"");
        assert_eq!(given[12..], ["-s", "--", "-oProxyCommand=x", "sftp"]);
        let bare = ssh(&Host { host: "h", ..Host::default() }, Vec::new());
        assert_eq!(bare.arguments.len(), 2 * OPTIONS.len() + 4);
    }
}
