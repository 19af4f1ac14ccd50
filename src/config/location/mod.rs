//! Where a repository is: restic's spellings as plain data.
//!
//! A [`Location`] holds no secret: a password in a URL is taken out while it is read and comes back beside it, in a
//! type that never prints. Messages repeat only what is no login.

mod authority;
mod pattern;
mod rest;
mod s3;
mod sftp;

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use authority::Endpoint;
pub use pattern::{Glob, Pattern};
pub use rest::{Rest, Server};
pub use s3::S3;
pub use sftp::Sftp;

use super::Secret;
use super::kind::{KINDS, SourceKind};
use super::nearest::nearest;
use super::wire;
use crate::error::{Error, Kind, Result};

/// Where something lies. Printed in the spelling that reads back to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Location {
    /// A directory of this machine, absolute.
    Local(#[serde(with = "wire::path")] PathBuf),
    /// Objects below a prefix of a bucket.
    S3(S3),
    /// A repository of a REST server.
    Rest(Rest),
    /// A directory behind SSH.
    Sftp(Sftp),
    /// What rclone reaches.
    Rclone(Rclone),
    /// A dataset of ZFS, or a pattern of datasets; read by who opens it.
    Zfs(String),
}

/// `remote:path`, as rclone itself takes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rclone {
    /// Never begins with a dash, so that no program takes it for an option.
    pub remote: String,
}

/// A location, and the password that stood in its spelling.
#[derive(Debug)]
pub struct Spelled {
    /// Where it is.
    pub location: Location,
    /// The password of its place, not of a repository.
    pub password: Option<Secret>,
}

/// What locations begin with that are read.
const SCHEMES: &[&str] = &["local", "restic", "directory", "zfs", "objects", "s3", "rest", "sftp", "rclone"];

/// What locations begin with that are not, and what to do about it.
const ELSEWHERE: &[(&str, &str)] =
    &[("b2", CLOUD), ("azure", CLOUD), ("gs", CLOUD), ("swift", CLOUD), ("kopia", LATER), ("velero", LATER)];
const CLOUD: &str = "reach it by rclone:REMOTE:PATH";
const LATER: &str = "this version reads restic repositories";

/// What the names of rclone's settings hold whose values are secrets.
const SECRETS: &[&str] = &["pass", "secret", "token", "key", "auth", "credential", "sas", "cookie", "bearer"];

/// What other programs write, and what is meant here.
const MEANT: &[(&str, &str)] = &[
    ("http", "rest:http"),
    ("https", "rest:https"),
    ("ssh", "sftp"),
    ("scp", "sftp"),
    ("s3a", "s3"),
    ("s3n", "s3"),
    ("minio", "s3"),
    ("file", "local"),
];

/// Reads a location; a relative path counts from `base`. Errors: `Usage` with the nearest right spelling, `Unsupported`
/// for what another program or version reads. They repeat no login of a URL.
pub fn parse(spelled: &OsStr, base: &Path) -> Result<Spelled> {
    let bytes = spelled.as_bytes();
    let Some(scheme) = scheme(bytes) else { return local(bytes, base) };
    let rest = bytes.get(scheme.len() + 1..).unwrap_or_default();
    match scheme {
        "local" => return local(rest, base),
        // The kind of backup; what follows is a location of its own.
        "restic" | "objects" => return parse(OsStr::from_bytes(rest), base),
        "directory" => return local(rest, base),
        _ => {}
    }
    if !SCHEMES.contains(&scheme) {
        return match unknown(scheme, rest) {
            Some(error) => Err(error),
            None => local(bytes, base),
        };
    }
    let Ok(rest) = std::str::from_utf8(rest) else {
        return Err(usage(format!("{scheme}: a location is text in UTF-8")));
    };
    match scheme {
        "s3" => s3::parse(rest).map(|s3| Location::S3(s3).into()),
        "rest" => rest::parse(rest),
        "zfs" => zfs(rest),
        "sftp" => sftp::parse(rest).map(|sftp| Location::Sftp(sftp).into()),
        _ => rclone(rest).map(|rclone| Location::Rclone(rclone).into()),
    }
}

