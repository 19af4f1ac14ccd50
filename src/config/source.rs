//! One repository as the configuration file's `[[source]]` or a `-r` describes it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::given::{Entry, Key, apply};
use super::location::Spelled;
use super::password::{Origin, Password};
use super::{Access, Addressing, Credentials, Filter, Source, accounts, location};
use crate::error::{Error, Kind, Result};

/// A source while it is being read: nothing is checked together yet.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    pub name: Option<String>,
    pub url: Option<OsString>,
    pub hot: Option<OsString>,
    pub password: Said,
    pub s3_secret: Said,
    pub rest_password: Said,
    /// All of it but the secrets.
    pub credentials: Credentials,
    pub key_hint: Option<String>,
    pub filter: Filter,
    pub set: Option<String>,
    pub access: Option<Access>,
    pub zone: Option<String>,
    /// Where it was said.
    pub place: String,
}

/// Where a secret was said to be.
#[derive(Clone, Debug, Default)]
pub struct Said {
    pub file: Option<PathBuf>,
    pub command: Option<String>,
}

impl Said {
    fn password(self, typed: bool) -> Password {
        let origin = match (self.command, self.file) {
            (Some(command), _) => Origin::Command(command),
            (None, Some(file)) => Origin::File(file),
            (None, None) => return Password::default(),
        };
        Password::new(origin, typed)
    }
}

/// What `[[source]]` may say; docs/options.md explains each.
pub const KEYS: &[Key<Draft>] = &[
    Key { name: "access", set: access },
    Key { name: "ca-file", set: |d, e| e.absolute_path().map(|v| d.credentials.tls.ca = Some(v)) },
    Key {
        name: "client-cert",
        set: |d, e| e.absolute_path().map(|v| d.credentials.tls.client_cert = Some(v)),
    },
    Key { name: "host", set: |d, e| e.list().map(|v| d.filter.hosts = v) },
    Key { name: "key-hint", set: |d, e| e.text().map(|v| d.key_hint = Some(v.to_owned())) },
    Key { name: "kind", set: |_, e| e.choice(&[("restic", ())]) },
    Key {
        name: "known-hosts",
        set: |d, e| e.absolute_path().map(|v| d.credentials.ssh.known_hosts = Some(v)),
    },
    Key { name: "name", set: |d, e| name(e).map(|v| d.name = Some(v)) },
    Key { name: "password-command", set: |d, e| e.text().map(|v| d.password.command = Some(v.to_owned())) },
    Key { name: "password-file", set: |d, e| e.absolute_path().map(|v| d.password.file = Some(v)) },
    Key { name: "path", set: |d, e| e.list().map(|v| d.filter.paths = v) },
    Key {
        name: "rclone-config",
        set: |d, e| e.absolute_path().map(|v| d.credentials.rclone.config = Some(v)),
    },
    Key {
        name: "rclone-program",
        set: |d, e| e.absolute_path().map(|v| d.credentials.rclone.program = Some(v)),
    },
    Key { name: "repo-hot", set: |d, e| e.text().map(|v| d.hot = Some(v.into())) },
    Key {
        name: "rest-password-command",
        set: |d, e| e.text().map(|v| d.rest_password.command = Some(v.to_owned())),
    },
    Key { name: "rest-password-file", set: |d, e| e.absolute_path().map(|v| d.rest_password.file = Some(v)) },
    Key { name: "rest-user", set: |d, e| e.text().map(|v| d.credentials.rest.user = Some(v.to_owned())) },
    Key { name: "s3-addressing", set: |d, e| e.choice(ADDRESSING).map(|v| d.credentials.s3.addressing = v) },
    Key { name: "s3-anonymous", set: |d, e| e.flag().map(|v| d.credentials.s3.anonymous = v) },
    Key { name: "s3-key-id", set: |d, e| e.text().map(|v| d.credentials.s3.key_id = Some(v.to_owned())) },
    Key { name: "s3-profile", set: |d, e| e.text().map(|v| d.credentials.s3.profile = Some(v.to_owned())) },
    Key { name: "s3-region", set: |d, e| e.text().map(|v| d.credentials.s3.region = Some(v.to_owned())) },
    Key { name: "s3-role", set: |d, e| e.text().map(|v| d.credentials.s3.role = Some(v.to_owned())) },
    Key { name: "s3-secret-command", set: |d, e| e.text().map(|v| d.s3_secret.command = Some(v.to_owned())) },
    Key { name: "s3-secret-file", set: |d, e| e.absolute_path().map(|v| d.s3_secret.file = Some(v)) },
    Key { name: "set", set: |d, e| e.text().map(|v| d.set = Some(v.to_owned())) },
    Key { name: "ssh-config", set: |d, e| e.absolute_path().map(|v| d.credentials.ssh.config = Some(v)) },
    Key { name: "ssh-key", set: |d, e| e.absolute_path().map(|v| d.credentials.ssh.key = Some(v)) },
    Key { name: "tag", set: |d, e| e.list().map(|v| d.filter.tags = v) },
    Key { name: "url", set: |d, e| e.text().map(|v| d.url = Some(v.into())) },
    Key { name: "zone", set: |d, e| e.text().map(|v| d.zone = Some(v.to_owned())) },
];

