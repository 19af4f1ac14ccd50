//! What was typed or configured, become one validated [`Config`].
//!
//! `-o` ([`options`]) and the TOML files ([`files`], [`file`]) become the same entries ([`given`]); the tables in [`general`] and
//! [`source`] say what each key means; [`resolve`] puts them together with the arguments and the environment. Nothing
//! here opens a repository, and nothing but [`password`] touches a secret.

mod access;
mod accounts;
mod clones;
mod command;
mod credentials;
#[cfg(test)]
mod documented;
mod environment;
mod file;
mod files;
mod general;
mod given;
mod group;
mod kind;
pub mod location;
pub mod members;
mod nearest;
mod options;
mod password;
mod resolve;
mod share;
mod source;
mod spec;
mod values;
pub mod wire;

pub use clones::Clones;
pub use credentials::{Addressing, Credentials, Login, RcloneSettings, S3Access, Ssh, Tls};
pub use group::{Group, MemberAt, MemberList, Place};
pub use kind::{History, Metadata, SourceKind};
pub use location::Location;
pub use password::{Password, Secret};
pub use share::{CacheShare, Part};
pub use source::is_reserved;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Kind, Result};

/// Everything a command needs to know; valid by construction.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// What to open; titles are unique. There is a source or a group at least.
    pub sources: Vec<Source>,
    /// Many repositories each, which are opened when somebody looks.
    pub groups: Vec<Group>,
    /// How snapshots become names.
    pub names: Names,
    /// How often sources are listed.
    pub refresh: Duration,
    /// Bytes that may stay in memory of repositories' contents.
    pub memory: u64,
    /// Where indexes and what distant stores delivered are kept for later; `None` for memory only.
    #[serde(with = "wire::optional_path")]
    pub cache_dir: Option<PathBuf>,
    /// Bytes of it that distant stores delivered.
    pub cache_size: u64,
    /// For how long a store that cannot be reached may be shown from the cache alone; `None` for any time.
    pub offline_max: Option<Duration>,
    /// How to mount.
    pub mount: Mount,
    /// What the mount is called, where a profile or one source of several was asked for by name.
    pub label: Option<String>,
    /// It was read from files, which may be read again.
    pub is_from_files: bool,
}

/// One repository, or another place of snapshots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Its name in the configuration, or the last component of what `-r` said: `{member}` in templates.
    pub name: String,
    /// How it is called in messages and `/proc/mounts`: the configured name, or the location.
    pub title: String,
    /// What is there.
    pub kind: SourceKind,
    /// Where it is: of a hot/cold pair the cold part, of [`SourceKind::Directory`] the path with its named parts.
    pub location: Location,
    /// The hot part of a pair.
    pub hot: Option<Location>,
    /// On this machine: no link may lead out of this directory.
    #[serde(with = "wire::optional_path")]
    pub within: Option<PathBuf>,
    /// Where its password comes from.
    #[serde(skip)]
    pub password: Password,
    /// How the place where it lies lets us in.
    pub credentials: Credentials,
    /// Key to try first.
    pub key_hint: Option<String>,
    /// Which of its snapshots are shown.
    pub filter: Filter,
    /// Template of set names.
    pub set: Option<String>,
    /// Owner and mode of set directories whose ancestors are not recorded.
    pub access: Option<Access>,
    /// Zone of snapshots that record none.
    pub zone: Option<String>,
    /// Which moments of a bucket that keeps versions are listed; `None` for days.
    pub history: Option<History>,
    /// Whether the objects of a bucket are asked for their metadata.
    pub metadata: Metadata,
    /// How the names of its snapshots tell their times, where that is not one of the usual ways.
    pub time_format: Option<String>,
    /// How clones of ZFS are made.
    pub clones: Clones,
    /// How much of the disk cache it may take, where that is bounded.
    pub cache_share: Option<CacheShare>,
    /// How often it is listed, where that is not said of all.
    pub refresh: Option<Duration>,
    /// How old the newest snapshot of a set may become.
    pub expect_every: Duration,
}

