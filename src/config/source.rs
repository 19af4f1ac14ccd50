//! One source as the configuration file's `[[source]]` or a `-r` describes it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::access::{self, AccessDraft};
use super::clones::{self, Clones};
use super::given::{Entry, Key, apply, find};
use super::group::{Group, MemberList};
use super::kind::{self, HISTORIES, History, KINDS, METADATA, Metadata, SourceKind};
use super::location::{Pattern, Spelled};
use super::password::{Origin, Password};
use super::share::{CacheShare, Part, part};
use super::{Addressing, Credentials, Filter, Location, Secret, Source, location};
use crate::error::{Error, Kind, Result};

/// A source while it is being read: nothing is checked together yet.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    pub name: Option<String>,
    pub kind: Option<SourceKind>,
    pub urls: Vec<OsString>,
    pub members: Option<MemberList>,
    pub hot: Option<OsString>,
    pub password: Said,
    pub s3_secret: Said,
    pub rest_password: Said,
    /// All of it but the secrets.
    pub credentials: Credentials,
    pub key_hint: Option<String>,
    pub filter: Filter,
    pub set: Option<String>,
    pub access: Option<AccessDraft>,
    pub zone: Option<String>,
    pub time_format: Option<String>,
    pub clones: Clones,
    pub history: Option<History>,
    pub metadata: Metadata,
    pub cache_share: Option<Part>,
    pub refresh: Option<Duration>,
    pub expect_every: Option<Duration>,
    /// Where it was said.
    pub place: String,
}

/// Where a secret was said to be; the last word counts.
#[derive(Clone, Debug, Default)]
pub enum Said {
    #[default]
    Nothing,
    File(PathBuf),
    Command(String),
    /// The secret itself, which only a command that lists members may say.
    Secret(Secret),
}

impl Said {
    /// Whether it is another for each member of a group.
    pub fn is_by_member(&self) -> bool {
        match self {
            Said::Nothing | Said::Secret(_) => false,
            Said::File(file) => file.to_string_lossy().contains(MEMBER),
            Said::Command(line) => line.contains(MEMBER),
        }
    }

    /// The secret of what is called `member`.
    fn password(self, member: &str, typed: bool) -> Password {
        let origin = match self {
            Said::Nothing => return Password::default(),
            Said::Secret(secret) => Origin::Known(secret),
            Said::File(file) => match file.to_str() {
                Some(text) if text.contains(MEMBER) => Origin::File(text.replace(MEMBER, member).into()),
                _ => Origin::File(file),
            },
            Said::Command(line) => Origin::Command { line, member: member.to_owned() },
        };
        Password::new(origin, typed)
    }
}

/// What stands for the name of a source, or of a group's member.
pub const MEMBER: &str = "{member}";