const ADDRESSING: &[(&str, Addressing)] =
    &[("auto", Addressing::Auto), ("path", Addressing::Path), ("virtual", Addressing::Virtual)];

/// Names of the root directory that a source must not take.
const RESERVED: &[&str] = &["current", "at", "latest", ".backupfs", ".", ".."];

/// Reads one `[[source]]`.
pub fn draft(header: &Entry, table: &[Entry]) -> Result<Draft> {
    let place = table.first().map_or(&header.place, |entry| &entry.place).clone();
    let mut draft = Draft { place, ..Draft::default() };
    apply(KEYS, &mut draft, table)?;
    let secrets = [
        ("password", &draft.password),
        ("s3-secret", &draft.s3_secret),
        ("rest-password", &draft.rest_password),
    ];
    if let Some((what, _)) =
        secrets.into_iter().find(|(_, said)| said.file.is_some() && said.command.is_some())
    {
        let says = format!("{}: source: {what}-file and {what}-command exclude each other", draft.place);
        return Err(Error::new(Kind::Usage, says));
    }
    Ok(draft)
}

fn name(entry: &Entry) -> Result<String> {
    let name = entry.text()?;
    if RESERVED.contains(&name) || name.contains(['/', '\0']) || name.contains("@+") {
        return Err(entry.wrong(format_args!("\"{name}\" is reserved, or holds / or @+")));
    }
    Ok(name.to_owned())
}

/// Owner and mode as they are being read.
#[derive(Default)]
pub struct AccessDraft {
    uid: u32,
    gid: u32,
    perm: Option<u16>,
}

/// What `access` may say.
pub const ACCESS_KEYS: &[Key<AccessDraft>] = &[
    Key { name: "group", set: |a, e| id(e, accounts::group, "no such group").map(|v| a.gid = v) },
    Key { name: "mode", set: |a, e| mode(e).map(|v| a.perm = Some(v)) },
    Key { name: "user", set: |a, e| id(e, accounts::user, "no such user").map(|v| a.uid = v) },
];

fn access(draft: &mut Draft, entry: &Entry) -> Result<()> {
    let mut access = AccessDraft::default();
    apply(ACCESS_KEYS, &mut access, entry.table()?)?;
    let AccessDraft { uid, gid, perm } = access;
    draft.access = Some(Access { uid, gid, perm: perm.unwrap_or(0o700) });
    Ok(())
}

fn id(entry: &Entry, find: fn(&str) -> Option<u32>, missing: &str) -> Result<u32> {
    find(entry.text()?).ok_or_else(|| entry.wrong(missing))
}

/// Only as text: whether a bare 750 was meant to be octal is anyone's guess.
fn mode(entry: &Entry) -> Result<u16> {
    let mode = u16::from_str_radix(entry.text()?, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| entry.wrong("must be permissions such as \"0750\""))
}