/// What is secret about a source: the password of its repository, then those of its place. Always in the same order.
type Secrets<T> = [T; 4];

fn secrets<'a>(password: &'a Password, credentials: &'a Credentials) -> Secrets<&'a Password> {
    let Credentials { s3, rest, .. } = credentials;
    [password, &s3.secret, &s3.session, &rest.password]
}

fn secrets_mut<'a>(
    password: &'a mut Password,
    credentials: &'a mut Credentials,
) -> Secrets<&'a mut Password> {
    let Credentials { s3, rest, .. } = credentials;
    [password, &mut s3.secret, &mut s3.session, &mut rest.password]
}

impl Config {
    /// Whether no source of it can change what is in a snapshot.
    pub fn is_immutable(&self) -> bool {
        self.sources.iter().all(|source| source.kind.is_immutable())
    }

    /// Whether anything that it shows may have ACLs. Groups may, whatever they turn out to hold.
    pub fn may_have_acls(&self) -> bool {
        !self.groups.is_empty() || self.sources.iter().any(|source| source.kind.may_have_acls())
    }

    /// Everything secret in it, always in the same order.
    pub fn secrets(&self) -> impl Iterator<Item = &Password> {
        let sources = self.sources.iter().flat_map(|s| secrets(&s.password, &s.credentials));
        sources.chain(self.groups.iter().flat_map(|g| secrets(&g.password, &g.credentials)))
    }

    /// The same, to be changed.
    pub fn secrets_mut(&mut self) -> impl Iterator<Item = &mut Password> {
        let sources = self.sources.iter_mut().flat_map(|s| secrets_mut(&mut s.password, &mut s.credentials));
        let groups = self.groups.iter_mut().flat_map(|g| secrets_mut(&mut g.password, &mut g.credentials));
        sources.chain(groups)
    }
}

impl Source {
    /// The directory of this machine below which it lies with all its parts.
    pub fn local_place(&self) -> Option<PathBuf> {
        let path = self.location.as_path()?;
        Some(match self.kind {
            SourceKind::Directory => kind::fixed(path),
            SourceKind::Restic | SourceKind::Objects | SourceKind::Zfs => path.to_owned(),
        })
    }

    /// What kind of place it is, in a word.
    pub fn place_kind(&self) -> &'static str {
        match self.kind {
            SourceKind::Restic => self.location.kind(),
            SourceKind::Directory | SourceKind::Objects | SourceKind::Zfs => self.kind.word(),
        }
    }

    /// Reads its password and those of its place, which are known from then on; may run commands or ask on the terminal.
    /// Errors, which name the source: as [`Password::read`] has them.
    pub fn read_secrets(&mut self) -> Result<()> {
        self.read_access()?;
        let read = |source: &mut Source| -> Result<()> {
            source.password = Password::known(source.password.read(&source.name, &source.title)?);
            Ok(())
        };
        read(self).context(|| self.title.clone())
    }
}

impl Source {
    /// Reads what its place wants to hear, and not the password of the repository. Errors as [`Source::read_secrets`].
    pub fn read_access(&mut self) -> Result<()> {
        let title = &self.title;
        self.credentials.settle(&self.name).context(|| title.clone())
    }
}

impl Group {
    /// The same, for what is one for all members.
    pub fn read_secrets(&mut self) -> Result<()> {
        let read = |group: &mut Group| -> Result<()> {
            group.credentials.settle(&group.name)?;
            if !group.has_member_passwords {
                group.password = Password::known(group.password.read(&group.name, &group.title)?);
            }
            Ok(())
        };
        read(self).context(|| self.title.clone())
    }
}

/// Which snapshots are shown: of every non-empty list at least one entry must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Host patterns.
    pub hosts: Vec<String>,
    /// Tag lists: `a,b` needs both.
    pub tags: Vec<String>,
    /// Path patterns.
    pub paths: Vec<String>,
}