/// What `[[source]]` may say; docs/options.md explains each.
pub const KEYS: &[Key<Draft>] = &[
    Key { name: "access", set: |d, e| access::read(e).map(|v| d.access = Some(v)) },
    Key { name: "ca-file", set: |d, e| e.absolute_path().map(|v| d.credentials.tls.ca = Some(v)) },
    Key { name: "cache-share", set: |d, e| part(e).map(|v| d.cache_share = Some(v)) },
    Key { name: "clone-idle", set: |d, e| e.duration().map(|v| d.clones.idle = v) },
    Key { name: "clone-parent", set: |d, e| e.text().map(|v| d.clones.parent = Some(v.to_owned())) },
    // Taken out before, where it says where a source is.
    Key { name: "dataset", set: |_, e| e.text().map(drop) },
    Key {
        name: "client-cert",
        set: |d, e| e.absolute_path().map(|v| d.credentials.tls.client_cert = Some(v)),
    },
    Key { name: "expect-every", set: |d, e| e.duration().map(|v| d.expect_every = Some(v)) },
    Key { name: "history", set: |d, e| e.choice(HISTORIES).map(|v| d.history = Some(v)) },
    Key { name: "host", set: |d, e| e.list().map(|v| d.filter.hosts = v) },
    Key { name: "key-hint", set: |d, e| e.text().map(|v| d.key_hint = Some(v.to_owned())) },
    Key { name: "kind", set: |d, e| e.choice(KINDS).map(|v| d.kind = Some(v)) },
    Key {
        name: "known-hosts",
        set: |d, e| e.absolute_path().map(|v| d.credentials.ssh.known_hosts = Some(v)),
    },
    Key { name: "max-clones", set: |d, e| clones::most(e).map(|v| d.clones.most = v) },
    Key { name: "mount-program", set: |d, e| clones::program(e).map(|v| d.clones.mount = v) },
    Key { name: "zfs-program", set: |d, e| clones::program(e).map(|v| d.clones.zfs = v) },
    Key {
        name: "members-command",
        set: |d, e| e.text().map(|v| d.members = Some(MemberList::Command(v.to_owned()))),
    },
    Key {
        name: "members-file",
        set: |d, e| e.absolute_path().map(|v| d.members = Some(MemberList::File(v))),
    },
    Key { name: "metadata", set: |d, e| e.choice(METADATA).map(|v| d.metadata = v) },
    Key { name: "name", set: |d, e| name(e).map(|v| d.name = Some(v)) },
    Key { name: "password-command", set: |d, e| command(e).map(|v| d.password = v) },
    Key { name: "password-file", set: |d, e| file(e).map(|v| d.password = v) },
    Key { name: "path", set: |d, e| e.list().map(|v| d.filter.paths = v) },
    Key {
        name: "rclone-config",
        set: |d, e| e.absolute_path().map(|v| d.credentials.rclone.config = Some(v)),
    },
    Key {
        name: "rclone-program",
        set: |d, e| e.absolute_path().map(|v| d.credentials.rclone.program = Some(v)),
    },
    Key { name: "refresh", set: |d, e| e.duration().map(|v| d.refresh = Some(v)) },
    Key { name: "repo-hot", set: |d, e| e.text().map(|v| d.hot = Some(v.into())) },
    Key { name: "rest-password-command", set: |d, e| command(e).map(|v| d.rest_password = v) },
    Key { name: "rest-password-file", set: |d, e| file(e).map(|v| d.rest_password = v) },
    Key { name: "rest-user", set: |d, e| e.text().map(|v| d.credentials.rest.user = Some(v.to_owned())) },
    Key { name: "s3-addressing", set: |d, e| e.choice(ADDRESSING).map(|v| d.credentials.s3.addressing = v) },
    Key { name: "s3-anonymous", set: |d, e| e.flag().map(|v| d.credentials.s3.anonymous = v) },
    Key { name: "s3-key-id", set: |d, e| e.text().map(|v| d.credentials.s3.key_id = Some(v.to_owned())) },
    Key { name: "s3-profile", set: |d, e| e.text().map(|v| d.credentials.s3.profile = Some(v.to_owned())) },
    Key { name: "s3-region", set: |d, e| e.text().map(|v| d.credentials.s3.region = Some(v.to_owned())) },
    Key { name: "s3-role", set: |d, e| e.text().map(|v| d.credentials.s3.role = Some(v.to_owned())) },
    Key { name: "s3-secret-command", set: |d, e| command(e).map(|v| d.s3_secret = v) },
    Key { name: "s3-secret-file", set: |d, e| file(e).map(|v| d.s3_secret = v) },
    Key { name: "set", set: |d, e| e.text().map(|v| d.set = Some(v.to_owned())) },
    Key { name: "ssh-config", set: |d, e| e.absolute_path().map(|v| d.credentials.ssh.config = Some(v)) },
    Key { name: "ssh-key", set: |d, e| e.absolute_path().map(|v| d.credentials.ssh.key = Some(v)) },
    Key { name: "tag", set: |d, e| e.list().map(|v| d.filter.tags = v) },
    Key { name: "time-format", set: |d, e| e.text().map(|v| d.time_format = Some(v.to_owned())) },
    Key { name: "url", set: |d, e| e.list().map(|v| d.urls = v.into_iter().map(OsString::from).collect()) },
    Key { name: "zone", set: |d, e| e.text().map(|v| d.zone = Some(v.to_owned())) },
];

