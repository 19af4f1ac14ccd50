//! How snapshots become names.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;

use crate::error::{Error, Kind, Result};
use crate::tree::Source;

/// How often a set is expected to get a snapshot when nothing was said of it.
pub const EXPECT_EVERY: Duration = Duration::from_secs(24 * 3600);

/// Many members under one name, of which only names are known until somebody looks: a group.
pub trait Members: Send + Sync {
    /// The name of its directory: no `@+`, none of the root's own.
    fn name(&self) -> &str;

    /// The names of the last complete listing, sorted; `None` before the first. Never lists.
    fn names(&self) -> Option<Arc<[Arc<str>]>>;

    /// Lists again, opening nothing. Each name is one that a directory can have. On failure the last listing stays.
    fn list(&self) -> BoxFuture<'_, Result<Arc<[Arc<str>]>>>;

    /// Why the last listing failed, or of which members it is not news; `None` when it is complete.
    fn failure(&self) -> Option<Error>;

    /// Why what is not listed may be a member all the same; `None` when the last listing names all there are.
    fn gap(&self) -> Option<Error>;

    /// Opens a member: where it was found in several places, each of them. Errors name it.
    fn open<'a>(&'a self, member: &'a str) -> BoxFuture<'a, Result<Vec<Member>>>;

    /// How often members are listed; `None` for [`Options::refresh`].
    fn refresh(&self) -> Option<Duration> {
        None
    }

    /// A member whose newest snapshot is older than this is late.
    fn expect_every(&self) -> Duration {
        EXPECT_EVERY
    }

    /// When the newest snapshot of a member was written, by the times of its objects and without opening it; `None` when
    /// it has none. Errors: `Unsupported` where the store tells no times.
    fn newest<'a>(&'a self, member: &'a str) -> BoxFuture<'a, Result<Option<SystemTime>>> {
        let says = format!("{member}: nothing tells when its snapshots were written");
        Box::pin(std::future::ready(Err(Error::new(Kind::Unsupported, says))))
    }

    /// Whether anything was said of who may enter members' directories.
    fn has_access(&self) -> bool;

    /// Owner and mode of the directory of `member`, by what was said. `None` when there is no such user. May take its
    /// time.
    fn access(&self, member: &str) -> Option<Access>;

    /// The same where it is known at once; `None` where somebody would have to be asked.
    fn known_access(&self, member: &str) -> Option<Option<Access>>;
}

/// One source with what the configuration says about how to show it.
#[derive(Clone)]
pub struct Member {
    /// The source.
    pub source: Arc<dyn Source>,
    /// Template of set names over `{host} {user} {path} {tag} {member}` and `parts`; `None` for the name that is given
    /// where a snapshot lies, else `{host}@+{path}`. `{tag}` makes one set for each tag; what a snapshot lacks is
    /// `unknown`.
    pub set: Option<String>,
    /// What else snapshots of the source name ([`Given::parts`](crate::tree::Given::parts)).
    pub parts: Vec<String>,
    /// What `{member}` stands for: the source's name in the configuration.
    pub member: String,
    /// Which snapshots are shown.
    pub filter: Filter,
    /// Owner and mode of set directories whose ancestors are not recorded.
    pub access: Option<Access>,
    /// Time zone (IANA name or `±hh:mm`) for snapshots that record no offset.
    pub zone: Option<String>,
    /// How often it is asked for news; `None` for [`Options::refresh`].
    pub refresh: Option<Duration>,
    /// A set whose newest snapshot is older than this is late.
    pub expect_every: Duration,
}

/// Which snapshots are shown: of every non-empty list at least one entry must match. Patterns know `*` and `?`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Host patterns.
    pub hosts: Vec<String>,
    /// Tag lists as restic reads them: `a,b` needs both.
    pub tags: Vec<String>,
    /// Path patterns; a path below a plain pattern matches too. Of a snapshot of several paths only those that match
    /// are shown.
    pub paths: Vec<String>,
}

/// Who may enter a set whose ancestors are not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Owner of the set directory.
    pub uid: u32,
    /// Group of the set directory.
    pub gid: u32,
    /// Mode of the set directory.
    pub perm: u16,
}

/// A rule applied to every set name, in order: wherever `from` (a regular expression over the name's bytes) matches, the
/// match is replaced by `to` (`$1`, `${name}`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rename {
    /// Regular expression.
    pub from: String,
    /// Replacement.
    pub to: String,
}

/// In which zone snapshot names are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeStyle {
    /// The offset that the snapshot recorded.
    #[default]
    Recorded,
    /// UTC.
    Utc,
    /// The zone of this machine.
    Local,
}

/// How the tree is named and kept fresh.
#[derive(Clone, Debug)]
pub struct Options {
    /// Zone of snapshot names.
    pub time: TimeStyle,
    /// `strftime` format of snapshot names.
    pub time_format: String,
    /// How often sources are listed, and how long answers about changing directories are kept.
    pub refresh: Duration,
    /// Other users are let in: set directories carry the strictest search permission among recorded ancestors.
    pub shared: bool,
    /// Rules applied to all set names, in order.
    pub rename: Vec<Rename>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            time: TimeStyle::Recorded,
            time_format: "%Y%m%d_%H%M%S".into(),
            refresh: Duration::from_secs(60),
            shared: false,
            rename: Vec::new(),
        }
    }
}