/// Who may enter a set whose ancestors are not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub perm: u16,
}

/// How snapshots become names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// Zone of snapshot names.
    pub time: TimeStyle,
    /// `strftime` format of snapshot names.
    pub format: String,
    /// Rules applied to all set names, in order: regular expression and replacement.
    pub rename: Vec<(String, String)>,
}

/// In which zone snapshot names are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimeStyle {
    /// The offset that the snapshot recorded.
    #[default]
    Recorded,
    /// UTC.
    Utc,
    /// The zone of this machine.
    Local,
}

/// How to mount.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mount {
    /// Where, when the command line does not say.
    #[serde(with = "wire::optional_path")]
    pub mountpoint: Option<PathBuf>,
    /// Let other users in.
    pub allow_other: bool,
    /// Nothing can be executed.
    pub noexec: bool,
    /// Which extended attributes are shown.
    pub xattrs: Xattrs,
    /// Who owns what is shown.
    pub owner: Owner,
    /// Ranges of user ids shown as others.
    pub uids: Vec<IdRange>,
    /// Ranges of group ids shown as others.
    pub gids: Vec<IdRange>,
    /// Who owns everything, whatever `owner` says.
    pub uid: Option<u32>,
    /// Whose group everything is.
    pub gid: Option<u32>,
    /// Longest wait for file data; for anything else half of it.
    pub timeout: Duration,
    /// Longest wait for the mount to be ready.
    pub mount_timeout: Duration,
    /// Where the log goes.
    pub log: Log,
    /// The file that is told who opened what.
    #[serde(with = "wire::optional_path")]
    pub access_log: Option<PathBuf>,
    /// Where counters can be asked for.
    #[serde(with = "wire::optional_path")]
    pub metrics_socket: Option<PathBuf>,
}

/// Which extended attributes are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Xattrs {
    /// All that were recorded.
    #[default]
    All,
    /// Only those of the `user.` name space.
    User,
    /// None.
    None,
}

/// Who owns what is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owner {
    /// The recorded ids.
    #[default]
    Recorded,
    /// Whoever mounted.
    Mounter,
    /// Root.
    Root,
}

/// `count` ids from `recorded` are shown as those from `shown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// First recorded id.
    pub recorded: u32,
    /// First shown id.
    pub shown: u32,
    /// How many.
    pub count: u32,
}

/// Where the log of a mount goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// A file; otherwise the journal or syslog, in the foreground stderr.
    #[serde(with = "wire::optional_path")]
    pub file: Option<PathBuf>,
    /// What is worth a line.
    pub level: Level,
}

/// What is worth a line in the log; each level includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// What failed.
    Error,
    /// What is damaged or odd.
    #[default]
    Warn,
    /// What happens.
    Info,
    /// How it happens.
    Debug,
    /// Everything.
    Trace,
}

impl From<Level> for tracing::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => tracing::Level::ERROR,
            Level::Warn => tracing::Level::WARN,
            Level::Info => tracing::Level::INFO,
            Level::Debug => tracing::Level::DEBUG,
            Level::Trace => tracing::Level::TRACE,
        }
    }
}

/// What the command line says about the backups to open.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Typed {
    /// `--spec`: what mount(8) calls the thing to mount.
    pub spec: Option<OsString>,
    /// `-r`.
    pub repos: Vec<OsString>,
    /// `--repo-hot`.
    pub hot: Option<OsString>,
    /// `-c`.
    #[serde(with = "wire::optional_path")]
    pub file: Option<PathBuf>,
    /// `--password-file`.
    #[serde(with = "wire::optional_path")]
    pub password_file: Option<PathBuf>,
    /// `--password-command`.
    pub password_command: Option<String>,
    /// `--key-hint`.
    pub key_hint: Option<String>,
    /// `--host`.
    pub hosts: Vec<String>,
    /// `--tag`.
    pub tags: Vec<String>,
    /// `--path`.
    pub paths: Vec<String>,
    /// `-o`, each with commas in it.
    pub options: Vec<String>,
}