/// What is at a location, where its spelling begins with that.
pub fn kind_of(spelled: &OsStr) -> Option<SourceKind> {
    let scheme = scheme(spelled.as_bytes())?;
    KINDS.iter().find(|(word, _)| *word == scheme).map(|(_, kind)| *kind)
}

fn local(path: &[u8], base: &Path) -> Result<Spelled> {
    if path.is_empty() {
        return Err(usage("its path is empty"));
    }
    Ok(Location::Local(base.join(OsStr::from_bytes(path))).into())
}

fn zfs(dataset: &str) -> Result<Spelled> {
    if dataset.is_empty() || dataset.starts_with('/') {
        return Err(usage("zfs: needs a dataset: zfs:POOL/DATASET"));
    }
    Ok(Location::Zfs(dataset.to_owned()).into())
}

fn rclone(remote: &str) -> Result<Rclone> {
    if remote.starts_with('-') || remote.contains('\0') || !remote.contains(':') {
        return Err(usage("rclone: needs a remote and a path: rclone:REMOTE:PATH"));
    }
    if has_secret(remote) {
        return Err(usage(
            "rclone: a setting of the remote looks like a secret, and everybody can read the arguments of a program: name a \
             remote of rclone's configuration instead, or set it by RCLONE_CONFIG_REMOTE_SETTING in the environment",
        ));
    }
    Ok(Rclone { remote: remote.to_owned() })
}

/// Whether one of the settings that may stand between a remote's name and its path (`name,setting=value:path`) may be
/// something that nobody else is to know. Rather too often than too rarely.
fn has_secret(remote: &str) -> bool {
    let Some((name, settings)) = remote.split_once(',') else { return false };
    if name.trim_start_matches(':').contains(':') {
        // The comma stands in the path.
        return false;
    }
    settings.split(',').any(|setting| {
        let (name, value) = setting.split_once('=').unwrap_or((setting, "true"));
        let name = name.trim().to_ascii_lowercase();
        let harmless = matches!(value.split(':').next(), Some("true" | "false"))
            || ["_file", "_id"].iter().any(|end| name.ends_with(end));
        let telling = SECRETS.iter().any(|word| name.contains(word));
        (telling && !harmless) || (value.contains("://") && value.contains('@'))
    })
}

/// Why a location that begins with `scheme` is none; `None` when it may well be the name of a file.
fn unknown(scheme: &str, rest: &[u8]) -> Option<Error> {
    let is_url = rest.starts_with(b"//");
    if let Some((_, remedy)) = ELSEWHERE.iter().find(|(known, _)| *known == scheme) {
        return Some(Error::new(Kind::Unsupported, format!("\"{scheme}:\" is not supported: {remedy}")));
    }
    let lower = scheme.to_ascii_lowercase();
    let meant = MEANT.iter().find(|(word, _)| *word == lower).map(|(_, meant)| *meant);
    let meant = meant.or_else(|| nearest(&lower, SCHEMES.iter().copied()));
    match meant {
        Some(meant) if meant.starts_with("rest:") && !is_url => {
            Some(usage(format!("\"{scheme}:\" is no place that can be read; did you mean \"{meant}://…\"?")))
        }
        Some(meant) => Some(usage(format!(
            "\"{scheme}:\" is no place that can be read; did you mean \"{meant}:\"? (a file of such a name is ./{scheme}:…)"
        ))),
        None if is_url => {
            let known = SCHEMES.join(":, ");
            Some(usage(format!("\"{scheme}:\" is no place that can be read; those begin with {known}:")))
        }
        None => None,
    }
}

/// The word before the first colon, if it could be a scheme.
fn scheme(bytes: &[u8]) -> Option<&str> {
    let colon = bytes.iter().position(|b| *b == b':')?;
    let word = std::str::from_utf8(bytes.get(..colon)?).ok()?;
    (!word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric())).then_some(word)
}