/// What the line of a member may say besides.
pub const LINE_KEYS: &[Key<Draft>] = &[
    Key { name: "password", set: |d, e| secret(e).map(|v| d.password = v) },
    Key { name: "rest-password", set: |d, e| secret(e).map(|v| d.rest_password = v) },
    Key { name: "s3-secret", set: |d, e| secret(e).map(|v| d.s3_secret = v) },
];

/// Whether an entry holds a secret itself.
pub fn is_secret(entry: &Entry) -> bool {
    find(LINE_KEYS, entry).is_some()
}

/// What only a source itself can say: it would be the same of all, or is said of the mount under the same name.
const OWN: &[&str] = &["dataset", "refresh", "time-format", "url"];

/// How often a set is expected to get a snapshot when nothing is said of it.
pub const EXPECT_EVERY: Duration = Duration::from_secs(24 * 3600);

const ADDRESSING: &[(&str, Addressing)] =
    &[("auto", Addressing::Auto), ("path", Addressing::Path), ("virtual", Addressing::Virtual)];

/// Names of the root directory that a source must not take.
const RESERVED: &[&str] = &["current", "at", "latest", ".backupfs", ".", ".."];

/// The keys that `-o` and the top of a file may say of all sources.
pub fn shared_names() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|key| key.name).filter(|name| !OWN.contains(name))
}

/// Whether an entry is for one of those.
pub fn is_shared(entry: &Entry) -> bool {
    find(KEYS, entry).is_some_and(|key| !OWN.contains(&key.name))
}

/// A source of which all `said` is said, the last word winning. Errors: what is wrong with which entry.
pub fn draft(place: &str, said: &[Entry]) -> Result<Draft> {
    let mut draft = Draft { place: place.to_owned(), ..Draft::default() };
    apply(KEYS, &mut draft, said)?;
    Ok(draft)
}

/// The same for a member of a group, whose line may hold secrets.
pub fn member_draft(place: &str, said: &[Entry]) -> Result<Draft> {
    let (secret, plain): (Vec<Entry>, Vec<Entry>) =
        said.iter().cloned().partition(|entry| find(LINE_KEYS, entry).is_some());
    let mut draft = draft(place, &plain)?;
    apply(LINE_KEYS, &mut draft, &secret)?;
    Ok(draft)
}

/// Takes out of what a source of `kind` says itself what says where it is, which is a location then; the rest is what is
/// said of it. Errors: `Usage`, when it says that twice.
pub fn place_of(kind: SourceKind, own: &[Entry]) -> Result<(Option<OsString>, Vec<Entry>)> {
    let Some(key) = kind.place_key() else { return Ok((None, own.to_vec())) };
    let (place, rest): (Vec<Entry>, Vec<Entry>) = own.iter().cloned().partition(|entry| entry.name() == key);
    let Some(place) = place.last() else { return Ok((None, rest)) };
    if rest.iter().any(|entry| entry.name() == "url") {
        return Err(place.wrong("says where it is, and so does url"));
    }
    Ok((Some(format!("{}:{}", kind.word(), place.text()?).into()), rest))
}

/// Refuses a table that says two things of which one must be meant. Errors: `Usage`, with the place.
pub fn check_table(place: &str, table: &[Entry]) -> Result<()> {
    let says = |name: String| table.iter().any(|entry| entry.name() == name);
    let pairs = ["password", "s3-secret", "rest-password", "members"];
    match pairs.into_iter().find(|what| says(format!("{what}-file")) && says(format!("{what}-command"))) {
        Some(what) => {
            let says = format!("{place}: source: {what}-file and {what}-command exclude each other");
            Err(Error::new(Kind::Usage, says))
        }
        None => Ok(()),
    }
}