impl Draft {
    /// The source, with relative locations counted from `base`. `typed` sources came with `-r`.
    pub fn finish(self, base: &Path, typed: bool) -> Result<Source> {
        let at = |error: Error| error.context(self.place.clone());
        let Some(url) = &self.url else {
            return Err(at(Error::new(Kind::Usage, "source: needs a url (where the repository is)")));
        };
        let Spelled { location, password: in_url } = location::parse(url, base).map_err(at)?;
        let hot = self.hot.as_ref().map(|hot| location::parse(hot, base)).transpose().map_err(at)?;
        let mut credentials = self.credentials;
        credentials.s3.secret = self.s3_secret.password(typed);
        credentials.rest.password = match in_url {
            Some(secret) => Password::known(secret),
            None => self.rest_password.password(typed),
        };
        Ok(Source {
            name: self.name.clone().unwrap_or_else(|| location.last()),
            title: self.name.unwrap_or_else(|| location.to_string()),
            location,
            hot: hot.map(|hot| hot.location),
            password: self.password.password(typed),
            credentials,
            key_hint: self.key_hint,
            filter: self.filter,
            set: self.set,
            access: self.access,
            zone: self.zone,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;

    fn read(text: &str) -> Result<Source> {
        let entries = file::entries(Path::new("c.toml"), text)?;
        let header = &entries[0];
        draft(header, &header.tables()?[0])?.finish(Path::new("/etc/backupfs"), false)
    }

    #[test]
    fn every_key_does_what_it_says() {
        let source = read(
            "[[source]]\nname = 'home'\nkind = 'restic'\nurl = 'repos/home'\nrepo-hot = '/fast/home'\n\
             password-command = 'pass show x'\nkey-hint = 'ab12'\nhost = 'lab'\ntag = ['a,b', 'c']\npath = '/home'\n\
             set = '{host}@+{path}'\naccess = { user = 'root', group = '5', mode = '0750' }\nzone = '+02:00'\n",
        )
        .unwrap();
        assert_eq!((source.name.as_str(), source.title.as_str()), ("home", "home"));
        assert_eq!(source.location.to_string(), "/etc/backupfs/repos/home");
        assert_eq!(source.hot.unwrap().to_string(), "/fast/home");
        assert_eq!(source.key_hint.as_deref(), Some("ab12"));
        assert_eq!(source.filter.tags, ["a,b", "c"]);
        assert_eq!((source.filter.hosts.len(), source.filter.paths.len()), (1, 1));
        assert_eq!(source.access, Some(Access { uid: 0, gid: 5, perm: 0o750 }));
        assert_eq!(source.zone.as_deref(), Some("+02:00"));
        assert_eq!(source.set.as_deref(), Some("{host}@+{path}"));
    }

    #[test]
    fn a_source_without_a_name_is_called_by_its_path() {
        let source = read("[[source]]\nurl = '/srv/restic'\n").unwrap();
        assert_eq!((source.name.as_str(), source.title.as_str()), ("restic", "/srv/restic"));
    }

    #[test]
    fn mistakes_name_their_line() {
        for (text, says) in [
            ("[[source]]\nname = 'x'\n", "c.toml:2: source: needs a url"),
            (
                "[[source]]\nurl = '/a'\npasswrd-file = '/b'\n",
                "c.toml:3: unknown key \"passwrd-file\"; did you mean \"password-file\"?",
            ),
            (
                "[[source]]\nurl = '/a'\npassword = 'hunter2'\n",
                "c.toml:3: password: a password does not belong here",
            ),
            ("[[source]]\nurl = '/a'\nname = 'a@+b'\n", "c.toml:3: name: \"a@+b\" is reserved"),
            ("[[source]]\nurl = '/a'\nname = 'latest'\n", "c.toml:3: name: \"latest\" is reserved"),
            ("[[source]]\nurl = '/a'\nkind = 'kopia'\n", "c.toml:3: kind: \"kopia\" is not one of restic"),
            ("[[source]]\nurl = 'b2:x/y'\n", "c.toml:2: \"b2:\" is not supported"),
            ("[[source]]\nurl = 'rest:h.x'\n", "c.toml:2: rest: what follows is no URL"),
            ("[[source]]\nurl = '/a'\naccess = { mode = 750 }\n", "c.toml:3: mode: must be a text in quotes"),
            ("[[source]]\nurl = '/a'\naccess = { mode = '0999' }\n", "c.toml:3: mode: must be permissions"),
            ("[[source]]\nurl = '/a'\naccess = { user = 'no such one' }\n", "c.toml:3: user: no such user"),
            (
                "[[source]]\nurl = '/a'\npassword-file = '/b'\npassword-command = 'c'\n",
                "c.toml:2: source: password-file and password-command exclude each other",
            ),
        ] {
            let error = read(text).err().unwrap().to_string();
            assert!(error.starts_with(says), "{error}");
            assert!(!error.contains("hunter2"));
        }
    }
}