fn usage(message: impl Into<String>) -> Error {
    Error::new(Kind::Usage, message)
}

/// The components of a path in a URL, without the empty ones. Errors: one that leads upwards.
fn components(path: &str) -> Result<Vec<&str>> {
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.iter().any(|part| *part == ".." || part.contains('\0')) {
        return Err(usage("\"..\" has no place in the path of a location"));
    }
    Ok(parts)
}

impl Location {
    /// The directory, of a location on this machine.
    pub fn as_path(&self) -> Option<&Path> {
        match self {
            Location::Local(path) => Some(path),
            _ => None,
        }
    }

    /// What answers for it, without login and path: locations of which this is equal are up and down together. `None`
    /// on this machine.
    pub fn server(&self) -> Option<String> {
        match self {
            Location::Local(_) | Location::Zfs(_) => None,
            Location::S3(S3 { endpoint: Some(endpoint), .. }) => Some(format!("s3:{endpoint}")),
            Location::S3(S3 { region: Some(region), .. }) => Some(format!("s3:{region}")),
            Location::S3(_) => Some("s3:amazon".to_owned()),
            Location::Rest(Rest { server: Server::Web(endpoint), .. }) => Some(format!("rest:{endpoint}")),
            Location::Rest(Rest { server: Server::Unix { socket, .. }, .. }) => {
                Some(format!("rest:unix:{}", socket.display()))
            }
            Location::Sftp(Sftp { host, port, .. }) => Some(format!("sftp:{host}:{}", port.unwrap_or(22))),
            // A remote's settings, keys among them, may follow its name.
            Location::Rclone(Rclone { remote }) => {
                let name = remote.strip_prefix(':').unwrap_or(remote);
                Some(format!("rclone:{}", name.split([':', ',']).next().unwrap_or_default()))
            }
        }
    }

    /// What kind of place it is, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Location::Local(_) => "local",
            Location::S3(_) => "s3",
            Location::Rest(_) => "rest",
            Location::Sftp(_) => "sftp",
            Location::Rclone(_) => "rclone",
            Location::Zfs(_) => "zfs",
        }
    }

    /// Its last element, by which it is called when nothing else says how.
    pub fn last(&self) -> String {
        let last = |path: &str| path.split('/').rfind(|part| !part.is_empty()).map(str::to_owned);
        let found = match self {
            Location::Local(path) => path.file_name().map(|name| name.to_string_lossy().into_owned()),
            Location::S3(S3 { prefix, bucket, endpoint, .. }) => {
                last(prefix).or_else(|| last(bucket)).or_else(|| endpoint.as_ref().map(|at| at.host.clone()))
            }
            Location::Rest(Rest { path, server, .. }) => last(path).or_else(|| server.host()),
            Location::Sftp(Sftp { path, host, .. }) => last(path).or_else(|| Some(host.clone())),
            Location::Rclone(Rclone { remote }) => {
                let (remote, path) = remote.rsplit_once(':').unwrap_or((remote, ""));
                last(path).or_else(|| remote.split(',').next().map(str::to_owned))
            }
            Location::Zfs(dataset) => last(dataset.split('{').next().unwrap_or_default()),
        };
        found.filter(|name| !name.is_empty()).unwrap_or_else(|| "root".to_owned())
    }
}