fn name(entry: &Entry) -> Result<String> {
    let name = entry.text()?;
    if is_reserved(name) {
        return Err(entry.wrong(format_args!("\"{name}\" is reserved, or holds / or @+")));
    }
    Ok(name.to_owned())
}

/// Whether a name cannot stand in the root.
pub fn is_reserved(name: &str) -> bool {
    name.is_empty()
        || name.len() > 255
        || RESERVED.contains(&name)
        || name.contains(['/', '\0'])
        || name.contains("@+")
}

fn file(entry: &Entry) -> Result<Said> {
    entry.absolute_path().map(Said::File)
}

fn secret(entry: &Entry) -> Result<Said> {
    Ok(Said::Secret(Secret::new(entry.text()?.as_bytes().to_vec().into())))
}

fn command(entry: &Entry) -> Result<Said> {
    entry.text().map(|line| Said::Command(line.to_owned()))
}

/// What was described.
#[allow(clippy::large_enum_variant, reason = "taken apart as soon as it is made")]
pub enum Described {
    Source(Source),
    Group(Group),
}

impl Draft {
    /// What it describes: a source, or with a star or a list of members a group. Relative locations count from `base`;
    /// `typed` ones came with `-r`.
    pub fn describe(self, said: &[Entry], base: &Path, typed: bool) -> Result<Described> {
        let at = |error: Error| error.context(self.place.clone());
        if self.urls.is_empty() && self.members.is_none() {
            let key = self.kind().place_key().map(|key| format!("{key} or ")).unwrap_or_default();
            return Err(at(Error::new(Kind::Usage, format!("source: needs a {key}url (where it is)"))));
        }
        let urls = self.urls.iter().map(|url| location::parse(url, base).map_err(at));
        let mut urls = urls.collect::<Result<Vec<Spelled>>>()?;
        let kind = self.kind();
        if self.kind.is_some_and(|said| said != kind) {
            let says = format!("source: its kind and its url (of kind {}) exclude each other", kind.word());
            return Err(at(Error::new(Kind::Usage, says)));
        }
        if !kind.may_be_grouped() && (urls.len() != 1 || self.members.is_some()) {
            let says = format!("a source of kind {} is at one place", kind.word());
            return Err(at(Error::new(Kind::Usage, says)));
        }
        let has_star = kind.may_be_grouped() && urls.iter().any(|url| Pattern::of(&url.location).is_some());
        match urls.len() {
            1 if !has_star && self.members.is_none() => {
                self.source(urls.remove(0), None, base, typed).map(Described::Source)
            }
            _ => Group::new(self, urls, said, base, typed).map(Described::Group),
        }
    }

    /// The source at `url`; `member` when it is one of a group.
    pub fn source(self, url: Spelled, member: Option<&str>, base: &Path, typed: bool) -> Result<Source> {
        let at = |error: Error| error.context(self.place.clone());
        let kind = self.kind();
        kind.check_location(&url.location).map_err(at)?;
        if member.is_some() && !kind.may_be_grouped() {
            let says = format!("a group has no members of kind {}", kind.word());
            return Err(at(Error::new(Kind::Usage, says)));
        }
        let hot = self.hot.as_ref().map(|hot| location::parse(hot, base)).transpose().map_err(at)?;
        let title = self.title(&url.location);
        let Spelled { location, password: in_url } = url;
        let name = member.map(str::to_owned).or_else(|| self.name.clone());
        let name = name.unwrap_or_else(|| match (kind, location.as_path()) {
            (SourceKind::Directory, Some(pattern)) => Location::Local(kind::fixed(pattern)).last(),
            _ => location.last(),
        });
        let (mut password, credentials) = self.secrets(&name, in_url, typed);
        if !kind.has_password() {
            password = Password::known(Secret::new(Vec::new().into()));
        }
        let cache_share = self.cache_share.map(|part| CacheShare { of: title.clone(), part });
        Ok(Source {
            cache_share,
            kind,
            title,
            location,
            hot: hot.map(|hot| hot.location),
            within: None,
            password,
            credentials,
            key_hint: self.key_hint,
            filter: self.filter,
            set: self.set,
            access: self.access.and_then(|access| access.of(&name)),
            zone: self.zone,
            time_format: self.time_format,
            clones: self.clones,
            history: self.history,
            metadata: self.metadata,
            refresh: self.refresh,
            expect_every: self.expect_every.unwrap_or(EXPECT_EVERY),
            name,
        })
    }