impl Typed {
    /// The same, when it is read again from another directory than `directory`.
    #[must_use]
    pub fn anchored(mut self, directory: &std::path::Path) -> Self {
        for path in [&mut self.file, &mut self.password_file].into_iter().flatten() {
            *path = directory.join(&path);
        }
        self
    }
}

/// What is different between two configurations of what a mount cannot change while it lives: the names of options.
pub fn fixed_differences(one: &Config, other: &Config) -> Vec<&'static str> {
    let (m, n) = (&one.mount, &other.mount);
    let same = [
        ("access-log", m.access_log == n.access_log),
        ("allow_other", m.allow_other == n.allow_other),
        ("cache-dir", one.cache_dir == other.cache_dir),
        ("cache-size", one.cache_size == other.cache_size),
        ("gid", m.gid == n.gid),
        ("idmap", (&m.uids, &m.gids) == (&n.uids, &n.gids)),
        ("log", m.log.file == n.log.file),
        ("log-level", m.log.level == n.log.level),
        ("memory", one.memory == other.memory),
        ("metrics-socket", m.metrics_socket == n.metrics_socket),
        ("mountpoint", m.mountpoint == n.mountpoint),
        ("noexec", m.noexec == n.noexec),
        ("offline-max", one.offline_max == other.offline_max),
        ("owner", m.owner == n.owner),
        ("refresh", one.refresh == other.refresh),
        ("rename", one.names.rename == other.names.rename),
        ("time", one.names.time == other.names.time),
        ("time-format", one.names.format == other.names.format),
        ("timeout", m.timeout == n.timeout),
        ("uid", m.uid == n.uid),
        ("xattrs", m.xattrs == n.xattrs),
    ];
    same.into_iter().filter(|(_, is_same)| !is_same).map(|(name, _)| name).collect()
}

/// A size as options have it (`500M`, `5G`). Errors: `Usage`.
pub fn size(text: &str) -> Result<u64> {
    values::size(text)
        .ok_or_else(|| Error::new(Kind::Usage, format!("\"{text}\" must be a size such as 500M or 5G")))
}

/// A length of time as options have it (`60s`, `36h`). Errors: `Usage`.
pub fn duration(text: &str) -> Result<Duration> {
    values::duration(text).ok_or_else(|| {
        Error::new(Kind::Usage, format!("\"{text}\" must be a length of time such as 90min or 36h"))
    })
}

/// Where the cache is that `typed`, the configuration file (if there is one) and the environment mean, and how large it may
/// become; `None` when there is to be none. No repository needs to be given.
pub fn resolve_cache(typed: &Typed) -> Result<Option<(PathBuf, u64)>> {
    resolve::resolve_cache(typed, &resolve::Surroundings::of_process()?)
}

/// The names that can be mounted: of sources, groups and profiles. Those that could mean two things are left out. Errors:
/// `Usage`, naming the line of the file.
pub fn names(typed: &Typed) -> Result<Vec<String>> {
    spec::names(typed, &resolve::Surroundings::of_process()?)
}

/// Whether there is a configuration file that counts; one that cannot be read is there.
pub fn has_files(typed: &Typed) -> bool {
    let read = resolve::Surroundings::of_process().and_then(|around| files::read(typed, &around));
    read.map_or(true, |files| !files.is_empty())
}

/// The files in which a configuration may be that is read as `typed` says, there or not.
pub fn files_of(typed: &Typed) -> Vec<PathBuf> {
    let files = || -> Result<Vec<PathBuf>> {
        let typed = resolve::with_said_file(typed)?;
        Ok(files::candidates(&typed, &resolve::Surroundings::of_process()?))
    };
    files().unwrap_or_default()
}

/// What was typed, the configuration file and the environment, together. Errors: `Usage`, naming the argument or the
/// line of the file.
pub fn resolve(typed: &Typed) -> Result<Config> {
    resolve::resolve(typed, &resolve::Surroundings::of_process()?)
}