impl From<Location> for Spelled {
    fn from(location: Location) -> Self {
        Spelled { location, password: None }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Local(path) => path.display().fmt(f),
            Location::S3(s3) => s3.fmt(f),
            Location::Rest(rest) => rest.fmt(f),
            Location::Sftp(sftp) => sftp.fmt(f),
            Location::Zfs(dataset) => write!(f, "zfs:{dataset}"),
            Location::Rclone(Rclone { remote }) => {
                // A remote's settings may stand between its name and its colon, keys among them.
                match remote.split_once(',').filter(|(name, _)| !name.trim_start_matches(':').contains(':')) {
                    None => write!(f, "rclone:{remote}"),
                    Some((name, settings)) => {
                        let path = settings.rsplit_once(':').map_or("", |(_, path)| path);
                        write!(f, "rclone:{name},…:{path}")
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn parsed(spelled: &str) -> Result<Spelled> {
        parse(OsStr::new(spelled), Path::new("/base"))
    }

    pub(super) fn read(spelled: &str) -> Location {
        parsed(spelled).unwrap().location
    }

    #[test]
    fn datasets_keep_their_spelling() {
        for (spelled, last) in
            [("zfs:tank", "tank"), ("zfs:pool/backup/{host}/{path}", "backup"), ("zfs:p/x-{host}", "x-")]
        {
            let location = read(spelled);
            assert_eq!(
                (location.to_string(), location.last(), location.kind()),
                (spelled.into(), last.into(), "zfs")
            );
            assert_eq!((location.server(), location.as_path()), (None, None));
        }
    }

    #[test]
    fn local_paths_in_each_spelling() {
        for (spelled, path) in [
            ("/srv/repo", "/srv/repo"),
            ("local:/srv/repo", "/srv/repo"),
            ("restic:/srv/repo", "/srv/repo"),
            ("restic:local:repo", "/base/repo"),
            ("repo", "/base/repo"),
            ("./s3:x", "/base/./s3:x"),
            ("odd:name", "/base/odd:name"),
            (":name", "/base/:name"),
        ] {
            assert_eq!(read(spelled).as_path().unwrap(), Path::new(path), "{spelled}");
        }
        assert_eq!(parsed("local:").unwrap_err().kind(), Kind::Usage);
        let bytes = OsStr::from_bytes(b"/srv/\xff");
        assert_eq!(parse(bytes, Path::new("/")).unwrap().location.as_path().unwrap().as_os_str(), bytes);
        assert!(parse(OsStr::from_bytes(b"s3:host.x/\xff"), Path::new("/")).is_err());
    }

    #[test]
    fn rclone_s_remotes_stay_as_they_are_and_show_no_settings() {
        for (spelled, shown) in [
            ("rclone:b2:bucket/path", "rclone:b2:bucket/path"),
            ("rclone::memory:x", "rclone::memory:x"),
            ("rclone:s3,region=eu,env_auth=true:bucket/p", "rclone:s3,…:bucket/p"),
            ("rclone::sftp,host=h,key_file='a:b':bucket", "rclone::sftp,…:bucket"),
            ("rclone:b2:a,b", "rclone:b2:a,b"),
            ("rclone:b2:a,pass=b", "rclone:b2:a,pass=b"),
        ] {
            let location = read(spelled);
            assert_eq!(location.to_string(), shown);
            let Location::Rclone(Rclone { remote }) = location else { panic!("{spelled}") };
            assert_eq!(format!("rclone:{remote}"), spelled);
        }
        for secret in [
            "rclone:s3,secret_access_key=hunter2:bucket/p",
            "rclone::s3,region=eu,secret_access_key='a:hunter2':bucket",
            "rclone::webdav,url='https://me:hunter2@h/':x",
            "rclone::sftp,host=h,PASS=hunter2:x",
        ] {
            let said = parsed(secret).unwrap_err().to_string();
            assert!(said.contains("RCLONE_CONFIG_") && !said.contains("hunter2"), "{said}");
        }
        for bad in ["rclone:", "rclone:remote", "rclone:--config=x:y"] {
            assert!(parsed(bad).unwrap_err().to_string().contains("rclone:REMOTE:PATH"), "{bad}");
        }
    }

    #[test]
    fn places_that_are_not_read_say_what_to_do() {
        for (spelled, kind, says) in [
            ("b2:bucket:path", Kind::Unsupported, "reach it by rclone:"),
            ("zfs:", Kind::Usage, "needs a dataset"),
            ("zfs:/tank", Kind::Usage, "needs a dataset"),
            ("https://u:hunter2@h/", Kind::Usage, "did you mean \"rest:https:\"?"),
            ("http:h", Kind::Usage, "did you mean \"rest:http://…\"?"),
            ("sfpt:u@h:/x", Kind::Usage, "did you mean \"sftp:\"? (a file of such a name is ./sfpt:…)"),
            ("S3:https://h/b", Kind::Usage, "did you mean \"s3:\"?"),
            ("ssh://u:hunter2@h/x", Kind::Usage, "did you mean \"sftp:\"?"),
            ("ftp://u:hunter2@h/", Kind::Usage, "did you mean \"sftp:\"?"),
            (
                "gopher://u:hunter2@h/",
                Kind::Usage,
                "those begin with local:, restic:, directory:, zfs:, objects:, s3:",
            ),
        ] {
            let error = parsed(spelled).unwrap_err();
            assert_eq!(error.kind(), kind, "{spelled}");
            assert!(error.to_string().contains(says), "{error}");
            assert!(!error.to_string().contains("hunter2") && !error.to_string().contains('\n'), "{error}");
        }
    }

    #[test]
    fn the_last_element_is_the_name() {
        for (spelled, last) in [
            ("/srv/restic/home", "home"),
            ("/", "root"),
            ("s3:https://h.x/bucket", "bucket"),
            ("s3:https://h.x/bucket/a/b/", "b"),
            ("rest:https://h.x:8000/a/b/", "b"),
            ("rest:https://h.x:8000/", "h.x"),
            ("sftp:u@h:/srv/b", "b"),
            ("sftp:u@h:", "h"),
            ("rclone:r:a/b", "b"),
            ("rclone:r:", "r"),
        ] {
            assert_eq!(read(spelled).last(), last, "{spelled}");
        }
    }

    #[test]
    fn what_is_shown_reads_back_and_goes_through_the_hand_over() {
        for spelled in [
            "/srv/a",
            "s3:https://h.x:9000/b/p/q",
            "s3:http://127.0.0.1:9000/b",
            "s3:https://[::1]:9000/b",
            "s3:bucket/p",
            "s3:eu-central-1/bucket/p",
            "rest:https://u:p@h.x:8000/a/",
            "rest:http+unix:///run/rest.socket:/a/",
            "sftp:u@h:/srv/a",
            "sftp:h:rel",
            "sftp://u@h:2222//srv/a",
            "sftp://[::1]:22/rel",
            "rclone:r:a",
        ] {
            let location = read(spelled);
            assert_eq!(read(&location.to_string()), location, "{spelled}");
            let wire = serde_json::to_string(&location).unwrap();
            assert_eq!(serde_json::from_str::<Location>(&wire).unwrap(), location);
        }
    }

    #[test]
    fn repositories_of_one_server_share_its_name_and_no_secret_is_in_it() {
        let server = |spelled: &str| {
            let parsed = parse(OsStr::new(spelled), Path::new("/base")).unwrap();
            parsed.location.server()
        };
        for (spelled, name) in [
            ("/srv/repo", None),
            ("s3:https://s3.example.org:9000/bucket/a", Some("s3:https://s3.example.org:9000")),
            ("s3:https://s3.example.org:9000/other", Some("s3:https://s3.example.org:9000")),
            ("s3:http://s3.example.org:9000/other", Some("s3:http://s3.example.org:9000")),
            ("rest:https://me:hunter2@host:8000/me/", Some("rest:https://host:8000")),
            ("rest:https://host:8000/", Some("rest:https://host:8000")),
            ("rest:http+unix:///run/rest.sock:/me/", Some("rest:unix:/run/rest.sock")),
            ("sftp:me@host:/srv/repo", Some("sftp:host:22")),
            ("sftp://other@host:2222//srv/repo", Some("sftp:host:2222")),
            ("rclone:remote:path/a", Some("rclone:remote")),
            ("rclone:remote,region=eu:path/b", Some("rclone:remote")),
        ] {
            assert_eq!(server(spelled).as_deref(), name, "{spelled}");
        }
    }
}