    /// What is there: its url may say so.
    pub fn kind(&self) -> SourceKind {
        let said = self.urls.first().and_then(|url| location::kind_of(url));
        said.or(self.kind).unwrap_or_default()
    }

    /// How it is called in messages.
    pub fn title(&self, location: &Location) -> String {
        self.name.clone().unwrap_or_else(|| location.to_string())
    }

    /// Its password and credentials when it is called `name`.
    pub fn secrets(&self, name: &str, in_url: Option<Secret>, typed: bool) -> (Password, Credentials) {
        let mut credentials = self.credentials.clone();
        credentials.s3.secret = self.s3_secret.clone().password(name, typed);
        credentials.rest.password = match in_url {
            Some(secret) => Password::known(secret),
            None => self.rest_password.clone().password(name, typed),
        };
        (self.password.clone().password(name, typed), credentials)
    }

    /// Whether each member of a group has a password of its own.
    pub fn has_member_passwords(&self) -> bool {
        self.password.is_by_member()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Access, file};
    use super::*;

    fn read(text: &str) -> Result<Source> {
        let entries = file::entries(Path::new("c.toml"), text)?;
        let table = &entries[0].tables()?[0];
        check_table(&table[0].place, table)?;
        match draft(&table[0].place, table)?.describe(table, Path::new("/etc/backupfs"), false)? {
            Described::Source(source) => Ok(source),
            Described::Group(group) => panic!("a group: {group:?}"),
        }
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
    fn how_often_and_how_much_is_said_of_each() {
        let source =
            read("[[source]]\nurl = '/r'\nrefresh = '1h'\nexpect-every = '7d'\ncache-share = '20%'\n")
                .unwrap();
        assert_eq!((source.refresh, source.expect_every), (Some(EXPECT_EVERY / 24), EXPECT_EVERY * 7));
        let share = source.cache_share.unwrap();
        assert_eq!((share.of.as_str(), share.part.of(1_000)), ("/r", 200));
        let sized = read("[[source]]\nurl = '/r'\ncache-share = '2G'\n").unwrap();
        assert_eq!(
            (sized.cache_share.unwrap().part, sized.expect_every),
            (Part::Bytes(2 << 30), EXPECT_EVERY)
        );
    }

    #[test]
    fn a_source_without_a_name_is_called_by_its_path() {
        let source = read("[[source]]\nurl = '/srv/restic'\n").unwrap();
        assert_eq!((source.name.as_str(), source.title.as_str()), ("restic", "/srv/restic"));
    }

    #[test]
    fn a_password_may_be_named_by_the_source_s_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("home");
        std::fs::write(&file, "s3cret").unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        for said in [
            format!("password-file = '{}/{{member}}'", dir.path().display()),
            "password-command = 'printf %.6s \"s3cret {member}\"'".to_owned(),
        ] {
            let source = read(&format!("[[source]]\nname = 'home'\nurl = '/a'\n{said}\n")).unwrap();
            assert_eq!(source.password.read("home", "t").unwrap().as_bytes(), b"s3cret", "{said}");
        }
    }

    #[test]
    fn mistakes_name_their_line() {
        for (text, says) in [
            ("[[source]]\nname = 'x'\n", "c.toml:2: source: needs a url (where it is)"),
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
            (
                "[[source]]\nurl = '/a'\nkind = 'kopia'\n",
                "c.toml:3: kind: \"kopia\" is not one of directory, objects, restic",
            ),
            ("[[source]]\nurl = 'b2:x/y'\n", "c.toml:2: \"b2:\" is not supported"),
            ("[[source]]\nurl = 'rest:h.x'\n", "c.toml:2: rest: what follows is no URL"),
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
